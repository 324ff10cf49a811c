"""The Alembic steps: what drives ``migrations/``, what guards it, and SQLite's copy of a table."""
