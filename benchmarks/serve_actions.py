"""Requests per second of ``compute_action`` against a bare ASGI application on the same uvicorn.

    python -m benchmarks.serve_actions [--rounds 3] [--seconds 3] [--connections 1 8 64]

Trains a small CartPole policy, puts its checkpoint into a fresh SQLite database, starts the servers and loads
them in turn, alternating within every round, so that what else happens on the machine meets all. ``service`` asks for
no tokens, ``guarded`` does, and limits the rate. ``ratio`` is a server's requests per second over the bare
application's; the targets of ``service`` are 1.2 at 64 connections, 0.85 at 8 and 0.68 at one, that of ``guarded``
is 1.0 at 64.
``cpu_us`` is the server process's own CPU time per request and ``cpu_ratio`` the bare application's over the
server's, which other processes and a slow load generator disturb least.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.http_load import HOST, Generator, default_generator, measure
from benchmarks.report import spread, write_report

BODY = '{"observation":[0.0273956,-0.0061183,0.0358974,0.0197368]}'
COLUMNS = ("connections", "server", "requests_per_s", "p50_us", "p99_us", "cpu_us", "ratio", "cpu_ratio")
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Server:
    """One server under load."""

    name: str
    port: int
    path: str
    token: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU seconds that it has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def main() -> None:
    """Measure, print the table, write the JSON."""
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder / 'bench.db'}"
        run, token = _stored_run(url, folder)
        path = f"/v1/runs/{run}/compute_action"
        servers = [
            stack.enter_context(_started(kind, path, token if kind == "guarded" else "", url))
            for kind in ("bare", "service", "guarded")
        ]
        for server in servers[1:]:
            _check_answer(server)
        samples = _measure(servers, options)
    settings = vars(options) | {"body": BODY}
    print(f"load by {options.generator}, {options.rounds} rounds of {options.seconds:g} s\n")
    name = "serve_growth" if options.growth else "serve_actions"
    write_report(name, _summary(samples), columns=COLUMNS, settings=settings)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each server and load")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64], help="connections at once")
    parser.add_argument(
        "--generator", choices=("wrk", "own"), default=default_generator(), help="of the load"
    )
    parser.add_argument("--growth", action="store_true", help="over 1 to 1,000 connections, one round")
    options = parser.parse_args()
    if options.growth:
        options.connections, options.rounds = [1, 4, 16, 64, 256, 1000], 1
    return options


def _stored_run(
    url: str, folder: Path, env: str = "CartPole-v1", units: Sequence[int] = (64, 64)
) -> tuple[str, str]:
    """A database with one finished training run, its checkpoint and a token; the run's id, and the token."""
    from service.domain.run import NewCheckpoint, NewRun, RunKind, RunState
    from service.domain.sharing import ANYBODY
    from service.domain.use_cases import new_run_id, new_token
    from service.store import open_stores
    from service.store.migrations import migrate

    bundle, facts = _trained_bundle(folder, env, units)
    migrate(url)
    stores = open_stores(url)
    try:
        new = NewRun(
            id=new_run_id(), kind=RunKind.TRAIN, request={}, config={}, config_sha256=None, seed=facts["seed"]
        )
        run, _ = stores.runs.create(new)
        claimed = stores.runs.claim("benchmark", kinds=[RunKind.TRAIN], lease_s=60.0)
        assert claimed is not None
        checkpoint = NewCheckpoint(
            epoch=1,
            step=0,
            kind="best",
            metrics={"eval/mean_return": 0.0},
            content_sha256=facts["content_sha256"],
            weights_sha256=facts["weights_sha256"],
            servable=True,
            not_servable_reason=None,
            is_best=True,
            is_last=True,
        )
        stores.checkpoints.put(claimed[1], checkpoint, bundle)
        stores.runs.finish(claimed[1], RunState.SUCCEEDED, reason="completed")
        token_id, token, digest = new_token()
        stores.registry.add_token(token_id, digest, "benchmark", ANYBODY)
    finally:
        stores.close()
    return run.id, token


