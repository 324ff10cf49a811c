"""Doctor: checks configuration, Terraform outputs, database, schema, KEKs and roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from dekctl.checks import Check
from dekctl.config import TableConfig
from dekctl.config.roles import Role
from dekctl.db.binding import Binding
from dekctl.db.shape import Stage
from dekctl.errors import DekctlError, ExitCode, KMSRefusedError, RefusedError
from dekctl.kek_id import is_same_kek
from dekctl.kms.aws.session import is_plain_http
from dekctl.ledger.shared_context import default_name_note, refuse_shared_name
from dekctl.lifecycle.counting import Census
from dekctl.lifecycle.key_state import ENABLED, NOT_FOUND, key_state, stored_keks
from dekctl.lifecycle.probe import probe
from dekctl.lifecycle.rotation import rotation
from dekctl.lifecycle.usage import BRANCH_KEY_HINT, rows_without_branch_keys
from dekctl.operations.encoding import refuse_other_encoding
from dekctl.project import Project
from dekctl.schema import steps as schema
from dekctl.schema.inspection import inspect
from dekctl.schema.plaintext_use import check_use
from dekctl.schema.revisions import REVISIONS
from dekctl.schema.trigger_state import TriggerState, advice, trigger_state
from dekctl.wording import counted


def examine(project: Project) -> Iterator[Check]:
    """Run every check; one that fails does not prevent the next."""
    yield Check("config", True, f"{project.config.path}, environment {project.env.name}")
    if project.uses_aws:
        yield _run("terraform outputs", lambda: _outputs(project))
    yield _run("database", lambda: _database(project))
    census = Census(project)
    for config in project.config.tables:
        yield _run(f"table {config.name}", partial(_table, census, config))
        yield from _oddities(project, config)
        yield _run(f"binding {config.name}", partial(_binding, project, config))
        yield from _branch_keys(census, config)
    if project.uses_aws:
        yield _run("endpoint", lambda: _endpoint(project))
        yield _run("KEK", lambda: _kek(project))
        live = _live_keks(project)
        for kek in live:
            yield _run("KEK state", partial(_state, project, kek))
            yield _run("key material", partial(rotation, project, kek))
        yield from _stored_keks(census, live)
        for role, operation in _PROBES:
            yield _run(f"role {role}", partial(probe, project, role, operation))
    else:
        yield _run("KEK", lambda: project.kms().kek_id)


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except DekctlError as error:
        return Check(name, False, error.message, error.hint, error.exit_code)


def _outputs(project: Project) -> str:
    outputs = project.outputs
    if outputs is None:
        return f"none; the KEK is {project.kek()}, and dekctl uses your own AWS identity"
    names = ", ".join(f"{g.name} ({g.state})" for g in outputs.all_generations)
    return f"alias {outputs.kek_alias} in {outputs.region}; generations: {names}"


def _database(project: Project) -> str:
    with project.database.transaction() as connection:
        project.database.now(connection)
    return project.database.shown_url


def _table(census: Census, config: TableConfig) -> str:
    project = census.project
    plan = schema.plan_for(project.database, project.config, config)
    revision = plan.revision
    stage = plan.table.stage
    if stage is not Stage.LEGACY and revision != REVISIONS[stage]:
        raise RefusedError(
            f"the columns are at stage {stage.value}, but Alembic's revision is "
            f"{revision or 'none'}",
            hint="finish the step with: dekctl schema contract"
            if stage is Stage.CONTRACTED
            else "finish the step, or take the table over, with: dekctl schema expand",
        )
    refuse_other_encoding(plan.table)
    with project.database.transaction() as connection:
        guards = plan.dialect.guards(connection, plan.table)
    if guards:
        raise DekctlError(
            f"{guards[0]} exists and rejects some of the application's writes; a schema step is "
            "running, or was killed",
            hint="finish the step with: dekctl schema contract (or rollback); both remove it",
        )
    if stage is not Stage.EXPANDED:
        check_use(config, stage, plaintext_only=False)
        return f"stage {stage.value}"
    rows = census.of(config).rows(plaintext=True, wrapped=False)
    check_use(config, stage, plaintext_only=rows > 0)
    trigger = trigger_state(plan.table, left_out=plan.without_trigger)
    left_out = advice(trigger) if trigger is TriggerState.LEFT_OUT else None
    return f"stage expanded; {left_out or f'row trigger {trigger.value}'}"


def _oddities(project: Project, config: TableConfig) -> Iterator[Check]:
    """What will not work on a table, or will surprise, one check for each."""
    name = f"table {config.name}"
    try:
        plan = schema.plan_for(project.database, project.config, config)
        found = inspect(plan.table, without_trigger=plan.without_trigger)
    except DekctlError:
        return  # the check before this one reports why
    for finding, oddity in found:
        fails = "doctor" in finding.refuses
        code = ExitCode.REFUSED if fails else ExitCode.OK
        yield Check(name, not fails, oddity.text, oddity.next, code, warning=not fails)


def _binding(project: Project, config: TableConfig) -> str:
    """What the wrapped keys of a table are bound to, and whether that is the table's alone."""
    table = project.table(config)
    refuse_shared_name(table)
    return default_name_note(table) or (
        f"context name {config.context_name!r}, primary key {Binding.of(table).shown_key()}"
    )


