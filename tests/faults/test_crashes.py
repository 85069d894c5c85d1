"""Processes die, again and again and at any moment: nothing is lost, nothing is done twice, the bits are the same."""

import contextlib
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import psutil
import pytest

from service.store import open_stores
from tests.acceptance.server import IMPATIENT, await_answer, serving
from tests.acceptance.test_kill import EVERY, SPEC, content_of
from tests.faults.soak import ended_state
from tests.faults.tools import Ledger, Monkey, assert_invariants, some
from tests.service.worker.conftest import Bench

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

SOON = {"lease_s": 3, "heartbeat_s": 0.5}
"""Settings with which a dead worker is missed soon."""
SHORT = SPEC | {"overrides": SPEC["overrides"] | {"algorithm.n_epochs": 12}}  # type: ignore[dict-item,operator]


@pytest.mark.figure("R01")
def test_a_hundred_runs_killed_at_random_moments_end_as_one_that_was_not(tmp_path, record_property):
    wanted, drawn = some(100), random.Random(1)
    with serving(tmp_path, **SOON) as server:
        ledger, monkey = Ledger(f"http://127.0.0.1:{server.port}"), Monkey(server.process.pid, seed=1)
        undisturbed = server.wait(ledger.submit(server.client, "train", SHORT, "undisturbed"))
        runs = [ledger.submit(server.client, "train", SHORT, f"run-{number}") for number in range(wanted)]
        n_epochs = SHORT["overrides"]["algorithm.n_epochs"]
        epochs = {run: drawn.randrange(n_epochs) for run in runs}
        while epochs:
            time.sleep(0.02)
            running = monkey.processes("maze: run")
            if not running:  # they may have ended between two looks
                epochs = {run: epoch for run, epoch in epochs.items() if not ended_state(server, run)}
            for process in running:
                with contextlib.suppress(psutil.Error):
                    run = process.cmdline()[0].removeprefix("maze: run ")
                    reached = server.get(f"/v1/runs/{run}")["progress"]["epoch"] or 0
                    if reached >= epochs.get(run, n_epochs):
                        time.sleep(drawn.uniform(0, 0.05))
                        process.kill()
                        del epochs[run]
        ends = [server.wait(run) for run in runs]
    assert {end["state"] for end in ends} == {"succeeded"}
    assert {end["result"]["content_sha256"] for end in ends} == {undisturbed["result"]["content_sha256"]}
    url = f"sqlite:///{tmp_path / 'maze.db'}"
    assert ledger.check(url) == wanted + 1
    assert_invariants(url)
    killed = sum(end["attempt"] == 2 for end in ends)
    record_property(
        "reached",
        f"{wanted} of {wanted} succeeded with one content; {killed} were killed before their end",
    )


@pytest.mark.figure("R20")
@pytest.mark.parametrize("algorithm", EVERY)
def test_a_run_of_any_algorithm_that_is_killed_twice_ends_with_the_same_content(
    tmp_path, algorithm, record_property
):
    env = "Pendulum-v1" if algorithm in ("td3", "sacfd") else "CartPole-v1"
    overrides = {"env.name": env, "algorithm.n_epochs": 30, "algorithm.checkpoint_every": 2} | EVERY[
        algorithm
    ]
    with serving(tmp_path, **SOON) as server:
        if algorithm in ("bc", "sacfd"):
            played = {"policy": "random_policy", "n_episodes": 4, "record": True, "seed": 3}
            recorded = server.submit("rollout", played | {"overrides": {"env.name": env}})
            assert server.wait(recorded)["state"] == "succeeded"
            overrides["dataset.run"] = recorded
        spec = {"algorithm": algorithm, "overrides": overrides, "seed": 5}
        undisturbed, run = server.submit("train", spec), server.submit("train", spec)
        for attempt, epoch in ((1, 2), (2, 6)):
            server.wait_for(
                lambda epoch=epoch: (server.get(f"/v1/runs/{run}")["progress"]["epoch"] or 0) >= epoch,
                "the epoch",
            )
            for process in server.processes(f"maze: run {run}"):
                process.kill()
            server.wait_for(lambda: server.get(f"/v1/runs/{run}")["attempt"] > attempt, "the next attempt")  # noqa: B023
        assert [server.wait(each)["state"] for each in (undisturbed, run)] == ["succeeded"] * 2
        assert content_of(server, run) == content_of(server, undisturbed)
    record_property("reached", f"{algorithm}: killed twice, same digest")


@pytest.mark.figure("R03")
def test_a_killed_worker_takes_its_run_s_process_along_and_another_one_ends_the_run(
    bench: Bench, record_property
):
    n_kills, longest_s = some(20), 0.0
    for _ in range(n_kills):
        worker = bench.worker(**SOON)
        run_id = bench.submit(n=20, sleep_s=0.05)
        bench.wait_for_epoch(run_id, 3)
        child = bench.child_of(run_id)
        worker.kill()
        killed_at = time.monotonic()
        child.wait(60)
        longest_s = max(longest_s, time.monotonic() - killed_at)
        other = bench.worker(**SOON)
        run = bench.wait_for_end(run_id)
        assert (run.state, run.attempt) == ("succeeded", 2)
        other.kill()
        other.wait()
    assert_invariants(bench.url)
    assert longest_s < 2.0
    load = os.getloadavg()[0]
    record_property(
        "reached",
        f"{n_kills} of {n_kills} done; the process was gone after at most {longest_s:.2f} s; load {load:.0f}",
    )


