"""The parent of ``maze serve``: what it keeps alive, what it gives up, how it ends, and the whole of it once."""

import asyncio
import contextlib
import gzip
import http.server
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.process import wait_at
from service.serve import welcome
from service.settings import Settings

SUPERVISED = Path(__file__).parent / "support" / "supervised.py"
PATIENCE_S = 120.0
PAUSE_S = 0.05

NOTE = "import os, time\nopen(os.environ['FOLDER'] + '/{name}', 'a').write(f'{{os.getpid()}}\\n')\n"
STAYS = NOTE + "time.sleep(1000)"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAYS


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


class Supervised:
    """A supervisor in a process of its own, over programs that note their process ids."""

    def __init__(self, folder: Path, grace_s: float, **programs: str) -> None:
        self._folder = folder
        words = [f"{name}={program.format(name=name)}" for name, program in programs.items()]
        self.process = subprocess.Popen(
            [sys.executable, str(SUPERVISED), str(folder), str(grace_s), *words], stderr=subprocess.PIPE
        )

    def pids(self, name: str) -> list[int]:
        file = self._folder / name
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def be_up(self) -> None:
        (self._folder / "up").touch()
        eventually((self._folder / "announced").exists, "the announcement")

    def wait(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, errors.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for file in self._folder.iterdir():
            for pid in self.pids(file.name):
                with contextlib.suppress(psutil.Error):
                    started = psutil.Process(pid)
                    if "FOLDER" in "".join(started.cmdline()):
                        started.kill()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    made: list[Supervised] = []

    def make(*, grace_s: float = PATIENCE_S, **programs: str) -> Supervised:
        made.append(Supervised(tmp_path, grace_s, **programs))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.close()


def test_a_process_that_dies_is_started_again(supervised: Callable[..., Supervised]) -> None:
    service = supervised(api=STAYS, worker=STAYS)
    first = eventually(lambda: service.pids("api"), "the api")[0]
    other = eventually(lambda: service.pids("worker"), "the worker")
    service.be_up()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(service.pids("api")) == 2, "a second api")
    assert service.pids("worker") == other
    service.process.send_signal(signal.SIGTERM)
    code, log = service.wait()
    assert code == 0
    assert "api: ended (killed by SIGKILL)" in log


def test_a_process_that_cannot_start_ends_it_all(supervised: Callable[..., Supervised]) -> None:
    service = supervised(api=STAYS, worker="raise SystemExit('no such database')")
    code, log = service.wait()
    assert code == 1
    assert "no such database" in log
    assert "worker: could not start (exit code 1)" in log
    assert not any(psutil.pid_exists(pid) for pid in service.pids("api"))


def test_processes_end_when_what_they_wait_for_cannot_be_prepared(
    tmp_path: Path, supervised: Callable[..., Supervised]
) -> None:
    (tmp_path / "unprepared").touch()
    supervisor = supervised(one=STAYS, two=STAYS)
    assert supervisor.process.wait(PATIENCE_S) == 1
    for name in ("one", "two"):
        (pid,) = supervisor.pids(name)
        eventually(lambda pid=pid: not psutil.pid_exists(pid), f"{name} ends")


def test_who_waits_at_the_gate_goes_on_when_it_is_opened_and_ever_after() -> None:
    gate, latch = os.pipe()
    passed = []
    thread = threading.Thread(target=lambda: passed.append(wait_at(os.dup(gate))))
    thread.start()
    thread.join(0.05)
    assert not passed
    os.close(latch)
    thread.join(PATIENCE_S)
    assert passed == [None]
    wait_at(gate)
    wait_at(None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_and_waited_for(
    supervised: Callable[..., Supervised], number: signal.Signals
) -> None:
    service = supervised(api=STAYS, worker=STAYS)
    pids = [eventually(lambda name=name: service.pids(name), name)[0] for name in ("api", "worker")]
    service.process.send_signal(number)
    assert service.wait()[0] == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_process_that_does_not_end_is_killed_after_its_grace(
    supervised: Callable[..., Supervised],
) -> None:
    service = supervised(grace_s=0.5, worker=STUBBORN)
    (pid,) = eventually(lambda: service.pids("worker"), "the worker")
    service.process.send_signal(signal.SIGTERM)
    assert service.wait()[0] == 1
    assert not psutil.pid_exists(pid)


class Served:
    """``maze serve`` on a free port and a fresh database."""

    def __init__(self, folder: Path, **further: str) -> None:
        self._output = folder / "output"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAZE_")} | {
            "MAZE_PORT": "0",
            "MAZE_LEASE_S": "4",
            "MAZE_HEARTBEAT_S": "1",
            **further,
        }
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve"],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=output,
            )
        eventually(lambda: "Maze is up" in self.text() or self.process.poll() is not None, "a welcome")
        assert self.process.poll() is None, self.text()
        self.url = re.findall(r"Maze is up +(\S+)", self.text())[0]
        self.token = re.findall(r"token +(maze_\S+)", self.text())[0]

    def text(self) -> str:
        return self._output.read_text()

    def request(
        self, path: str, body: Any = None, token: str | None = None, **further: str
    ) -> tuple[int, Any]:
        headers = {"content-type": "application/json", "prefer": "wait=60", **further}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, data, headers), timeout=PATIENCE_S
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def child(self, title: str) -> psutil.Process:
        def find() -> psutil.Process | None:
            children = psutil.Process(self.process.pid).children()
            return next((child for child in children if child.cmdline()[:1] == [title]), None)

        found: psutil.Process = eventually(find, title)
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.close()


