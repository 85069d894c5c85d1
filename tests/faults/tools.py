"""What the tests of faults do harm with, and what they judge the outcome by.

A :class:`Monkey` harms, a :class:`Ledger` remembers outside of the service all that it acknowledged, and
:func:`assert_invariants` reads the database for what may never be untrue.
"""

import contextlib
import json
import os
import random
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
from pysqlite3 import dbapi2
from sqlalchemy import func, select

from service.domain.run import NEXT_STATES, EventType, RunState
from service.domain.use_cases import LEASED_STATES
from service.store import open_stores
from service.store.backup import check
from service.store.engine import parse_url, sqlite_path
from service.store.tables import run, run_event, run_metric

PATIENCE_S = 240.0
SHARE = float(os.environ.get("SHARE", "1"))
"""Of the figures' counts, what is tried; a variable, for a machine with little time."""


def some(count: int) -> int:
    """The share of a count."""
    return max(1, round(count * SHARE))


def eventually(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)
    return value


class Monkey:
    """Harms the processes below one, each time one of them drawn by chance."""

    def __init__(self, parent: int, seed: int) -> None:
        self._parent, self._random = parent, random.Random(seed)
        self.did: dict[str, int] = defaultdict(int)

    def processes(self, title: str) -> list[psutil.Process]:
        """Those below the parent whose title starts so."""
        found = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._parent).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if " ".join(process.cmdline()).startswith(title):
                        found.append(process)
        return found

    def one(self, title: str) -> psutil.Process | None:
        found = self.processes(title)
        return self._random.choice(found) if found else None

    def kill(self, title: str) -> bool:
        """SIGKILL; whether there was one."""
        return self._harm("killed", title, lambda process: process.kill())

    def stop(self, title: str, for_s: float) -> bool:
        """SIGSTOP, and SIGCONT after a while."""

        def freeze(process: psutil.Process) -> None:
            process.suspend()
            time.sleep(for_s)
            process.resume()

        return self._harm("stopped", title, freeze)

    def act(self, acts: Mapping[str, Callable[[], bool]]) -> None:
        """One of these acts, drawn by chance."""
        acts[self._random.choice(sorted(acts))]()

    def pause(self, least_s: float, most_s: float) -> None:
        time.sleep(self._random.uniform(least_s, most_s))

    def _harm(self, how: str, title: str, act: Callable[[psutil.Process], None]) -> bool:
        process = self.one(title)
        if process is None:
            return False
        with contextlib.suppress(psutil.Error):
            act(process)
            self.did[f"{how} {title.removeprefix('maze: ')}"] += 1
            return True
        return False


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Somebody else's exclusive transaction on an SQLite file."""
    connection = dbapi2.connect(str(database), timeout=30)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE event_counter SET position = position")
        yield
    finally:
        connection.rollback()
        connection.close()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own that is soon full; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def may_mount() -> bool:
    """Whether this process may mount a file system."""
    if os.geteuid() != 0:
        return False
    tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False)
    return tried.returncode == 0


class Ledger:
    """Everything that the service acknowledged; safe for many threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self.runs: dict[str, tuple[str, str]] = {}
        """Idempotency-Key → id of the run and what it was submitted with, as JSON."""
        self.unanswered: set[str] = set()
        """Keys whose clients lost patience; their runs may be there."""
        self.statuses: dict[int, int] = defaultdict(int)
        """Status of answers → how many."""

    def submit(self, client: httpx.Client, kind: str, body: Mapping[str, Any], key: str) -> str:
        """Submit until it is acknowledged, again and again with the same key."""

        def acknowledged() -> str | None:
            try:
                answer = client.post(f"{self._url}/v1/{kind}", json=body, headers={"idempotency-key": key})
            except httpx.TransportError:
                time.sleep(0.05)
                return None
            with self._lock:
                self.statuses[answer.status_code] += 1
            if answer.status_code in (429, 503):
                time.sleep(min(1.0, float(answer.headers.get("retry-after", 1))))
                return None
            assert answer.status_code in (200, 202), (answer.status_code, answer.text)
            return str(answer.json()["id"])

        self.unanswered.add(key)
        run_id: str = eventually(acknowledged, f"an answer to {key}")
        self.unanswered.remove(key)
        said = json.dumps([kind, body], sort_keys=True)
        with self._lock:
            known = self.runs.setdefault(key, (run_id, said))
        assert known == (run_id, said), f"two runs for one key: {known}, {run_id}"
        return run_id

    def check(self, url: str) -> int:
        """That the database has every acknowledged run once, all of them ended, the same ones with the same content.

        Returns:
            How many there are.
        """
        stores = open_stores(url)
        try:
            contents: dict[str, set[str]] = defaultdict(set)
            for key, (run_id, said) in self.runs.items():
                found = stores.runs.get(run_id)
                assert found.state.is_terminal, (key, found.state)
                if found.state is RunState.SUCCEEDED and "content_sha256" in (found.result or {}):
                    contents[said].add(found.result["content_sha256"])  # type: ignore[index]
            with stores.database.reading() as connection:
                n_runs = connection.execute(select(func.count()).select_from(run)).scalar_one()
        finally:
            stores.close()
        assert len({run_id for run_id, _ in self.runs.values()}) == len(self.runs), "one run for two keys"
        n_unanswered = n_runs - len(self.runs)
        assert 0 <= n_unanswered <= len(self.unanswered), (
            f"{n_runs} runs are stored, {len(self.runs)} were acknowledged"
        )
        assert all(len(found) == 1 for found in contents.values()), contents
        return len(self.runs)


def assert_invariants(url: str) -> None:
    """What is true of a database at every moment, whatever died.

    A run has a lease exactly while a worker has it; its attempts are its ways from the queue to a worker, less those
    that were given back for free; states follow the arrows, and none follows an end; events are numbered without a
    gap; metrics come with steps that do not fall; every checkpoint can be read and has its digest.
    """
    stores = open_stores(url)
    try:
        with stores.database.reading() as connection:
            runs = connection.execute(select(run)).all()
            events = defaultdict(list)
            for event in connection.execute(select(run_event).order_by(run_event.c.run_id, run_event.c.seq)):
                events[event.run_id].append(event)
            steps = defaultdict(list)
            for point in connection.execute(
                select(run_metric).order_by(run_metric.c.run_id, run_metric.c.name, run_metric.c.epoch)
            ):
                steps[point.run_id, point.name].append(point.step)
    finally:
        stores.close()
    for row in runs:
        assert (row.state in LEASED_STATES) == (row.lease_until is not None), row
        history = events[row.id]
        assert [event.seq for event in history] == list(range(1, row.last_seq + 1)), row.id
        states = [RunState(event.data["state"]) for event in history if event.type == EventType.STATE]
        assert states[-1] == row.state, (row.id, states)
        for before, after in pairwise(states):
            assert before == after or after in NEXT_STATES[before], (row.id, states)
        claims = sum(
            event.data.get("state") == RunState.RUNNING for event in history if event.type == EventType.STATE
        )
        assert claims == row.epoch_token >= row.attempt, (row.id, claims, row.epoch_token, row.attempt)
    positions = [event.position for history in events.values() for event in history]
    assert len(set(positions)) == len(positions)
    for place, found in steps.items():
        assert found == sorted(found), place
    report = check(url)
    assert report.problems == [], report.problems


def database_file(url: str) -> Path:
    path = sqlite_path(parse_url(url))
    assert path is not None
    return path