@pytest.mark.figure("R04")
def test_no_submission_is_lost_or_doubled_while_the_api_is_killed_twenty_times(tmp_path, record_property):
    n_clients, n_kills, ended = 20, some(20), threading.Event()
    with (
        serving(tmp_path, command=("-c", IMPATIENT), workers=1, **SOON) as server,
        ThreadPoolExecutor(n_clients) as pool,
    ):
        url = f"http://127.0.0.1:{server.port}"
        ledger = Ledger(url)
        body = {
            "policy": "random_policy",
            "n_episodes": 1,
            "seed": 1,
            "overrides": {"env.name": "CartPole-v1"},
        }

        def submit(number: int) -> None:
            with httpx.Client(timeout=30) as client:
                turn = 0
                while not ended.is_set():
                    key = f"{number}-{turn}"
                    first = ledger.submit(client, "rollout", body, key)
                    if turn % 5 == 0:
                        assert ledger.submit(client, "rollout", body, key) == first
                    turn += 1
                    time.sleep(0.4)

        clients = [pool.submit(submit, number) for number in range(n_clients)]
        for _ in range(n_kills):
            time.sleep(random.uniform(0.2, 1.5))
            (api,) = server.wait_for(lambda: server.processes("maze: api"), "the API")
            api.kill()
            server.wait_for(lambda api=api: not api.is_running(), "its end")
            await_answer(server.port)
        ended.set()
        for client in clients:
            client.result()
        for run_id, _ in ledger.runs.values():
            assert server.post(f"/v1/runs/{run_id}/cancel", {}).status_code in (200, 202, 409)
        for run_id, _ in ledger.runs.values():
            server.wait(run_id)
    database = f"sqlite:///{tmp_path / 'maze.db'}"
    n_runs = ledger.check(database)
    assert_invariants(database)
    assert {status for status in ledger.statuses if status >= 500} <= {503}
    record_property("reached", f"{n_kills} restarts, {n_runs:,} acknowledged: none lost, none twice")


@pytest.mark.figure("R18")
def test_two_services_on_one_file_do_each_of_five_hundred_runs_once(tmp_path, record_property):
    n_runs = some(500)
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(tmp_path)) for _ in range(2)]
        ledgers = [Ledger(f"http://127.0.0.1:{server.port}") for server in servers]
        body = {
            "policy": "random_policy",
            "n_episodes": 1,
            "seed": 1,
            "overrides": {"env.name": "CartPole-v1"},
        }
        for number in range(n_runs):
            ledgers[number % 2].submit(servers[number % 2].client, "rollout", body, f"run-{number}")
        runs = {**ledgers[0].runs, **ledgers[1].runs}
        for run_id, _ in runs.values():
            servers[0].wait(run_id)
    url = f"sqlite:///{tmp_path / 'maze.db'}"
    stores = open_stores(url)
    found = [stores.runs.get(run_id) for run_id, _ in runs.values()]
    workers = {
        event.data.get("by")
        for run in found
        for event in stores.runs.events(run.id)
        if event.data.get("state") == "running"
    }
    stores.close()
    assert len(found) == n_runs
    assert {(run.state, run.attempt) for run in found} == {("succeeded", 1)}
    assert len(workers) == 2
    assert_invariants(url)
    record_property("reached", f"{n_runs} of {n_runs} done, each in one attempt, by {len(workers)} workers")


HUNGRY = """
import gymnasium

class Hungry(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.kept = bytearray(4 * 2**30)
        return 0, {}

    def step(self, action):
        return 0, 1.0, True, False, {}

gymnasium.register("Hungry-v0", entry_point=Hungry)
"""


@pytest.mark.figure("R08")
def test_an_environment_that_takes_too_much_memory_fails_its_run_alone(
    tmp_path, monkeypatch, record_property
):
    (tmp_path / "hungry.py").write_text(HUNGRY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = {"env_modules": "hungry", "child_memory_bytes": 2 * 2**30, "max_attempts": 2}
    with serving(tmp_path, **settings) as server:
        server.wait_for(
            lambda: server.client.get("/v1/environments/Hungry-v0").status_code == 200, "the environment"
        )
        (api,) = server.processes("maze: api")
        before = api.memory_info().rss
        run = server.submit(
            "train", {"overrides": {"env.name": "Hungry-v0", "algorithm.n_epochs": 1}, "seed": 1}
        )
        end = server.wait(run)
        grown_mib = (api.memory_info().rss - before) / 2**20
    assert (end["state"], end["reason"], end["attempt"]) == ("failed", "attempts_exhausted", 2)
    assert "MemoryError" in end["error"]["message"]
    assert grown_mib < 20
    record_property("reached", f"failed ({end['reason']}), the API grew by {grown_mib:.1f} MiB")


def test_the_invariants_see_what_is_wrong(sqlite_stores, sqlite_url):
    from tests.contracts.builders import start

    _, lease = start(sqlite_stores)
    assert_invariants(sqlite_url)
    sqlite_stores.runs.finish(lease, "succeeded", reason="completed")
    assert_invariants(sqlite_url)
    for statement in (
        "UPDATE run SET state = 'running'",
        "UPDATE run SET last_seq = last_seq + 1",
        "UPDATE run SET attempt = attempt + 1",
    ):
        with sqlite_stores.database.writing() as connection:
            before = connection.exec_driver_sql("SELECT state, last_seq, attempt FROM run").one()
            connection.exec_driver_sql(statement)
        with pytest.raises(AssertionError):
            assert_invariants(sqlite_url)
        with sqlite_stores.database.writing() as connection:
            connection.exec_driver_sql("UPDATE run SET state = ?, last_seq = ?, attempt = ?", tuple(before))
