"""One file for each database: how its rows are read, compared and written."""
