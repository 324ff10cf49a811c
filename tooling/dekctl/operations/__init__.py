"""The verbs that walk rows, one module each: what is due, what to do with it, what to write."""
