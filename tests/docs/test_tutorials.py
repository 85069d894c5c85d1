"""Tutorials and how-to pages run, block by block, and the answers that they show are those that the service gives."""

import json
from pathlib import Path

import pytest

from tests.docs.sessions import EXACT, LOCAL, has_tools, session, wrongly_shown
from tests.docs.tables import DOCS

pytestmark = pytest.mark.skipif(not has_tools(), reason="bash, curl and python3 run the pages")

FIRST = DOCS / "tutorials" / "first_run.md"
OWN_SERVICE = DOCS / "tutorials" / "own_environment.md"
PAGES = [
    page
    for folder in ("tutorials", "how_to")
    for page in sorted((DOCS / folder).glob("*.md"))
    if page != OWN_SERVICE and f"curl -s {LOCAL}" in page.read_text().replace("-sN", "-s")
]
TOLD = EXACT | {
    "state",
    "reason",
    "name",
    "alias",
    "version",
    "revision",
    "n_jobs",
    "equal",
    "action",
    "counts",
}
"""Members whose value has to be the one that is shown: a reader compares them."""


def test_the_tutorials_are_here() -> None:
    assert {page.stem for page in PAGES} >= {"first_run", "production", "sweep", "follow_a_run"}


@pytest.mark.parametrize("page", [page for page in PAGES if page != FIRST], ids=lambda page: page.stem)
def test_a_page_gives_the_answers_that_it_shows(page: Path, shared_service: str, tmp_path: Path) -> None:
    assert not wrongly_shown(session(page, shared_service, tmp_path), exact=TOLD)


def test_the_first_tutorial_ends_with_a_learnt_pole_and_its_video(
    shared_service: str, tmp_path: Path
) -> None:
    ran = session(FIRST, shared_service, tmp_path)
    assert not wrongly_shown(ran, exact=TOLD)
    answers = [json.loads(printed) for _, printed, shown in ran if shown and shown.language == "json"]
    (evaluation,) = (answer for answer in answers if answer.get("kind") == "evaluate")
    assert evaluation["result"]["mean_return"] > 300  # the last bits, and so the numbers, are the processor's
    assert (tmp_path / "pole.mp4").read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "curve.csv").read_text().startswith("name,epoch,step,value,at")
