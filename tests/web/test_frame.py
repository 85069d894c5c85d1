"""The page's frame in a real browser: its views open, its policy holds, who has no token is asked for one."""

import subprocess
import sys

import pytest

from tests.acceptance.server import Server, free_port, is_ready, stop


def test_every_view_opens_and_nothing_breaks_the_policy(walk, server):
    found = walk("frame.mjs", server)
    assert found["titles"] == [
        f"{name} · Maze" for name in ("Sweeps", "Policies", "Environments", "System", "Runs")
    ]
    assert found["findings"] == []
    *others, current = sorted(found["backgrounds"], key=found["backgrounds"].count, reverse=True)
    assert current not in others, "with the system's colours the current view is not told apart"


@pytest.fixture
def closed(tmp_path):
    """A service that asks for tokens, and a token of it."""
    database = ["--database-url", f"sqlite:///{tmp_path / 'maze.db'}"]
    command = [sys.executable, "-m", "service.cli"]
    subprocess.run([*command, "db", "upgrade", *database], check=True, capture_output=True)
    made = subprocess.run(
        [*command, "token", "create", *database], check=True, capture_output=True, text=True
    )
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as output:
        api = subprocess.Popen(
            [*command, "api", "--port", str(port), *database], stdout=output, stderr=output
        )
    server = Server(api, port, log)
    try:
        server.wait_for(lambda: is_ready(server), "the API")
        yield server, made.stdout.split()[-1]
    finally:
        server.client.close()
        stop(api)


def test_a_ticket_opens_an_event_stream_and_a_websocket_of_a_browser_once(walk, closed):
    server, token = closed
    made = server.post("/v1/train", {}, x_api_key=token)
    assert made.status_code == 202
    found = walk("tickets.mjs", server, token=token)
    assert found["events"] == ["state", "refused", "refused"]
    assert found["sessions"] == [["not_found", 4404], [1006]]


def test_a_token_opens_the_page_and_stands_in_no_address(walk, closed):
    server, token = closed
    found = walk("login.mjs", server, token=token)
    assert "does not know this token" in found["refused"]
    assert found["forgotten"] == 0, "a token that is refused is kept"
    assert "ASCII" in found["unsendable"]
    assert found["isStopped"]
    assert found["told"] == 0, "a token was sent in an address"
    assert found["kept"] == 0, "a token outlived signing out"
    assert found["findings"] == []
