"""The schema steps: what runs ``migrations/``, and what must be true before it does."""
