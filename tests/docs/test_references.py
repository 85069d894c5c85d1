"""What the pages point to exists: links, files, modules, functions."""

import importlib
import re
from pathlib import Path

import pytest

from maze_core.config.components import PLACES, canonical_target
from tests.docs.fences import fenced_blocks
from tests.docs.tables import DOCS
from tests.faults.figures import HELD_BY

ROOT = DOCS.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples/README.md",
    *sorted(DOCS.rglob("*.md")),
]
FOLDERS = (ROOT, ROOT / "maze_core", ROOT / "service", ROOT / "maze_client")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w.-]+(/[\w.-]+)*\.(py|yaml|md|toml|txt)|[\w.-]+(/[\w.-]+)*/")
_DOTTED = re.compile(r"(maze_core|service|maze_client)(\.\w+)+")
_TEST = re.compile(r"(?P<file>tests/[\w/]+\.py)::(?P<name>test_\w+)")
_MADE_LATER = re.compile(
    r"(data|outputs|dist|site|checkpoints|tensorboard|videos|rollouts|policy|recorded)/[\d/]*"
    r"|(config\.yaml|(metrics|identity|provenance|report)\.jsonl?)"
)
"""Files and folders that a run or a server makes."""


@pytest.fixture(scope="module", params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in headings(target), (
                f"{page.name} links to {link}; there are {sorted(headings(target))}"
            )


def test_files_that_are_named_exist(page: Path) -> None:
    for word in _CODE.findall(prose(page)):
        if _FILE.fullmatch(word) and not _MADE_LATER.fullmatch(word) and "<" not in word:
            assert any((folder / word).exists() for folder in (page.parent, *FOLDERS)), (
                f"{page.name} names {word}"
            )


def test_modules_and_functions_that_are_named_exist(page: Path) -> None:
    for word in _CODE.findall(prose(page)):
        if _DOTTED.fullmatch(word.removesuffix("()")):
            name = canonical_target(word.removesuffix("()"))
            assert located(PLACES.get(name, name)), f"{page.name} names {word}"


def test_tests_that_are_named_exist(page: Path) -> None:
    for word in _CODE.findall(prose(page)):
        if match := _TEST.fullmatch(word):
            assert f"def {match['name']}(" in (ROOT / match["file"]).read_text(), f"{page.name} names {word}"


def test_tests_that_figures_name_exist() -> None:
    for figure, tests in HELD_BY.items():
        for test in tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / file).read_text(), f"{figure} names {test}"


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block in fenced_blocks(page):
        for number in range(block.line - 1, block.line + block.code.count("\n")):
            lines[number - 1] = ""
    return "\n".join(lines)


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def located(name: str) -> bool:
    """Whether a dotted name leads to a module, class, function or method."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False
