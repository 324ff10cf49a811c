"""One file per database: how its rows are read, compared and written."""
