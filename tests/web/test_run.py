"""One run in a real browser: watched while it learns, steered, renamed, continued and forked."""

import pytest

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
    assert (found["heading"], found["injected"]) == (HOSTILE, 0)
    assert "theirs" in found["conflict"]
    moves = server.get(f"/v1/runs/{running}/events", types="state")["data"]
    states = [move["data"]["state"] for move in moves if move["data"]["state"] != "stopping"]
    assert states == ["queued", "running", "paused", "queued", "running", "cancelled"]
    assert server.get(f"/v1/runs/{running}")["name"] == "mine"
    assert server.get(f"/v1/runs/{found['continued']}")["parent_run"] == running
    assert "Did you mean" in found["refused"]
    forked = server.get(f"/v1/runs/{found['forked']}")
    assert (forked["parent_run"], forked["name"]) == (found["continued"], HOSTILE)
    assert found["config"] == ["gamma0.9override algorithm.gamma"]
    assert not any(found["findings"].values()), found["findings"]
