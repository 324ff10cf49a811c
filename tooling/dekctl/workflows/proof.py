"""Proof that wrapped keys are the plaintexts beside them, before the wrapped keys are dropped."""

from __future__ import annotations

from dataclasses import replace

from dekctl.config import TableConfig
from dekctl.errors import InterruptError, RefusedError
from dekctl.operations.verify import Verify
from dekctl.project import Project
from dekctl.walk.options import RowOptions
from dekctl.walk.result import RunResult
from dekctl.workflows.callbacks import RunVerb


def prove_wrapped(
    project: Project,
    config: TableConfig,
    run: RunVerb,
    options: RowOptions | None = None,
    *,
    both_only: bool = False,
) -> RunResult:
    """Decrypt every wrapped key of an expanded table and compare it with its plaintext.

    An application may have issued a new key and left the old plaintext in place. Then the wrapped
    key is the one in use, and must not be dropped.

    Args:
        project: the project.
        config: the table.
        run: runs ``verify``.
        options: batch size, rate and the like; ``limit`` and ``shard`` do not apply to a proof.
        both_only: check only the rows that have a plaintext, as the others are yet to be restored.

    Returns:
        What the verification did.

    Raises:
        RefusedError: a wrapped key cannot be decrypted, or differs from its plaintext.
        InterruptError: ``project.cancel`` was set.
        KMSError: KMS refused or cannot be reached.
    """
    options = options or RowOptions()
    chosen = replace(options, table=config.name, limit=None, shard=None)
    result = run(project, Verify(both_only=both_only), chosen)
    if result.counts.interrupted:
        raise InterruptError(
            f"interrupted while the wrapped keys of {config.name} were verified",
            hint="run the same command again",
        )
    if result.counts.quarantined:
        raise RefusedError(
            f"the rollback would drop {result.counts.quarantined:,} wrapped keys of {config.name} "
            "that could not be verified against their plaintext",
            hint="list them, with the reason, with: dekctl verify; where two keys differ, keep "
            "both and let the data decide: dekctl settle --prove PROGRAM (see docs/reliability.md)",
        )
    return result
