"""docs/configuration.md lists every setting with its default, its values and its meaning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dekctl.config import EnvConfig, TableConfig
from dekctl.config.settings import Setting, settings_of

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def shown(value: object) -> str:
    """A default, as the page shows it."""
    if value in (None, ""):
        return "none"
    return f"`{json.dumps(value) if isinstance(value, tuple | int | float) else value}`"


def row(setting: Setting) -> str:
    """A setting's line in the table."""
    values = setting.expected()
    if setting.choices:
        values = ", ".join(f"`{choice}`" for choice in setting.choices)
    return f"| `{setting.name}` | {values} | {shown(setting.default)} | {setting.meaning} |"


@pytest.mark.parametrize(
    ("heading", "model"), [("[table]", TableConfig), ("[env.NAME]", EnvConfig)]
)
def test_the_page_has_every_setting_as_the_model_has_it(heading: str, model: type) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"## `{heading}`")[2].partition("\n## ")[0]
    found = [line for line in section.splitlines() if line.startswith("| `")]
    wanted = [row(setting) for setting in settings_of(model).values()]
    assert found == wanted, "the page should say:\n" + "\n".join(wanted)
