"""The site: its navigation has every page once, its links lead to pages of it, and it is built without another host."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.site import BESIDE, DOCS, MADE, ROOT, SITE, gathered, pages, relinked

NAVIGATION = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]


def named(entries: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Title and page of every entry, however deep."""
    for entry in entries:
        for title, below in entry.items():
            if isinstance(below, str):
                yield title, below
            else:
                yield from named(below)


def test_the_navigation_has_every_page_once_and_no_other() -> None:
    entries = [page for _, page in named(NAVIGATION)]
    assert sorted(entries) == sorted([*pages(), *MADE])


def test_no_two_entries_have_one_title() -> None:
    titles = [title for title, _ in named(NAVIGATION)]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize(
    ("target", "place", "leads"),
    [
        ("api.md#get-", "client.md", "api.md#get"),
        ("#acting", "api.md", "#acting"),
        ("../api.md#get-v1runs", "algorithms/ppo.md", "../api.md#get-v1runs"),
        ("../README.md", "operations.md", "index.md"),
        ("../../CONTRIBUTING.md", "algorithms/ppo.md", "../contributing.md"),
        ("../examples/README.md", "operations.md", "examples.md"),
        ("performance.svg", "performance.md", "performance.svg"),
        ("../docs/decisions", "operations.md", "architecture.md#decisions"),
        ("../examples/corridor.py", "operations.md", None),
    ],
)
def test_a_link_leads_to_the_page_of_the_site(target: str, place: str, leads: str | None) -> None:
    assert relinked(target, place, DOCS / place) == leads


def test_a_link_to_a_file_that_is_no_page_becomes_its_name() -> None:
    page = gathered("examples.md", ROOT / "examples" / "README.md")
    assert "[`corridor.py`]" not in page
    assert "`corridor.py`" in page


def test_blocks_of_code_stay_as_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text:\n- item\n\n```text\n<!-- kept -->\na:\n- b [c](d.md)\n```\n")
    assert gathered("page.md", page) == "text:\n\n- item\n\n```text\n<!-- kept -->\na:\n- b [c](d.md)\n```\n"


def test_what_lies_beside_the_documentation_exists() -> None:
    assert all((ROOT / name).exists() for name in BESIDE)


def test_the_readme_is_read_in_minutes_and_its_picture_is_loaded_at_once() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    assert (DOCS / "learning.gif").stat().st_size <= 1_500_000


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="needs the extra docs")
def test_it_is_built_without_a_warning_and_loads_nothing_from_elsewhere() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.site"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert {"search.js", "iframe-worker.js"} <= {file.name for file in SITE.iterdir()}, (
        "search without a server"
    )
    for page in SITE.rglob("*.html"):
        elsewhere = re.findall(r'<(?:script|img|iframe)[^>]*src="(https?:[^"]+)"', page.read_text())
        elsewhere += re.findall(r'<link[^>]*href="(https?:[^"]+)"', page.read_text())
        assert not elsewhere, f"{page.name} loads {elsewhere}"
