"""The KEKs that may have wrapped a row: one list, and nothing else is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dekctl.errors import KMSError, RowRejectedError
from dekctl.kek_id import is_alias, is_same_kek
from dekctl.kms.interface import KMSInterface

LOOK_UP_SECONDS = 10.0
"""An alias is not looked up again sooner: a forged row must not cost a call each time."""


class AllowedKEKs:
    """Says whether a KEK is one of those that were named."""

    def __init__(
        self,
        keks: Sequence[str] | None,
        provider: Callable[[], KMSInterface],
        own: Sequence[str],
        why: str,
    ) -> None:
        """Prepare.

        Args:
            keks: ARNs, local names, key ids or aliases; None for those of provider and table.
            provider: the key provider, which knows what an alias stands for.
            own: the KEKs that the table names.
            why: what the list is, for the error.
        """
        self._keks = tuple(keks) if keks is not None else None
        self._provider = provider
        self._own = tuple(own)
        self._why = why
        self._known: set[str] = set()
        self._looked_up = -LOOK_UP_SECONDS

    def __contains__(self, kek_id: str) -> bool:
        if kek_id in self._known:
            return True
        keks = (*self._provider().keks, *self._own) if self._keks is None else self._keks
        if any(is_same_kek(kek_id, kek) for kek in (*keks, *self._aliases(keks, kek_id))):
            self._known.add(kek_id)
            return True
        return False

    def add(self, kek_id: str) -> None:
        """Take in what the provider named as its own KEK."""
        if self._keks is None:
            self._known.add(kek_id)

    def refuse_others(self, kek_id: str) -> None:
        """Check a KEK.

        Raises:
            RowRejectedError: it is not in the list.
        """
        if kek_id not in self:
            raise RowRejectedError(
                f"the row's key is wrapped by {kek_id}, which is not among {self._why}",
                hint="if the KEK is yours, add it to them; if the row was restored from a backup, "
                "run: dekctl rewrap",
            )

    def _aliases(self, keks: Sequence[str], kek_id: str) -> list[str]:
        """What the aliases in the list stand for, if that was not asked a moment ago."""
        aliases = [kek for kek in keks if is_alias(kek)]
        now = time.monotonic()
        if not aliases or is_alias(kek_id) or now - self._looked_up < LOOK_UP_SECONDS:
            return []
        self._looked_up = now
        try:
            return [self._provider().resolve(alias) for alias in aliases]
        except KMSError:
            self._looked_up = -LOOK_UP_SECONDS
            raise
