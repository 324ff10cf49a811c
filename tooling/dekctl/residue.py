"""Residue: searches the database's files for scrubbed keys.

A sample is taken while rows have wrapped keys. It contains those wrapped keys, never a plaintext,
so it is useless without KMS. Later the keys are decrypted in memory and searched for in the files
that an operator names: data files, WAL, binlogs, dumps, a block device.

A search that finds nothing says nothing about places that were not searched.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dekctl import __version__
from dekctl.db.dialect import ResiduePlace
from dekctl.db.shape import Shard
from dekctl.db.table import DekTable
from dekctl.errors import DekctlError, RowRejectedError, UsageError
from dekctl.kms.context import V3, context_for_version, key_name
from dekctl.kms.interface import KMSInterface, UnwrapRequest
from dekctl.ledger import RunState
from dekctl.project import Project
from dekctl.wording import counted

SAMPLE_FORMAT = "dekctl residue sample 1"
PAGE_ROWS = 500
CHUNK_BYTES = 8 * 1024 * 1024
FORMS = ("raw", "hex", "base64")

Progress = Callable[[Path, int], None]


BACKUPS = ResiduePlace(
    "backups, snapshots, dumps and replicas taken before now",
    "let them expire, and set backup_retention_days so that `retire` waits for them",
)
DEVICE = ResiduePlace(
    "the block device under the files",
    "encrypted volumes; a rewritten file frees its old blocks without erasing them",
)


def places_left(table: DekTable) -> list[ResiduePlace]:
    """Where a scrubbed key of this table may still be stored, and what helps.

    Nothing here erases a key for certain: if a key may have been seen, encrypt the data again with
    a new one.
    """
    own = table.database.dialect.residue_places(table.quoted_name)
    rows = table.history_rows()
    if rows is not None:
        name = table.quoted_name
        place = f"the history of {table.config.name}: {counted(rows, 'row')} with a plaintext"
        own = [ResiduePlace(place, f"DELETE HISTORY FROM {name};"), *own]
    return [*own, BACKUPS, DEVICE]


def in_histories(project: Project) -> dict[str, int]:
    """How many rows of each table's history hold a plaintext, for tables that keep a history."""
    found = {config.name: project.table(config).history_rows() for config in project.config.tables}
    return {name: rows for name, rows in found.items() if rows is not None}


@dataclass(slots=True)
class Found:
    """The hits in one file: ``keys`` are distinct sampled keys, ``hits`` all matches by form."""

    path: str
    size: int = 0
    keys: set[int] = field(default_factory=set)
    hits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FORMS, 0))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"path": self.path, "bytes": self.size, "keys": len(self.keys), "hits": self.hits}


# -- the sample ------------------------------------------------------------------------------------


def take_sample(table: DekTable, rows: int, output: Path) -> int:
    """Write about ``rows`` wrapped keys, spread over the table, to a new file of mode 0600.

    Returns how many were written.

    Raises:
        UsageError: no row is wrapped, or the file exists.
    """
    parts = max(1, table.estimate_rows() // rows)
    shard = Shard(secrets.randbelow(parts) + 1, parts) if parts > 1 else None
    taken = list(_wrapped_rows(table, shard, rows))
    if not taken and shard is not None:  # a small or unevenly filled table
        taken = list(_wrapped_rows(table, None, rows))
    if not taken:
        raise UsageError(
            f"no row of {table.config.name} has a wrapped key to sample",
            hint="take the sample after wrap and before scrub: dekctl wrap",
        )
    head = {"format": SAMPLE_FORMAT, "table": table.config.name, "rows": len(taken)}
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror}", hint="name a file that does not exist"
        ) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        for line in (head, *taken):
            file.write(json.dumps(line) + "\n")
    return len(taken)


def _wrapped_rows(table: DekTable, shard: Shard | None, most: int) -> Iterator[dict[str, Any]]:
    after = None
    left = most
    wrapped = table.has_value("wrapped")
    while left > 0:
        page = table.read(after=after, size=PAGE_ROWS, due_sql=wrapped, shard=shard)
        if not page:
            return
        after = page[-1].pk
        for row in [row for row in page if row.due][:left]:
            assert row.wrapped is not None
            try:
                context = context_for_version(row.version, table.config.context_name, row.pk)
            except RowRejectedError:
                continue  # `dekctl verify` reports what is wrong with such a row
            left -= 1
            yield {
                "pk": key_name(row.pk),
                "kek": row.kek,
                "context": context,
                "version": row.version,
                "wrapped": base64.b64encode(row.wrapped).decode("ascii"),
            }


