"""docs/api.md has every route and no other, and the answers it shows have the shape of those the service gives."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.fences import fenced_blocks
from tests.docs.service_process import service
from tests.docs.sessions import difference, has_tools, session, wrongly_shown
from tests.docs.tables import DOCS, routes_of_the_service

API = DOCS / "api.md"

needs_tools = pytest.mark.skipif(not has_tools(), reason="bash, curl and python3 run the pages")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service(tmp_path_factory.mktemp("service")) as address:
        yield address


def test_every_route_has_a_section_and_every_section_a_route() -> None:
    sections = set(re.findall(r"^### `([A-Z]+ /\S*)`$", API.read_text(), re.MULTILINE))
    assert sections == {f"{method} {path}" for method, path, _ in routes_of_the_service()}


def test_every_answer_that_is_shown_is_json() -> None:
    for block in fenced_blocks(API, "json"):
        assert isinstance(json.loads(block.code), dict), str(block)


@needs_tools
def test_the_session_of_the_page_gives_the_answers_that_it_shows(address: str, tmp_path: Path) -> None:
    answered = session(API, address, tmp_path)
    assert len(answered) >= len(routes_of_the_service())
    assert not wrongly_shown(answered)


@needs_tools
def test_the_same_arguments_give_one_digest_on_every_face(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = DOCS / "configuration.md"
    ((_, composed, _),) = session(page, address, tmp_path)
    in_python: dict[str, Any] = {}
    exec(fenced_blocks(page, "python")[0].code, in_python)
    assert json.loads(composed)["config_sha256"] == in_python["rc"].config_sha256
    assert capsys.readouterr().out.strip() == in_python["rc"].config_sha256


@pytest.mark.parametrize(
    ("shown", "given", "problem"),
    [
        ({"a": 1}, {"a": 2, "b": 3}, ""),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, "a.b is missing"),
        ({"a": [{"b": 1}]}, {"a": []}, "a has 0 entries, 1 are shown"),
        ({"a": [{"b": 1}]}, {"a": [{}]}, "a.0.b is missing"),
        ({"a": 1}, {"a": "x"}, "a is a str, a int is shown"),
        ({"a": None}, {"a": "x"}, "a is a str, a NoneType is shown"),
        ({"a": 1}, {"a": 1.5}, ""),
        ({"code": "x"}, {"code": "y"}, "code is 'y', 'x' is shown"),
    ],
)
def test_a_shown_answer_is_held_against_the_given_one(shown: Any, given: Any, problem: str) -> None:
    assert difference(shown, given) == problem
