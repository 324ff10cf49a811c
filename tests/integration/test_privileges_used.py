"""The commands themselves, on the strict KMS: each call they make is in the table of privileges.

``test_privileges.py`` proves that Terraform's policies allow what :func:`support.privileges.needs`
lists, no more and no less. Here the list is held against what the commands really ask for. Except
for the auditor's Decrypt on the trail's key: S3 asks for that, on behalf of who reads a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session

from dekctl.kms import AWSKMS
from dekctl.kms.aws.assume_role import assumed_session
from dekctl.kms.context import V1
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import RIGHTS, Generations, session_of
from support.kms_standin import Grant
from support.privileges import CRYPTOGRAPHY, Cell, contexts, needs

ROWS = 3
PERMITTED = (None, "DryRunOperationException")


def name_of(context: dict[str, str]) -> str:
    """The name of an encryption context in the table."""
    listed = contexts(context.get("dekctl:table", "encrypted_files"))
    assert context.get("dekctl:table", "encrypted_files") == "encrypted_files"
    return next(name for name, given in listed.items() if (given or {}).keys() == context.keys())


def cells(generations: Generations) -> Iterator[Cell]:
    """The calls that the roles made since the last look, and got."""
    states = {arn: generations.states[name] for name, arn in generations.arns.items()}
    for call in generations.standin.journal():
        role = call["principal"].removeprefix("files-")
        if role not in RIGHTS or call["error"] not in PERMITTED:
            continue
        context = name_of(call["context"] or {})
        if call["api"] == "ReEncrypt":
            yield Cell(role, "ReEncryptFrom", states[call["key"]], context)
            to = name_of(call["destination_context"] or {})
            yield Cell(role, "ReEncryptTo", states[call["destination_key"]], to)
        else:
            yield Cell(role, call["api"], states[call["key"]], context)
    generations.standin.reset_counters()


def use_as_the_application(generations: Generations, app: Application) -> None:
    """Read every row and issue a key for a new one, as the role that Terraform makes for it."""
    standin = generations.standin
    session = assumed_session(
        session_of(standin),
        f"arn:aws:iam::{standin.account}:role/files-app",
        region=standin.region,
        endpoint_url=standin.endpoint_url,
    )
    provider = AWSKMS(
        generations.active,
        region=standin.region,
        endpoint_url=standin.endpoint_url,
        session=session,
        known_keks=list(generations.arns.values()),
    )

    class Base(DeclarativeBase):
        pass

    class File(Base):
        __table__ = sa.Table("encrypted_files", Base.metadata, autoload_with=app.database.engine)

    keys = RowKeys(provider)
    with Session(app.database.engine) as database:
        for row in database.scalars(sa.select(File)):
            keys.read(row)
        keys.issue(row, replace=True)
    provider.close()


def wrap_as_the_seed_did(generations: Generations, app: Application) -> None:
    """Put the rows under the active generation without a context, version V1."""
    standin = generations.standin
    kms = AWSKMS(
        generations.active,
        region=standin.region,
        endpoint_url=standin.endpoint_url,
        session=session_of(standin),
    )
    for pk, dek in app.deks.items():
        app.set(pk, wrapped=kms.wrap(dek), version=V1, kek=generations.active)
    kms.close()


@pytest.mark.parametrize(
    ("version", "context"), [("V1", "none"), ("V2", "right"), ("V3", "branch key")]
)
def test_the_commands_ask_for_what_the_table_lists_and_for_all_of_it(
    version: str,
    context: str,
    sqlite_database: AppDatabase,
    make_app: Any,
    generations: Generations,
    dekctl: Dekctl,
) -> None:
    wrapping = "V3" if version == "V3" else "V2"
    app = make_app(sqlite_database, rows=ROWS, env=generations.env, wrapping=wrapping)
    if version == "V3":
        dekctl("schema", "expand").expect(0)
        assert "allow_branch_keys = true" in dekctl("wrap").expect(5).stderr
        actions = (*RIGHTS["wrapper"], "kms:GenerateDataKey")
        generations.standin.put_role("files-wrapper", [Grant(actions)])
    generations.standin.reset_counters()
    used: set[Cell] = set()

    def step(*command: str) -> None:
        if command:
            dekctl(*command).expect(0)
        used.update(cells(generations))

    for command in (["migrate"], ["doctor"], ["status"]):
        step(*command)
    if version == "V1":
        wrap_as_the_seed_did(generations, app)
    use_as_the_application(generations, app)
    step("verify")
    step("rewrap", "--same-key")
    if version == "V1":
        wrap_as_the_seed_did(generations, app)
    generations.roll()
    step("verify")
    use_as_the_application(generations, app)
    step("rewrap")
    step("scrub", "--yes")
    step("retire", "g1")
    step("restore", "--yes")

    listed = set(needs(rows_without_context=version == "V1", branch_keys=version == "V3"))
    assert used <= listed, "a command asks for what no policy allows"
    cryptography = {c for c in listed if c.action in CRYPTOGRAPHY and c.context == context}
    assert cryptography <= used, "the table lists what no command asks for"
