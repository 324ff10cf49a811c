"""Checks of ``dekctl.toml`` alone: nothing is connected to, and Terraform is not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dekctl.checks import Check
from dekctl.config import Config
from dekctl.config.file import Document
from dekctl.errors import DekctlError, UsageError
from dekctl.project import Project


def check_environment(document: Document, env: str, environ: Mapping[str, str]) -> Iterator[Check]:
    """Check the tables and one environment; a check that fails does not prevent the next."""
    name = f"[env.{env}]"
    try:
        config = document.config(env, environ)
        project = Project(config)
    except DekctlError as error:
        yield Check(name, False, error.message, error.hint, error.exit_code)
        return
    tables = ", ".join(table.name for table in config.tables)
    yield Check(name, True, f"every setting has a known name and a valid value; tables: {tables}")
    with project:
        yield _run(f"{name} database_url", lambda: _database(project))
        yield _run(f"{name} KEK", lambda: _kek(project, config))


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except DekctlError as error:
        return Check(name, False, error.message, error.hint, error.exit_code)


def _database(project: Project) -> str:
    return f"{project.database.shown_url}; its driver is installed"


def _kek(project: Project, config: Config) -> str:
    root = config.env.terraform
    if project.uses_aws and root is not None:
        if not any(root.glob("*.tf")):
            what = "has no *.tf file" if root.is_dir() else "does not exist"
            raise UsageError(
                f"the Terraform root {root} {what}",
                hint=f"correct `terraform` in [env.{config.env.name}]",
            )
        return f"from the outputs of {root}, which `dekctl doctor` reads"
    project.refuse_incomplete()
    return project.kek() if project.uses_aws and not config.table.keks else config.env.provider
