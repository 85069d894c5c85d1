"""Every name of the alias table leads to a component that is there, without torch."""

import subprocess
import sys

import pytest

from maze_core.config.aliases import ALIASES, PUBLIC_TARGETS, canonical_target
from maze_core.config.describe import qualified_name
from maze_core.config.targets import resolve_target


@pytest.mark.parametrize("target", sorted(PUBLIC_TARGETS))
def test_a_public_component_is_where_its_name_says(target: str):
    assert qualified_name(resolve_target(target)) == target


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_an_alias_leads_to_a_public_component(alias: str):
    assert canonical_target(alias) in PUBLIC_TARGETS
    assert alias not in PUBLIC_TARGETS


def test_a_name_that_is_not_in_the_table_stays():
    assert canonical_target("maze.core.agent") == "maze.core.agent"


def test_no_component_imports_torch():
    code = (
        "import sys\n"
        "from maze_core.config.aliases import PUBLIC_TARGETS\n"
        "from maze_core.config.targets import resolve_target\n"
        "[resolve_target(name) for name in PUBLIC_TARGETS]\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
