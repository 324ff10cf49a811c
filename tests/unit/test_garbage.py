"""Python's garbage collector while rows are walked, and afterwards."""

from __future__ import annotations

import gc

from dekctl.garbage import rare_collections


def test_collections_are_rare_only_within_and_at_any_depth() -> None:
    before = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold() > before
        assert gc.get_freeze_count() > 0
        with rare_collections():
            pass
        assert gc.get_threshold() > before, "a run within a command does not end its command's"
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
