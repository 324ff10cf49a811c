"""The report: one self-contained HTML page with an environment's state and history."""
