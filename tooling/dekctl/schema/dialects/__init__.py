"""One file for each database: what its schema steps need besides Alembic."""
