"""An HTTP load generator: N keep-alive connections, each with one request under way at most, on loopback.

``wrk`` makes the load where it is installed (apt-get install wrk), else a client of our own in a process of its
own: ``python -m benchmarks.http_load PORT PATH BODY TOKEN CONNECTIONS SECONDS PER_S`` prints its result as JSON. An
empty token is not sent, an empty body makes a GET, and PER_S 0 sends the next request as soon as the last one is
answered (closed loop), else so many a second and connection. Our client costs more per request than wrk, so figures
of one do not compare with the other's; ratios do.
"""

import asyncio
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import uvloop

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """One measurement."""

    requests_per_s: float
    p50_us: float
    """Median time from a request's first byte out to its answer's last byte in."""
    p99_us: float
    requests: int
    failures: int
    """Answers other than 2xx, and broken connections."""


Generator = Literal["wrk", "own"]


def default_generator() -> Generator:
    """``wrk`` where it is installed."""
    return "wrk" if shutil.which("wrk") else "own"


def measure(
    port: int,
    path: str,
    body: str,
    *,
    connections: int,
    seconds: float,
    generator: Generator,
    token: str = "",
) -> LoadResult:
    """POST the JSON body over and over; raises CalledProcessError when the generator fails."""
    if generator == "wrk":
        return _measure_with_wrk(port, path, body, token, connections, seconds)
    load = started(port, path, body, connections=connections, seconds=seconds, token=token)
    return result_of(load)


def started(
    port: int,
    path: str,
    body: str = "",
    *,
    connections: int,
    seconds: float,
    token: str = "",
    per_s: float = 0.0,
) -> "subprocess.Popen[str]":
    """A load by our own client that has begun; :func:`result_of` waits for its end."""
    command = [sys.executable, "-m", "benchmarks.http_load", str(port), path, body, token]
    command += [str(connections), str(seconds), str(per_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(load: "subprocess.Popen[str]") -> LoadResult:
    """What a load measured; raises CalledProcessError when it failed."""
    output, _ = load.communicate()
    if load.returncode:
        raise subprocess.CalledProcessError(load.returncode, load.args)
    return LoadResult(**json.loads(output))


def _measure_with_wrk(
    port: int, path: str, body: str, token: str, connections: int, seconds: float
) -> LoadResult:
    authorization = f'wrk.headers["Authorization"] = "Bearer {token}"\n' if token else ""
    script = (
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        f"{authorization}"
        f"wrk.body = {json.dumps(body)}\n"
        "done = function(summary, latency)\n"
        "  local e = summary.errors\n"
        "  local failures = e.status + e.connect + e.read + e.write + e.timeout\n"
        '  print(string.format("RESULT %d %d %f %f %d", summary.requests, summary.duration,\n'
        "    latency:percentile(50), latency:percentile(99), failures))\n"
        "end\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "post.lua"
        file.write_text(script)
        url = f"http://{HOST}:{port}{path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(file), url]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) (\d+)", output)
    if found is None:
        raise RuntimeError(f"wrk printed no result:\n{output}")
    requests, duration_us, p50_us, p99_us, failures = (float(text) for text in found.groups())
    return LoadResult(
        requests_per_s=requests / (duration_us / 1e6),
        p50_us=p50_us,
        p99_us=p99_us,
        requests=int(requests),
        failures=int(failures),
    )


class _Connection(asyncio.Protocol):
    """One connection: sends the request, waits for the whole answer, notes the time, sends it again."""

    def __init__(self, request: bytes, latencies: list[float], per_s: float) -> None:
        self._request = request
        self._every_s = 1 / per_s if per_s else 0.0
        self._latencies = latencies
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self.failures = 0
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request, at a rate at some time of the first interval."""
        self._transport = cast(asyncio.Transport, transport)
        self._send_in(random.random() * self._every_s)

    def data_received(self, data: bytes) -> None:
        """Read an answer; it ends where its Content-Length says, or with its last chunk."""
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if not (rest.endswith(b"0\r\n\r\n") if length is None else len(rest) >= int(length[1])):
            return
        self._latencies.append(time.perf_counter() - self._sent_at)
        self.failures += not head.startswith(b"HTTP/1.1 2")
        self._buffer = b""
        self._send_in(self._sent_at + self._every_s - time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that the server closed is a failure."""
        self.failures += not self.is_over

    def close(self) -> None:
        """Stop."""
        self.is_over = True
        if self._transport is not None:
            self._transport.close()

    def _send_in(self, seconds: float) -> None:
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self.is_over:
            return
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)


async def _load(
    port: int, path: str, body: str, token: str, connections: int, seconds: float, per_s: float
) -> LoadResult:
    content = body.encode()
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    sent = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if body else ""
    line = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
    request = f"{line}{sent}{authorization}\r\n".encode() + content
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: _Connection(request, latencies, per_s), HOST, port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    duration_s = time.perf_counter() - began
    for client in clients:
        client.close()
    ordered = sorted(latencies)
    return LoadResult(
        requests_per_s=len(ordered) / duration_s,
        p50_us=ordered[len(ordered) // 2] * 1e6,
        p99_us=ordered[len(ordered) * 99 // 100] * 1e6,
        requests=len(ordered),
        failures=sum(client.failures for client in clients),
    )


if __name__ == "__main__":
    _port, _path, _body, _token, _connections, *_times = sys.argv[1:]
    _seconds, _per_s = map(float, _times)
    _result = uvloop.run(_load(int(_port), _path, _body, _token, int(_connections), _seconds, _per_s))
    print(json.dumps(asdict(_result)))
