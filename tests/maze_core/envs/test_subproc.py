"""Environments in other processes: the same bits, errors with their origin, and no process left behind."""

import os
import signal
import subprocess
import sys

import gymnasium
import numpy as np
import psutil
import pytest

from maze_core.envs.config import CallableEnvConfig, GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.subproc import SubprocVectorEnv
from maze_core.errors import EnvError
from maze_core.notices import MazeWarning
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import make_boxes, make_failing_boxes
from tests.maze_core.envs.ticks import random_actions, tick_bytes


def test_cartpole_over_processes_gives_the_same_bits():
    config = GymEnvConfig(name="CartPole-v1")
    spread, here = config.vector(5, execution="local", n_processes=2), config.vector(5)
    ticks = spread.reset([1, 2, 3, 4, 5]), here.reset([1, 2, 3, 4, 5])
    rng = np.random.default_rng(0)
    for i in range(300):
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
        actions = {0: {"action": rng.integers(0, 2, 5)}}
        ticks = spread.step(actions), here.step(actions)
        if i == 150:
            rows = np.array([True, False, True, False, True])
            ticks = spread.reset([7, 0, None, 0, 8], rows), here.reset([7, 0, None, 0, 8], rows)
    spread.close()


def test_sub_steps_over_processes_give_the_same_bits():
    spread, here = SubprocVectorEnv([make_boxes] * 3, n_processes=3), PerEnvVectorEnv([make_boxes] * 3)
    ticks = spread.reset([1, 2, 3]), here.reset([1, 2, 3])
    rng = np.random.default_rng(0)
    for _ in range(150):
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
        actions = random_actions(here, ticks[1], rng)
        if not ticks[1].active[0].any():
            del actions[0]
        ticks = spread.step(actions), here.step(actions)
    spread.close()


def test_more_processes_than_environments_are_not_started():
    env = SubprocVectorEnv([make_boxes] * 2, n_processes=8)
    assert len(env._children) == 2
    env.close()


def test_an_error_in_a_process_names_the_environment_and_brings_its_traceback():
    env = SubprocVectorEnv([make_boxes, make_boxes, make_failing_boxes], n_processes=2)
    tick = env.reset([1, 2, 3])
    rng = np.random.default_rng(0)

    def play():
        shown = tick
        while True:
            shown = env.step(random_actions(env, shown, rng))

    with pytest.raises(EnvError, match=r"Environment 2, step 1 .*the lid fell shut") as caught:
        play()
    assert "structured_env.py" in str(caught.value)
    assert "In the process of environments 2 to 2" in str(caught.value)
    tick = env.reset([1, 2, 3])
    assert tick.active[0].all(), "the processes must still answer after an error"
    env.close()


def test_an_environment_that_cannot_be_made_is_an_error_and_leaves_no_process():
    before = set(psutil.Process().children())
    with pytest.raises(EnvError, match=r"There is no environment 'Nowhere-v0'"):
        GymEnvConfig(name="Nowhere-v0").vector(3, execution="local", n_processes=2)
    assert set(psutil.Process().children()) <= before


def test_a_lambda_is_refused_with_the_way_out():
    with pytest.raises(EnvError, match=r"cannot be made in another process.*use runner=dev, or a function"):
        CallableEnvConfig(factory=lambda: make_boxes()).vector(2, execution="local")


