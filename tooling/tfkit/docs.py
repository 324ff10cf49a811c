"""The tables of the modules' READMEs: ``python -m tfkit.docs [--check]``.

Each README keeps its own words outside the markers of terraform-docs; what is between them is
written from ``versions.tf``, ``variables.tf`` and ``outputs.tf``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tfkit.terraform import PROJECT

BEGIN, END = "<!-- BEGIN_TF_DOCS -->", "<!-- END_TF_DOCS -->"
VERSION = re.compile(r'^\s*(required_version|version)\s*= "(.+)"$', re.MULTILINE)
BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
ATTRIBUTE = re.compile(r"^  (\w+) += ", re.MULTILINE)


def modules() -> list[Path]:
    """The folders of all modules, and of the bootstrap."""
    found = {path.parent for path in (PROJECT / "terraform/modules").glob("*/variables.tf")}
    found |= {path.parent for path in (PROJECT / "terraform/modules").glob("*/*/variables.tf")}
    return [*sorted(found), PROJECT / "terraform/bootstrap"]


def tables(module: Path) -> str:
    """The tables of a module, with the markers around them."""
    inputs = [
        f"| `{name}` | {_text(a['description'])} | {_code(a['type'])} | {_default(a)} |"
        for name, a in blocks(module / "variables.tf")
    ]
    outputs = [
        f"| `{name}` | {_text(a['description'])} |" for name, a in blocks(module / "outputs.tf")
    ]
    return "\n".join(
        [
            BEGIN,
            "\n## Requirements\n\n| name | version |\n|---|---|",
            *(f"| {name} | `{version}` |" for name, version in _requirements(module)),
            "\n## Inputs\n\n| name | description | type | default |\n|---|---|---|---|",
            *inputs,
            "\n## Outputs\n\n| name | description |\n|---|---|",
            *outputs,
            f"\n{END}",
        ]
    )


def readme(module: Path) -> str:
    """What a module's README should be: its own words, and the tables."""
    before, _, rest = (module / "README.md").read_text().partition(BEGIN)
    return before + tables(module) + (rest.partition(END)[2] or "\n")


def _requirements(module: Path) -> list[tuple[str, str]]:
    file = next(f for f in (module / "versions.tf", module / "main.tf") if f.exists())
    found = dict(VERSION.findall(file.read_text()))
    return [("terraform", found["required_version"]), ("hashicorp/aws", found["version"])]


def blocks(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The variables or outputs of a file, each with the text of its attributes."""
    return [(m[2], _attributes(m[3])) for m in BLOCK.finditer(path.read_text())]


def _attributes(body: str) -> dict[str, str]:
    body = body.split("\n  validation {", maxsplit=1)[0]
    starts = list(ATTRIBUTE.finditer(body))
    ends = [start.start() for start in starts[1:]] + [len(body)]
    pairs = zip(starts, ends, strict=True)
    return {start[1]: body[start.end() : end].strip() for start, end in pairs}


def _text(description: str) -> str:
    heredoc = re.fullmatch(r"<<-EOT\n(.*)\n\s*EOT", description, re.DOTALL)
    text = heredoc[1] if heredoc else description[1:-1].replace('\\"', '"')
    return " ".join(text.split()).replace("|", "\\|")


def _code(expression: str) -> str:
    flat = re.sub(r"\n\s*", ", ", expression)
    flat = re.sub(r"([({])\s*, ", r"\1 ", flat).replace("({ ", "({").replace(", }", "}")
    return "`" + re.sub(r" +", " ", flat).replace("|", "\\|") + "`"


def _default(attributes: dict[str, str]) -> str:
    return _code(attributes["default"]) if "default" in attributes else "*required*"


if __name__ == "__main__":
    stale = [m for m in modules() if (m / "README.md").read_text() != readme(m)]
    if "--check" not in sys.argv:
        for module in stale:
            (module / "README.md").write_text(readme(module))
    elif stale:
        names = ", ".join(module.name for module in stale)
        sys.exit(f"error: README tables out of date: {names}\nhint: make tf-fmt")
