"""One run in a real browser: watched while it learns, steered, renamed, continued and forked."""

import json
import re
from contextlib import closing, contextmanager
from math import sin
from threading import Event, Thread

import pytest

from service.domain.run import MetricPoint, RunState
from service.store import migrate, open_stores
from tests.acceptance.server import serving
from tests.contracts.builders import start

HOSTILE = "\"><img src=x onerror=alert(1)><b>run</b> & 'so'"


@pytest.fixture
def running(server):
    """A training that goes on for long, under a name that would be markup."""
    overrides = {"env.name": "CartPole-v1", "algorithm.checkpoint_every": 2}
    body = {
        "algorithm": "ppo",
        "n_epochs": 100_000,
        "name": HOSTILE,
        "labels": {"team": "<b>web</b>"},
        "overrides": overrides,
    }
    run = server.submit("train", body)
    server.wait(run, until=("running",))
    yield run
    server.post(f"/v1/runs/{run}/cancel", {})


def test_a_run_is_watched_steered_and_taken_further(walk, server, running):
    found = walk("run.mjs", server, run=running, hostile=HOSTILE)
    assert found["lost"] == [], "points are missing"
    assert found["title"] == f"{HOSTILE} · running · Maze"
    assert found["gone"] == f"{HOSTILE} · deleted · Maze"
    assert found["verbs"] == 0, "a deleted run can still be changed"
    assert (found["heading"], found["injected"]) == (HOSTILE, 0)
    assert "The name is now “theirs”." in found["conflict"]
    assert "The label there=2 is new." in found["conflict"]
    assert "The notes are now “noted”." in found["conflict"]
    assert "priority" not in found["conflict"]
    assert found["asked"] == 1
    moves = server.get(f"/v1/runs/{running}/events", types="state")["data"]
    states = [move["data"]["state"] for move in moves if move["data"]["state"] != "stopping"]
    assert states == ["queued", "running", "paused", "queued", "running", "cancelled"]
    kept = server.get(f"/v1/runs/{running}")
    assert (kept["name"], kept["notes"]) == ("mine", "noted")
    assert kept["labels"] == {"team": "<b>web</b>", "here": "1", "there": "2"}
    assert server.get(f"/v1/runs/{found['continued']}")["parent_run"] == running
    assert "Did you mean" in found["refused"]
    assert (found["child"]["parent_run"], found["child"]["name"]) == (found["continued"], HOSTILE)
    assert found["config"] == ["gamma0.9override algorithm.gamma"]
    assert not any(found["findings"].values()), found["findings"]


def test_what_a_run_left_is_looked_at_taken_away_and_put_to_use(walk, server, trained):
    run = trained["id"]
    found = walk("run_uses.mjs", server, run=run, policy="web-pole")
    assert found["shownFirst"][:2] == ["eval/mean_return", "train/episode_return"]
    assert "train/entropy" in found["chosen"]
    assert "train/value_loss" not in found["chosen"]
    assert found["linked"] == found["chosen"]
    assert all(", 4 points" in drawn for drawn in found["drawn"])
    points = server.get(f"/v1/runs/{run}/metrics")["data"]
    assert len(found["csv"]["text"].strip().splitlines()) == 1 + len(points)
    assert found["yaml"]["text"] == server.client.get(f"/v1/runs/{run}/config?format=yaml").text
    assert found["png"].endswith(".png")
    config = server.get(f"/v1/runs/{run}/config")
    assert json.dumps(config["request"]["overrides"], separators=(",", ":")) in found["copied"]
    best = next(one for one in server.get(f"/v1/runs/{run}/checkpoints")["data"] if one["is_best"])
    assert found["checkpoint"] == {"name": f"{run}-epoch-{best['epoch']}.ckpt", "size": best["size_bytes"]}
    assert found["playing"] == f"#/play?run={run}&checkpoint={best['id']}"
    (version,) = server.get("/v1/policies/web-pole/versions")["data"]
    assert (version["run"], version["checkpoint"]) == (run, best["id"])
    assert found["watched"] == "1"
    assert "mean_return" in found["result"]
    assert re.search(r"ci95-?[\d.,]+ to [\d.,]+", found["result"])
    assert re.search(r"returns[\d.]+, [\d.]+lengths[\d.]+, [\d.]+seeds\d+, \d+", found["result"])
    assert server.client.get(f"/v1/runs/{found['evaluation']}").status_code == 404
    assert not any(found["findings"].values()), found["findings"]


