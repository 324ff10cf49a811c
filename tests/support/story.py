"""The steps of a random story, as Hypothesis's state machine: commands, kills, faults, writes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3
import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dekctl.cli.main import cli
from dekctl.kms import AWSKMS
from dekctl.ledger.process import this_machine
from support.branches import Branches
from support.failover import FORGERIES, Standby, assert_no_sql_ran
from support.kms_standin import CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, NO_BODY, Fault
from support.oracle import TABLE, Oracle, Writer
from support.secrets import assert_hidden
from support.turmoil import Surroundings

FAULTS = (
    "ThrottlingException",
    "KMSInternalException",
    "DependencyTimeoutException",
    "KeyUnavailableException",
    NO_BODY,
    CUT_BEFORE,
    CUT_MIDDLE,
    CUT_AFTER,
)
ROWS_PER_BRANCH_KEY = 3
WRITES = ("insert", "rekey", "issue", "issue new", "delete")
FAIL_OVERS = (
    ["standby", "fail over"],
    ["standby", "issue", "wait", "fail over"],
    ["wait", "standby", "wait", "wait", "fail over"],
    ["standby", "delete", "wait", "wait", "wait", "fail over"],
)
"""What befalls the database while a command walks, a moment each: what was committed between is
lost, the application's writes and branch keys too."""


@dataclass(frozen=True)
class Trouble:
    """What befalls a command: its death at a moment, and a fault of KMS in a share of its calls."""

    kill: int | None = None
    fault: str | None = None
    share: float = 0.0


CALM = Trouble()
TROUBLE = st.builds(
    Trouble,
    st.none() | st.integers(0, 80),
    st.none() | st.sampled_from(FAULTS),
    st.sampled_from((0.1, 0.3, 0.6)),
)
WALK: dict[str, Any] = {
    "batch": st.integers(1, 4),
    "retry": st.booleans(),
    "trouble": TROUBLE,
    "between": st.lists(st.sampled_from(WRITES), max_size=3) | st.sampled_from(FAIL_OVERS),
}


FORGED_COMMANDS = (
    *("status", "doctor", "wrap --hierarchical", "wrap", "verify", "scrub --yes", "rewrap"),
    *("rewrap --hierarchical --same-key", "restore --yes", "schema expand", "rollback --yes"),
    *("schema contract --yes", "schema rollback --yes"),
)


