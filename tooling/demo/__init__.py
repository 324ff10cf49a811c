"""The main job, end to end, on an application made for the purpose: ``make demo``."""