def test_serve_trains_for_the_token_that_it_printed_and_for_nobody_else(served: Served) -> None:
    body = {"algorithm": "ppo", "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 1}, "seed": 1}
    assert served.request("/v1/train", body)[0] == 401
    _, run = served.request("/v1/train", body, served.token)
    assert (run["state"], run["reason"]) == ("succeeded", "completed")


def test_the_api_and_the_worker_are_started_again_when_they_are_killed(served: Served) -> None:
    for title in ("maze: api", "maze: worker"):
        killed = served.child(title)
        killed.kill()
        eventually(lambda killed=killed: not killed.is_running(), f"the end of {title}")
        assert served.child(title).pid != killed.pid
    assert served.request("/health/live")[0] == 200


class Actor:
    """A client that acts in a loop, on a connection for as long as it is kept."""

    def __init__(self, served: Served, run: str) -> None:
        head = f"POST /v1/runs/{run}/compute_action HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer "
        body = '{"observation": [0.01, -0.02, 0.03, -0.04]}'
        self._request = (
            f"{head}{served.token}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        self._request += f"\r\n\r\n{body}"
        self._port = int(served.url.rpartition(":")[2])
        self.n_acts = 0
        self.is_refused = False

    async def act(self) -> None:
        """Until nobody listens any more; whatever else goes wrong is raised."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except ConnectionRefusedError:
                self.is_refused = True
                return
            with contextlib.closing(writer):
                await self._act_on(reader, writer)

    async def _act_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for n_answers in itertools.count():
            writer.write(self._request.encode())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                if n_answers == 0 or error.partial:
                    raise  # closed, and not between two requests
                return
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
            self.n_acts += 1
            await asyncio.sleep(PAUSE_S)
            if b"connection: close" in head:
                return


def test_who_acts_notices_no_restart_of_the_api_and_no_reset_at_the_end(tmp_path: Path) -> None:
    async def scenario(served: Served, run: str) -> list[Actor]:
        actors = [Actor(served, run) for _ in range(50)]
        tasks = [asyncio.create_task(actor.act()) for actor in actors]

        async def all_act_on() -> None:
            before = [actor.n_acts for actor in actors]
            while not all(actor.n_acts > n + 1 for actor, n in zip(actors, before, strict=True)):
                assert not any(task.done() for task in tasks), [
                    task.result() for task in tasks if task.done()
                ]
                await asyncio.sleep(0.05)

        await all_act_on()
        ended = served.child("maze: api")
        ended.terminate()
        await asyncio.to_thread(eventually, lambda: not ended.is_running(), "the end of the API")
        await all_act_on()
        served.process.terminate()
        await asyncio.gather(*tasks)
        return actors

    served = Served(tmp_path)
    try:
        body = {"algorithm": "ppo", "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 1}}
        run = served.request("/v1/train", body, served.token)[1]["id"]
        actors = asyncio.run(asyncio.wait_for(scenario(served, run), 2 * PATIENCE_S))
        assert served.process.wait(PATIENCE_S) == 0
    finally:
        served.close()
    assert all(actor.is_refused for actor in actors)


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans by OTLP over HTTP."""

    spans: ClassVar[dict[str, Any]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans.update({span.name: span for span in scope.spans})
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_trace_goes_from_the_request_to_the_run_and_its_epochs(tmp_path: Path) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    served = Served(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}",
        OTEL_BSP_SCHEDULE_DELAY="100",
        MAZE_LOG_FORMAT="json",
    )
    try:
        body = {"algorithm": "ppo", "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 2}}
        _, run = served.request("/v1/train", body, served.token, traceparent=f"00-{trace}-{parent}-01")
        assert run["state"] == "succeeded"
        spans = Collector.spans
        eventually(lambda: {"POST /v1/train", "run train"} <= {*spans}, "both spans")
    finally:
        served.close()
        collector.shutdown()
        collector.server_close()
    request, attempt = spans["POST /v1/train"], spans["run train"]
    epochs = [span for name, span in spans.items() if name.startswith("epoch ")]
    assert {span.trace_id.hex() for span in (request, attempt, *epochs)} == {trace}
    assert request.parent_span_id.hex() == parent
    assert attempt.parent_span_id == request.span_id
    assert epochs
    assert {span.parent_span_id for span in epochs} == {attempt.span_id}
    logged = [json.loads(line) for line in served.text().splitlines() if line.startswith('{"time"')]
    told = [entry for entry in logged if entry.get("run_id") == run["id"]]
    assert {(entry["trace_id"], entry["attempt"]) for entry in told} == {(trace, 1)}


def test_nothing_outlives_a_supervisor_that_is_killed(served: Served) -> None:
    """The last test of what they share."""
    family = psutil.Process(served.process.pid).children(recursive=True)
    assert {"maze: api", "maze: worker"} <= {process.cmdline()[0] for process in family}
    served.process.kill()
    served.process.wait()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive


def test_the_first_curl_is_whole_json_and_carries_the_token_if_there_is_one() -> None:
    with_token = welcome(Settings(), "127.0.0.1", 8000, "maze_1_2")
    assert "Bearer maze_1_2" in with_token
    without = welcome(Settings(auth=False), "127.0.0.1", 8000, None)
    assert "uthorization" not in without
    (body,) = re.findall(r"-d '(.*)'", without)
    assert json.loads(body)["algorithm"] == "ppo"
