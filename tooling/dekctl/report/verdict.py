"""The report's verdict: what holds, and what is open, each by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dekctl.wording import counted

HEALTHY = "Enabled"


@dataclass(frozen=True, slots=True)
class Point:
    """One sentence of the verdict; ``holds`` or open, and the next command where it is open."""

    holds: bool
    text: str
    hint: str | None = None


def verdict(
    status: dict[str, Any], verified: dict[str, dict[str, Any] | None], audit: dict[str, Any] | None
) -> list[Point]:
    """Judge what was found; open points first.

    Args:
        status: as :func:`dekctl.workflows.status.status` returns it.
        verified: the last complete verify of each table, or None.
        audit: the result of `dekctl audit --json`, if one was given.
    """
    points: list[Point] = []
    for entry in status.get("tables", [status]):
        points += _rows(entry)
        points += _proof(entry, verified.get(entry["table"]))
        points += _schema(entry)
        points += _keks(entry)
        points += _runs(entry)
    points += _audit(audit)
    return sorted(points, key=lambda point: point.holds)


def _rows(entry: dict[str, Any]) -> Iterator[Point]:
    name = entry["table"]
    if entry["plaintext_only"]:
        rows = counted(entry["plaintext_only"], "row")
        yield Point(False, f"{name}: {rows} with a plaintext key and no wrapped key", "dekctl wrap")
    if entry["both"]:
        rows = counted(entry["both"], "row")
        yield Point(
            False, f"{name}: {rows} with a plaintext key beside the wrapped one", "dekctl scrub"
        )
    if not entry["plaintext_only"] and not entry["both"]:
        yield Point(True, f"{name}: no row has a plaintext key")
    if entry["quarantined"]:
        rows = counted(entry["quarantined"], "row")
        yield Point(False, f"{name}: {rows} in quarantine", "dekctl status")
    elif entry["ledger"]:
        yield Point(True, f"{name}: no row is in quarantine")
    if not entry["ledger"]:
        yield Point(False, f"{name}: there is no ledger, so runs and quarantine are not known")
    if lost := entry["rows_without_branch_key"]:
        rows = counted(lost, "row")
        yield Point(
            False,
            f"{name}: {rows} (V3) without their branch key cannot be decrypted; restore "
            "dekctl_branch_keys from a backup",
        )


def _proof(entry: dict[str, Any], run: dict[str, Any] | None) -> Iterator[Point]:
    """Whether every wrapped key has been decrypted, and since when nothing was written."""
    name = entry["table"]
    if entry["stage"] == "legacy":
        return
    if run is None:
        yield Point(False, f"{name}: no complete verify is on record", "dekctl verify")
        return
    when = f"{run['ended_at'][:16]} UTC"
    failed = (run["result"] or {}).get("quarantined", 0)
    if failed:
        rows = counted(failed, "row")
        yield Point(
            False, f"{name}: {rows} failed the last complete verify ({when})", "dekctl verify"
        )
    elif entry["written_since_verify"]:
        yield Point(
            False,
            f"{name}: rows were written after the last complete verify ({when})",
            "dekctl verify",
        )
    else:
        rows = counted(run["rows"], "wrapped key")
        yield Point(True, f"{name}: {rows} verified on {when}, and dekctl has written none since")


def _schema(entry: dict[str, Any]) -> Iterator[Point]:
    name = entry["table"]
    for guard in entry["constraints"]:
        yield Point(False, f"{name}: {guard} refuses writes of the application", "dekctl doctor")
    if entry["plaintext_problem"]:
        yield Point(False, f"{name}: {entry['plaintext_problem']}")
    if entry["trigger"] in ("missing", "changed"):
        yield Point(False, f"{name}: the row trigger is {entry['trigger']}", "dekctl doctor")


def _keks(entry: dict[str, Any]) -> Iterator[Point]:
    name = entry["table"]
    keks = [*entry["keks"], *entry["branch_keys"]]
    for kek in keks:
        what = kek["generation"] or kek["kek_id"] or "no KEK"
        if kek["state_problem"]:
            yield Point(
                False, f"{name}: KMS did not report the state of {what}: {kek['state_problem']}"
            )
        elif kek["state"] not in (None, HEALTHY):
            gone = f", deletion on {kek['deletion_date']}" if kek["deletion_date"] else ""
            yield Point(False, f"{name}: the KEK {what} is {kek['state']}{gone}", "dekctl doctor")
        if kek["generation_state"] in ("retired", "disabled"):
            count = kek.get("rows", kek.get("keys"))
            yield Point(
                False,
                f"{name}: {count:,} keys under the {kek['generation_state']} generation {what}",
                f"dekctl rewrap --from {what}",
            )
    if keks and all(kek["state"] == HEALTHY for kek in keks):
        yield Point(True, f"{name}: KMS reports every KEK in use as enabled")
    unbound = sum(kek["rows"] for kek in entry["keks"] if kek["version"] in (None, "V1"))
    if unbound:
        yield Point(
            False,
            f"{name}: {counted(unbound, 'row')} not bound to an encryption context",
            "dekctl rewrap",
        )


def _runs(entry: dict[str, Any]) -> Iterator[Point]:
    for run in entry["unfinished"]:
        dry = " (dry run)" if run["rehearsed"] else ""
        what = f"{run['operation']}{dry} of {run['started_at'][:16]} UTC is {run['state']}"
        yield Point(False, f"{entry['table']}: {what}")


def _audit(audit: dict[str, Any] | None) -> Iterator[Point]:
    if audit is None:
        yield Point(
            False,
            "CloudTrail was not compared with the ledger for this report",
            "dekctl audit --json > audit.json",
        )
        return
    period = f"{audit['since'][:10]} to {audit['until'][:10]}"
    for kind, count in audit["counts"].items():
        yield Point(False, f"audit of {period}: {count:,} of kind {kind}")
    if audit["pending"]:
        yield Point(False, f"audit of {period}: CloudTrail may not have delivered every event yet")
    unchecked = audit.get("integrity", {}).get("unchecked", [])
    for text in unchecked:
        yield Point(False, f"audit of {period}: {text}")
    if not audit["counts"] and not audit["pending"] and not unchecked:
        yield Point(True, f"audit of {period}: no findings in {audit['events']:,} events")
