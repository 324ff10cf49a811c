"""What each long help ends with: examples and exit codes. One entry for each command.

Imported only where a help is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dekctl.errors import ExitCode

EXIT_CODES: Mapping[ExitCode, str] = {
    ExitCode.OK: "done, nothing left behind",
    ExitCode.ERROR: "error in dekctl itself, or a broken machine",
    ExitCode.USAGE: "wrong usage or configuration",
    ExitCode.REFUSED: "refused by a guard; nothing was changed",
    ExitCode.ROWS_LEFT: "finished, but rows are quarantined, or there are findings",
    ExitCode.KMS: "KMS or AWS refused, or cannot be reached",
    ExitCode.DATABASE: "the database refused, or cannot be reached",
    ExitCode.INTERRUPTED: "interrupted; finished batches are kept, and the same command resumes",
}
"""What every command means by them; docs/commands.md is made of it."""
VARIABLES: Mapping[str, str] = {
    "DEKCTL_CONFIG": "configuration file, if --config is not given",
    "DEKCTL_ENV": "environment, if --env is not given",
    "DEKCTL_KEK": "KEK of the provider env: 32 bytes in base64",
    "DEKCTL_OLD_KEKS": "its earlier KEKs, separated by commas; they only unwrap",
    "DEKCTL_KMS_KEY_ID": 'KEK of an application that calls set_kms_provider("aws")',
    "DEKCTL_MAKE_ENV": "set by the Makefile: hints name make targets of this ENV",
    "DEKCTL_PROCESSORS": "how many processors --workers may use, if dekctl counts them wrong",
    "AWS_REGION, AWS_DEFAULT_REGION": "Region, if neither dekctl.toml nor Terraform names one",
    "AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS": "endpoint, if dekctl.toml names none",
    "AWS_PROFILE, AWS_ACCESS_KEY_ID, …": "credentials, as boto3 reads them",
    "AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE": "CA certificates to trust for AWS endpoints",
    "HTTPS_PROXY, NO_PROXY": "proxy for AWS calls",
    "TF_DATA_DIR": "Terraform's data folder, if outputs are read from a Terraform root",
    "NO_COLOR": "no colours; TERM=dumb does the same",
}
"""The environment variables, besides those that dekctl.toml names with ``env:``."""
_LOCAL = (ExitCode.OK, ExitCode.ERROR, ExitCode.USAGE)
"""Exit codes of a command that connects to nothing."""
_LOOKS = (*_LOCAL, ExitCode.REFUSED, ExitCode.KMS, ExitCode.DATABASE)
"""Exit codes of a command that looks and changes nothing."""
_ALL = tuple(EXIT_CODES)


@dataclass(frozen=True, slots=True)
class Entry:
    """The end of one command's help. Each example is a command and what it is for."""

    examples: tuple[tuple[str, str], ...]
    codes: tuple[ExitCode, ...] = _ALL


