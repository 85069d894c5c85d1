"""A migrated database in a temporary directory, runs on it, and worker processes that end with the test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from pysqlite3 import dbapi2

from service.domain.run import EventType, NewRun, Run, RunKind
from service.domain.use_cases import new_run_id
from service.store import Stores, open_stores
from tests.service.databases import url_for

SUPPORT = Path(__file__).parent / "support"
PATIENCE_S = 180.0
"""Deadline of every wait: far beyond what is needed, so that a busy machine fails no test."""


OTHERS_WITHIN = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition gives something true, and return that."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


class Bench:
    """The database of a test, with what tests do to runs, workers and children.

    Its workers have a temporary directory of their own: each worker clears what dead ones left where it looks.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.stores: Stores = open_stores(url)
        self._log = directory / "workers.log"
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._children: list[psutil.Process] = []

    def submit(self, kind: RunKind = RunKind.TRAIN, **tree: Any) -> str:
        """Queue a run of the counting job."""
        return self.submit_tree({"n": 5, **tree}, kind)

    def submit_tree(self, tree: Mapping[str, Any], kind: RunKind = RunKind.TRAIN, **facts: Any) -> str:
        new = NewRun(id=new_run_id(), kind=kind, request={}, config=tree, config_sha256=None, seed=1, **facts)
        return self.stores.runs.create(new)[0].id

    def worker(
        self,
        job: str = "worker_jobs:count",
        *,
        is_warm: bool = False,
        is_publishing: bool = False,
        variables: Mapping[str, str] | None = None,
        fails: Sequence[str] = (),
        program: Sequence[str] = (str(SUPPORT / "worker_process.py"),),
        **settings: Any,
    ) -> "subprocess.Popen[bytes]":
        """Start a worker process; see ``support/worker_process.py``."""
        wanted = {
            "job": job,
            "is_warm": is_warm,
            "is_publishing": is_publishing,
            "fails": [*fails],
            "settings": {"database_url": self.url, **settings},
        }
        python_path = os.pathsep.join(filter(None, [str(SUPPORT), os.environ.get("PYTHONPATH")]))
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *program, json.dumps(wanted)],
                env={
                    **os.environ,
                    "PYTHONPATH": python_path,
                    "TMPDIR": self._temporary.name,
                    **(variables or {}),
                },
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def run(self, run_id: str) -> Run:
        return self.stores.runs.get(run_id)

    def wait_for_end(self, run_id: str) -> Run:
        return eventually(
            lambda: run if (run := self.run(run_id)).state.is_terminal else None, f"the end of {run_id}"
        )

    def wait_for_epoch(self, run_id: str, epoch: int) -> None:
        eventually(lambda: (self.run(run_id).progress.epoch or 0) >= epoch, f"epoch {epoch} of {run_id}")

    def wait_for_phase(self, run_id: str) -> None:
        eventually(lambda: self.run(run_id).phase == "training", f"{run_id} is training")

    def child_of(self, run_id: str) -> psutil.Process:
        """The process of a run, found by its title."""
        child = eventually(lambda: _process_titled(f"maze: run {run_id}"), f"a process of {run_id}")
        self._children.append(child)
        return child

    def output(self, run_id: str) -> list[str]:
        return [line.message for line in self.stores.runs.logs(run_id) if line.level == "output"]

    def worker_log(self) -> str:
        return self._log.read_text()

    def log(self, run_id: str) -> str:
        return "\n".join(line.message for line in self.stores.runs.logs(run_id))

    def execute(self, statement: str) -> None:
        """What somebody else has done to the database."""
        with self.stores.database.writing() as connection:
            connection.exec_driver_sql(statement)

    def end_lease(self, run_id: str) -> None:
        """Put the end of a dead worker's lease into the past: no test need wait for it."""
        self.execute(f"UPDATE run SET lease_until = '2000-01-01 00:00:00.000000' WHERE id = '{run_id}'")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within, nobody else can write runs."""
        with self.stores.database.writing() as connection:
            if not self.stores.database.is_sqlite:
                connection.exec_driver_sql("LOCK TABLE run")
            yield

    def stop_outside_transactions(self, worker: "subprocess.Popen[bytes]") -> None:
        """SIGSTOP a worker at a moment when it does not write."""

        def is_stopped_outside() -> bool:
            worker.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, worker.pid, os.WSTOPPED)  # a signal is sent before it is obeyed
            if not self._is_written():
                return True
            worker.send_signal(signal.SIGCONT)
            return False

        eventually(is_stopped_outside, "a moment without a write")

    def _is_written(self) -> bool:
        """Whether somebody is within a transaction that may write."""
        if not self.stores.database.is_sqlite:
            with self.stores.database.reading() as connection:
                return bool(connection.exec_driver_sql(OTHERS_WITHIN).scalar_one())
        connection = dbapi2.connect(self.url.removeprefix("sqlite:///"), timeout=0)
        try:
            connection.execute("BEGIN IMMEDIATE").connection.rollback()
        except dbapi2.OperationalError:
            return True
        finally:
            connection.close()
        return False

    def states(self, run_id: str) -> list[str]:
        """The states that a run went through."""
        events = self.stores.runs.events(run_id)
        return [event.data["state"] for event in events if event.type is EventType.STATE]

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        for child in self._children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        self.stores.close()
        self._temporary.cleanup()


def _process_titled(title: str) -> psutil.Process | None:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] == [title] and process.status() != psutil.STATUS_ZOMBIE:
                return process
    return None


@pytest.fixture
def bench(migrated_sqlite_file: Path, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(url_for(tmp_path, migrated=migrated_sqlite_file), tmp_path)
    yield bench
    bench.close()


def shared_bench(template: Path, directory: Path, job: str, **settings: Any) -> Iterator[Bench]:
    """A database, copied from this one, with a worker that tests share, none of which ends it."""
    bench = Bench(url_for(directory, migrated=template), directory)
    bench.worker(job, **settings)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def working(migrated_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A shared worker of the counting job."""
    yield from shared_bench(migrated_sqlite_file, tmp_path_factory.mktemp("working"), "worker_jobs:count")
