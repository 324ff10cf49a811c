"""The report: a self-contained HTML page with an environment's state and history."""
