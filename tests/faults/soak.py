"""``make soak MINUTES=60``: short runs of several kinds on a service in which something is killed every few seconds.

In the first half API, worker, runs' processes and those of agents are killed and stopped; in the second the API and
the worker live on, so that their memory and open files can be followed. The report is ``reached/R19.json``.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.store import open_stores
from tests.acceptance.server import IMPATIENT, Server, serving
from tests.faults.figures import REACHED
from tests.faults.tools import Ledger, Monkey, assert_invariants, eventually

N_CLIENTS = 4
SAMPLE_S = 10.0
WARM_UP_S = 120.0
"""Age of a process from which its memory is followed: before, it still loads what it needs."""
MOST_WAL_BYTES = 64 * 2**20
MOST_RSS_SLOPE = 1.0
"""MiB a minute; of the process that was followed for longest."""
SETTINGS = {"lease_s": 5, "heartbeat_s": 1, "max_attempts": 5}

SMALL = {"algorithm.n_epochs": 3, "algorithm.epoch_length": 2, "algorithm.checkpoint_every": 1}
SPECS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(
        ("train", {"algorithm": name, "overrides": {"env.name": "CartPole-v1", **SMALL}, "seed": seed})
        for name in ("ppo", "a2c", "es")
        for seed in (1, 2)
    ),
    (
        "rollout",
        {"policy": "random_policy", "n_episodes": 3, "seed": 3, "overrides": {"env.name": "CartPole-v1"}},
    ),
    (
        "rollout",
        {"policy": "random_policy", "n_episodes": 2, "seed": 4, "overrides": {"env.name": "Acrobot-v1"}},
    ),
)


class Client(threading.Thread):
    """Submits a run, watches it, acts with it, lists, and begins again."""

    def __init__(self, number: int, url: str, ledger: Ledger, ended: threading.Event) -> None:
        super().__init__(name=f"client-{number}")
        self._number, self._url, self._ledger, self._ended = number, url, ledger, ended
        self.errors: list[str] = []
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        drawn = random.Random(self._number)
        with httpx.Client(base_url=self._url, timeout=60) as client:
            for turn in range(10**9):
                if self._ended.is_set():
                    return
                kind, body = drawn.choice(SPECS)
                try:
                    run_id = self._ledger.submit(client, kind, body, f"{self._number}-{turn}")
                    if drawn.random() < 0.05:
                        self._ask(client, "POST", f"/v1/runs/{run_id}/cancel")
                    self._follow(client, run_id, acts=kind == "train")
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")

    def _follow(self, client: httpx.Client, run_id: str, *, acts: bool) -> None:
        while not self._ended.is_set():
            found = self._ask(client, "GET", f"/v1/runs/{run_id}")
            if found is not None and found["state"] in ("succeeded", "failed", "cancelled"):
                break
            time.sleep(0.2)
        self._ask(client, "GET", "/v1/runs?limit=20")
        if acts:
            self._ask(
                client, "POST", f"/v1/runs/{run_id}/compute_action", {"observation": [0.0, 0.1, 0.0, 0.1]}
            )

    def _ask(self, client: httpx.Client, method: str, path: str, body: object = None) -> Any:
        try:
            answer = client.request(method, path, json=body)
        except httpx.TransportError:
            return None
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.errors.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if answer.status_code < 300 else None


class Watch(threading.Thread):
    """Follows memory and open files of API and worker, and the size of the journal."""

    def __init__(self, monkey: Monkey, database: Path, ended: threading.Event) -> None:
        super().__init__(name="watch")
        self._monkey, self._wal, self._ended = monkey, database.with_name(database.name + "-wal"), ended
        self.samples: dict[tuple[str, int], list[tuple[float, float, int]]] = defaultdict(list)
        """Title and process id → age in seconds, MiB, open files."""
        self.wal_bytes = 0

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            with contextlib.suppress(OSError):
                self.wal_bytes = max(self.wal_bytes, self._wal.stat().st_size)
            for title in ("maze: api", "maze: worker"):
                for process in self._monkey.processes(title):
                    with contextlib.suppress(psutil.Error):
                        age_s = time.time() - process.create_time()
                        if age_s > WARM_UP_S:
                            memory = process.memory_info().rss / 2**20
                            self.samples[title, process.pid].append((age_s, memory, process.num_fds()))

    def followed(self) -> dict[str, dict[str, float]]:
        """Of each title the process that was followed for longest: how its memory and files went."""
        found = {}
        for title in ("maze: api", "maze: worker"):
            series = max(
                (found for (name, _), found in self.samples.items() if name == title), key=len, default=[]
            )
            if len(series) < 3:
                continue
            third = len(series) // 3
            found[title] = {
                "minutes": round((series[-1][0] - series[0][0]) / 60, 1),
                "rss_mib_first": round(series[0][1], 1),
                "rss_mib_last": round(series[-1][1], 1),
                "rss_mib_per_minute": round(slope([(age / 60, memory) for age, memory, _ in series]), 3),
                "rss_mib_per_minute_last_third": round(
                    slope([(age / 60, memory) for age, memory, _ in series[-third:]]), 3
                ),
                "files_first": series[0][2],
                "files_last": series[-1][2],
                "files_most": max(files for _, _, files in series),
            }
        return found


def slope(points: list[tuple[float, float]]) -> float:
    """Of the line through these points that is nearest to them."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def harm(monkey: Monkey, *, seconds: float) -> None:
    """Harm something every few seconds; after half of the time API and worker are not killed any more."""
    began = time.monotonic()
    gentle = {
        "run": lambda: monkey.kill("maze: run"),
        "frozen run": lambda: monkey.stop("maze: run", 2.0),
        "frozen worker": lambda: monkey.stop("maze: worker", 2.0),
        "sleeping worker": lambda: monkey.stop("maze: worker", 8.0),
        "frozen api": lambda: monkey.stop("maze: api", 1.0),
        "agent": lambda: monkey.kill("maze: agent"),
    }
    rough = gentle | {"api": lambda: monkey.kill("maze: api"), "worker": lambda: monkey.kill("maze: worker")}
    while (passed_s := time.monotonic() - began) < seconds:
        monkey.act(rough if passed_s < seconds / 2 else gentle)
        monkey.pause(3.0, 12.0)


