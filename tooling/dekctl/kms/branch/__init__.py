"""Branch keys (V3): one KMS call for many rows."""
