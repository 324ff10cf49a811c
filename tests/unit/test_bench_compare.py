"""``make bench ARGS="--compare OLD"``: what became slower by more than the noise, and bad files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import shapes
from bench.__main__ import COMPARED, JSON, main
from bench.compare import Run, UnusableFileError, changes_of, comparison
from bench.shapes import Found
from bench.spent import Costs, Spent

SHAPES = [f"shape {i}" for i in range(10)]
CHANCE = random.Random(1)  # noqa: S311 - a repeatable noise


def figures(noise: float, slower: Callable[[str], float] = lambda _: 1.0) -> dict[str, Found]:
    """A run of three repetitions; ``slower`` is what the rate of a line is multiplied by."""
    found = {}
    for database in ("PostgreSQL", "SQLite"):
        for shape in SHAPES:
            for verb in ("wrap", "verify", "scrub"):
                name = f"{database} / {shape} / {verb}"
                rates = [5000 * slower(name) * CHANCE.lognormvariate(0, noise) for _ in range(3)]
                found[name] = Found(2000, rates, [] if verb == "verify" else [20_000.0] * 3)
    return found


def run(found: dict[str, Found]) -> Run:
    return Run(found, 2000, "2026-11-27T10:00:00+00:00", "2 processors (x), Python 3.12.0", 0.5)


def slower(now: dict[str, Found], before: dict[str, Found]) -> list[str]:
    return [change.name for change in changes_of(now, before) if change.is_slower]


def test_the_slower_line_is_named_and_no_other() -> None:
    name = "SQLite / shape 3 / verify"
    before = figures(0.05)
    now = figures(0.05, lambda line: 0.6 if line == name else 1.0)
    assert slower(now, before) == [name]
    assert slower(before, now) == [], "faster is not slower"
    text = comparison(run(now), run(before))
    assert "| SQLite | shape 3 | verify | 0.2" in text
    assert text.count("\n| SQLite |") == 1


def test_chance_alone_is_no_change() -> None:
    """Three standard errors: about one line in 700, of these 2,178."""
    alarms = [slower(figures(noise), figures(noise)) for noise in (0.02, 0.1, 0.4) * 11]
    assert sum(map(len, alarms)) <= 2 * 2178 / 700


def test_a_line_that_varies_more_than_others_needs_a_larger_change() -> None:
    before, now = figures(0.02), figures(0.02)
    steady, restless = "SQLite / shape 1 / wrap", "SQLite / shape 2 / wrap"
    for name in (steady, restless):
        before[name].rates[:], now[name].rates[:] = [1000, 1000, 1000], [700, 700, 700]
    before[restless].rates[:] = [400, 1000, 2000]
    assert slower(now, before) == [steady]


def test_two_repetitions_that_agree_by_chance_do_not_make_a_line_certain() -> None:
    before, now = figures(0.3), figures(0.3)
    name = "SQLite / shape 1 / wrap"
    before[name].rates[:], now[name].rates[:] = [1000, 1000, 1000], [900, 900, 900]
    assert name not in slower(now, before)


def test_a_small_change_of_a_verb_shows_over_all_shapes() -> None:
    now = figures(0.1, lambda line: 0.85 if line.startswith("SQLite") and "scrub" in line else 1)
    found = slower(now, figures(0.1))
    assert found[0] == "SQLite / all shapes / scrub"
    assert len(found) < len(SHAPES) / 2, "hardly any line shows it by itself"


def test_what_slowed_down_all_shapes_in_one_repetition_is_noise() -> None:
    now = figures(0.02)
    for found in now.values():
        found.rates[1:] = [rate / 2 for rate in found.rates[1:]]
    assert slower(now, figures(0.02)) == []


def test_a_slower_machine_is_not_a_slower_dekctl() -> None:
    now = figures(0.02, lambda _: 0.5)
    for found in now.values():
        found.limits[:] = [limit / 2 for limit in found.limits]
    assert slower(now, figures(0.02)) == []


def test_what_differs_between_the_runs_is_said() -> None:
    before = run(figures(0.02))
    now = replace(before, figures={n: f for n, f in before.figures.items() if "shape 9" not in n})
    now = replace(now, machine="8 processors (y), Python 3.13.0", load=7.25)
    text = comparison(now, before)
    assert "the run of 2026-11-27T10:00:00+00:00 (load 0.5, now 7.2)" in text
    assert "another machine: 2 processors (x), Python 3.12.0; now 8 processors (y)" in text
    assert "Only one of the two runs has: PostgreSQL / shape 9, SQLite / shape 9." in text
    assert text.endswith("Nothing became slower by more than that.")
    nothing = comparison(replace(now, figures={}), before)
    assert nothing.endswith("Nothing can be compared.")


def test_a_saved_run_is_read_again(tmp_path: Path) -> None:
    saved = run(figures(0.1))
    saved.save(tmp_path / "new" / "bench.json")
    assert Run.load_from(tmp_path / "new" / "bench.json") == saved


def damaged(**changes: Any) -> str:
    line = "SQLite / shape 1 / wrap"
    good = {"rows": 2000, "rates": [1.0, 2.0], "limits": [3.0, 3.0], **changes}
    return json.dumps(
        {
            "format": "dekctl bench 1",
            "figures": {line: {name: value for name, value in good.items() if value is not None}},
            "rows": 2000,
            "when": "",
            "machine": "",
            "load": 0.0,
        }
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist; ARGS="),
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[]", "is not from `make bench`"),
        ('{"SQLite / integer keys / wrap": {"rates": [1]}}', "is not from `make bench`"),
        ('{"format": "dekctl bench 1"}', "is damaged (KeyError: 'figures')"),
        (damaged(rates=None), "is damaged (KeyError: 'rates')"),
        (damaged(rates=[1.0], limits=[1.0]), "two repetitions or more"),
        (damaged(limits=[3.0]), "each with its limit"),
        (damaged(rates=[1.0, 0.0]), "not above 0"),
        (damaged(rates=[1.0, "much"]), "is damaged (ValueError"),
        (damaged(rates=7), "is damaged (TypeError"),
        (damaged().replace("wrap", "verify").replace("[3.0, 3.0]", "[]"), "/ wrap'"),
    ],
)
def test_a_bad_file_is_named_with_the_reason(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "old.json"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UnusableFileError) as refused:
        Run.load_from(file)
    assert str(file) in str(refused.value)
    assert says in str(refused.value)


# The command line


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A folder of its own, where a run measures nothing; the rows of the runs that were asked."""
    asked: list[int] = []

    def measure(rows: int, repeats: int) -> dict[str, Found]:
        asked.append(rows)
        return {name: replace(one, rows=rows) for name, one in real.items()}

    names = ("database / shape / wrap", "database / shape / verify", "database / shape / scrub")
    costs = Costs(*([Spent(clock=1.0)] * 2 for _ in range(3)))
    real = {name: Found(0, [1000.0, 1010.0], [2000.0, 2000.0], costs) for name in names}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shapes, "measure", measure)
    return asked