def open_sample(file: Path, kms: KMSInterface) -> list[bytes]:
    """Decrypt the keys of a sample, in memory.

    Raises:
        UsageError: the file is not a sample, or none of its keys can be decrypted any more.
        KMSError: KMS refused what every key needs.
    """
    requests: list[UnwrapRequest] = []
    try:
        with file.open(encoding="utf-8") as lines:
            if json.loads(next(lines, "{}")).get("format") != SAMPLE_FORMAT:
                raise UsageError(
                    f"{file} is not a residue sample",
                    hint="take one with: dekctl residue sample --output FILE",
                )
            for line in lines:
                row = json.loads(line)
                wrapped = base64.b64decode(row["wrapped"], validate=True)
                hierarchical = row.get("version") == V3
                requests.append(UnwrapRequest(wrapped, row["kek"], row["context"], hierarchical))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", hint="check the path") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UsageError(f"{file} is damaged", hint="take a new sample") from None
    answers = kms.unwrap_many(requests) if requests else []
    keys = [answer.plaintext for answer in answers if not isinstance(answer, RowRejectedError)]
    if not keys:
        raise UsageError(
            f"no key of {file} can be decrypted any more",
            hint="was its KEK replaced? take a new sample",
        )
    return keys


def open_on_record(project: Project, file: Path) -> list[bytes]:
    """Decrypt a sample and record it in the ledger, so that the audit can explain the KMS calls.

    Raises:
        UsageError: the file is not a sample, or none of its keys can be decrypted any more.
        KMSError: KMS refused what every key needs.
        DatabaseError: the ledger cannot be written.
    """
    kms = project.kms()
    try:
        if not project.ledger.exists():
            return open_sample(file, kms)
        context_name = _sampled_table(project, file)
        run = project.ledger.start(
            "residue", context_name, shard=None, writes=False, kek_id=None, version=__version__
        )
        if project.acts_in_roles:
            kms.act_for(run.run_id)
        state, error = RunState.FAILED, None
        try:
            keys = open_sample(file, kms)
            state = RunState.FINISHED
            run.result["proved"] = len(keys)
        except DekctlError as failure:
            error = failure.message
            raise
        finally:
            run.result["kms_calls"] = dict(kms.call_counts)
            project.ledger.end(run, state, error)
    finally:
        kms.close()
    return keys


def _sampled_table(project: Project, file: Path) -> str:
    """The context name of the table that a sample names; the first table's if it names none."""
    try:
        with file.open(encoding="utf-8") as lines:
            name = json.loads(next(lines, "{}")).get("table")
        return project.table_configs(name)[0].context_name
    except (OSError, ValueError, AttributeError, UsageError):
        return project.config.table.context_name  # decrypting it reports what is wrong


# -- the search ------------------------------------------------------------------------------------


def patterns(keys: Sequence[bytes]) -> list[tuple[int, str, bytes]]:
    """What to search for, per key: (its number, the form's name, the bytes)."""
    found: list[tuple[int, str, bytes]] = []
    for number, key in enumerate(keys):
        standard = base64.b64encode(key).rstrip(b"=")
        forms = [("raw", key), ("hex", key.hex().encode()), ("hex", key.hex().upper().encode())]
        forms += [("base64", standard)]
        forms += [("base64", standard.translate(bytes.maketrans(b"+/", b"-_")))]
        found += [(number, form, text) for form, text in dict.fromkeys(forms)]
    return found


def files_below(paths: Sequence[Path]) -> Iterator[Path]:
    """The files to search: folders with everything below them; links are not followed.

    Raises:
        UsageError: a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint="name files or folders to search")
        if not path.is_dir():
            yield path
            continue
        for folder, _, names in os.walk(path, onerror=_unreadable):
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file() and not file.is_symlink():
                    yield file


def _unreadable(error: OSError) -> None:
    raise DekctlError(
        f"cannot read {error.filename}: {error.strerror}",
        hint="run the search as the user who owns the database's files",
    )


def search(
    keys: Sequence[bytes], paths: Sequence[Path], progress: Progress = lambda *_: None
) -> list[Found]:
    """Search every file for every key. A running database may change files meanwhile.

    Raises:
        UsageError: a path does not exist.
        DekctlError: a file cannot be read.
    """
    wanted = patterns(keys)
    results = []
    for path in files_below(paths):
        found = Found(str(path))
        try:
            with path.open("rb", buffering=0) as file:
                _search_file(file, wanted, found, lambda done, path=path: progress(path, done))  # type: ignore[misc]
        except FileNotFoundError:
            continue  # WAL segments and temporary files come and go
        except OSError as error:
            error.filename = str(path)
            _unreadable(error)
        results.append(found)
    return results


def _search_file(
    file: BinaryIO | Any,
    wanted: Sequence[tuple[int, str, bytes]],
    found: Found,
    progress: Callable[[int], None],
) -> None:
    """Read once, in chunks; a match across two chunks is found with the second one."""
    overlap = max(len(text) for _, _, text in wanted) - 1
    carried = b""
    while chunk := file.read(CHUNK_BYTES):
        found.size += len(chunk)
        window = carried + chunk
        for number, form, text in wanted:
            at = window.find(text)
            while at >= 0:
                if at + len(text) > len(carried):  # otherwise the previous chunk counted it
                    found.keys.add(number)
                    found.hits[form] += 1
                at = window.find(text, at + 1)
        carried = window[-overlap:]
        progress(found.size)