class Story(RuleBasedStateMachine):
    """The steps. ``around`` is set by the test."""

    around: Surroundings
    _aliases = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        around = self.around
        engine = around.database.engine
        self.oracle = Oracle(branches=Branches(engine))
        self.writer = Writer(engine, self.oracle)
        self.writer.create_table()
        around.standin.clear_faults()
        self.alias = f"alias/dek-{next(self._aliases)}"
        self.keks = [around.standin.create_key(self.alias)]
        self.disabled: set[str] = set()
        self.troubled = False
        self.standby = Standby(engine, TABLE)
        self.known_then = self.oracle.copy()
        self.failed_over = False
        self.environ = around.standin.environment()
        (around.folder / "dekctl.toml").write_text(
            f"[table]\nrows_per_branch_key = {ROWS_PER_BRANCH_KEY}\n"
            f'[env.test]\ndatabase_url = "{around.database.url}"\nprovider = "aws"\n'
            f'region = "{around.standin.region}"\nendpoint_url = "{around.standin.endpoint_url}"\n'
            f'kek = "{self.alias}"\n'
        )
        self.admin = around.standin.kms(attempts=3)
        session = boto3.Session(
            aws_access_key_id=around.standin.admin.access_key,
            aws_secret_access_key=around.standin.admin.secret_key,
            region_name=around.standin.region,
        )
        self.provider = AWSKMS(
            self.alias,
            region=around.standin.region,
            endpoint_url=around.standin.endpoint_url,
            session=session,
            transport="boto3",
            concurrency=2,
        )
        self.writer.provider = self.provider
        self.steps: list[str] = []

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.provider.close()
            self.around.standin.clear_faults()

    # -- commands ------------------------------------------------------------------------------

    def run(
        self,
        *arguments: str,
        trouble: Trouble = CALM,
        between: tuple[str, ...] = (),
        expect: tuple[int, ...] = (0, 3, 4),
    ) -> int:
        """Run a command, in trouble, and let the application write in between."""
        around = self.around
        around.between = [partial(self.write, what) for what in between]
        around.killer.arm(trouble.kill)
        self.failed_over = False
        self.troubled = trouble.fault is not None
        if trouble.fault is not None:
            around.standin.set_faults(Fault(trouble.fault, trouble.share), seed=len(self.steps))
        outside = [k for k in os.environ if k.startswith(("AWS_", "DEKCTL_"))]
        with around.installed():
            done = CliRunner(env={**dict.fromkeys(outside), **self.environ}).invoke(
                cli, ["--config", str(around.folder / "dekctl.toml"), *arguments]
            )
        killed = around.killer.dead
        around.killer.arm(None)
        around.between = []
        self.troubled = False
        if trouble.fault is not None:
            self._count_faults()
            around.standin.clear_faults()
        around.counts["commands"] += 1
        self.steps.append(" ".join(arguments) + (" killed" if killed else f" {done.exit_code}"))
        said = done.stdout + done.stderr
        if self.failed_over:
            self._bury()  # the entry that came back says that it runs
            expect = (*expect, *((1,) if "a fail-over lost" in said else ()))
        assert_hidden(said, self.oracle.deks.values(), f"the output of {arguments}")
        if killed:
            around.counts["kills"] += 1
            self._bury()
            return -9
        allowed = {*expect, 5} if self.disabled else {*expect}
        assert done.exit_code in allowed, f"{arguments} ended with {done.exit_code}: {said}"
        return done.exit_code

    def _bury(self) -> None:
        """This process goes on living under the number of the one that was killed."""
        engine = self.around.database.engine
        with engine.begin() as connection:
            if sa.inspect(connection).has_table("dekctl_runs"):
                connection.execute(
                    sa.text("UPDATE dekctl_runs SET process_started = :gone WHERE state = :r"),
                    {"gone": f"{this_machine()}/0", "r": "running"},
                )

    def columns(self) -> set[str]:
        with self.around.database.engine.connect() as connection:
            return self.writer.columns(connection)

    def write(self, what: str) -> None:
        """One write of the application, of a kind that fits the schema of the moment."""
        columns = self.columns()
        if what in ("insert", "rekey") and "encryption_key" not in columns:
            what = "issue new"
        if what.startswith("issue") and (
            "kek_id" not in columns or self.disabled or self.troubled or not self._nullable()
        ):
            return
        match what:
            case "insert":
                self.writer.insert()
            case "rekey":
                self.writer.rekey()
            case "issue":
                self.writer.issue()
            case "issue new":
                self.writer.issue(new=True)
            case "delete":
                self.writer.delete()
            case "standby":
                self.standby.follow()
                self.known_then = self.oracle.copy()
            case "fail over" if self.standby.take_over():
                self.oracle.become(self.known_then)
                self.failed_over = True
                self.around.counts["fail-overs"] += 1
        self.around.counts["writes"] += 1

    def _nullable(self) -> bool:
        """Whether the plaintext may be NULL: an expand that was killed may not be that far."""
        with self.around.database.engine.connect() as connection:
            return all(
                column["nullable"]
                for column in sa.inspect(connection).get_columns(TABLE)
                if column["name"] == "encryption_key"
            )

    # -- rules ---------------------------------------------------------------------------------

    @initialize(rows=st.integers(3, 9), begun=st.sampled_from(("migrate", "scrub", "legacy")))
    def upload(self, rows: int, begun: str) -> None:
        """Begin somewhere in the story: much of what follows has nothing to do before."""
        self.writer.insert(rows)
        if begun != "legacy":
            self.run("migrate", expect=(0,))
        if begun == "scrub":
            self.run("scrub", "--yes", expect=(0,))

    @rule(what=st.sampled_from(WRITES))
    def application(self, what: str) -> None:
        self.write(what)

    @rule()
    def poison(self) -> None:
        if "encryption_key" in self.columns():
            self.writer.insert(poison=True)

    def walk(
        self, command: str, batch: int, retry: bool, trouble: Trouble, between: list[str]
    ) -> None:
        """A command that walks rows, in whatever trouble."""
        options = ["--batch-size", str(batch)] + (["--retry-quarantined"] if retry else [])
        code = self.run(*command.split(), *options, trouble=trouble, between=tuple(between))
        if command == "wrap --stale" and code == 0 and not between:
            self.oracle.legacy.clear()

    @rule(
        command=st.sampled_from(("wrap", "wrap --hierarchical", "wrap --stale", "migrate")), **WALK
    )
    def wrap(self, command: str, **options: Any) -> None:
        self.walk(command, **options)

    @rule(
        command=st.sampled_from(
            ("verify", "wrap --dry-run", "scrub --dry-run", "rollback --dry-run", "verify")
        ),
        **WALK,
    )
    def look(self, command: str, **options: Any) -> None:
        self.walk(command, **options)

    @rule(**WALK)
    def scrub(self, **options: Any) -> None:
        self.walk("scrub --yes", **options)

    @rule(command=st.sampled_from(("rewrap", "rewrap --hierarchical", "rewrap --same-key")), **WALK)
    def rewrap(self, command: str, **options: Any) -> None:
        self.walk(command, **options)

    @rule(**WALK)
    def restore(self, **options: Any) -> None:
        self.walk("restore --yes", **options)

    @rule(
        command=st.sampled_from(
            ("schema expand", "schema contract --yes", "schema rollback --yes", "rollback --yes")
        ),
        trouble=TROUBLE,
    )
    def schema(self, command: str, trouble: Trouble) -> None:
        self.run(*command.split(), trouble=trouble)
        if not {"wrapped_key", "encryption_key"} <= self.columns():
            self.oracle.legacy.clear()  # one copy is gone; the other has to be right

    @rule(forgery=st.sampled_from(sorted(FORGERIES)), command=st.sampled_from(FORGED_COMMANDS))
    def forged(self, forgery: str, command: str) -> None:
        """A command that finds a forged ledger, or forged branch keys, and somebody's apology."""
        engine = self.around.database.engine
        with FORGERIES[forgery].made(engine):
            self.run(*command.split(), expect=(0, 2, 3, 4))
        assert_no_sql_ran(engine, TABLE)
        if not {"wrapped_key", "encryption_key"} <= self.columns():
            self.oracle.legacy.clear()
        self.around.counts["forgeries"] += 1

    @rule()
    def status(self) -> None:
        self.run("status", expect=(0,))

    @precondition(lambda self: len(self.keks) < 4)
    @rule()
    def new_kek(self) -> None:
        arn = self.around.standin.create_key()
        self.admin.update_alias(AliasName=self.alias, TargetKeyId=arn)
        self.keks.append(arn)

    @rule(which=st.integers(0, 3))
    def disable_kek(self, which: int) -> None:
        arn = self.keks[which % len(self.keks)]
        self.admin.disable_key(KeyId=arn)
        self.disabled.add(arn)

    @precondition(lambda self: self.disabled)
    @rule()
    def enable_keks(self) -> None:
        for arn in self.disabled:
            self.admin.enable_key(KeyId=arn)
        self.disabled.clear()

    # -- what always holds ---------------------------------------------------------------------

    @invariant()
    def every_key_is_there(self) -> None:
        for arn in self.disabled:
            self.admin.enable_key(KeyId=arn)
        try:
            rows = self.writer.rows()
            try:
                self.oracle.check(rows, self.unwrap)
                self.around.counts["exchanges"] += self.oracle.check_exchange(rows, self.unwrap)
            except AssertionError as error:
                raise AssertionError(f"{error}; after: {'; '.join(self.steps[-12:])}") from None
            self.around.counts["steps"] += 1
            self.around.counts["checks"] += len(rows)
        finally:
            for arn in self.disabled:
                self.admin.disable_key(KeyId=arn)

    def unwrap(
        self, blob: bytes, kek: str | None, context: Mapping[str, str] | None
    ) -> bytes | None:
        try:
            answer = self.admin.decrypt(
                CiphertextBlob=blob, KeyId=kek or self.keks[0], EncryptionContext=context or {}
            )
        except self.admin.exceptions.InvalidCiphertextException:
            return None
        return answer["Plaintext"]

    def _count_faults(self) -> None:
        errors = self.around.standin.counters().errors
        self.around.counts["faults"] += sum(errors.get(kind, 0) for kind in FAULTS)
        self.around.standin.reset_counters()

    def _finish(self) -> None:
        """From wherever the story got: all the way back, every key and column as it should be."""
        self.enable_keks()
        if {"kek_id", "encryption_key"} <= self.columns():
            while self.writer.delete(poison=True):
                pass
            self.run("schema", "expand", expect=(0,))
            self.run("wrap", "--stale", expect=(0,))
            self.oracle.legacy.clear()
            self.run("verify", expect=(0, 4))  # deleted rows may still be listed in quarantine
            self.every_key_is_there()
        if "kek_id" in self.columns():
            self.run("rollback", "--yes", expect=(0,))
        self.oracle.check(self.writer.rows(), self.unwrap)
        for number, row in self.writer.rows().items():
            assert bytes(row["encryption_key"]) == self.oracle.deks[number]
            assert row.get("at") is None, "a column that updates itself was set off"
        self.around.counts["stories"] += 1
