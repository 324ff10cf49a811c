"""The table of branch keys: wrapped keys, without which no V3 row can be decrypted."""
