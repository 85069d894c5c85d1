"""What the pages show runs: their Python blocks and their ``maze-run`` commands, page by page, in order.

Blocks of one page share their names and their directory, as a reader's session would; pages that show the client
share a service. A block with
``<!-- not run: reason -->`` before it is skipped. Commands for a running service are run by
:mod:`test_api_page` and :mod:`test_tutorials`; those of the README by the acceptance tests.
"""

import re
import shlex
from pathlib import Path

import pytest

import maze_core.cli
from tests.docs.fences import commands, fenced_blocks
from tests.docs.tables import DOCS

ROOT = DOCS.parent
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "examples/README.md", *sorted(DOCS.rglob("*.md"))]
_MAZE_RUN = re.compile(r"(?:\S*/)?maze-run\s")


def python_pages() -> list[Path]:
    """Pages that show Python, the README among them."""
    return [page for page in (ROOT / "README.md", *PAGES) if fenced_blocks(page, "python")]


def command_lines(page: Path) -> list[str]:
    """Every ``maze-run`` command of a page that is to be run, in order."""
    blocks = [block for block in fenced_blocks(page, "bash") if block.not_run is None]
    return [command for block in blocks for command in commands(block) if _MAZE_RUN.match(command)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with the repository's examples in it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def served(page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service at ``MAZE_URL`` for a page that shows the client."""
    if any("maze_client" in block.code for block in fenced_blocks(page, "python")):
        monkeypatch.setenv("MAZE_URL", f"http://{request.getfixturevalue('shared_service')}")


@pytest.mark.parametrize("page", python_pages(), ids=name_of)
def test_the_python_blocks_of_a_page_run_in_order(page: Path, workplace: Path, served: None) -> None:
    names: dict[str, object] = {"__name__": "__documentation__"}
    for block in fenced_blocks(page, "python"):
        if block.not_run is None:
            lines_above = "\n" * (block.line - 1)
            exec(compile(lines_above + block.code, str(page), "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)], ids=name_of)
def test_the_command_lines_of_a_page_run_in_order(
    page: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in command_lines(page):
        assert maze_core.cli.main(shlex.split(command)[1:]) == 0, f"{command}\n{capsys.readouterr().err}"


def test_there_are_snippets_to_run() -> None:
    assert len(python_pages()) >= 4
    assert len([page for page in PAGES if command_lines(page)]) >= 2
