"""Every error has the exit code of the contract."""

from __future__ import annotations

import importlib
import pkgutil
import traceback

import pytest

import dekctl
from dekctl import errors
from dekctl.errors import DekctlError, ExitCode, UsageError
from dekctl.reader.steps import copy_of


def test_the_exit_codes_are_those_of_the_contract() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "ERROR": 1,
        "USAGE": 2,
        "REFUSED": 3,
        "ROWS_LEFT": 4,
        "KMS": 5,
        "DATABASE": 6,
        "INTERRUPTED": 130,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DekctlError, 1),
        (errors.UsageError, 2),
        (errors.RefusedError, 3),
        (errors.KMSError, 5),
        (errors.KMSRefusedError, 5),
        (errors.KMSUnavailableError, 5),
        (errors.RowRejectedError, 5),
        (errors.DatabaseError, 6),
    ],
)
def test_each_error_ends_with_its_code(error: type[DekctlError], code: int) -> None:
    assert int(error("x").exit_code) == code
    assert error.__doc__


def test_every_module_can_be_imported_alone() -> None:
    found = [m.name for m in pkgutil.walk_packages(dekctl.__path__, "dekctl.")]
    assert len(found) > 40
    for name in found:
        if name != "dekctl.__main__":
            assert importlib.import_module(name).__doc__, name


def test_the_hint_is_shown_below_a_traceback() -> None:
    error = UsageError("no column", hint="map it")
    assert traceback.format_exception(error)[-1] == "hint: map it\n"
    error.hint = "map it by hand"
    assert [line for line in traceback.format_exception(copy_of(error)) if "hint" in line] == [
        "hint: map it by hand\n"
    ]
    assert "hint" not in "".join(traceback.format_exception(UsageError("no column")))
