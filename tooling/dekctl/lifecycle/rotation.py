"""What KMS reports about a KEK's rotation: same ARN, new key material, old blobs stay readable.

Rotation re-encrypts nothing. Rows that were wrapped before it are under the older material until
they are rewrapped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dekctl.config.roles import Role
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import KMSError
from dekctl.kms.aws.provider import AWSKMS
from dekctl.project import Project
from dekctl.wording import counted


def rotation(project: Project, kek: str) -> str:
    """Describe how a KEK is rotated, when it last was, and how many rows are older than that.

    Raises:
        KMSError: the KEK cannot be described.
        DatabaseError: the database refused or cannot be reached.
    """
    kms = project.aws(Role.AUDITOR)
    try:
        arn = str(kms.describe(kek)["Arn"])
        generation = project.outputs.generation_name(arn) if project.outputs else None
        name = generation or arn
        try:
            status = kms.call("GetKeyRotationStatus", {"KeyId": arn})
            rotations = _rotations(kms, arn)
        except KMSError as error:
            # Useful to know, but no command depends on it.
            return f"{name}: its rotation cannot be read ({error.code or error.message})"
    finally:
        kms.close()
    days = status.get("RotationPeriodInDays")
    every = f"rotated every {days} days" if days else "rotated every year"
    text = f"{name}: {every if status.get('KeyRotationEnabled') else 'not rotated automatically'}"
    if not rotations:
        return text + "; it still has its first key material"
    last = max(rotations, key=lambda r: r["RotationDate"])
    moment = last["RotationDate"].astimezone(UTC)
    text += f"; last on {moment:%Y-%m-%d %H:%M} UTC ({last.get('RotationType', 'unknown')})"
    if last.get("KeyMaterialId"):
        text += f", material {last['KeyMaterialId'][:12]}…"
    older = _older_rows(project, arn, moment)
    if older is None:
        return (
            text + "; rows do not record when they were wrapped (wrapped_at_column); run: "
            "dekctl rewrap --same-key"
        )
    if older == 0:
        return text + "; no row was wrapped before that"
    # The next full second, to include rows wrapped in the second of the rotation.
    after = (moment + timedelta(seconds=1)).replace(microsecond=0, tzinfo=None)
    return (
        f"{text}; {counted(older, 'row')} wrapped before that: "
        f"dekctl rewrap --wrapped-before {after.isoformat()}"
    )


def _rotations(kms: AWSKMS, arn: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    marker: dict[str, str] = {}
    while True:
        answer = kms.call("ListKeyRotations", {"KeyId": arn, **marker})
        found += [r for r in answer.get("Rotations", []) if r.get("RotationDate")]
        if not answer.get("Truncated"):
            return found
        marker = {"Marker": answer["NextMarker"]}


def _older_rows(project: Project, arn: str, moment: datetime) -> int | None:
    """Rows of a KEK wrapped before a time or at an unknown one; None if no table records it."""
    total: int | None = None
    for config in project.config.tables:
        table = project.table(config)
        if table.stage is not Stage.LEGACY and table.has("wrapped_at"):
            total = (total or 0) + _older_in(table, arn, moment)
    return total


def _older_in(table: DekTable, arn: str, moment: datetime) -> int:
    kek, at = table.quoted("kek"), table.quoted("wrapped_at")
    query = (
        f"SELECT count(*) FROM {table.quoted_name} WHERE {table.has_value('wrapped')} "
        f"AND {kek} = :kek AND ({at} IS NULL OR {at} < :moment)"
    )
    with table.database.transaction(patient=True) as connection:
        found = connection.execute(
            sa.text(query), {"kek": arn, "moment": table.stored_time(moment)}
        )
        return int(found.scalar_one())