def soak(minutes: float, folder: Path) -> dict[str, Any]:
    """Run it; returns the report, whose ``problems`` are empty when all was as it must be."""
    ended = threading.Event()
    with serving(folder, command=("-c", IMPATIENT), **SETTINGS) as server:
        url, database = f"http://127.0.0.1:{server.port}", f"sqlite:///{folder / 'maze.db'}"
        ledger, monkey = Ledger(url), Monkey(server.process.pid, seed=1)
        clients = [Client(number, url, ledger, ended) for number in range(N_CLIENTS)]
        watch = Watch(monkey, folder / "maze.db", ended)
        for thread in (*clients, watch):
            thread.start()
        harm(monkey, seconds=60 * minutes)
        ended.set()
        for thread in (*clients, watch):
            thread.join()
        all_end(server, ledger)
        problems = [error for client in clients for error in client.errors]
        n_runs, states = 0, Counter[str]()
        try:
            n_runs = ledger.check(database)
            assert_invariants(database)
            states = states_of(database)
        except AssertionError as error:
            problems.append(str(error)[:2000])
    statuses = sum((client.statuses for client in clients), Counter(ledger.statuses))
    followed = watch.followed()
    problems += [
        f"{title}: memory grows by {facts['rss_mib_per_minute_last_third']} MiB a minute"
        for title, facts in followed.items()
        if minutes >= 30 and facts["rss_mib_per_minute_last_third"] > MOST_RSS_SLOPE
    ]
    problems += [f"the journal grew to {watch.wal_bytes} bytes"] if watch.wal_bytes > MOST_WAL_BYTES else []
    return {
        "minutes": minutes,
        "runs": n_runs,
        "states": states,
        "harm": dict(monkey.did),
        "answers": {str(status): count for status, count in sorted(statuses.items())},
        "followed": followed,
        "wal_mib_most": round(watch.wal_bytes / 2**20, 1),
        "database_mib": round((folder / "maze.db").stat().st_size / 2**20, 1),
        "problems": problems,
    }


def all_end(server: Server, ledger: Ledger) -> None:
    """Wait until nothing that was acknowledged is under way."""
    for run_id, _ in list(ledger.runs.values()):
        eventually(lambda run_id=run_id: ended_state(server, run_id), f"the end of {run_id}", 600)  # type: ignore[misc]


def ended_state(server: Server, run_id: str) -> bool:
    try:
        answer = server.client.get(f"/v1/runs/{run_id}")
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["state"] in ("succeeded", "failed", "cancelled")


def states_of(database: str) -> Counter[str]:
    """How the runs ended, with the reason of those that failed."""
    stores = open_stores(database)
    try:
        counted: Counter[str] = Counter()
        for (_, state), facts in stores.runs.statistics().items():
            counted[str(state)] += facts.count
        return counted
    finally:
        stores.close()


def figure_of(report: dict[str, Any]) -> dict[str, Any]:
    """The report as a figure of the table."""
    harmed = sum(report["harm"].values())
    said = (
        f"{report['minutes']:g} minutes, {harmed} times harmed, {report['runs']:,} runs: all ended, none lost; "
        + "; ".join(
            f"{title.removeprefix('maze: ')} {facts['rss_mib_per_minute_last_third']:+.2f} MiB/min at last, "
            f"{facts['files_last']:g} files of at most {facts['files_most']:g}"
            for title, facts in report["followed"].items()
        )
        + f"; journal at most {report['wal_mib_most']} MiB"
    )
    is_held = not report["problems"]
    return {
        "passed": int(is_held),
        "failed": int(not is_held),
        "skipped": 0,
        "seconds": report["minutes"] * 60,
        "said": [said] if is_held else report["problems"][:3],
        "tests": ["tests/faults/soak.py"],
        "machine": {"cores": os.cpu_count()},
        "report": report,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--report", type=Path, default=REACHED / "R19.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maze-soak-", ignore_cleanup_errors=True) as folder:
        report = soak(arguments.minutes, Path(folder))
    text = json.dumps(figure_of(report), indent=1, ensure_ascii=False)
    arguments.report.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return int(bool(report["problems"]))


if __name__ == "__main__":
    sys.exit(main())
