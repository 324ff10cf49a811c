"""Everything that a lax emulator lets pass fails closed: no row is changed, no key is lost.

Held against the strict stand-in, with roles that may do only what they are for.
"""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.kms.aws.faults import ErrorClass
from dekctl.kms.aws.retry import RetryPolicy
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.kms_standin import CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, NO_BODY, Fault, Grant, KmsStandin

ROWS = 12


class Scene:
    """A table on SQLite whose keys are wrapped by the stand-in."""

    def __init__(self, app: Application, dekctl: Dekctl, standin: KmsStandin, kek: str) -> None:
        self.app = app
        self.dekctl = dekctl
        self.standin = standin
        self.kek = kek
        self.kms = standin.kms()

    def state(self) -> list[tuple[Any, ...]]:
        """The table as it is, to the last byte."""
        return self.app.database.sql("SELECT * FROM encrypted_files ORDER BY id")

    def refuses(self, *command: str, code: int = 5, says: str) -> None:
        """The command ends so, says that, and changes nothing."""
        before = self.state()
        ended = self.dekctl(*command).expect(code)
        assert says in ended.stderr
        assert self.state() == before
        assert self.app.database.sql("SELECT count(*) FROM dekctl_quarantine") == [(0,)]


@pytest.fixture
def scene(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    """A table at the stage `both`."""
    kek = kms_standin.create_key()
    env = {
        "provider": "aws",
        "kek": kek,
        "region": kms_standin.region,
        "endpoint_url": kms_standin.endpoint_url,
    }
    app = make_app(sqlite_database, rows=ROWS, env=env)
    dekctl.environ.update(kms_standin.environment())
    dekctl.json("migrate")
    # A refusal is refused ten seconds later too; the grace has tests of its own.
    limit = RetryPolicy.limit

    def impatient(policy: RetryPolicy, fault: ErrorClass, *, contacted: bool) -> float:
        return 0.2 if fault is ErrorClass.GRACE else limit(policy, fault, contacted=contacted)

    monkeypatch.setattr(RetryPolicy, "limit", impatient)
    return Scene(app, dekctl, kms_standin, kek)


OPENING = (("verify",), ("scrub", "--yes"), ("rollback", "--dry-run"))


@pytest.mark.parametrize("command", OPENING)
def test_a_disabled_kek_stops_a_run_before_anything_is_written(
    scene: Scene, command: tuple[str, ...]
) -> None:
    scene.kms.disable_key(KeyId=scene.kek)
    if command[0] == "rollback":  # opens only what has no plaintext
        scene.dekctl.json("status")
        scene.kms.enable_key(KeyId=scene.kek)
        scene.dekctl.json("scrub", "--yes")
        scene.kms.disable_key(KeyId=scene.kek)
    scene.refuses(*command, says="DisabledException")
    scene.kms.enable_key(KeyId=scene.kek)
    scene.dekctl.json(*command)


def test_a_kek_that_waits_for_its_deletion_opens_nothing(scene: Scene) -> None:
    scene.kms.schedule_key_deletion(KeyId=scene.kek, PendingWindowInDays=7)
    scene.refuses("scrub", "--yes", says="KMSInvalidStateException")
    scene.kms.cancel_key_deletion(KeyId=scene.kek)
    scene.kms.enable_key(KeyId=scene.kek)
    scene.dekctl.json("scrub", "--yes")


def test_a_disabled_kek_wraps_nothing(scene: Scene) -> None:
    scene.app.add(3)
    scene.kms.disable_key(KeyId=scene.kek)
    scene.refuses("wrap", says="DisabledException")


def test_a_row_that_names_another_kek_is_set_aside_and_keeps_its_plaintext(scene: Scene) -> None:
    other = scene.standin.create_key()
    pk = next(iter(scene.app.deks))
    scene.app.set(pk, kek=other)
    assert scene.dekctl.json("verify", expect=4)["failed"] == 1
    assert scene.dekctl.json("scrub", "--yes", expect=4)["changed"] == ROWS - 1
    [listed] = scene.dekctl.json("status")["quarantine"]
    assert "IncorrectKeyException" in listed["reason"]
    assert scene.app.counts()["both"] == 1


def test_exchanged_wrapped_keys_are_found_and_never_scrubbed(scene: Scene) -> None:
    first, second = list(scene.app.deks)[:2]
    rows = scene.app.rows()
    for mine, other in ((first, second), (second, first)):
        scene.app.set(mine, wrapped=rows[other][scene.app.config.wrapped_column])
    failed = scene.dekctl.json("verify", expect=4)
    assert failed["failed"] == 2
    assert all("InvalidCiphertext" in row["reason"] for row in failed["set_aside"])
    scene.dekctl.json("scrub", "--yes", "--retry-quarantined", expect=4)
    assert scene.app.counts()["both"] == 2


def test_a_renamed_context_rejects_every_row_and_changes_none(scene: Scene) -> None:
    config = scene.dekctl.folder / "dekctl.toml"
    config.write_text(config.read_text().replace(
        "[table]", '[table]\ncontext_name = "renamed"', 1))  # fmt: skip
    before = scene.state()
    ended = scene.dekctl("scrub", "--yes")
    assert ended.exit_code in (2, 3, 4), ended.stderr
    assert scene.state() == before


@pytest.mark.parametrize(
    ("command", "lacking"),
    [
        (("verify",), "kms:Decrypt"),
        (("scrub", "--yes"), "kms:Decrypt"),
        (("wrap",), "kms:Encrypt"),
        (("rewrap",), "kms:ReEncryptFrom"),
        (("rewrap",), "kms:ReEncryptTo"),
    ],
)
def test_a_missing_right_stops_the_run(
    scene: Scene, command: tuple[str, ...], lacking: str
) -> None:
    scene.app.add(2)
    if command[0] == "rewrap":
        old, scene.kek = scene.kek, scene.standin.create_key()
        config = scene.dekctl.folder / "dekctl.toml"
        config.write_text(config.read_text().replace(old, scene.kek))
    if command[0] == "scrub":
        scene.dekctl.json("wrap")
    actions = {"kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo"}
    user = scene.standin.put_user(
        f"lacks-{command[0]}-{lacking[4:]}",
        [Grant((*sorted(actions - {lacking}), "kms:DescribeKey"))],
    )
    scene.dekctl.environ.update(scene.standin.environment(user))
    scene.refuses(*command, says="AccessDeniedException")


def test_the_right_for_another_context_is_no_right(scene: Scene) -> None:
    user = scene.standin.put_user(
        "other-table", [Grant(("kms:*",), context={"dekctl:table": "other"})]
    )
    scene.dekctl.environ.update(scene.standin.environment(user))
    scene.refuses("verify", says="AccessDeniedException")


@pytest.mark.parametrize(
    "kind",
    ["ThrottlingException", "KMSInternalException", "DependencyTimeoutException",
     "KeyUnavailableException", NO_BODY, CUT_BEFORE, CUT_MIDDLE, CUT_AFTER],
)  # fmt: skip
def test_passing_faults_are_retried_and_set_no_row_aside(scene: Scene, kind: str) -> None:
    scene.app.add(20)
    scene.standin.set_faults(Fault(kind, 0.3), seed=7)
    scene.standin.reset_counters()
    assert scene.dekctl.json("wrap")["changed"] == 20
    assert scene.dekctl.json("scrub", "--yes")["changed"] == ROWS + 20
    assert scene.standin.counters().errors[kind] > 0, "the fault never struck"
    scene.standin.clear_faults()
    assert scene.dekctl.json("verify")["verified"] == ROWS + 20


def test_slow_answers_are_waited_for(scene: Scene) -> None:
    scene.standin.set_latency(0.05, slow_share=0.2, slow_seconds=1.0)
    assert scene.dekctl.json("scrub", "--yes")["changed"] == ROWS


def test_a_kek_disabled_in_the_middle_keeps_what_is_done_and_the_next_run_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dekctl.walk.engine import Walk  # noqa: PLC0415

    work, pages = Walk._work, [0]

    def disturbed(walk: Walk, rows: Any) -> Any:
        pages[0] += 1
        if pages[0] == 5:
            scene.kms.disable_key(KeyId=scene.kek)
        return work(walk, rows)

    monkeypatch.setattr(Walk, "_work", disturbed)
    scene.dekctl("scrub", "--yes", "--batch-size", "1").expect(5)
    monkeypatch.undo()
    counts = scene.app.counts()
    assert counts["both"] > 0
    assert counts["both"] + counts["wrapped_only"] == ROWS
    scene.kms.enable_key(KeyId=scene.kek)
    scene.dekctl.json("scrub", "--yes")
    assert scene.app.counts()["wrapped_only"] == ROWS
