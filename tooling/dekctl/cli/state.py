"""The global options, as the commands receive them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dekctl.cli.hints import works_with_make
from dekctl.cli.terminal import Terminal

if TYPE_CHECKING:
    from dekctl.config import Config
    from dekctl.project import Project


@dataclass(slots=True)
class State:
    """The global options, and how to open the project that they choose."""

    terminal: Terminal
    config_file: str | None
    env_name: str | None
    assume_role: bool = True
    metrics: Path | None = None
    """Where a command writes its figures as Prometheus text."""
    cancel: threading.Event = field(default_factory=threading.Event)
    give_up: threading.Event = field(default_factory=threading.Event)

    def project(self) -> Project:
        """Read the configuration.

        Raises:
            UsageError: it is missing or wrong.
        """
        from dekctl.config import load_config  # noqa: PLC0415 - `dekctl --help` needs neither
        from dekctl.project import Project  # noqa: PLC0415

        # Ctrl-C while SQLAlchemy gives a connection back: it would print a traceback of that.
        logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())
        config = load_config(self.config_file, self.env_name)
        self.terminal.context["env"] = config.env.name
        self._settle(config)
        return Project(
            config, assume_role=self.assume_role, cancel=self.cancel, give_up=self.give_up
        )

    def _settle(self, config: Config) -> None:
        """Tell the hints which environment, and whose Terraform, this is."""
        place, env = self.terminal.place, config.env
        place.env = env.name
        if works_with_make(config.path, env.name):
            return
        place.terraform = str(env.terraform) if env.terraform else None
        place.outputs = str(env.terraform_outputs.absolute()) if env.terraform_outputs else None
