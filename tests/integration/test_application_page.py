"""Every block of docs/application.md runs as it stands, on PostgreSQL and the strict KMS."""

from __future__ import annotations

import base64
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from dekctl.config import TableConfig
from dekctl.kms import InMemoryKMS
from dekctl.kms.chosen import choose_again, chosen
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl
from support.generations import Generations

PAGE = Path(__file__).parents[2] / "docs" / "application.md"
NOT_RUN = ("pip install",)
"""Commands that need a package index."""


def blocks() -> list[tuple[str, int, str]]:
    """Language, number of the first line and text of every block, in order."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(m[1], text.count("\n", 0, m.start()) + 2, m[2]) for m in found]


def test_every_block_of_the_page_runs_as_it_stands(
    postgres_database: AppDatabase,
    dekctl: Dekctl,
    generations: Generations,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = dekctl.folder
    legacy_table(postgres_database)
    dekctl.environ |= {"DATABASE_URL": postgres_database.url, "DEKCTL_ENV": "staging"}
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name in ("DATABASE_URL", "DEKCTL_ENV"):
        monkeypatch.setenv(name, dekctl.environ[name])
    pytest.importorskip("prometheus_client")
    exported = open_telemetry()
    before = chosen()
    namespace: dict[str, object] = {"__name__": "page"}
    ran: list[str] = []
    try:
        for language, line, text in blocks():
            ran.append(language)
            file = re.match(r"# (\S+\.py)\b.*\n", text)
            if language == "toml":
                dekctl.configure(text)
            elif language == "console":
                run_commands(dekctl, text)
            elif language == "text":
                check_own_command(text)
            elif file:
                (folder / file[1]).parent.mkdir(exist_ok=True)
                (folder / file[1]).write_text(text, encoding="utf-8")
            else:
                assert language == "python", f"line {line}: nobody runs {language}"
                # The line numbers of the page, for whoever reads a failure.
                code = compile("\n" * (line - 1) + text, str(PAGE), "exec")
                exec(code, namespace)  # noqa: S102 - the page is ours
        assert ran.count("python") >= 10
        check_files(folder)
    finally:
        choose_again(before)
        for name in ("models", "document_models"):
            sys.modules.pop(name, None)
    assert {"kms.duration", "dek.reads"} <= exported()
    assert dekctl.json("verify")["failed"] == 0
    assert dekctl.json("status")["plaintext_only"] == 0


def open_telemetry() -> Callable[[], set[str]]:
    """Collect in memory what the page sends to OpenTelemetry; returns how to get the names."""
    metrics = pytest.importorskip("opentelemetry.metrics")
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    reader = sdk.export.InMemoryMetricReader()
    metrics.set_meter_provider(sdk.MeterProvider([reader]))

    def exported() -> set[str]:
        data = reader.get_metrics_data()
        scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics]
        return {metric.name for scope in scopes for metric in scope.metrics}

    return exported


def legacy_table(database: AppDatabase) -> None:
    """The application's table before dekctl, with three files."""
    database.sql(
        "CREATE TABLE encrypted_files (id SERIAL PRIMARY KEY, filename VARCHAR(100) NOT NULL, "
        "encryption_key BYTEA NOT NULL)"
    )
    for number in range(3):
        database.sql(
            "INSERT INTO encrypted_files (filename, encryption_key) VALUES (:name, :dek)",
            name=f"{number}.txt",
            dek=bytes([number]) * 32,
        )


def run_commands(dekctl: Dekctl, text: str) -> None:
    for line in text.splitlines():
        assert line.startswith("$ "), line
        typed = line.removeprefix("$ ")
        if not typed.startswith(NOT_RUN):
            program, *arguments = typed.split()
            assert program == "dekctl", typed
            dekctl.process(*arguments).expect(0)


def check_own_command(text: str) -> None:
    """The command that measures the figures runs another test, whose settings it names."""
    *settings, test = re.findall(r"DEKCTL_\w+|tests/[\w/.]+", text)
    source = (PAGE.parents[1] / test).read_text(encoding="utf-8")
    assert [name for name in settings if name not in source] == []


def check_files(folder: Path) -> None:
    """Use the files that the page gave: Alembic's, pytest's and gunicorn's."""
    config = Config()
    config.set_main_option("script_location", str(folder / "migrations"))
    (folder / "migrations" / "versions").mkdir()
    command.check(config)
    # The plugin by name: a test that is run without an installed dekctl has no entry points.
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "dekctl.testing"]
    done = subprocess.run(
        [*run, "test_files.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = importlib.import_module("document_models").Document  # after Alembic's check
    named = TableConfig(name="documents", plaintext_column="dek_b64", plaintext_encoding="base64")
    keys = RowKeys(InMemoryKMS("page"), named)
    keys.check(document)
    row = document(id=1)
    row.__dict__.update(keys.issue_for(1).columns)
    assert base64.b64decode(row.dek_b64) == keys.read(row)
    settings: dict[str, object] = {}
    exec((folder / "gunicorn.conf.py").read_text(encoding="utf-8"), settings)  # noqa: S102 - ours
    assert settings["workers"] == 2
    assert callable(settings["post_fork"])
