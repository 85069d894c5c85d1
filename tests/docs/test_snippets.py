"""What the pages show runs: Python blocks of a page in order, and its ``maze-run`` commands.

Blocks of one page share their names, as a reader's session would. A block with ``<!-- not run: reason -->``
before it is skipped for that reason. Commands for a running service are tested by :mod:`test_commands`.
"""

import re
import shlex
from pathlib import Path

import pytest

import maze_core.cli
from tests.docs.fences import Block, commands, fenced_blocks
from tests.docs.tables import DOCS

ROOT = DOCS.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples/README.md",
    *sorted(DOCS.rglob("*.md")),
]
_RUN = re.compile(r"(?:\S*/)?maze-run\s")


def with_python() -> list[Path]:
    """Pages that show Python."""
    return [page for page in PAGES if fenced_blocks(page, "python")]


def command_lines() -> list[tuple[Block, str]]:
    """Every ``maze-run`` command of every page."""
    blocks = [block for page in PAGES for block in fenced_blocks(page, "bash") if block.not_run is None]
    return [(block, command) for block in blocks for command in commands(block) if _RUN.match(command)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with the repository's examples in it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", with_python(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_blocks_of_a_page_run_in_order(page: Path, workplace: Path) -> None:
    names: dict[str, object] = {"__name__": "__documentation__"}
    for block in fenced_blocks(page, "python"):
        if block.not_run is None:
            lines_above = "\n" * (block.line - 1)
            exec(compile(lines_above + block.code, str(page), "exec"), names)


@pytest.mark.parametrize(
    ("block", "command"), command_lines(), ids=[str(block) for block, _ in command_lines()]
)
def test_a_command_line_runs(
    block: Block, command: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    assert maze_core.cli.main(words) == 0, capsys.readouterr().err


def test_there_are_snippets_to_run() -> None:
    assert len(with_python()) >= 2
    assert command_lines()
