"""Writes the first ``dekctl.toml`` and a Terraform root: what ``dekctl init`` does with answers.

Nothing is overwritten. The files are made in a folder of their own and checked there as
``dekctl config check`` does; only then are they moved to their places.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dekctl import __version__
from dekctl.config import TableConfig
from dekctl.config.file import FILE_NAME, read_document
from dekctl.config.json_schema import SCHEMA_FILE, json_schema
from dekctl.errors import DekctlError, RefusedError
from dekctl.workflows.configuration import check_environment

TERRAFORM = "terraform"
_ROOT = Path("examples") / "own-table"
"""The Terraform root that is copied, in ``terraform/``."""
_GENERATIONS = """\
# To rotate the KEK: add the next generation as active and set the current one to retired, with
# still_wraps = true until every writer uses the new one. Then apply, and run: dekctl rewrap
generations = {
  g1 = { state = "active" }
}
"""


@dataclass(frozen=True, slots=True)
class AWSAccount:
    """Where the Terraform root creates the KEK."""

    account_id: str
    region: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What has to be known to write the files."""

    table: TableConfig
    seen: str
    """What the encoding is taken from, for a comment."""
    env: str
    variable: str
    """The environment variable that holds the database URL."""
    account: AWSAccount | None
    """None where a KEK is named instead."""
    kek: str | None = None
    region: str | None = None
    """Of the ``kek``."""


def targets(folder: Path, *, terraform: bool) -> list[Path]:
    """What would be written into a folder."""
    names = [FILE_NAME, SCHEMA_FILE, *([TERRAFORM] if terraform else [])]
    return [folder / name for name in names]


def refuse_existing(folder: Path, *, terraform: bool) -> None:
    """Refuse to overwrite.

    Raises:
        RefusedError: something is there already.
    """
    for target in targets(folder, terraform=terraform):
        if os.path.lexists(target):
            raise RefusedError(
                f"{target.name} exists in {folder}, and dekctl init overwrites nothing",
                hint="run dekctl init in another folder, or move that away; to check what is "
                "there: dekctl config check",
            )


def write(folder: Path, answers: Answers) -> list[Path]:
    """Write the files. Returns their paths, and that of the Terraform root.

    Raises:
        RefusedError: one exists already; then none was written.
    """
    terraform = answers.account is not None
    with tempfile.TemporaryDirectory(prefix=".dekctl-init-", dir=folder) as name:
        made = Path(name)
        (made / FILE_NAME).write_text(toml(answers), encoding="utf-8")
        schema = json.dumps(json_schema(), indent=2, ensure_ascii=False)
        (made / SCHEMA_FILE).write_text(schema + "\n", encoding="utf-8")
        if answers.account is not None:
            _write_root(made / TERRAFORM, answers, answers.account)
        _check(made, answers)
        refuse_existing(folder, terraform=terraform)
        placed = targets(folder, terraform=terraform)
        for target in reversed(placed):  # dekctl.toml last: with it there, everything is
            (made / target.name).rename(target)
    return placed


def _check(folder: Path, answers: Answers) -> None:
    environ = {**os.environ, answers.variable: os.environ.get(answers.variable) or "sqlite://"}
    document = read_document(folder / FILE_NAME, environ)
    for check in check_environment(document, answers.env, environ):
        if not check.ok:
            raise DekctlError(f"cannot write {FILE_NAME}: {check.detail}", hint=check.hint)


def toml(answers: Answers) -> str:
    """The text of ``dekctl.toml``."""
    return "\n".join(_toml(answers)) + "\n"


