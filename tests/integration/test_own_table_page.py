"""docs/own-table.md as it stands: from the wheel in an empty folder to a table of wrapped keys."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sandbox.moto import MotoServer
from support.app import AppDatabase
from support.secrets import assert_hidden
from support.wheel import build, install
from tfkit.terraform import TerraformMissingError, environment, find_mirror, find_terraform

PAGE = Path(__file__).parents[2] / "docs" / "own-table.md"
NOT_RUN = re.compile(r"pipx install |export (DATABASE_URL|AWS_)")
"""What the test does in its own way: the wheel is installed offline, the servers are its own."""
ROWS = 60
OF_TERRAFORM = re.compile(r"terraform ")
MARK = "@@ next command"


def commands() -> list[tuple[str, list[str]]]:
    """Every command of the page, with the lines of output that the page shows for it."""
    found: list[tuple[str, list[str]]] = []
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return [(command, shown) for command, shown in found if not NOT_RUN.match(command)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the installed ``dekctl``."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel, _ = build(folder)
    return install(wheel, folder / "venv")


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> AppDatabase:
    """The shop's database, on each server in turn."""
    names = {"postgresql": "postgres_database", "mariadb": "mariadb_database"}
    found = request.getfixturevalue(names[request.param])
    assert isinstance(found, AppDatabase)
    return found


@pytest.fixture(scope="module")
def aws() -> Iterator[MotoServer]:
    """An emulator of the page's own."""
    found, reason = MotoServer.find()
    if found is None:
        pytest.skip(reason)
    with MotoServer.start() as server:
        yield server


@pytest.fixture(scope="module")
def applied() -> list[Path]:
    """The folder in which Terraform has run, once it has.

    It knows nothing of the database and takes longer than all the rest, so it runs for the first
    one only; the other finds KEK and roles as they are in an account where it has run before.
    """
    return []


def test_every_command_of_the_page_runs_as_it_stands(
    database: AppDatabase, aws: MotoServer, programs: Path, applied: list[Path], tmp_path: Path
) -> None:
    try:
        find_terraform()
    except TerraformMissingError as missing:
        pytest.skip(str(missing))
    keys = make_table(database)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("DEKCTL_", "PYTHON"))}
    environ |= environment(aws.endpoint_url)
    environ |= {"PATH": f"{programs}:{os.environ['PATH']}", "DATABASE_URL": database.url}
    if (mirror := find_mirror()) is not None:
        environ["TF_CLI_ARGS_init"] = f"-plugin-dir={mirror}"
    page = commands()
    script = []
    for command, _ in page:
        script.append(f"echo '{MARK}'")
        if not (applied and OF_TERRAFORM.match(command)):
            script.append(command)
        elif command.startswith("terraform -chdir=terraform apply"):
            script.append(f"cp -a {applied[0]}/terraform.tfstate terraform/; echo Apply complete!")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout.split(f"{MARK}\n")[1:]
    last = page[len(printed) - 1][0]
    assert done.returncode == 0, f"{last} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    for (command, shown), output in zip(page, printed, strict=True):
        for line in shown:
            wanted = re.escape(line).replace(re.escape("..."), ".*")
            assert re.search(f"^{wanted}", output, re.MULTILINE), f"{command}: {line}\n{output}"
    assert_hidden(done.stdout + done.stderr, keys, "what the page prints")
    [(left, wrapped)] = database.sql("SELECT COUNT(content_key), COUNT(wrapped_key) FROM documents")
    assert (left, wrapped) == (0, ROWS)
    applied.append(tmp_path / "shop-keys" / "terraform")


def make_table(database: AppDatabase) -> list[bytes]:
    """The shop's table, as the page describes it. Returns its keys."""
    table = sa.Table(
        "documents",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("title", sa.String(100), nullable=False),
        sa.Column("content_key", sa.String(64), nullable=False),
    )
    keys = [os.urandom(32) for _ in range(ROWS)]
    table.metadata.create_all(database.engine)
    rows = [
        {"id": n, "title": f"document {n}", "content_key": base64.b64encode(key).decode()}
        for n, key in enumerate(keys)
    ]
    with database.engine.begin() as connection:
        connection.execute(table.insert(), rows)
    return keys
