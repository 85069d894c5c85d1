"""Helper processes: an end to processes that start processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from maze_core import subprocesses
from maze_core.errors import MazeError

TRAINS_WHEN_IMPORTED = """
import gymnasium
from maze_core import RunContext

def make():
    return gymnasium.make("CartPole-v1")

one = {"runner.n_envs": 1}
with RunContext(env=make, runner="local", configuration="test", overrides=one, silent=True) as context:
    context.train(1)
"""


def test_a_helper_starts_no_helper_of_its_own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MAZE_CORE_HELPERS", "maze_core.runners.job_process maze_core.envs.env_process")
    with pytest.raises(MazeError, match="if __name__ == '__main__'"):
        subprocesses.start("maze_core.envs.env_process")


def test_a_module_that_trains_while_it_is_imported_ends_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "trains.py").write_text(TRAINS_WHEN_IMPORTED)
    command = [sys.executable, "-c", "import trains"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 1
    assert "if __name__ == '__main__'" in ended.stderr, ended.stderr
