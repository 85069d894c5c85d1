"""The tables of the documentation are those of the code; ``python -m tests.docs.tables`` writes them anew."""

from pathlib import Path

import pytest

from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.docs.tables import DOCS, TABLES, settings_of, tables_of, write


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_code_says(name: str) -> None:
    page, made = TABLES[name]
    assert tables_of(DOCS / page)[name] == made(), "run python -m tests.docs.tables"


def test_every_table_of_a_page_is_one_that_is_made() -> None:
    held = {
        (page.relative_to(DOCS).as_posix(), name) for page in DOCS.rglob("*.md") for name in tables_of(page)
    }
    assert held == {(page, name) for name, (page, _) in TABLES.items()}


def test_every_setting_is_there_with_its_default_its_range_and_its_meaning() -> None:
    clip_range = settings_of(PPOAlgorithmConfig)["clip_range"]
    assert clip_range == {
        "default": "`0.2`",
        "takes": "number > 0",
        "meaning": "ε of the clipped objective; from 1 on only gains are cut, a large one such as 10 cuts nothing.",
    }


def test_nested_settings_have_dotted_names() -> None:
    assert settings_of(PPOAlgorithmConfig)["rollout_evaluator.n_episodes"]["default"] == "`8`"


def test_writing_a_table_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: a -->\nold\n<!-- end of table -->\nafter\n")
    write(page, {"a": "new\n"})
    assert page.read_text() == "before\n<!-- table: a -->\nnew\n<!-- end of table -->\nafter\n"