def _branch_keys(census: Census, config: TableConfig) -> Iterator[Check]:
    """Whether every V3 row has its branch key; nothing for a table that has neither."""
    project = census.project
    try:
        keys = sum(project.branch_table.keks(config.context_name).values())
        lost = rows_without_branch_keys(census, [config])
    except DekctlError:
        return  # a check before this one reports why
    name = f"branch keys {config.name}"
    if lost:
        text = f"{counted(lost, 'row')} (V3) without their branch key cannot be decrypted"
        yield Check(name, False, text, BRANCH_KEY_HINT, ExitCode.REFUSED)
    elif keys:
        yield Check(name, True, f"{counted(keys, 'branch key')}; every V3 row has its own stored")


def _endpoint(project: Project) -> str:
    """Where KMS is called, wherever that is set; refused where keys would travel in clear text."""
    kms = project.aws(Role.VERIFIER)
    try:
        endpoint = kms.endpoint
    finally:
        kms.close()
    if is_plain_http(endpoint):
        return f"{endpoint}: data keys cross the network in clear text (allow_plain_http is set)"
    return endpoint


def _kek(project: Project) -> str:
    """State of the KEK that wraps new keys."""
    return _state(project, project.kek())


def _state(project: Project, kek: str) -> str:
    """A KEK's state in KMS. A KEK that will be deleted is the most urgent of all failures."""
    found = key_state(project, kek)
    arn = found.kek_id
    if found.state == ENABLED:
        return f"{arn} is enabled"
    if found.state == NOT_FOUND:
        raise KMSRefusedError(
            f"KMS knows no key {arn}, so rows that name it cannot be decrypted",
            hint="is this the account and Region of the rows? A key that KMS has deleted cannot be "
            "restored; see: dekctl status",
            code="NotFoundException",
        )
    enable = f"aws kms enable-key --key-id {arn}"
    if project.outputs is not None:
        enable = f"enable it in Terraform and run: make apply ENV={project.env.name}"
    hint = f"rows that it wraps cannot be decrypted; {enable}"
    when = ""
    if found.rescue:
        hint = f"{found.rescue}; then {enable}"
        if found.deletion_date:
            when = f" and will be gone on {found.deletion_date:%Y-%m-%d %H:%M} UTC"
    raise KMSRefusedError(f"{arn} is {found.state}{when}", hint=hint, code="DisabledException")


def _live_keks(project: Project) -> list[str]:
    """The KEKs that rows may need: Terraform's, except disabled ones, and the tables' own."""
    try:
        outputs = project.outputs
        generations = outputs.all_generations if outputs else ()
        own = [kek for table in project.config.tables for kek in table.keks]
        mine = [g.arn for g in generations if g.state != "disabled"] or [project.kek()]
        return list(dict.fromkeys([*mine, *own]))
    except DekctlError:
        return []  # the check of the outputs reports why


def _stored_keks(census: Census, seen: list[str]) -> Iterator[Check]:
    """The state of every other KEK that rows or branch keys name, whoever made it."""
    try:
        named = stored_keks(census)
    except DekctlError as error:
        yield Check("KEKs of rows", False, error.message, error.hint, error.exit_code)
        return
    for kek in named:
        if not any(is_same_kek(kek, other) for other in seen):
            yield _run("KEK of rows", partial(_state, census.project, kek))


_PROBES = (
    (Role.WRAPPER, "Encrypt"),
    (Role.VERIFIER, "Decrypt"),
    (Role.REWRAPPER, "ReEncrypt"),
    (Role.APP, "GenerateDataKey"),
)
