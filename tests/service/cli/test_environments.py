"""``maze env check``: environments of one's own, found as Python finds them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENTS = """
import os

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


class Wrong(Good):
    def look(self):
        return super().look()[: 2 - self.at]


class Loud(Good):
    def __init__(self):
        print("a robot is switched on")
        os.write(1, b"by a library in C\\n")


class Steers(Good):
    def step(self, action):
        raise ValueError("\\x1b]0;owned\\x07\\nerror: not one of ours")


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
    done = check(folder, "mine:Wrong")
    assert done.returncode == 1
    error, means, way_out = done.stdout.splitlines()[:3]
    assert error.startswith("error: ")
    assert "does not fit" in done.stdout
    assert means.startswith("  means: ")
    assert way_out.startswith("  do:    ")
    (finding, *_) = map(json.loads, check(folder, "mine:Wrong", "--json").stdout.splitlines())
    assert finding["level"] == "error"


def test_what_training_takes_is_a_warning_and_0(folder: Path) -> None:
    done = check(folder, "mine:Wide")
    assert done.returncode == 0
    assert done.stdout.startswith("warning: ")
    assert "Return what observation_space says" in done.stdout


def test_what_an_environment_prints_is_not_among_what_was_found(folder: Path) -> None:
    done = check(folder, "mine:Loud", "--json")
    assert (done.returncode, done.stdout) == (0, "")
    assert "a robot is switched on" in done.stderr
    assert "by a library in C" in done.stderr


def test_what_an_environment_raises_does_not_steer_the_terminal(folder: Path) -> None:
    done = check(folder, "mine:Steers")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "\\u001b]0;owned\\u0007" in done.stdout
    assert "error: not one of ours" not in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('no robot')", "ValueError: no robot"),
        ("class X(:", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise SystemExit", "SystemExit in"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(folder: Path, text: str, says: str) -> None:
    (folder / "bad.py").write_text(text)
    done = check(folder, "bad:X")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"maze: bad cannot be imported: {says}")


@pytest.mark.parametrize(("name", "code"), [("nosuch:Env", 2), ("mine:Nosuch", 1), ("Nosuch-v0", 1)])
def test_one_that_there_is_not_is_told(folder: Path, name: str, code: int) -> None:
    done = check(folder, name)
    assert done.returncode == code
    assert name.partition(":")[0] in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
