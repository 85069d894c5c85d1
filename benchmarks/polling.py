"""How long an action takes while clients poll ``GET /v1/runs/{id}`` and a training runs, and what a poll costs.

    python -m benchmarks.polling [--pollers 100] [--seconds 4] [--rounds 3]

Starts the real ``maze serve``, trains a small policy, then a long training beside it. One client acts in a closed loop,
in turn alone, while the pollers ask twice a second each, and while they ask as fast as they are answered. ``ratio``
is the median action's time over that of the same round alone, ``poll_cpu_us`` what the API's process used for a poll:
beyond what it used for as many actions alone.
"""

import argparse
import statistics
from typing import Any

import httpx
import psutil

from benchmarks.first_metrics import processes, running_service, until
from benchmarks.http_load import LoadResult, result_of, started
from benchmarks.report import write_report
from benchmarks.serve_actions import BODY

SPEC = {"algorithm": "ppo", "overrides": {"env.name": "CartPole-v1"}, "seed": 1}
COLUMNS = ("pollers", "p50_us", "p99_us", "ratio", "polls_per_s", "poll_p50_us", "poll_cpu_us")
LOADS = {"alone": None, "2 a second each": 2.0, "closed loop": 0.0}
"""Polls a second of each poller."""


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pollers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with running_service() as (client, pid):
        until(lambda: client.get("/health/ready").json()["checks"]["workers"]["status"] == "ok")
        acting = _submitted(client, 2)
        until(lambda: client.get(f"/v1/runs/{acting}").json()["state"] == "succeeded")
        training = _submitted(client, 1_000_000)
        until(lambda: client.get(f"/v1/runs/{training}").json()["latest_metrics"])
        action = f"/v1/runs/{acting}/compute_action"
        client.post(action, content=BODY, headers={"content-type": "application/json"}).raise_for_status()
        api, port = processes(pid)["maze: api"], client.base_url.port
        assert port is not None
        rounds = [
            {
                name: _measured(api, port, action, f"/v1/runs/{training}", per_s, options)
                for name, per_s in LOADS.items()
            }
            for _ in range(options.rounds)
        ]
    rows = [_row(name, rounds) for name in LOADS]
    write_report("polling", rows, columns=COLUMNS, settings=vars(options) | {"spec": SPEC, "body": BODY})


def _submitted(client: httpx.Client, n_epochs: int) -> str:
    run: str = client.post("/v1/train", json={**SPEC, "n_epochs": n_epochs}).raise_for_status().json()["id"]
    return run


def _measured(
    api: psutil.Process, port: int, action: str, poll: str, per_s: float | None, options: argparse.Namespace
) -> dict[str, float]:
    """One load: a client that acts, and the pollers."""
    before = api.cpu_times()
    polling = None
    if per_s is not None:
        polling = started(port, poll, connections=options.pollers, seconds=options.seconds + 1, per_s=per_s)
    acted = result_of(started(port, action, BODY, connections=1, seconds=options.seconds))
    polled = LoadResult(requests_per_s=0, p50_us=0, p99_us=0, requests=0, failures=0)
    polled = polled if polling is None else result_of(polling)
    if acted.failures or polled.failures:
        raise RuntimeError(f"{acted.failures + polled.failures} requests failed")
    after = api.cpu_times()
    cpu_us = (after.user + after.system - before.user - before.system) * 1e6
    return {
        "p50_us": acted.p50_us,
        "p99_us": acted.p99_us,
        "actions": acted.requests,
        "polls_per_s": polled.requests_per_s,
        "poll_p50_us": polled.p50_us,
        "polls": polled.requests,
        "cpu_us": cpu_us,
    }


def _row(name: str, rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    samples = [measured[name] for measured in rounds]
    alone = [measured["alone"] for measured in rounds]
    shown = ("p50_us", "p99_us", "polls_per_s", "poll_p50_us")
    row: dict[str, Any] = {"pollers": name}
    row |= {what: statistics.median(sample[what] for sample in samples) for what in shown}
    pairs = list(zip(samples, alone, strict=True))
    row["ratio"] = statistics.median(ours["p50_us"] / base["p50_us"] for ours, base in pairs)
    if all(sample["polls"] for sample in samples):
        row["poll_cpu_us"] = statistics.median(
            (ours["cpu_us"] - base["cpu_us"] * ours["actions"] / base["actions"]) / ours["polls"]
            for ours, base in pairs
        )
    return row | {"samples": samples}


if __name__ == "__main__":
    main()
