"""One thread means one in torch and BLAS, is put back afterwards, and gives a run the same bits everywhere."""

import functools
import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits

from maze_core.threads import one_thread, one_torch_thread, side_by_side


def counts() -> tuple[int, set[int]]:
    """Threads of torch, in this thread, and of every BLAS."""
    pools = ThreadpoolController().select(user_api="blas").info()
    return torch.get_num_threads(), {pool["num_threads"] for pool in pools}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_within_one_thread_everything_computes_with_one_and_afterwards_with_as_many_as_before():
    with one_thread():
        assert counts() == (1, {1})
        with one_thread():
            assert counts() == (1, {1})
        with one_torch_thread():
            pass
        assert counts() == (1, {1})
    assert counts() == (2, {2})


@pytest.mark.usefixtures("two_threads")
def test_an_error_puts_the_counts_back_too():
    @one_thread()
    def fail():
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert counts() == (2, {2})


@pytest.mark.usefixtures("two_threads")
def test_who_leaves_first_takes_nothing_from_who_is_still_inside_and_the_last_one_puts_all_back():
    """Three threads enter and leave in every order; one of them is new to torch."""
    for order in itertools.permutations(range(3)):
        seen: list[object] = []
        turns = [threading.Event() for _ in range(3)]
        inside = threading.Barrier(4)
        after = threading.Barrier(4)

        def work(i: int, turns=turns, inside=inside, after=after, seen=seen) -> None:
            with one_thread():
                inside.wait(60)
                turns[i].wait(60)
                seen.append(counts())
            seen.append(torch.get_num_threads())
            after.wait(60)

        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(work, i) for i in range(3)]
            inside.wait(60)
            for i in order:
                before = len(seen)
                turns[i].set()
                while len(seen) < before + 2:
                    time.sleep(0.001)
            after.wait(60)
            for job in jobs:
                job.result()
        assert seen == [(1, {1}), 2] * 3
        assert counts() == (2, {2})


@pytest.mark.usefixtures("two_threads")
def test_calls_side_by_side_give_their_results_in_order_each_on_one_thread_of_torch():
    def part(i: int):
        time.sleep(0.01 * (7 - i))
        return i, torch.get_num_threads(), threading.get_ident()

    with one_thread():
        found = side_by_side([functools.partial(part, i) for i in range(7)])
        alone = side_by_side([functools.partial(part, 6)])
    assert [i for i, _, _ in found] == [*range(7)]
    assert {n for _, n, _ in found} == {1}
    assert len({thread for _, _, thread in found}) == 2
    assert alone[0][2] == threading.get_ident()
    assert counts() == (2, {2})


@pytest.mark.usefixtures("two_threads")
def test_who_gave_torch_one_thread_gets_no_helpers_and_an_error_in_any_part_comes_out():
    def fail(i: int):
        if i == 3:
            raise ValueError("in part 3")
        return threading.get_ident()

    parts = [functools.partial(fail, i) for i in range(6)]
    for n in (1, 2):
        torch.set_num_threads(n)
        with one_thread(), pytest.raises(ValueError, match="in part 3"):
            side_by_side(parts)
        torch.set_num_threads(n)
        with one_thread():
            assert len({*side_by_side(parts[:3])}) <= n


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.usefixtures("two_threads")
def test_a_forked_process_has_helpers_of_its_own():
    def total():
        with one_thread():
            return sum(side_by_side([lambda: time.sleep(0.01) or 1] * 4))

    assert total() == 4
    child = os.fork()
    if not child:
        os._exit(0 if total() == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


RUN = """
import sys
import numpy as np, torch
from threadpoolctl import threadpool_limits
n = int(sys.argv[1])
if n:
    torch.set_num_threads(n), threadpool_limits(n, user_api="blas")
from maze_core import FlattenConcatPolicyNetConfig, RunContext
from tests.maze_core.api.own_parts import PolicyNet
settings = {"algorithm.n_epochs": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 16}
for network in (FlattenConcatPolicyNetConfig(hidden_units=[256, 256]), lambda **shapes: PolicyNet(**shapes, width=512)):
    with RunContext(policy={"networks": [network]}, overrides=settings, seed=3, silent=True) as context:
        report = context.train()
        action = context.compute_action([0.1, 0.2, 0.3, 0.4])  # a sample would be another one each time
        returns = context.evaluate(2, deterministic=False).returns
    print(report.content_sha256, action, returns)
if n:
    assert torch.get_num_threads() == n
"""


def test_a_run_has_the_same_bits_on_any_number_of_threads(tmp_path):
    """Initial weights, updates and actions, with networks of ours and of the user's; the service's runs have one."""
    alone = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}

    def output(n: int, **environment: str) -> list[str]:
        command = [sys.executable, "-c", RUN, str(n)]
        done = subprocess.run(
            command,
            env=alone | environment | {"PYTHONPATH": os.pathsep.join([*sys.path, os.getcwd()])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        return done.stdout.splitlines()

    one = output(0, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    assert len(one) == 2
    assert output(3) == one
