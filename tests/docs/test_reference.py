"""The pages that are made from the code have everything that is public, once, and their links lead somewhere."""

import re

import pytest

import maze_client
import maze_core
from tools.reference import client_page, document, http_page, library_page


def headings(page: str, level: int) -> list[str]:
    """Titles of one level, without those in blocks of code."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(rf"^{'#' * level} (.+)$", prose, re.MULTILINE)


@pytest.fixture(scope="module")
def http() -> str:
    return http_page()


def test_every_operation_has_its_section_once(http: str) -> None:
    operations = [f"`{method.upper()} {path}`" for path, of in document()["paths"].items() for method in of]
    assert sorted(title for title in headings(http, 3) if title.startswith("`")) == sorted(operations)


def test_every_body_has_its_section_and_links_lead_to_them(http: str) -> None:
    bodies = [title for title in headings(http, 3) if not title.startswith("`")]
    assert bodies == sorted(document()["components"]["schemas"])
    assert set(re.findall(r"\(#([\w-]+)\)", http)) <= {title.lower() for title in bodies}


def test_every_public_name_has_its_section() -> None:
    assert headings(library_page(), 2) == sorted(maze_core.__all__)
    assert sorted(headings(client_page(), 2)) == sorted(maze_client.__all__)


def test_methods_that_two_classes_share_are_shown_once_with_their_arguments() -> None:
    page = client_page()
    assert page.count("train(**arguments: Unpack[TrainArguments])") == 1
    assert "- `base_url`: of the service" in page


def test_verbs_that_a_class_takes_from_another_are_shown_as_its_own() -> None:
    page = library_page()
    verbs = ("train", "evaluate", "rollout", "compute_action", "save", "load")
    assert {f"RunContext.{verb}()" for verb in verbs} | {"RunContext.config"} <= set(headings(page, 3))
    assert page.count("\nRunContext(\n") == 1


def test_settings_have_default_and_meaning() -> None:
    assert "| `clip_range` | `0.2` | ε of the clipped objective" in library_page()
