"""The walk over the rows: a verb from its guards to its result, in one process or in many."""
