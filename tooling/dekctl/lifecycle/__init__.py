"""The life of a KEK: which rows need it, and when it may go."""
