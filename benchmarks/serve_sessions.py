"""A step of a session against a stateless ``compute_action``, and a WebSocket against a bare echo, in one run.

    python -m benchmarks.serve_sessions [--rounds 5] [--steps 2000]

Trains a small CartPole policy, stores it in a fresh SQLite database, and starts the service and a bare ASGI echo on the
same server. One client asks one after the other, in turns of every kind within every round, so that what else happens
on the machine meets all. ``ratio`` is the median time of a round trip over that of what stands beside it: ``step`` over
``stateless`` (both over one HTTP connection), ``websocket`` over ``echo`` (frames of equal bytes). ``cpu_us`` is the
server's own CPU time per round trip and ``cpu_ratio`` the same ratio of it, which other processes disturb least. The
targets are 1.3.
"""

import argparse
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from websockets.sync.client import connect

from benchmarks.http_load import HOST
from benchmarks.report import write_report
from benchmarks.serve_actions import BODY, _started, _stored_run

COLUMNS = ("what", "p50_us", "p90_us", "ratio", "cpu_us", "cpu_ratio")
BLOCK = 50
"""Round trips of one kind before the next kind has its turn."""
OBSERVATION = json.loads(BODY)["observation"]


class Http:
    """One connection, with no more of a client than reading answers takes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> bytes:
        """The body of the answer."""
        head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: {content_type}\r\n"
        head += f"content-length: {len(body)}"
        self._socket.sendall(head.encode() + b"\r\n\r\n" + body)
        status = self._file.readline()
        length = 0
        while (line := self._file.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answer = self._file.read(length)
        if b" 20" not in status:
            raise RuntimeError(f"{path} answered {status!r} {answer!r}")
        return answer


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send every message back."""
    if scope["type"] == "lifespan":
        for _ in ("startup", "shutdown"):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def echo_server() -> int:
    """The port of :func:`echo`, in a process of its own, on the server of the service."""
    import subprocess

    listener = socket.create_server((HOST, 0))
    code = (
        "import socket, sys; from service.http_server import Protocol, serve_api; "
        "from benchmarks.serve_sessions import echo; serve_api(echo, Protocol, socket.socket(fileno=int(sys.argv[1])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(listener.fileno())], pass_fds=[listener.fileno()]
    )
    threading.Thread(target=process.wait, daemon=True).start()
    _PROCESSES.append(process)
    return int(listener.getsockname()[1])


Kind: TypeAlias = Callable[[int], Callable[[], object]]
"""By number of a round trip what makes it; only that is timed."""

_PROCESSES: list[Any] = []


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=2000, help="round trips of each kind in a round, a multiple of 50"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        stack.callback(lambda: [process.terminate() for process in _PROCESSES])
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder / 'bench.db'}"
        run, _ = _stored_run(url, folder)
        acting = f"/v1/runs/{run}/compute_action"
        server = stack.enter_context(_started("service", acting, "", url))
        port, echo_port = server.port, echo_server()
        http = Http(port)
        begin = json.dumps({"run": run}).encode()
        stepping, socketing = (json.loads(http.post("/v1/sessions", begin))["id"] for _ in range(2))
        web = stack.enter_context(connect(f"ws://{HOST}:{port}/v1/sessions/{socketing}/ws", compression=None))
        web.recv()
        back = stack.enter_context(connect(f"ws://{HOST}:{echo_port}/", compression=None))
        step = partial(step_body, op=None)
        frame = partial(step_body, op="step")
        kinds: dict[str, Kind] = {
            "stateless": lambda seq: partial(http.post, acting, BODY.encode()),
            "step": lambda seq: partial(http.post, f"/v1/sessions/{stepping}/step", step(seq)),
            "echo": lambda seq: partial(ask, back, frame(seq)),
            "websocket": lambda seq: partial(ask, web, frame(seq)),
        }
        pids = {kind: server.process.pid for kind in kinds} | {"echo": _PROCESSES[0].pid}
        samples = measured(kinds, pids, options.rounds * options.steps)
    beside = {"step": "stateless", "websocket": "echo"}
    rows = []
    for kind, (times, cpu_us) in samples.items():
        others, other_cpu_us = samples[beside.get(kind, kind)]
        p50 = statistics.median(times)
        rows.append(
            {
                "what": kind,
                "p50_us": round(p50 * 1e6, 1),
                "p90_us": round(statistics.quantiles(times, n=10)[-1] * 1e6, 1),
                "ratio": round(p50 / statistics.median(others), 2),
                "cpu_us": round(cpu_us, 1),
                "cpu_ratio": round(cpu_us / other_cpu_us, 2),
            }
        )
    write_report("serve_sessions", rows, columns=COLUMNS, settings=vars(options))


def measured(kinds: Mapping[str, Kind], pids: dict[str, int], n: int) -> dict[str, tuple[list[float], float]]:
    """Kind → seconds of every round trip, and the server's CPU µs of the median block; the kinds take turns."""
    times: dict[str, list[float]] = defaultdict(list)
    cpu_us: dict[str, list[float]] = defaultdict(list)
    for start in range(0, n, BLOCK):
        for kind, ask_for in kinds.items():
            before = cpu_s(pids[kind])
            for ask_now in [ask_for(seq) for seq in range(start, start + BLOCK)]:
                began = time.perf_counter()
                ask_now()
                times[kind].append(time.perf_counter() - began)
            cpu_us[kind].append((cpu_s(pids[kind]) - before) / BLOCK * 1e6)
    warm = n // 10 // BLOCK
    return {kind: (times[kind][warm * BLOCK :], statistics.median(cpu_us[kind][warm:])) for kind in kinds}


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, by Linux's clock of it, to the microsecond."""
    return time.clock_gettime((~pid << 3) | 2)


def step_body(seq: int, op: str | None) -> bytes:
    """A step, of HTTP or of a WebSocket."""
    body = {"seq": seq, "observation": OBSERVATION}
    return json.dumps(body if op is None else {"op": op, **body}).encode()


def ask(web: Any, frame: bytes) -> Any:
    """The answer to a frame."""
    web.send(frame.decode())
    return web.recv()


if __name__ == "__main__":
    main()
