"""The provider that this process has chosen; see :mod:`dekctl.kms.registry`."""

from __future__ import annotations

from dekctl.kms.interface import KMSInterface

_chosen: KMSInterface | None = None


def choose(provider: KMSInterface) -> KMSInterface:
    """Choose a provider for this process; return it."""
    global _chosen  # noqa: PLW0603 - the public interface is a module-level provider
    _chosen = provider
    return provider


def choose_again(provider: KMSInterface | None) -> None:
    """Go back to what :func:`chosen` returned before."""
    global _chosen  # noqa: PLW0603 - the same
    _chosen = provider


def chosen() -> KMSInterface | None:
    """The provider chosen in this process, or None."""
    return _chosen