def test_a_function_of_the_main_script_is_refused_with_the_way_out():
    code = (
        "from maze_core.envs.config import CallableEnvConfig\n"
        "from maze_core.errors import EnvError\n"
        "def make(): pass\n"
        "try: CallableEnvConfig(factory=make).vector(2, execution='local')\n"
        "except EnvError as error: print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "defined in the main script" in answer.stdout


def test_a_registered_id_means_the_same_in_the_processes():
    gymnasium.register(
        "SmallNumbers-v0", "tests.maze_core.envs.small_envs:EpisodeNumberEnv", max_episode_steps=2
    )
    try:
        env = GymEnvConfig(name="SmallNumbers-v0", kwargs={"number": 3}).vector(
            2, execution="local", n_processes=1
        )
    finally:
        del gymnasium.registry["SmallNumbers-v0"]
    np.testing.assert_array_equal(env.reset([0, 0]).observations[0]["observation"], [[3, 1, 0]] * 2)
    env.close()


class Counting:
    """Steps its environments by itself."""

    def __init__(self, envs):
        self.envs, self.n_calls = envs, 0

    def play(self, seed):
        self.n_calls += 1
        tick = self.envs.reset([seed] * self.envs.n_envs)
        return self.n_calls, self.envs.n_envs, tick.active[0].all()

    def fail(self):
        raise LookupError("the lid fell shut")


def test_a_guest_steps_the_environments_of_its_process_and_keeps_what_it_has():
    env = SubprocVectorEnv([make_boxes] * 3, n_processes=2)
    first, second = env.host(Counting)
    assert (first.rows, second.rows) == (slice(0, 2), slice(2, 3))
    assert [first.call("play", 1), first.call("play", 1), second.call("play", 1)] == [
        (1, 2, True),
        (2, 2, True),
        (1, 1, True),
    ]
    with pytest.raises(EnvError, match=r"the lid fell shut(.|\n)*In the process of environments 2 to 2"):
        second.call("fail")
    assert second.call("play", 1) == (2, 1, True), "a failure leaves nothing unanswered"
    assert env.reset([1, 2, 3]).active[0].all()
    env.close()
    with pytest.raises(EnvError, match="closed"):
        env.host(Counting)


def test_a_guest_that_fails_to_be_made_says_so_and_the_processes_still_answer():
    env = SubprocVectorEnv([make_boxes] * 2, n_processes=2)
    with pytest.raises(EnvError, match="In the process of environments 0 to 0"):
        env.host(int)
    assert env.reset([1, 2]).active[0].all()
    env.close()


def test_close_ends_the_processes_and_twice_is_nothing():
    env = SubprocVectorEnv([make_boxes] * 2, n_processes=2)
    processes = [child.process for child in env._children]
    env.close()
    env.close()
    assert [process.returncode for process in processes] == [0, 0]
    with pytest.raises(EnvError, match=r"closed"):
        env.reset([0, 0])


def test_a_process_that_is_killed_is_noticed():
    env = SubprocVectorEnv([make_boxes] * 2, n_processes=2)
    env.reset([0, 1])
    env._children[1].process.kill()
    with pytest.raises(EnvError, match=r"environments 1 to 1 died \(exit code -9\)"):
        env.reset([0, 1])
    env.close()


def test_processes_end_when_their_parent_is_killed():
    code = (
        "import time\n"
        "from maze_core.envs.config import GymEnvConfig\n"
        "env = GymEnvConfig().vector(2, execution='local', n_processes=2)\n"
        "print(*(child.process.pid for child in env._children), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=30)
    # an orphan that nobody waits for stays as a zombie where there is no init process
    assert all(child.status() == psutil.STATUS_ZOMBIE for child in alive)


def test_the_processes_import_no_torch():
    env = SubprocVectorEnv([make_boxes], n_processes=1)
    maps = [m.path for m in psutil.Process(env._children[0].process.pid).memory_maps()]
    env.close()
    assert not any("libtorch" in path for path in maps)


class StuckEnv(EpisodeNumberEnv):
    """Cannot be closed, and notes that it was tried."""

    def close(self):
        with open(os.environ["STUCK_ENV_LOG"], "a") as log:
            log.write("tried\n")
        raise RuntimeError("the window does not answer")


def make_stuck():
    return GymEnv(StuckEnv())


@pytest.mark.parametrize("n_processes", [2, 0])
def test_a_close_that_fails_is_tried_everywhere_warned_of_once_and_hides_no_other_error(
    n_processes, tmp_path, monkeypatch
):
    monkeypatch.setenv("STUCK_ENV_LOG", str(tmp_path / "log"))
    factories = [make_stuck] * 3
    env = SubprocVectorEnv(factories, n_processes=n_processes) if n_processes else PerEnvVectorEnv(factories)

    def fail():
        try:
            env.reset([0, 1])
        finally:
            env.close()

    with (
        pytest.warns(MazeWarning, match=r"close\(\) of an environment failed: .*and 2 more") as warned,
        pytest.raises(EnvError, match=r"one seed per environment"),
    ):
        fail()
    assert len(warned) == 1
    assert (tmp_path / "log").read_text() == "tried\n" * 3
