"""An agent in a serving child acts like the same agent here; a dead child is revived by the next request."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maze_core.agent import load_agent
from maze_core.types import ActorID
from service.domain.errors import AgentGoneError, DamagedCheckpointError
from service.domain.sharing import Caller
from service.metrics import ActionMetrics
from service.problems import Problem
from service.serving.agents import AgentCache
from service.serving.batching import Call
from service.serving.child import (
    Act,
    Actions,
    Failed,
    Load,
    Ready,
    decode_reply,
    encode,
    pack_arrays,
    serve,
)
from service.serving.child_process import ChildProcess
from service.serving.hot_route import ActionRoute
from service.serving.served import ServedAgent
from tests.service.serving.asgi_client import Client
from tests.service.serving.checkpoints import CARTPOLE, make_checkpoint, sample_batch
from tests.service.serving.memory_stores import MemoryStores

WITHOUT_TORCH = "tests.service.serving.child_without_torch"
BATCH = sample_batch(CARTPOLE, 20, 7)
ACTOR = ActorID(0, 0)


@pytest.fixture
def child_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A child of another kind, given as code that has the socket as ``connection``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def module(code: str) -> str:
        begin = (
            "import os, sys\nfrom multiprocessing.connection import Connection\n"
            "from maze_core.errors import CheckpointError\nfrom service.serving.child import *\n"
            "connection = Connection(int(sys.argv[1]))\n"
        )
        (tmp_path / "other_child.py").write_text(begin + code)
        return "other_child"

    return module


def call(deterministic: bool = True, seed: int | None = None) -> Call:
    return Call(BATCH, ACTOR, deterministic, seed)


def test_the_real_child_acts_like_the_agent_and_keeps_torch_out_of_this_process() -> None:
    checkpoint = make_checkpoint()

    async def scenario() -> None:
        child = await ChildProcess.start(checkpoint.to_bytes())
        try:
            actions = await child.act(call())
            random = [await child.act(call(False, 3)) for _ in range(2)]
        finally:
            await child.close()
        np.testing.assert_array_equal(
            actions["action"], load_agent(checkpoint).compute_actions(BATCH)["action"]
        )
        np.testing.assert_array_equal(random[0]["action"], random[1]["action"])
        assert child._process.returncode == 0

    asyncio.run(scenario())


def test_a_bundle_that_does_not_act_as_recorded_is_refused_by_the_child() -> None:
    with pytest.raises(DamagedCheckpointError):
        asyncio.run(ChildProcess.start(b"no bundle", WITHOUT_TORCH))


LACKS = (
    "MemoryError()",
    "ImportError('libgomp.so.1: cannot open shared object file')",
    "OSError(28, 'No space left on device')",
    'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 8 bytes")',
)


@pytest.mark.parametrize(
    "fault",
    [
        *LACKS,
        *(f"CheckpointError('it cannot be built here') from {lack}" for lack in LACKS),
        "AssertionError()",
    ],
)
def test_what_the_machine_lacks_is_not_blamed_on_the_checkpoint(
    fault: str, child_module: Callable[[str], str]
) -> None:
    module = child_module(f"def load(bundle): raise {fault}\nserve(connection, load)")
    with pytest.raises(AgentGoneError) as refused:
        asyncio.run(ChildProcess.start(b"", module))
    problem = Problem.of(refused.value)
    assert (problem.status, problem.code, problem.headers["Retry-After"]) == (503, "agent_gone", "5")
    assert "libgomp" not in problem.detail


def test_a_policy_that_does_not_fit_into_the_memory_of_the_api_is_not_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("maze_core.agent.load_agent", load)
    bundle = make_checkpoint().to_bytes()
    with pytest.raises(AgentGoneError):
        asyncio.run(ServedAgent.load("c", bundle, ActionMetrics()))


@pytest.mark.parametrize(
    "code", ["", "connection.recv_bytes(); os.kill(os.getpid(), 9)", "connection.send_bytes(b'no')"]
)
def test_a_child_that_dies_while_loading_is_reported(code: str, child_module: Callable[[str], str]) -> None:
    with pytest.raises(AgentGoneError):
        asyncio.run(ChildProcess.start(bytes(1_000_000), child_module(code)))


@pytest.mark.parametrize("code", ["", "connection.recv_bytes(); connection.send_bytes(encode(Ready()))\n"])
def test_a_child_that_does_not_answer_is_ended(
    code: str, child_module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it loads, with more to send than the socket holds, and while it acts."""
    timeouts = {"LOAD_TIMEOUT_S": 20.0 if code else 3.0, "ACT_TIMEOUT_S": 0.1}
    for name, timeout_s in timeouts.items():
        monkeypatch.setattr(f"service.serving.child_process.{name}", timeout_s)
    module = child_module(code + "import time; time.sleep(1000)")

    async def scenario() -> None:
        child = await ChildProcess.start(bytes(10_000_000), module)
        assert not child.is_gone
        try:
            await child.act(call())
        finally:
            assert child.is_gone
            await child.close()

    with pytest.raises(AgentGoneError):
        asyncio.run(scenario())


