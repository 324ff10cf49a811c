"""How large ranges are, and how patient workers and their coordinator are with each other."""

from __future__ import annotations

ROWS_PER_RANGE = 20_000
"""Small enough that progress shows and little is done again, large enough to be worth a message."""
RANGES_LEFT_PER_WORKER = 2
"""Into so many ranges per worker the rest of the table is cut: they become smaller towards its end,
where the other workers wait for the last one."""
SMALLEST_PART = 32
"""Beyond the rows that a table was thought to have, ranges are such a part of a worker's rows."""
SECONDS_PER_RANGE = 30.0
"""With a low rate ranges are smaller, so that an interrupt need not wait long for them."""
MIN_ROWS_PER_RANGE = 500
MAX_DEATHS_PER_RANGE = 5
"""After so many lost workers on the same rows the run ends."""
POLL_SECONDS = 0.2
"""How often the coordinator looks for an interrupt and for a lost lease."""
PARENT_POLL_SECONDS = 0.5
"""How often a worker without work looks whether its coordinator has ended."""
CONNECT_SECONDS = 15.0
"""How long a Dask scheduler is waited for."""
MAX_RUNS_KEPT = 4
"""Of so many runs a Dask worker keeps the connections."""
