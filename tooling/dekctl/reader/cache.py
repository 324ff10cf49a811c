"""Data keys in memory, for applications that ask for it: :class:`KeyCache`."""

from __future__ import annotations

from collections.abc import Hashable

from dekctl.errors import UsageError
from dekctl.kms.dek import DEK
from dekctl.reader.branches import Branch
from dekctl.reader.memory import Limits, Memory
from dekctl.reader.refusals import Refusals

BRANCH_LIMITS = Limits(max_age=3600.0, max_entries=1000)
"""How long branch keys (V3) stay in memory without a :class:`KeyCache`."""


class KeyCache:
    """Keeps plaintext data keys in the memory of the process, for a while.

    Without one, each read of a V1 or V2 row asks KMS. With one, a key that was read is kept for
    ``max_age`` seconds; readers of one row who come at once make one call. The branch keys of V3
    rows obey the same limits, which otherwise are an hour and 1,000 branch keys.

    What it costs in safety: while a key is in memory, KMS is not asked, so nothing that happens to
    the KEK is noticed. A row whose KEK was disabled, or whose right was taken from this
    application, can be read for at most ``max_age`` seconds more; while KMS cannot be reached, for
    at most ``max_age + stale_if_unavailable``. A refusal of KMS ends it at once for that key, and
    ends use beyond ``max_age`` for all keys under that KEK.
    CloudTrail shows fewer reads than there were. Nothing is written to disk. A key that is too old
    leaves the memory when another one is asked for.

    An entry is bound to the wrapped key, the KEK and the encryption context of its row: a row that
    was rewrapped or re-keyed is asked for anew. Share a cache only between readers of one identity.
    """

    def __init__(
        self,
        max_age: float,
        max_entries: int,
        max_uses: int | None = None,
        stale_if_unavailable: float = 0.0,
    ) -> None:
        """Prepare an empty cache.

        Args:
            max_age: seconds that a key may be used, counted from the call to KMS.
            max_entries: how many data keys, and how many branch keys; the least used go first.
            max_uses: how often a key may be used before KMS is asked again; None: no limit.
            stale_if_unavailable: for how many more seconds a key may be used while KMS cannot be
                reached or gives no usable answer. Never after a refusal.

        Raises:
            UsageError: a limit is out of range.
        """
        if max_age <= 0 or max_entries < 1 or stale_if_unavailable < 0:
            raise UsageError(
                "a KeyCache needs max_age above 0, max_entries of 1 or more and "
                "stale_if_unavailable of 0 or more",
                hint="for example KeyCache(max_age=60, max_entries=1000)",
            )
        if max_uses is not None and max_uses < 1:
            raise UsageError("max_uses of a KeyCache must be 1 or more", hint="leave it out")
        limits = Limits(max_age, max_entries, max_uses, stale_if_unavailable)
        refusals = Refusals(max_age + stale_if_unavailable)
        self.deks: Memory[Hashable, DEK] = Memory(limits, refusals=refusals)
        self.branches: Memory[bytes, Branch] = Memory(limits, refusals=refusals)

    def __repr__(self) -> str:
        return f"<KeyCache of {len(self.deks)} data keys, {len(self.branches)} branch keys>"

    def clear(self) -> None:
        """Drop every key: the next reads ask KMS."""
        self.deks.clear()
        self.branches.clear()