def test_a_child_ends_when_its_parent_does() -> None:
    code = (
        "import asyncio, os, sys\n"
        "from service.serving.child_process import ChildProcess\n"
        "from tests.service.serving.test_child import WITHOUT_TORCH, make_checkpoint\n"
        "async def main():\n"
        "    child = await ChildProcess.start(make_checkpoint().to_bytes(), WITHOUT_TORCH)\n"
        "    print(child._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    child_pid = int(done.stdout)
    waiting = threading.Event()
    while is_alive(child_pid):
        waiting.wait(0.01)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_child_gets_no_secrets(
    child_module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAZE_DATABASE_URL", "postgresql://user:canary@host/db")
    module = child_module(
        "connection.send_bytes(encode(Failed(True, ' '.join([*os.environ, *os.environ.values()]))))"
    )
    with pytest.raises(DamagedCheckpointError) as refused:
        asyncio.run(ChildProcess.start(b"", module))
    assert "OMP_NUM_THREADS" in str(refused.value)
    assert "canary" not in str(refused.value)


class Children:
    """Loads every agent into a child, and remembers them."""

    def __init__(self) -> None:
        self.children: list[ChildProcess] = []

    async def load(self, checkpoint_id: str, bundle: bytes, metrics: ActionMetrics) -> ServedAgent:
        child = await ChildProcess.start(bundle, WITHOUT_TORCH)
        self.children.append(child)
        return ServedAgent(checkpoint_id, load_agent(bundle), metrics, child=child)


def test_a_dead_child_is_replaced_and_the_last_one_ends_with_the_route(stores: MemoryStores) -> None:
    children = Children()
    body = {"observation": [0.1, 0.2, 0.1, 0.2]}
    expected = load_agent(make_checkpoint()).compute_action(body["observation"])["action"]
    settings = SimpleNamespace(
        agents_cached=2,
        max_action_body_bytes=1000,
        action_queue_rows=4096,
        action_queue_age_s=10.0,
        extra_targets=[],
        config_dirs=[],
    )
    with asyncio.Runner() as runner:
        cache = AgentCache(stores, 2, ActionMetrics(), load=children.load)
        route = ActionRoute(stores, settings, cache)
        client = Client(route, runner)
        assert [answer.json["action"] for answer in client.post_together("r", [body] * 5)] == [expected] * 5
        os.kill(children.children[0]._process.pid, signal.SIGKILL)
        children.children[0]._process.wait()
        assert client.post("r", body).json["action"] == expected
        runner.run(route.close())
    assert [child._process.returncode for child in children.children] == [-signal.SIGKILL, 0]


def test_a_client_that_leaves_takes_its_observation_out_of_the_queue(stores: MemoryStores) -> None:
    calls: list[int] = []

    async def scenario() -> None:
        gate, busy = asyncio.Event(), asyncio.Event()
        agent = load_agent(make_checkpoint())

        async def act(wanted: Call) -> Any:
            calls.append(len(wanted.observations["observation"]))
            busy.set()
            await gate.wait()
            return agent.compute_actions(wanted.observations)

        async def closed() -> None:
            return None

        async def load(checkpoint_id: str, bundle: bytes, metrics: ActionMetrics) -> ServedAgent:
            child: Any = SimpleNamespace(act=act, is_gone=False, close=closed)
            return ServedAgent(checkpoint_id, agent, metrics, child=child)

        cache = AgentCache(stores, 2, ActionMetrics(), load=load)
        route = ActionRoute(
            stores,
            SimpleNamespace(
                agents_cached=2,
                max_action_body_bytes=1000,
                action_queue_rows=4096,
                action_queue_age_s=10.0,
                extra_targets=[],
                config_dirs=[],
            ),
            cache,
        )
        messages = [{"type": "http.request", "body": b'{"observation": [0, 0, 0, 0]}'}]

        def request(leaves: asyncio.Event) -> asyncio.Task[None]:
            incoming = list(messages)

            async def receive() -> Any:
                if incoming:
                    return incoming.pop()
                await leaves.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                return None

            scope: Any = {
                "type": "http",
                "method": "POST",
                "path": "/v1/runs/r/compute_action",
                "headers": [],
                "state": {"caller": Caller()},
            }
            return asyncio.create_task(route(scope, receive, send))

        never, now = asyncio.Event(), asyncio.Event()
        first = request(never)
        await busy.wait()
        leaver, stayer = request(now), request(never)
        await asyncio.sleep(0.01)
        now.set()
        await leaver
        gate.set()
        await asyncio.gather(first, stayer)
        await route.close()

    asyncio.run(scenario())
    assert calls == [1, 1]


def test_one_failing_call_does_not_end_the_child() -> None:
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=serve, args=(theirs, load_agent))
    thread.start()
    with ours:

        def ask(message: Any) -> Any:
            ours.send_bytes(encode(message))
            return decode_reply(ours.recv_bytes())

        assert isinstance(ask(Load(make_checkpoint().to_bytes())), Ready)
        wrong = Act(pack_arrays({"other": np.zeros((1, 4))}), 0, 0, True, None)
        right = Act(pack_arrays(BATCH), 0, 0, True, None)
        assert isinstance(ask(wrong), Failed)
        assert isinstance(ask(Load(b"")), Failed)
        assert isinstance(ask(right), Actions)
    thread.join()
    theirs.close()
