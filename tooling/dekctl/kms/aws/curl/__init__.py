"""The fast transport to KMS: libcurl's multi interface, driven by one thread."""
