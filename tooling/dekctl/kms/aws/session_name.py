"""How a run is named to AWS, so that CloudTrail's events and the run ledger meet exactly.

Each run assumes its roles anew, in sessions that bear its id. What dekctl does outside a run
(``doctor``, ``status``, looking up an alias) has the bare name.
"""

from __future__ import annotations

OUTSIDE_RUNS = "dekctl"
_PREFIX = f"{OUTSIDE_RUNS}-"


def session_name(run_id: str | None) -> str:
    """The RoleSessionName (and source identity) of a run; None is for what is no run."""
    return OUTSIDE_RUNS if run_id is None else f"{_PREFIX}{run_id}"


def run_id_of(session: str | None) -> str | None:
    """The run whose session this is, by its name; None if it is no run's.

    Whoever may assume a role may choose such a name, too: it says which run to compare with, and
    proves nothing by itself.
    """
    if session is None or not session.startswith(_PREFIX):
        return None
    return session.removeprefix(_PREFIX) or None
