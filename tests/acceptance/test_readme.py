"""The commands of the README, as printed: the curl tour against a live server, and the twin on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.docs.fences import fenced_blocks

README = Path(__file__).parents[2] / "README.md"
PRINTED_URL = "http://127.0.0.1:8000"


def shell(blocks, folder, url=PRINTED_URL):
    """Run shell blocks as one script that stops at the first failure."""
    script = "set -euo pipefail\n" + "\n".join(block.code for block in blocks).replace(PRINTED_URL, url)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_curl_tour_works_as_printed(server, tmp_path):
    earlier = {run["id"] for run in server.get("/v1/runs", limit=100)["data"]}
    tour = [block for block in fenced_blocks(README, "bash") if "curl" in block.code]
    output = shell(tour, tmp_path, f"http://127.0.0.1:{server.port}")
    assert '"did_you_mean":"ppo"' in output
    runs = {
        run["kind"]: run
        for run in server.get("/v1/runs", limit=10)["data"]
        if run["state"] == "succeeded" and run["id"] not in earlier
    }
    assert set(runs) == {"train", "evaluate", "rollout"}
    assert runs["evaluate"]["result"]["mean_return"] > 400
    assert runs["evaluate"]["seed"] == 1


def test_the_command_line_twin_works_as_printed(tmp_path):
    (block,) = [block for block in fenced_blocks(README, "bash") if "maze-run" in block.code]
    shell([block], tmp_path)
    report = json.loads((tmp_path / "outputs" / "first" / "report.json").read_text())
    assert report["stop_reason"] == "completed"