def test_a_quick_run_is_compared_with_the_one_before(
    measured: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--quick"])
    before = JSON.read_bytes()
    main(["--quick", "--compare", str(JSON)])
    said = capsys.readouterr()
    assert said.out.count("| database | shape | rows | wrap |") == 2, "the table of the full run"
    assert "Nothing became slower by more than that." in said.out
    assert said.err == f"figures: {JSON}\nfigures: {COMPARED}\n"
    assert JSON.read_bytes() == before, "what others are compared with stays"
    assert measured == [shapes.QUICK_ROWS] * 2


def test_two_files_are_compared_without_measuring(
    measured: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    run(figures(0.02)).save(Path("old.json"))
    run(figures(0.02, lambda _: 0.5)).save(Path("new.json"))
    main(["--compare", "old.json", "new.json"])
    assert "| PostgreSQL | all shapes | wrap | 0.25 | 0.1" in capsys.readouterr().out
    assert measured == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--quick", "--compare", "missing.json"], "missing.json does not exist"),
        (["--quick", "--compare", "old.json"], "--quick and --scale decide how many"),
        (["--compare", "old.json", "old.json", "old.json"], "one file or two"),
        (["--quick", "--only", "quota"], "the shapes, no other part"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_minutes_are_spent(
    measured: list[int], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    replace(run(figures(0.02)), rows=40_000).save(Path("old.json"))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert measured == []
