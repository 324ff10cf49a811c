"""The database side: connections, the table that holds keys, keyset pages, compare-and-swap."""