N_LINES = 20_000
NAMES = ["eval/mean_return", "train/episode_return", *(f"train/loss_{number}" for number in range(18))]
FRAMES_MS = 100
"""Within which the page shows what an input changes, on two cores; the best of several tries."""


def _filled(stores, n_points):
    """A run that ended with so many points of twenty metrics, and with a long log."""
    run, lease = start(stores, name="large", lease_s=600)
    n_epochs = n_points // len(NAMES)
    for first in range(0, n_epochs, 2_000):
        points = [
            MetricPoint(name=name, epoch=epoch, step=epoch * 100, value=sin(epoch / 300 + place))
            for epoch in range(first, min(n_epochs, first + 2_000))
            for place, name in enumerate(NAMES)
        ]
        stores.runs.report(lease, metrics=points)
    lines = [("info", f"line {number}\x1b[31m <b>red</b>\x1b[0m") for number in range(N_LINES)]
    for first in range(0, N_LINES, 5_000):
        stores.runs.report(lease, logs=lines[first : first + 5_000])
    stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
    return run.id


def _diverged(stores):
    """A run that no second try helps, without a point or a checkpoint, and with as many labels as there may be."""
    labels = {f"label-{number}": "long " * 12 for number in range(32)}
    run, lease = start(stores, name="diverged", lease_s=600, labels=labels)
    error = {"code": "diverged", "message": "The loss is NaN in epoch 1."}
    stores.runs.finish(lease, RunState.FAILED, reason="diverged", error=error)
    return run.id


def _failed(stores):
    run, lease = start(stores, name="failed", lease_s=600)
    stores.runs.report(
        lease, logs=[("error", "Traceback (most recent call last):\n  File 'x'\nValueError: no")]
    )
    error = {"code": "attempts_exhausted", "message": "3 attempts ended early.", "signal": 9, "exit_code": -9}
    stores.runs.finish(lease, RunState.FAILED, reason="attempts_exhausted", error=error)
    return run.id


@contextmanager
def _logging(stores):
    """A run that says something all the time."""
    run, lease = start(stores, name="talks", lease_s=600)
    is_over = Event()

    def talk():
        number = 0
        while not is_over.wait(0.3):
            number += 1
            stores.runs.report(lease, logs=[("info", f"said {number}")])

    stores.runs.report(lease, logs=[("info", f"before {number}") for number in range(100)])
    thread = Thread(target=talk)
    thread.start()
    try:
        yield run.id
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("n_points", [100_000, 1_000_000])
def test_a_run_of_many_points_and_lines_answers_at_once(walk, tmp_path, n_points):
    url = f"sqlite:///{tmp_path / 'maze.db'}"
    migrate(url)
    with closing(open_stores(url)) as stores:
        run, failed, diverged = _filled(stores, n_points), _failed(stores), _diverged(stores)
        with serving(tmp_path, workers=1) as server, _logging(stores) as live:
            found = walk("run_large.mjs", server, run=run, failed=failed, diverged=diverged, live=live)
    assert all(time <= FRAMES_MS for time in found["times"].values()), found["times"]
    assert found["fine"] != found["coarse"]
    assert found["zoomed"] == found["kept"] is not None
    assert f"line {N_LINES - 1} <b>red</b>" in found["lastLine"]
    assert found["rows"] < 200
    assert all("line 1004" in line for line in found["found"])
    assert found["isAtEnd"]
    assert "3 attempts ended early." in found["failure"]
    assert "attempts_exhausted" in found["failure"]
    assert found["verbs"] == ["Retry", "Fork …", "Delete"]
    assert found["bare"] == "No points in this stretch. Show all"
    assert found["forGood"]["verbs"] == ["Fork …", "Delete"]
    assert "smaller algorithm.lr" in found["forGood"]["failure"]
    assert found["forGood"]["empty"] == ["No points"]
    assert (found["forGood"]["labels"], found["forGood"]["more"], found["forGood"]["all"]) == (
        8,
        "… 24 more",
        32,
    )
    assert found["forGood"]["height"] <= 40, "a label takes more than one line"
    assert "needs a '_target_'" in found["refusal"]
    assert found["traceback"][-1].endswith("ValueError: no")
    assert not any(found["findings"].values()), found["findings"]
