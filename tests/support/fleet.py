"""Deploys versions of an example application: instances, each with its own engine and reader."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from conftest import toml
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl
from support.files_load import CONTENDED, Load
from support.generations import ALIAS, Generations
from support.services import Service

PATIENT = 30.0
"""A reader's deadline in seconds: the examples' 1 second would fail requests on a busy machine."""
EXAMPLES = Path(__file__).parents[2] / "examples"
VERSIONS = ("legacy", "write", "refuse")


class Fleet:
    """The instances of one example, and the settings that go out with a deploy."""

    def __init__(
        self,
        database: AppDatabase,
        dekctl: Dekctl,
        generations: Generations,
        serve: Callable[[Any], Service],
    ) -> None:
        """``serve`` makes an instance of an application object."""
        self._database, self._dekctl, self._generations = database, dekctl, generations
        self._serve = serve
        self._started: list[Service] = []
        self.configure("write")

    def use(self, example: str, url: str, patch: pytest.MonkeyPatch) -> None:
        """Let the example's modules be found, and its settings lead to this test's servers."""
        patch.syspath_prepend(str(EXAMPLES / example))
        patch.setenv("DATABASE_URL", url)
        patch.setenv("DEKCTL_CONFIG", str(self._dekctl.folder / "dekctl.toml"))

    def configure(self, plaintext: str) -> None:
        """Write the ``dekctl.toml`` that goes out with a deploy."""
        env = self._generations.env
        self._dekctl.configure(toml(self._database, {"plaintext": plaintext}, env))

    def start(self, version: str, deadline: float = PATIENT) -> Service:
        """An instance of a version; ``deadline`` is what its reader has by default, in seconds."""
        defaults: Any = RowKeys.from_config.__func__.__kwdefaults__  # type: ignore[attr-defined] # the function of a class method
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(defaults, "deadline", deadline)
            service = self._serve(import_module(version).create_app())
        self._started.append(service)
        return service

    def pair(self, version: str, deadline: float = PATIENT) -> list[Service]:
        """Two instances of a version."""
        return [self.start(version, deadline), self.start(version, deadline)]

    def activate(self, arn: str) -> None:
        """Make a generation of the KEK the active one, as Terraform does."""
        generations = self._generations
        generations.standin.kms().update_alias(AliasName=ALIAS, TargetKeyId=arn)
        for name, each in generations.arns.items():
            generations.states[name] = "active" if each == arn else "retired"
        generations.write()

    def close(self) -> None:
        """End the connections of every instance, and forget the example's modules."""
        for service in self._started:
            service.close()
        for version in VERSIONS:
            sys.modules.pop(version, None)


def deploy(load: Load, step: str, instances: list[Service], requests: int) -> None:
    """One instance after the other, with requests to both versions in between."""
    load.begin(f"{step}, rolling")
    load.instances = [load.instances[0], instances[0]]
    load.go_on(requests)
    load.begin(step)
    load.instances = instances
    load.go_on(requests)


def assert_contents(load: Load) -> int:
    """Every file has the content that was uploaded last. Returns their number."""
    for number in numbers(load):
        found, content = load.read(number), load.contents.get(number, CONTENDED)
        assert found is not None
        assert found.startswith(content) if content == CONTENDED else found == content
    return len(numbers(load))


def numbers(load: Load) -> list[int]:
    """The files there are."""
    return [*load.contents, *load.contended]