def _trained_bundle(folder: Path, env: str, units: Sequence[int]) -> tuple[bytes, dict[str, Any]]:
    """A checkpoint of PPO after one short epoch, and its digests: normalization and layers of tanh units."""
    from maze_core import RunContext
    from maze_core.checkpoint import Checkpoint

    seed = 1
    target = "maze_core.models.config.FlattenConcatPolicyNetConfig"
    network = {"_target_": target, "hidden_units": [*units], "non_lin": "tanh"}
    with RunContext(
        run_dir=folder / "run",
        wrappers="vector_obs" if env == "CartPole-v1" else "no_wrappers",
        algorithm="ppo",
        model="flatten_concat",
        configuration="test",
        overrides={"env.name": env, "model.policy.networks": [network]},
        seed=seed,
    ) as context:
        context.train(n_epochs=1)
        path = context.save(folder / "bundle", "last")
    checkpoint = Checkpoint.read(path)
    facts = {"content_sha256": checkpoint.content_sha256, "weights_sha256": checkpoint.weights_sha256}
    return path.read_bytes(), facts | {"seed": seed}


@contextmanager
def _started(kind: str, path: str, token: str, url: str) -> Iterator[Server]:
    """A server process that answers, and is stopped at the end."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread, "MAZE_DATABASE_URL": url}
    command = [sys.executable, "-m", "benchmarks.action_servers", kind, str(port)]
    process = subprocess.Popen(command, env=environment)
    try:
        server = Server(kind, port, path, token, psutil.Process(process.pid))
        _wait_until_it_answers(server, process)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            _post(server)
            return
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the {server.name} server did not start") from None
            time.sleep(0.1)


def _post(server: Server) -> httpx.Response:
    headers = {"content-type": "application/json"}
    headers |= {"authorization": f"Bearer {server.token}"} if server.token else {}
    return httpx.post(f"http://{HOST}:{server.port}{server.path}", content=BODY, headers=headers)


def _check_answer(server: Server) -> None:
    answer = _post(server)
    if answer.status_code != 200 or answer.json()["action"] not in (0, 1):
        raise RuntimeError(f"the service answers {answer.status_code}: {answer.text}")


def _measure(
    servers: Sequence[Server], options: argparse.Namespace
) -> dict[tuple[int, str], list[dict[str, float]]]:
    """Samples per (connections, server), the servers in turn within every round."""
    samples: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    for server in servers:
        _loaded(server, options.generator, max(options.connections), 1.0)
    for _ in range(options.rounds):
        for connections in options.connections:
            for server in servers:
                sample = _loaded(server, options.generator, connections, options.seconds)
                samples[connections, server.name].append(sample)
    return samples


def _loaded(server: Server, generator: Generator, connections: int, seconds: float) -> dict[str, float]:
    """One measurement of one server under load."""
    before = server.cpu_s()
    result = measure(
        server.port,
        server.path,
        BODY,
        connections=connections,
        seconds=seconds,
        generator=generator,
        token=server.token,
    )
    if result.failures:
        raise RuntimeError(f"{server.name}: {result.failures} of {result.requests} requests failed")
    return {
        "requests_per_s": result.requests_per_s,
        "p50_us": result.p50_us,
        "p99_us": result.p99_us,
        "cpu_us": (server.cpu_s() - before) / result.requests * 1e6,
    }


def _summary(samples: dict[tuple[int, str], list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Medians per (connections, server), and the median over rounds of each one's ratio to the bare one."""
    rows: list[dict[str, Any]] = []
    for (connections, server), measured in samples.items():
        row: dict[str, Any] = {"connections": connections, "server": server}
        row |= {name: statistics.median(sample[name] for sample in measured) for name in measured[0]}
        if server != "bare":
            pairs = list(zip(measured, samples[connections, "bare"], strict=True))
            ratios = [ours["requests_per_s"] / bare["requests_per_s"] for ours, bare in pairs]
            row |= {"ratio": statistics.median(ratios), "ratio_spread": spread(ratios)}
            row["cpu_ratio"] = statistics.median(bare["cpu_us"] / ours["cpu_us"] for ours, bare in pairs)
        rows.append(row | {"samples": measured})
    return rows


if __name__ == "__main__":
    main()