def _toml(answers: Answers) -> Iterator[str]:
    table = answers.table
    yield f"#:schema ./{SCHEMA_FILE}"
    yield f'# Written by dekctl {__version__} (dekctl init). A value "env:NAME" is read from the'
    yield "# environment variable NAME. Check this file with: dekctl config check"
    yield ""
    yield "[table]"
    yield f"name = {_quoted(table.name)}"
    yield f"primary_key = [{', '.join(map(_quoted, table.primary_key))}]"
    yield ""
    yield "# The column with the raw keys, and how it holds them."
    yield f"# {answers.seen[0].upper()}{answers.seen[1:]}."
    yield f"plaintext_column = {_quoted(table.plaintext_column)}"
    yield f"plaintext_encoding = {_quoted(table.plaintext_encoding)}"
    if table.dek_bytes != TableConfig().dek_bytes:
        yield "# The sizes in bytes that a key may have; any other is quarantined."
        yield f"dek_bytes = {list(table.dek_bytes)}"
    yield ""
    yield "# Columns that `dekctl schema expand` adds: the wrapped key, its format, its KEK."
    yield f"wrapped_column = {_quoted(table.wrapped_column)}"
    yield f"version_column = {_quoted(table.version_column)}"
    yield f"kek_column = {_quoted(table.kek_column)}"
    yield ""
    yield "# Part of the encryption context of every wrapped key, with the primary key: it must"
    yield "# stay the same, also when the table is renamed, and no other table may have it."
    yield f"context_name = {_quoted(table.context_name)}"
    yield ""
    yield '# What the application does with the plaintext column: "write" it beside the wrapped'
    yield '# key; "read" it where there is no wrapped key; "refuse" it, before schema contract.'
    yield 'plaintext = "write"'
    yield ""
    yield f"[env.{_bare(answers.env)}]"
    yield f"database_url = {_quoted('env:' + answers.variable)}"
    if answers.account is not None:
        yield "# The KEK, the Region and the roles come from the outputs of this Terraform root."
        yield f'terraform = "{TERRAFORM}"'
    else:
        yield f"kek = {_quoted(answers.kek or '')}"
        if answers.region:
            yield f"region = {_quoted(answers.region)}"
    yield "# Days for which backups of this database are kept: `dekctl retire` waits as long before"
    yield "# an old KEK may go."
    yield "backup_retention_days = 35"


def _write_root(root: Path, answers: Answers, account: AWSAccount) -> None:
    """The root's own files, and the modules beside them."""
    source = terraform_folder()
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "tests", "examples", "*.tfvars")
    shutil.copytree(source / _ROOT, root, ignore=ignored)
    shutil.copytree(source / "modules", root / "modules", ignore=ignored)
    main = root / "main.tf"
    text = main.read_text(encoding="utf-8")
    main.write_text(text.replace('"../../modules/', '"./modules/'), encoding="utf-8")
    (root / "generations.auto.tfvars").write_text(_GENERATIONS, encoding="utf-8")
    (root / "terraform.tfvars").write_text(_tfvars(answers, account), encoding="utf-8")
    (root / ".gitignore").write_text(".terraform/\n*.tfstate*\n*.tfplan\n", encoding="utf-8")


def _tfvars(answers: Answers, account: AWSAccount) -> str:
    role = f"arn:aws:iam::{account.account_id}:role"
    return f"""\
environment  = {_quoted(answers.env)}
region       = {_quoted(account.region)}
account_id   = {_quoted(account.account_id)}
name_prefix  = {_quoted(name_prefix(answers))}
context_name = {_quoted(answers.table.context_name)} # as in dekctl.toml

# Edit from here on: the names of your own roles.

# The role that runs Terraform. KMS refuses to create a key whose policy locks out its creator.
administrator_arns = ["{role}/terraform"]

# Who may assume which role. `app` is the application; role/migrations is whoever runs dekctl.
trust = {{
  app       = {{ services = ["ecs-tasks.amazonaws.com"] }}
  wrapper   = {{ principals = ["{role}/migrations"] }}
  rewrapper = {{ principals = ["{role}/migrations"] }}
  verifier  = {{ principals = ["{role}/migrations"] }}
  auditor   = {{ principals = ["{role}/migrations"] }}
  key_admin = {{ principals = ["{role}/security"] }}
}}
"""


def name_prefix(answers: Answers) -> str:
    """The prefix of the names in AWS: letters, digits and hyphens, as module access takes them."""
    text = re.sub(r"[^a-z0-9]+", "-", f"{answers.table.context_name}-{answers.env}".lower()).strip(
        "-"
    )
    return f"dekctl-{text}"[:41].rstrip("-")


def terraform_folder() -> Path:
    """``terraform/``: packed into the wheel, or beside ``tooling/`` in a checkout."""
    here = Path(__file__).resolve()
    packed = here.parents[1] / "_terraform"
    return packed if packed.is_dir() else here.parents[3] / "terraform"


def _bare(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    """A text as TOML takes it. Terraform does, too: what it gets here has neither $ nor %."""
    return json.dumps(text, ensure_ascii=False)
