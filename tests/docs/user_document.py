"""The code snippets of the user's document, a reStructuredText page that does not belong to this repository."""

import os
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

VARIABLE = "MAZE_USERS_DOCUMENT"
BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared" / "spec" / "run_context.rst"

_DIRECTIVE = re.compile(r"(?P<indent>\s*)\.\. code-(?:tab|block):: (?P<language>\w+)")
_SECTION = re.compile(r"\*\*(?P<name>[^*]+)\*\*$")


@dataclass(frozen=True)
class Snippet:
    """One block of code."""

    name: str
    """Section and number within it, such as ``Initialization 2``."""
    language: str
    code: str
    line: int
    """Line of the directive above it, from 1."""


def document() -> Path:
    """Where the document is; skips the test where it is not."""
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else BESIDE_THE_CHECKOUT
    if not path.is_file():
        pytest.skip(f"the user's document is not beside the checkout, and {VARIABLE} does not name it")
    return path


def snippets(path: Path) -> dict[str, Snippet]:
    """Every snippet of the page by its name, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, Snippet] = {}
    section, count = "", 0
    for number, line in enumerate(lines):
        heading, directive = _SECTION.match(line.strip()), _DIRECTIVE.match(line)
        if heading is not None:
            section, count = heading["name"], 0
        if directive is not None:
            count += 1
            name = f"{section} {count}"
            code = _body(lines[number + 1 :], len(directive["indent"]))
            found[name] = Snippet(name, directive["language"], code, number + 1)
    return found


def _body(lines: list[str], indent: int) -> str:
    """The lines that are further in than the directive."""
    body: list[str] = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        body.append(line)
    return textwrap.dedent("\n".join(body)).strip() + "\n"