MANUAL: Mapping[str, Entry] = {
    "": Entry(
        (
            ("dekctl doctor", "Check everything before the first change."),
            ("dekctl migrate --dry-run", "See what the migration would do and cost."),
            ("dekctl --env staging status --json", "Show where a table stands, for a script."),
        )
    ),
    "audit": Entry(
        (
            ("dekctl audit", "Compare the last seven days."),
            ("dekctl audit --since 2026-01-01 --until 2026-02-01", "Compare one month."),
            (
                "dekctl audit --events trail/ --accept accepted.toml",
                "Read downloaded CloudTrail files; leave out findings that were accepted.",
            ),
        ),
        (*_LOOKS[:4], ExitCode.ROWS_LEFT, *_LOOKS[4:]),
    ),
    "completion": Entry(
        (
            ("dekctl completion bash", "Print the script for bash."),
            ("dekctl completion zsh > _dekctl", "Save the script for zsh."),
            ("dekctl completion fish > dekctl.fish", "Save the script for fish."),
        ),
        _LOCAL,
    ),
    "config": Entry(
        (
            ("dekctl config show", "Show every setting and where it comes from."),
            ("dekctl config check", "Check the file and the variables it reads."),
            ("dekctl config schema > dekctl.schema.json", "Let an editor check the file."),
        ),
        _LOCAL,
    ),
    "config show": Entry(
        (
            ("dekctl config show", "Show the settings of the only environment."),
            ("dekctl --env staging config show", "Show those of another environment."),
            ("dekctl config show --json", "Print them for a script."),
        ),
        _LOCAL,
    ),
    "config check": Entry(
        (
            ("dekctl config check", "Check every environment in the file."),
            ("dekctl --env staging config check", "Check one of them."),
            ("dekctl --config other.toml config check", "Check another file."),
        ),
        _LOCAL,
    ),
    "config schema": Entry(
        (
            ("dekctl config schema", "Print the schema."),
            ("dekctl config schema > dekctl.schema.json", "Save it beside dekctl.toml."),
            ("dekctl --quiet config schema", "Print it without notes."),
        ),
        _LOCAL,
    ),
    "doctor": Entry(
        (
            ("dekctl doctor", "Check the only environment."),
            ("dekctl --env staging doctor", "Check another environment."),
            ("dekctl doctor --json", "Print the checks for a script."),
        ),
        _LOOKS,
    ),
    "guard": Entry(
        (
            ("dekctl guard --plan plan.json", "Check a plan of this environment."),
            ("dekctl guard --plan plan.json --json", "Print the findings for a script."),
            (
                "dekctl guard --plan plan.json --allow ID",
                "Accept one finding; the ledger records it.",
            ),
        ),
        _LOOKS,
    ),
    "init": Entry(
        (
            ("dekctl init", "Look at the database, and ask for the rest."),
            ("dekctl init --table files --column data_key", "Answer by options."),
            ("dekctl --env staging init --kek alias/app", "Use a KEK that exists already."),
        ),
        (*_LOCAL, ExitCode.REFUSED, ExitCode.DATABASE, ExitCode.INTERRUPTED),
    ),
    "migrate": Entry(
        (
            ("dekctl migrate --dry-run", "See what would be done, and what it would cost."),
            ("dekctl migrate", "Expand the schema, wrap and verify."),
            (
                "dekctl migrate --quota-share 0.3 --metrics dekctl.prom",
                "Use at most 30% of the KMS quota.",
            ),
        )
    ),
    "rebind": Entry(
        (
            ("dekctl rebind --old-context-name files --dry-run", "Try it on every row."),
            ("dekctl rebind --old-context-name files", "Rebind after context_name was changed."),
            ("dekctl rebind --old-key 'id - 1000'", "Rebind after rows were renumbered."),
        )
    ),
    "report": Entry(
        (
            ("dekctl report --output report.html", "Write the page of this environment."),
            ("dekctl --env staging report --output s.html", "Write the page of another."),
            ("dekctl report --output r.html --audit a.json", "Add the findings of an audit."),
        ),
        _LOOKS,
    ),
    "residue": Entry(
        (
            ("dekctl residue sample --output sample.json", "Sample keys before a scrub."),
            ("dekctl residue search --sample sample.json /srv/pg", "Search for them later."),
            ("dekctl residue search --sample sample.json dump.sql", "Search a dump."),
        ),
        (*_LOOKS[:4], ExitCode.ROWS_LEFT, *_LOOKS[4:]),
    ),
    "residue sample": Entry(
        (
            ("dekctl residue sample --output sample.json", "Sample 100 rows."),
            ("dekctl residue sample --output s.json --rows 1000", "Sample more of them."),
            ("dekctl residue sample --output s.json --table files", "Sample another table."),
        ),
        _LOOKS,
    ),
    "residue search": Entry(
        (
            ("dekctl residue search --sample s.json /var/lib/mysql", "Search data files."),
            ("dekctl residue search --sample s.json dump.sql wal/", "Search several places."),
            ("dekctl residue search --sample s.json --json dump.sql", "Print it for a script."),
        ),
        (*_LOOKS[:4], ExitCode.ROWS_LEFT, *_LOOKS[4:]),
    ),
    "restore": Entry(
        (
            ("dekctl restore --dry-run", "Decrypt every key and write nothing."),
            ("dekctl restore", "Bring the plaintext keys back."),
            ("dekctl restore --table files --yes", "Do it for one table, without asking."),
        )
    ),
    "retire": Entry(
        (
            ("dekctl retire g1", "Check whether a generation can be retired."),
            ("dekctl retire g1 --json", "Print the checks for a script."),
            ("dekctl retire acme/g1 --erase acme", "Erase a tenant together with its KEK."),
        ),
        _LOOKS,
    ),
    "rewrap": Entry(
        (
            ("dekctl rewrap --dry-run", "Count the rows under other KEKs."),
            ("dekctl rewrap", "Move every row to the active KEK."),
            ("dekctl rewrap --from g1 --rate 500", "Move the rows of one generation, slowly."),
        )
    ),
    "rollback": Entry(
        (
            ("dekctl rollback --dry-run", "Decrypt every key and change nothing."),
            ("dekctl rollback", "Go back to plaintext keys and the legacy schema."),
            ("dekctl rollback --table files", "Do it for one table."),
        )
    ),
    "runs": Entry(
        (
            ("dekctl runs", "List the last 20 runs."),
            ("dekctl runs --state abandoned", "List runs whose process is gone."),
            ("dekctl runs --operation rewrap --no-dry-runs --json", "List all rewraps."),
        ),
        _LOOKS,
    ),
    "schema": Entry(
        (
            ("dekctl schema current", "Show where each table stands."),
            ("dekctl schema expand --sql", "Print the first step's SQL for a DBA."),
            ("dekctl schema contract", "Drop the plaintext column, once it is empty."),
        )
    ),
    "schema expand": Entry(
        (
            ("dekctl schema expand", "Add the columns, the row trigger and the ledger."),
            ("dekctl schema expand --sql > expand.sql", "Print the SQL instead."),
            ("dekctl schema expand --adopt 'BLOB NOT NULL'", "Take over a table without a ledger."),
        )
    ),
    "schema contract": Entry(
        (
            ("dekctl schema contract", "Ask, then drop the plaintext column."),
            ("dekctl schema contract --table files", "Do it for one table."),
            ("dekctl schema contract --sql > contract.sql", "Print the SQL instead."),
        )
    ),
    "schema rollback": Entry(
        (
            ("dekctl schema rollback", "Ask, then undo the last step."),
            ("dekctl schema rollback --table files", "Undo it for one table."),
            ("dekctl schema rollback --sql > rollback.sql", "Print the SQL instead."),
        )
    ),
    "schema upgrade": Entry(
        (
            ("dekctl schema upgrade", "Upgrade the ledger."),
            ("dekctl schema upgrade --sql > upgrade.sql", "Print the SQL instead."),
            ("dekctl --env staging schema upgrade", "Upgrade that of another environment."),
        ),
        _LOOKS,
    ),
    "schema current": Entry(
        (
            ("dekctl schema current", "Show every table."),
            ("dekctl schema current --table files", "Show one of them."),
            ("dekctl schema current --json", "Print it for a script."),
        ),
        _LOOKS,
    ),
    "scrub": Entry(
        (
            ("dekctl scrub --dry-run", "Verify every key and remove nothing."),
            ("dekctl scrub --limit 1000", "Start with a thousand rows."),
            ("dekctl scrub --table files --yes", "Scrub one table, without asking."),
        )
    ),
    "settle": Entry(
        (
            ("dekctl settle --prove ./try-key --dry-run", "See which key each row would keep."),
            ("dekctl settle --prove ./try-key", "Keep the key that opens the data."),
            ("dekctl settle --prove ./try-key --table files", "Do it for one table."),
        )
    ),
    "status": Entry(
        (
            ("dekctl status", "Show every table."),
            ("dekctl status --watch --every 30", "Update every 30 seconds."),
            ("dekctl status --metrics dekctl.prom", "Write the figures for Prometheus."),
        ),
        _LOOKS,
    ),
    "uninstall": Entry(
        (
            ("dekctl uninstall --dry-run", "List the tables that would be dropped."),
            ("dekctl uninstall", "Ask, then drop dekctl's own tables."),
            ("dekctl uninstall --yes --json", "Drop them from a script."),
        ),
        (*_LOOKS, ExitCode.INTERRUPTED),
    ),
    "verify": Entry(
        (
            ("dekctl verify", "Decrypt and compare every key."),
            ("dekctl verify --sample 1000", "Verify about a thousand rows."),
            ("dekctl verify --workers 4", "Use four processes."),
        )
    ),
    "wrap": Entry(
        (
            ("dekctl wrap --dry-run", "Count the rows and estimate the cost."),
            ("dekctl wrap --rate 500", "Make at most 500 KMS calls per second."),
            ("dekctl wrap --shard 1/2", "Do half of the rows; another machine does 2/2."),
        )
    ),
}


def epilog(path: str) -> str:
    """The end of a command's help; ``path`` is its name without ``dekctl``, empty for dekctl's own.

    ``\\b`` tells click to leave the lines as they are. A command without an entry has exit codes.
    """
    entry = MANUAL.get(path, Entry(()))
    parts = []
    if entry.examples:
        lines = [f"  {command}\n      {what}" for command, what in entry.examples]
        parts.append("\n".join(["\b", "Examples:", *lines]))
    if not path:
        lines = [f"  {name}\n      {what}" for name, what in VARIABLES.items()]
        parts.append("\n".join(["\b", "Environment variables:", *lines]))
    codes = [f"  {code.value:>3}  {EXIT_CODES[code]}" for code in entry.codes]
    parts.append("\n".join(["\b", "Exit codes:", *codes]))
    return "\n\n".join(parts)
