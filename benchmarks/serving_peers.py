"""Requests per second of acting over HTTP beside LitServe, BentoML and Ray Serve, with the same network in numpy.

    python -m benchmarks.serving_peers [--peers litserve bentoml ray] [--connections 64] [--rounds 3] [--seconds 3]

Each peer is installed into a virtual environment of its own, which is deleted at the end (``--keep FOLDER`` keeps
them), and serves two layers of 64 tanh units as its documentation shows it: one worker, no batching, no access log.
Ours is the whole service on a trained policy of that size, security layer, checks and normalisation included. All are
loaded in turn within every round; ``times`` is our requests per second over a peer's.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.http_load import HOST, measure
from benchmarks.report import write_report
from benchmarks.serve_actions import BODY, _check_answer, _started, _stored_run

PATIENCE_S = 180.0

NETWORK = """
import sys
import numpy as np

PORT = int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdigit() else 0
rng = np.random.default_rng(0)
layers = [(rng.standard_normal(shape).astype("float32") / 8, np.zeros(shape[1], "float32")) for shape in
          ((4, 64), (64, 64), (64, 2))]

def act(observation):
    h = np.asarray([observation], "float32")
    for i, (weight, bias) in enumerate(layers):
        h = h @ weight + bias
        h = np.tanh(h) if i < 2 else h
    return int(h.argmax())
"""

LITSERVE = """
import litserve as ls

class Policy(ls.LitAPI):
    def setup(self, device):
        pass
    def decode_request(self, request):
        return request["observation"]
    def predict(self, observation):
        return act(observation)
    def encode_response(self, action):
        return {"action": action}

if __name__ == "__main__":
    server = ls.LitServer(Policy(api_path="/compute_action"), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")
"""

BENTOML = """
import bentoml

@bentoml.service(workers=1)
class Policy:
    @bentoml.api
    def compute_action(self, observation: list[float]) -> dict:
        return {"action": act(observation)}
"""

RAY = """
import time
import ray
from ray import serve

@serve.deployment(max_ongoing_requests=256)
class Policy:
    async def __call__(self, request):
        return {"action": act((await request.json())["observation"])}

ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
serve.start(http_options={"host": "127.0.0.1", "port": PORT})
serve.run(Policy.bind(), route_prefix="/compute_action")
while True:
    time.sleep(1)
"""


@dataclass(frozen=True)
class Peer:
    """Another server of models."""

    requirements: tuple[str, ...]
    source: str
    command: tuple[str, ...] = ("python", "server.py", "{port}")


PEERS: Mapping[str, Peer] = {
    "litserve": Peer(("litserve==0.2.19", "numpy"), LITSERVE),
    "bentoml": Peer(
        ("bentoml==1.4.40", "numpy"),
        BENTOML,
        ("bentoml", "serve", "server:Policy", "--host", HOST, "--port", "{port}"),
    ),
    "ray": Peer(("ray[serve]==2.60.0", "numpy"), RAY),
}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--keep", type=Path, help="folder of the virtual environments, kept and used again")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder / 'bench.db'}"
        run, _ = _stored_run(url, folder)
        path = f"/v1/runs/{run}/compute_action"
        ours = stack.enter_context(_started("service", path, "", url))
        _check_answer(ours)
        addresses = {"maze": (ours.port, path)}
        for i, name in enumerate(options.peers):
            home = (options.keep or folder) / name
            port = stack.enter_context(_serving(PEERS[name], home, ours.port + 1 + i))
            addresses[name] = port, "/compute_action"
        for _ in range(options.rounds):
            for name, address in addresses.items():
                rates.setdefault(name, []).append(_rate(address, options))
    columns = ("server", "version", "requests_per_s", "times")
    write_report(
        "serving_peers", _rows(rates), columns=columns, settings={**vars(options), "keep": str(options.keep)}
    )


def _rows(rates: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    return [
        {
            "server": name,
            "version": PEERS[name].requirements[0].partition("==")[2] if name in PEERS else "",
            "requests_per_s": statistics.median(measured),
            "times": statistics.median(
                our / their for our, their in zip(rates["maze"], measured, strict=True)
            ),
            "samples": list(measured),
        }
        for name, measured in rates.items()
    ]


def _rate(address: tuple[int, str], options: argparse.Namespace) -> float:
    port, path = address
    result = measure(
        port, path, BODY, connections=options.connections, seconds=options.seconds, generator="own"
    )
    if result.failures:
        raise RuntimeError(f"{path}: {result.failures} of {result.requests} requests failed")
    return result.requests_per_s


@contextmanager
def _serving(peer: Peer, home: Path, port: int) -> Iterator[int]:
    """The peer's server in its own virtual environment, which is made where it is not there; its port."""
    bin_ = home / "bin"
    if not bin_.exists():
        venv.create(home, with_pip=True)
        install = [str(bin_ / "python"), "-m", "pip", "install", "--quiet", *peer.requirements]
        subprocess.run(install, check=True)
    (home / "server.py").write_text(NETWORK + peer.source)
    words = [word.format(port=port) for word in peer.command]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    quiet = {
        "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
    }
    environment = {**os.environ, **one_thread, **quiet, "PATH": f"{bin_}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [str(bin_ / words[0]), *words[1:]],
        cwd=home,
        env=environment,
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    headers = {"content-type": "application/json"}
    while True:
        try:
            answer = httpx.post(
                f"http://{HOST}:{port}/compute_action", content=BODY, headers=headers, timeout=30
            )
            if answer.status_code == 200 and answer.json()["action"] in (0, 1):
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server on port {port} did not start")
        time.sleep(0.3)


if __name__ == "__main__":
    main()
