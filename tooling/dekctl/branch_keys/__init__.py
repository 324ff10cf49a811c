"""The branch keys (V3) of every table: wrapped keys, which no row of version V3 opens without."""
