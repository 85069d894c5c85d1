"""Jobs in processes: results, failures and deaths stay with their job; nothing is left over."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import psutil
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from maze_core.runners.jobs import JobPool

HERE = "tests.maze_core.runners.job_functions"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3]))


def all_messages(pool, count):
    """What the pool says until ``count`` jobs have ended."""
    said = []
    while sum(message.kind != "event" for message in said) < count:
        said += pool.messages(timeout_s=1.0)
    return said


def children():
    return {process.pid for process in psutil.Process().children()}


def test_jobs_run_beside_each_other_with_one_thread_and_tell_events():
    with JobPool(2) as pool:
        for number in range(2):
            pool.start(number, f"{HERE}:double", {"number": number})
        assert pool.n_free == 0
        said = all_messages(pool, 2)
        assert pool.n_free == 2
    done = {message.job: message.value for message in said if message.kind == "done"}
    assert {job: value["doubled"] for job, value in done.items()} == {0: 0, 1: 2}
    assert len({value["pid"] for value in done.values()} | {os.getpid()}) == 3
    assert {value["threads"] for value in done.values()} == {"1"}
    assert sorted(message.value for message in said if message.kind == "event") == [
        ["half done", 0],
        ["half done", 1],
    ]


def test_a_process_is_used_again():
    with JobPool(1) as pool:
        pids = set()
        for number in range(3):
            pool.start(number, f"{HERE}:double", {"number": number})
            pids |= {message.value["pid"] for message in all_messages(pool, 1) if message.kind == "done"}
    assert len(pids) == 1


def test_an_error_is_its_jobs_own_and_the_process_goes_on():
    with JobPool(1) as pool:
        pool.start(0, f"{HERE}:fail", {"what": "luck"})
        (failed,) = all_messages(pool, 1)
        pool.start(1, f"{HERE}:double", {"number": 4})
        said = all_messages(pool, 1)
    assert (failed.kind, failed.value["type"], failed.value["message"]) == (
        "failed",
        "ValueError",
        "no luck today",
    )
    assert "job_functions.py" in failed.value["details"]
    assert said[-1].value["doubled"] == 8


def test_a_function_that_is_not_there_is_an_error_too():
    with JobPool(1) as pool:
        pool.start(0, f"{HERE}:nothing", {})
        (failed,) = all_messages(pool, 1)
    assert failed.value["type"] == "AttributeError"


def test_a_process_that_dies_fails_its_job_and_is_replaced():
    with JobPool(1) as pool:
        pool.start(0, f"{HERE}:die", {})
        (failed,) = all_messages(pool, 1)
        pool.start(1, f"{HERE}:double", {"number": 1})
        said = all_messages(pool, 1)
    assert (failed.kind, failed.value["type"]) == ("failed", "ProcessDied")
    assert "exit code 7" in failed.value["message"]
    assert said[-1].value["doubled"] == 2


def test_a_cancel_reaches_what_runs():
    with JobPool(1) as pool:
        pool.start(0, f"{HERE}:wait_for_cancel", {})
        while not pool.messages(timeout_s=1.0):
            pass
        pool.cancel()
        pool.cancel()
        (done,) = all_messages(pool, 1)
    assert done.value == "asked to end"


def test_leaving_ends_the_processes_whatever_they_do():
    before, descriptors = children(), len(os.listdir("/proc/self/fd"))
    with JobPool(2) as pool:
        pool.start(0, f"{HERE}:wait_for_cancel", {})
        pool.start(1, f"{HERE}:double", {"number": 1})
        assert len(children() - before) == 2
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_environments_that_were_registered_here_are_known_there():
    names = ["JobsTest-v0", "JobsTestOfAClass-v0", "JobsTestOfAFunction-v0", "CartPole-v1"]
    name = names[0]
    gymnasium.register(name, entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    gymnasium.register("JobsTestOfAClass-v0", entry_point=CartPoleEnv)
    gymnasium.register("JobsTestOfAFunction-v0", entry_point=lambda: None)
    try:
        spec = gymnasium.registry[name]
        spec.entry_point = "tests.maze_core.envs.small_envs:Countdown"
        with JobPool(1) as pool:
            pool.start(0, f"{HERE}:known_envs", {"ids": names})
            (done,) = all_messages(pool, 1)
    finally:
        for registered in names[:3]:
            del gymnasium.registry[registered]
    assert done.value == [name, "JobsTestOfAClass-v0", "CartPole-v1"]


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from maze_core.runners.jobs import JobPool\n"
        "print('once')\n"
        "with JobPool(1) as pool:\n"
        f"    pool.start(0, '{HERE}:double', {{'number': 21}})\n"
        "    done = []\n"
        "    while not done:\n"
        "        done = [m.value for m in pool.messages(1.0) if m.kind == 'done']\n"
        "print(done[0]['doubled'])\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    out = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
        timeout=120,
    )
    assert out.stdout.split() == ["once", "42"]


def test_a_job_ends_when_the_process_that_started_it_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from maze_core.runners.jobs import JobPool\n"
        "pool = JobPool(1)\n"
        f"pool.start(0, '{HERE}:wait_for_cancel', {{}})\n"
        "while not pool.messages(1.0):\n"
        "    pass\n"
        "print(pool._children[0].process.pid, flush=True)\n"
        "pool.messages(1000.0)\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
    child.wait(timeout=60)
    assert not child.is_running()
