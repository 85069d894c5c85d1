"""Pictures as bytes against JSON lists, and 256 observations in one request against one in each, in one run.

    python -m benchmarks.serve_bodies [--rounds 5] [--requests 100]

Stores two small policies in a fresh SQLite database, of pictures of 96 × 96 × 3 bytes and of CartPole, and starts the
service. One client asks one after the other, the kinds in turns. ``ratio`` is the median time of a round trip per
observation of what stands beside it over a kind's own, ``cpu_ratio`` the same of the server's own CPU time, which other
processes disturb least. ``lists`` and ``one`` are what the others are measured by; the targets are 10 and 50.
"""

import argparse
import base64
import json
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.report import write_report
from benchmarks.serve_actions import BODY, _started, _stored_run
from benchmarks.serve_sessions import OBSERVATION, Http, Kind, measured

COLUMNS = ("what", "beside", "p50_us", "ratio", "cpu_us", "cpu_ratio")
PICTURE = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
N = 256
JSON, MSGPACK, OCTETS = "application/json", "application/msgpack", "application/octet-stream"


def forms(array: np.ndarray, name: str) -> dict[str, tuple[str, bytes]]:
    """Head and body of a request for each form of one array."""
    leaf = {"dtype": array.dtype.name, "shape": list(array.shape)}
    data = array.tobytes()
    head = (
        f"{OCTETS}\r\nx-array-dtype: {array.dtype.name}\r\nx-array-shape: {','.join(map(str, array.shape))}"
    )
    return {
        "lists": (JSON, json.dumps({name: array.tolist()}, separators=(",", ":")).encode()),
        "base64": (JSON, msgspec.json.encode({name: {"b64": base64.b64encode(data).decode(), **leaf}})),
        "msgpack": (MSGPACK, msgspec.msgpack.encode({name: {"data": data, **leaf}})),
        "octets": (head, data),
    }


def _request(post: Callable[[], bytes], _seq: int) -> Callable[[], bytes]:
    return post


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100, help="of each kind in a round, a multiple of 50")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = f"sqlite:///{folder / 'bench.db'}"
        (folder / "pictures").mkdir()
        pole, _ = _stored_run(url, folder)
        car, _ = _stored_run(url, folder / "pictures", env="CarRacing-v3", units=[8])
        acting = f"/v1/runs/{pole}/compute_action"
        server = stack.enter_context(_started("service", acting, "", url))
        http = Http(server.port)
        rows = []
        observations = np.tile(np.asarray(OBSERVATION, np.float32), (N, 1))
        batches = {
            name: (*form, N) for name, form in forms(observations, "observations").items() if name != "octets"
        }
        for what, path, beside, kinds in (
            (
                "picture",
                f"/v1/runs/{car}/compute_action",
                "lists",
                {n: (*f, 1) for n, f in forms(PICTURE, "observation").items()},
            ),
            ("CartPole", acting, "one", {"one": (JSON, BODY.encode(), 1), **batches}),
        ):
            ask: dict[str, Kind] = {}
            for name, (head, body, _) in kinds.items():
                ask[name] = partial(_request, partial(http.post, path, body, head))
            pids = dict.fromkeys(kinds, server.process.pid)
            samples = measured(ask, pids, options.rounds * options.requests)
            per_observation = {
                name: (statistics.median(times) * 1e6 / kinds[name][2], cpu_us / kinds[name][2])
                for name, (times, cpu_us) in samples.items()
            }
            for name, (p50_us, cpu_us) in per_observation.items():
                other_us, other_cpu_us = per_observation[beside]
                rows.append(
                    {
                        "what": f"{what}, {N} by {name}" if kinds[name][2] > 1 else f"{what}, {name}",
                        "beside": beside,
                        "p50_us": round(p50_us, 1),
                        "ratio": round(other_us / p50_us, 1),
                        "cpu_us": round(cpu_us, 1),
                        "cpu_ratio": round(other_cpu_us / cpu_us, 1),
                    }
                )
    write_report("serve_bodies", rows, columns=COLUMNS, settings=vars(options))


if __name__ == "__main__":
    main()
