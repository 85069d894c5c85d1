"""The database is locked, full, backed up, migrated and written by many: nothing is lost, and everything is told."""

import contextlib
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert, select, update

from service.store import check_revision, migrate, open_stores
from service.store.backup import backup, check, integrity_problems, restore
from service.store.migrations import downgrade, head_revision
from service.store.tables import worker
from service.store.types import now
from tests.acceptance.server import serving
from tests.faults.tools import Ledger, assert_invariants, locked, may_mount, small_disk, some
from tests.migrations.test_migrations import all_scripts, filled, rows, shared

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

ROLLOUT = {"policy": "random_policy", "n_episodes": 1, "seed": 1, "overrides": {"env.name": "CartPole-v1"}}


@pytest.mark.figure("R13")
def test_a_database_that_somebody_locks_for_twenty_seconds_fails_no_request_and_loses_no_run(
    tmp_path, record_property
):
    with serving(tmp_path, lease_s=30, heartbeat_s=1) as server:
        ledger = Ledger(f"http://127.0.0.1:{server.port}")
        runs = [ledger.submit(server.client, "rollout", ROLLOUT, f"before-{number}") for number in range(3)]
        statuses = []
        with locked(tmp_path / "maze.db"):
            threads = [
                threading.Thread(
                    target=ledger.submit, args=(server.client, "rollout", ROLLOUT, f"within-{number}")
                )
                for number in range(4)
            ]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 20
            while time.monotonic() < until:
                statuses.append(server.client.get(f"/v1/runs/{runs[0]}").status_code)
                statuses.append(server.client.get("/v1/runs").status_code)
                time.sleep(0.1)
        for thread in threads:
            thread.join()
        ends = [server.wait(run_id) for run_id, _ in ledger.runs.values()]
    assert set(statuses) <= {200, 503}
    assert {end["state"] for end in ends} == {"succeeded"}
    url = f"sqlite:///{tmp_path / 'maze.db'}"
    ledger.check(url)
    assert_invariants(url)
    answers = {status: statuses.count(status) for status in sorted(set(statuses))}
    written = dict(sorted(ledger.statuses.items()))
    record_property(
        "reached", f"reads answered {answers}, submissions {written}, {len(ends)} of {len(ends)} runs done"
    )


def change_rows(number: int, url: str, n_changes: int) -> list[float]:
    """Read, change and write one row, again and again; gives the seconds that each took."""
    stores, took = open_stores(url), []
    for _ in range(n_changes):
        began = time.monotonic()
        with stores.database.writing() as connection:
            value = connection.execute(select(worker.c.info).where(worker.c.id == "counter")).scalar_one()
            connection.execute(update(worker).where(worker.c.id == "counter").values(info=value + 1))
        took.append(time.monotonic() - began)
    stores.close()
    return took


@pytest.mark.figure("R14")
def test_thirty_two_processes_lose_none_of_their_changes(sqlite_url, sqlite_stores, record_property):
    n_processes, n_changes = 32, some(200)
    with sqlite_stores.database.writing() as connection:
        connection.execute(insert(worker).values(id="counter", info=0, last_seen_at=now()))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["service.store"])
    with context.Pool(n_processes) as pool:
        took = pool.starmap(
            change_rows, [(number, sqlite_url, n_changes) for number in range(n_processes)], 1
        )
    with sqlite_stores.database.reading() as connection:
        counted = connection.execute(select(worker.c.info)).scalar_one()
    assert counted == n_processes * n_changes
    sorted_s = sorted(seconds for each in took for seconds in each)
    p99_s = sorted_s[int(0.99 * len(sorted_s))]
    record_property(
        "reached", f"{counted:,} of {n_processes * n_changes:,} changes, no error, p99 {p99_s:.2f} s"
    )


