"""The KEKs that may have wrapped a row: one list, and nothing else is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dekctl.errors import RowRejectedError
from dekctl.kek_id import is_alias, is_same_kek
from dekctl.kms.interface import KMSInterface

LOOK_UP_SECONDS = 1.0
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
        self._resolved: list[str] = []
        self._looked_up = -LOOK_UP_SECONDS

    def __contains__(self, kek_id: str) -> bool:
        """Whether a KEK is in the list, as far as it is known; nobody is asked."""
        if kek_id in self._known:
            return True
        if any(is_same_kek(kek_id, kek) for kek in (*self._listed(), *self._resolved)):
            self._known.add(kek_id)
            return True
        return False

    def add(self, kek_id: str) -> None:
        """Take in what the provider named as its own KEK."""
        if self._keks is None:
            self._known.add(kek_id)

    def is_open(self, kek_id: str) -> bool:
        """Whether :meth:`look_up` could tell that a KEK is in the list after all."""
        return (
            kek_id not in self
            and time.monotonic() - self._looked_up >= LOOK_UP_SECONDS
            and any(map(is_alias, self._listed()))
        )

    def look_up(self) -> None:
        """Ask the provider what the aliases in the list stand for now.

        Raises:
            KMSError: it cannot tell.
        """
        self._resolved = [self._provider().resolve(kek) for kek in self._listed() if is_alias(kek)]
        self._looked_up = time.monotonic()

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

    def _listed(self) -> Sequence[str]:
        return (*self._provider().keks, *self._own) if self._keks is None else self._keks
