"""Sessions with a real service: through a restart in good order, through kill -9, and while an alias moves."""

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from maze_client import AsyncClient, Client, ProblemError
from tests.acceptance.server import free_port, serving

OBSERVATIONS = (np.random.default_rng(0).standard_normal((12, 4)) / 10).astype(np.float32)
RECURRENT = {
    "model": "vector_obs_rnn",
    "critic": "template_state",
    "configuration": "test",
    "overrides": {"env.name": "CartPole-v1"},
    "seed": 1,
}
DRAWN = {"deterministic": False, "seed": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place with a database in which a recurrent policy was trained and promoted twice."""
    folder = tmp_path_factory.mktemp("sessions")
    with serving(folder) as server, client_of(server) as client:
        for seed in (1, 2):
            run = client.train(**RECURRENT | {"seed": seed}).wait()
            client.policies.add_version("pole", run.id) if seed > 1 else run.promote("pole")
    return folder


def client_of(server):
    return Client(f"http://127.0.0.1:{server.port}")


def acted(session, observations=OBSERVATIONS):
    return [session.step(observation) for observation in observations]


def test_a_session_goes_on_after_a_restart_in_good_order_with_the_actions_that_it_would_have_had(folder):
    port = free_port()
    with Client(f"http://127.0.0.1:{port}") as client:
        cut = client.session(policy="pole@champion", record=True, **DRAWN)
        with serving(folder, port=port) as server:
            with client.session(policy="pole@champion", **DRAWN) as whole:
                expected = acted(whole)
            with client.session(policy="pole@champion", websocket=True, **DRAWN) as other:
                assert acted(other) == expected
            cut.begin()
            assert acted(cut, OBSERVATIONS[:6]) == expected[:6]
            with connect(f"ws://127.0.0.1:{port}/v1/sessions/{cut.id}/ws") as socket:
                assert '"hello"' in socket.recv()
                server.process.send_signal(signal.SIGTERM)
                assert '"drain"' in socket.recv(timeout=60)
                with pytest.raises(ConnectionClosed) as closed:
                    socket.recv(timeout=60)
                assert closed.value.rcvd.code == 1012
            assert server.process.wait(60) == 0, server.log()
        with serving(folder, port=port):
            assert acted(cut, OBSERVATIONS[6:]) == expected[6:]
            cut.end(OBSERVATIONS[0], terminated=True)
            cut.close()
            recorded = client.run(cut.facts.recording)
            assert (recorded.state, recorded.result["lengths"]) == ("succeeded", [12])


def test_after_kill_9_a_session_says_so_and_what_it_had_recorded_is_kept(folder):
    with serving(folder) as server, client_of(server) as client:
        session = client.session(policy="pole@champion", record=True)
        session.begin()
        acted(session, OBSERVATIONS[:3])
        assert session.end(OBSERVATIONS[3], reward=1.0, terminated=True).recorded == 0
        acted(session, OBSERVATIONS[:2])
        (api,) = (
            process
            for process in server.processes("")
            if process.ppid() == server.process.pid and "api" in " ".join(process.cmdline())
        )
        os.kill(api.pid, signal.SIGKILL)
        with pytest.raises(ProblemError) as gone:
            session.step(OBSERVATIONS[2])
        assert (gone.value.status, gone.value.body["reason"]) == (410, "restarted")
        recorded = client.run(session.facts.recording).wait()
        assert (recorded.reason, recorded.result["lengths"]) == ("session_restarted", [3])
        with client.session(policy="pole@champion") as another:
            another.step(OBSERVATIONS[0])


def test_an_alias_that_moves_under_load_fails_no_request_and_changes_no_open_session(folder):
    with serving(folder) as server, client_of(server) as client:
        seen = []

        def play(websocket):
            while len(set(seen)) < 2 or len(seen) < 12:
                with client.session(policy="pole@champion", websocket=websocket) as session:
                    assert [type(action) for action in acted(session)] == [int] * len(OBSERVATIONS)
                    seen.append(session.facts.policy)

        with ThreadPoolExecutor(3) as pool:
            players = [pool.submit(play, websocket) for websocket in (False, True, False)]
            moves = 0
            while not all(player.done() for player in players):
                assert move_to(server, 2 - moves % 2) == 200
                moves += 1
            for player in players:
                player.result()
        assert set(seen) == {"pole:1", "pole:2"}


def move_to(server, version):
    """Let the alias name a version; the status."""
    path = "/v1/policies/pole/aliases/champion"
    tag = server.client.get(path).headers["etag"]
    return server.client.put(path, json={"version": version}, headers={"if-match": tag}).status_code


def test_the_awaited_client_steps_over_both_ways(folder):
    async def play(url):
        async with AsyncClient(url) as client:
            found = []
            for websocket in (False, True):
                async with client.session(policy="pole:1", websocket=websocket, **DRAWN) as session:
                    actions = [await session.step(each) for each in OBSERVATIONS]
                    ended = await session.end(OBSERVATIONS[0], truncated=True)
                    await session.reset(seed=5)
                    assert await session.step(OBSERVATIONS[0]) == actions[0]
                    found.append((actions, ended.length))
            return found

    with serving(folder, port=free_port()) as server:
        first, second = asyncio.run(play(f"http://127.0.0.1:{server.port}"))
        assert first == second
        assert first[1] == len(OBSERVATIONS)