@pytest.mark.figure("R16")
def test_every_one_of_twenty_backups_under_load_is_whole_and_a_service_starts_on_it(
    tmp_path, record_property
):
    n_backups, ended = some(20), threading.Event()
    url = f"sqlite:///{tmp_path / 'live' / 'maze.db'}"
    (tmp_path / "live").mkdir()
    with serving(tmp_path / "live") as server:
        ledger = Ledger(f"http://127.0.0.1:{server.port}")
        train = {"algorithm": "ppo", "seed": 1, "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 3,
                 "algorithm.epoch_length": 2, "algorithm.checkpoint_every": 1}}  # fmt: skip

        def submit() -> None:
            with httpx.Client(timeout=60) as client:
                turn = 0
                while not ended.is_set():
                    for kind, body in (("rollout", ROLLOUT), ("train", train)):
                        server.wait(ledger.submit(client, kind, body, f"{kind}-{turn}"))
                    turn += 1

        thread = threading.Thread(target=submit)
        thread.start()
        acknowledged = []
        for number in range(n_backups):
            acknowledged.append([run_id for run_id, _ in list(ledger.runs.values())])
            backup(url, tmp_path / f"{number}.tar")
            time.sleep(1.0)
        ended.set()
        thread.join()
    for number in range(n_backups):
        folder = tmp_path / f"restored-{number}"
        restored = f"sqlite:///{folder / 'maze.db'}"
        restore(tmp_path / f"{number}.tar", restored)
        assert_invariants(restored)
        with serving(folder) as server:
            for run_id in acknowledged[number]:
                assert server.client.get(f"/v1/runs/{run_id}").status_code == 200
        shutil.rmtree(folder)
    record_property(
        "reached", f"{n_backups} of {n_backups} whole and started, the last with {len(acknowledged[-1])} runs"
    )


DYING = """
import os, signal, sys
from sqlalchemy import Engine, event
from service.store import migrate
left = int(sys.argv[2])
@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    global left
    if statement.lstrip().upper().startswith(("CREATE", "ALTER", "INSERT", "UPDATE", "DROP")):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
migrate(sys.argv[1])
"""


@pytest.mark.figure("R17")
@pytest.mark.parametrize("seed", range(10))
def test_a_migration_of_a_filled_database_that_is_killed_leaves_all_as_it_was(
    tmp_path, seed, record_property
):
    drawn = random.Random(seed)
    url = f"sqlite:///{tmp_path}/maze.db"
    migrate(url)
    filled(url)
    revision = drawn.choice(all_scripts()[2:]).revision
    downgrade(url, revision)
    before = rows(url)
    died = subprocess.run([sys.executable, "-c", DYING, url, str(drawn.randint(1, 12))], check=False)
    assert died.returncode == -signal.SIGKILL
    assert rows(url) == before
    assert integrity_problems(url) == []
    migrate(url)
    assert check_revision(url) == head_revision()
    assert shared(rows(url), before) == shared(before, before)
    assert check(url).problems == []
    record_property(
        "reached", "killed within ten migrations of filled databases: every row as before, each time"
    )


@pytest.mark.figure("R10")
@pytest.mark.skipif(not may_mount(), reason="only root may mount a file system")
def test_a_full_disk_is_told_reads_go_on_and_so_does_all_when_there_is_room(tmp_path, record_property):
    with small_disk(tmp_path / "disk", "48m") as disk, serving(disk, lease_s=30, heartbeat_s=1) as server:
        train = {"algorithm": "ppo", "seed": 1, "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 60,
                 "algorithm.epoch_length": 2, "algorithm.checkpoint_every": 1}}  # fmt: skip
        run = server.submit("train", train)
        server.wait_for(lambda: (server.get(f"/v1/runs/{run}")["progress"]["epoch"] or 0) >= 3, "epoch 3")
        fill(disk)
        written, read = [], []
        until = time.monotonic() + 10
        while time.monotonic() < until:
            fill(disk)
            answer = server.post("/v1/rollout", ROLLOUT)
            written.append(answer.status_code)
            if answer.status_code == 503:
                assert "disk" in answer.json()["detail"]
            read.append(server.client.get(f"/v1/runs/{run}").status_code)
            read.append(server.client.get("/v1/runs").status_code)
            time.sleep(0.2)
        assert server.client.get("/health/ready").status_code == 503
        (disk / "filler").unlink()
        after = server.submit("rollout", ROLLOUT)
        ends = [server.wait(each)["state"] for each in (run, after)]
        server.wait_for(lambda: server.client.get("/health/ready").status_code == 200, "ready again")
        url = f"sqlite:///{disk / 'maze.db'}"
        assert_invariants(url)
    assert set(read) == {200}
    assert set(written) <= {202, 503}
    assert 503 in written
    assert ends == ["succeeded", "succeeded"]
    record_property(
        "reached",
        f"{written.count(503)} submissions told of it, {len(read)} reads answered, all went on",
    )


def fill(disk: Path) -> None:
    """Leave no byte."""
    with (disk / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
