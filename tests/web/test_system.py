"""The system on the page: workers, queue and storage as they are, live; and what it says where no worker is."""

import subprocess
import sys

import pytest

from tests.acceptance.server import Server, free_port, is_ready, stop

LONG = {
    "algorithm": "ppo",
    "n_epochs": 100_000,
    "overrides": {"env.name": "CartPole-v1"},
}


def test_workers_and_the_queue_are_followed(walk, server):
    running = server.submit("train", LONG | {"name": "a long run"})
    server.wait(running, until=("running",))
    waiting = server.submit("train", LONG | {"name": "waits"})
    found = walk("system.mjs", server, running=running, waiting=waiting)
    assert "1 of 2 slots busy, 1 for training" in found["worker"]
    assert "maze-service" in found["worker"]
    assert found["row"].startswith("train1")
    assert found["link"] == f"#/runs/{running}"
    assert "migrations" in found["health"]
    assert "SQLite" in found["disk"]
    assert "GiB" in found["disk"]
    assert "a long run" in found["away"], "what was seen stays while the service is away"
    assert "0 of 2 slots busy" in found["free"]
    assert found["findings"] == []


@pytest.mark.slow
def test_a_phone_in_the_dark_shows_all_without_scrolling_sideways(walk, server):
    views = ["system", "environments", "environments/CartPole-v1", "policies"]
    found = walk("views.mjs", server, views=views, name="phone", width=360, height=700, theme="dark")
    for view, seen in found.items():
        assert seen["sideways"] <= 0, view
        assert seen["findings"] == [], view


@pytest.fixture
def alone(tmp_path):
    """A service without a worker."""
    database = ["--database-url", f"sqlite:///{tmp_path / 'maze.db'}"]
    command = [sys.executable, "-m", "service.cli"]
    subprocess.run([*command, "db", "upgrade", *database], check=True, capture_output=True)
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as output:
        api = subprocess.Popen(
            [*command, "api", "--no-auth", "--port", str(port), *database], stdout=output, stderr=output
        )
    server = Server(api, port, log)
    try:
        server.wait_for(lambda: is_ready(server), "the API")
        yield server
    finally:
        server.client.close()
        stop(api)


def test_without_a_worker_the_page_says_how_to_start_one(walk, alone):
    found = walk("views.mjs", alone, views=["system", "environments", "policies"], name="alone")
    assert "No worker is alive" in found["system"]["text"]
    assert "maze worker" in found["system"]["text"]
    assert "No environment is known yet" in found["environments"]["text"]
    assert "No policy has a name yet" in found["policies"]["text"]
    assert [seen["findings"] for seen in found.values()] == [[], [], []]
