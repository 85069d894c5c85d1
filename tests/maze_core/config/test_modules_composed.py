"""Hydra composes under one lock and its process-wide state is left as it was found."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from maze_core.config import compose_run, conf_root, modules
from maze_core.config.command_line import parse_words

CHOICES = [
    {"algorithm": algorithm, "wrappers": wrappers}
    for algorithm in ("ppo", "es")
    for wrappers in ("no_wrappers", "vector_obs")
]


@pytest.fixture
def _no_kept_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "_MOST_KEPT", 1)
    modules._compositions.clear()


@pytest.mark.usefixtures("_no_kept_trees")
def test_eight_threads_compose_at_once():
    start = threading.Barrier(8)

    def compose(number: int) -> list[str]:
        start.wait()
        begin = number % len(CHOICES)
        choices = CHOICES[begin:] + CHOICES[:begin]
        return sorted(compose_run(seed=1, **choice).config_sha256 for choice in choices)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(compose, range(8)))
    assert len(set(map(tuple, results))) == 1
    assert len(set(results[0])) == len(CHOICES)


@pytest.mark.usefixtures("_no_kept_trees")
def test_hydra_of_the_caller_is_left_as_it_was():
    from hydra import compose, initialize_config_dir, version
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(conf_root()), version_base="1.2"):
        before, base = GlobalHydra.instance(), version.getbase()
        hydra = before.hydra
        compose_run(algorithm="a2c")
        parse_words(["env.name=x"])
        assert GlobalHydra.instance() is before
        assert before.hydra is hydra
        assert version.getbase() == base
        assert "env" in compose("conf_train")
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.usefixtures("_no_kept_trees")
def test_a_failed_composition_leaves_hydra_as_it_was(tmp_path):
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("defaults:\n  - not_there\n")
    with pytest.raises(ValueError, match="do not compose"):
        compose_run(env="mine", config_dirs=[tmp_path])
    assert not GlobalHydra.instance().is_initialized()


def test_a_tree_is_composed_once_per_choice(monkeypatch: pytest.MonkeyPatch):
    modules._compositions.clear()
    calls = []
    compose = modules._compose
    monkeypatch.setattr(modules, "_compose", lambda *args: calls.append(args) or compose(*args))
    for _ in range(3):
        compose_run(algorithm="a2c")
        compose_run(algorithm="ppo")
    assert len(calls) == 2


def test_composing_needs_no_argv_and_no_working_directory(tmp_path, monkeypatch: pytest.MonkeyPatch):
    modules._compositions.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script", "algorithm=nonsense", "--multirun"])
    assert compose_run().tree["algorithm"]["n_epochs"] == 30
    assert os.listdir(tmp_path) == []
    assert sys.argv == ["script", "algorithm=nonsense", "--multirun"]


def test_importing_and_composing_leave_heavy_libraries_out():
    code = (
        "import sys, maze_core.config, maze_core.config.trust\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "config = maze_core.config.compose_run(wrappers='vector_obs')\n"
        "config.build('model'), config.build('env'), config.build('wrappers')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
