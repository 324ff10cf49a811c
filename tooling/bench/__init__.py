"""``make bench``: how fast dekctl is, beside the seed's loop, boto3 in threads, and the limits."""
