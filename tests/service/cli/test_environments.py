"""``maze env check``: environments of one's own, found as Python finds them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENTS = """
import gymnasium
import numpy as np


class Good(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def look(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def step(self, action):
        self.at += 1
        return self.look(), float(action), self.at == 9, False, {}


class Wide(Good):
    def look(self):
        return super().look() * 9


gymnasium.register("Registered-v0", entry_point=Good)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(ENVIRONMENTS)
    return tmp_path


def check(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "service.cli", "env", "check", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)


@pytest.mark.parametrize("name", ["mine:Good", "mine:Registered-v0"])
def test_a_good_one_of_a_module_here_is_0(folder: Path, name: str) -> None:
    done = check(folder, name)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}: nothing is wrong with it\n", "")


def test_a_bad_one_is_1_with_what_it_means_and_what_to_do(folder: Path) -> None:
    done = check(folder, "mine:Wide")
    assert done.returncode == 1
    error, means, way_out = done.stdout.splitlines()[:3]
    assert error.startswith("error: ")
    assert "observation space" in error
    assert means.startswith("  means: ")
    assert way_out.startswith("  do:    Return what observation_space says")
    (finding, *_) = map(json.loads, check(folder, "mine:Wide", "--json").stdout.splitlines())
    assert finding["level"] == "error"


@pytest.mark.parametrize(("name", "code"), [("nosuch:Env", 2), ("mine:Nosuch", 1), ("Nosuch-v0", 1)])
def test_one_that_there_is_not_is_told(folder: Path, name: str, code: int) -> None:
    done = check(folder, name)
    assert done.returncode == code
    assert name.partition(":")[0] in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
