"""Whether ``plaintext`` of ``[table]``, what the application does with them, fits the rows."""

from __future__ import annotations

from dekctl.config import TableConfig
from dekctl.db.shape import Stage
from dekctl.errors import RefusedError

_REFUSE = 'plaintext = "refuse"'


def misfit(config: TableConfig, stage: Stage, *, plaintext_only: bool) -> str | None:
    """What is wrong with the setting at this stage, with the next step; None where it fits.

    Args:
        config: the table's settings.
        stage: where the table stands.
        plaintext_only: whether a row has a plaintext and no wrapped key.
    """
    use = config.plaintext
    if use == "refuse" and plaintext_only:
        return (
            f"{_REFUSE}, but rows have a plaintext key only, which the application rejects; run: "
            "dekctl migrate"
        )
    if use in ("write", "read") and stage is Stage.CONTRACTED:
        return (
            f'plaintext = "{use}", but {config.plaintext_column} is gone; set {_REFUSE} in [table]'
        )
    return None


def check_use(config: TableConfig, stage: Stage, *, plaintext_only: bool) -> None:
    """The same check as :func:`misfit`, as an error.

    Raises:
        RefusedError: the setting does not fit.
    """
    problem = misfit(config, stage, plaintext_only=plaintext_only)
    if problem is not None:
        text, _, command = problem.rpartition("; ")
        raise RefusedError(text, hint=command)


def before_scrub(config: TableConfig) -> str | None:
    """What to say before plaintexts are removed."""
    if config.plaintext != "write":
        return None
    return (
        f'{config.name}: plaintext = "write" in dekctl.toml: the application goes on writing '
        'plaintext keys; set it to "read", deploy, and scrub what was written since'
    )


def before_contract(config: TableConfig) -> str | None:
    """What to say before the plaintext column is dropped, where dekctl cannot know."""
    if config.plaintext is not None:
        return None
    return (
        f"{config.name}: no application may read or map {config.plaintext_column} any more; "
        f"set {_REFUSE} in [table] of dekctl.toml once that is deployed"
    )


def refuse_to_contract(config: TableConfig) -> None:
    """Refuse to drop the column while the application is said to use it.

    Raises:
        RefusedError: ``plaintext`` is ``write`` or ``read``.
    """
    if config.plaintext in ("write", "read"):
        raise RefusedError(
            f'{config.name} has plaintext = "{config.plaintext}": the application still uses '
            f"{config.plaintext_column}",
            hint=f"deploy it with {_REFUSE} in [table]; then: dekctl schema contract",
        )
