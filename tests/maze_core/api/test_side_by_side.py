"""Contexts beside each other, in threads too: equal results, nothing of the process touched, nothing left behind."""

import gc
import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from maze_core import GymMazeEnv, MonitoringWrapper, RunContext
from maze_core.errors import EnvError
from maze_core.metrics import SilentReporter
from tests.maze_core.api.own_parts import PolicyNet
from tests.maze_core.api.test_forms import QUICK

SPECS: list[dict[str, Any]] = [
    {"wrappers": "vector_obs", "seed": 1},
    {"algorithm": "a2c", "env": lambda: GymMazeEnv("CartPole-v0"), "seed": 2},
    {"policy": {"networks": [PolicyNet]}, "seed": 3},
    {"model": "vector_obs", "critic": "template_state", "wrappers": [MonitoringWrapper()], "seed": 4},
]


class Curve(SilentReporter):
    """All metrics but those of the clock."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def metrics(self, epoch, step, values) -> None:
        self.values.append({name: v for name, v in values.items() if not name.startswith("time/")})


def outcome(spec: dict[str, Any], run_dir: Path) -> tuple[Any, ...]:
    """Everything a context has to say about this specification."""
    curve = Curve()
    with RunContext(run_dir=run_dir, overrides={**QUICK, "algorithm.n_epochs": 2}, **spec) as context:
        report = context.train(reporter=curve)
        evaluation = context.evaluate(3, deterministic=False).to_dict()
        action = context.compute_action(np.zeros(4, np.float32))
    return report.content_sha256, evaluation, action, curve.values


def process_state() -> tuple[Any, ...]:
    return (
        os.getcwd(),
        tuple(sys.argv),
        id(sys.stdout),
        id(sys.stderr),
        random.getstate(),
        tuple(np.random.get_state(legacy=True)[1]),
        torch.random.get_rng_state().tolist(),
        torch.get_num_threads(),
        dict(os.environ),
    )


def test_four_threads_give_what_one_gives_and_touch_nothing(tmp_path, capfd) -> None:
    expected = [outcome(spec, tmp_path / f"alone-{i}") for i, spec in enumerate(SPECS)]
    before = process_state()
    together = threading.Barrier(len(SPECS))

    def work(i: int) -> tuple[Any, ...]:
        together.wait()
        return outcome(SPECS[i], tmp_path / f"beside-{i}")

    with ThreadPoolExecutor(len(SPECS)) as pool:
        assert list(pool.map(work, range(len(SPECS)))) == expected
    assert process_state() == before
    assert capfd.readouterr() == ("", "")


def test_two_open_contexts_take_turns_without_mixing_their_statistics(tmp_path) -> None:
    wrapper = MonitoringWrapper()
    spec = {"wrappers": [wrapper], "seed": 4}
    expected = outcome(spec, tmp_path / "alone")[3]
    curves, quick = (Curve(), Curve()), {**QUICK, "algorithm.n_epochs": 2}
    with (
        RunContext(run_dir=tmp_path / "a", overrides=quick, **spec) as first,
        RunContext(run_dir=tmp_path / "b", overrides=quick, **spec) as second,
    ):
        for _ in range(2):
            first.train(1, reporter=curves[0])
            second.train(1, reporter=curves[1])
    assert curves[0].values == curves[1].values == expected


def held() -> tuple[int, int, int]:
    """Open files, threads and children of this process."""
    gc.collect()
    process = psutil.Process()
    return process.num_fds(), threading.active_count(), len(process.children(recursive=True))


def use_one_context(run_dir: Path, **arguments: Any) -> None:
    with RunContext(run_dir=run_dir, overrides=QUICK, seed=1, **arguments) as context:
        context.train()
        context.evaluate(1)
        context.rollout(1)
        env = context.env_factory()
        env.reset()
        env.close()


def test_ten_contexts_leave_no_file_thread_or_process_open(tmp_path) -> None:
    use_one_context(tmp_path / "first")  # what is loaded once stays loaded
    before = held()
    for i in range(10):
        use_one_context(tmp_path / f"{i}")
    assert held() == before


def test_processes_of_the_local_runner_end_with_their_context(tmp_path) -> None:
    use_one_context(tmp_path / "first", runner={"execution": "local", "n_processes": 2})
    before = held()
    use_one_context(tmp_path / "second", runner={"execution": "local", "n_processes": 2})
    assert held() == before


@pytest.mark.parametrize("fault", ["critic", "env"])
def test_a_context_that_fails_leaves_nothing_open(fault: str, tmp_path) -> None:
    def broken() -> GymMazeEnv:
        raise RuntimeError("no environment today")

    arguments: dict[str, Any] = {"env": broken} if fault == "env" else {"model": "vector_obs"}
    before = None
    for _ in range(2):
        context = RunContext(run_dir=tmp_path, overrides=QUICK, seed=1, **arguments)
        with pytest.raises((EnvError, ValueError)):
            context.train()
        context.close()
        before = before or held()
    assert held() == before
