"""A real service, and walks of a real Chromium through its page."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from service.web import FOLDER
from tests.acceptance.server import serving
from tools.page import environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOTS = Path(os.environ.get("SCREENSHOTS", "/tmp/maze-screenshots"))
"""Where screenshots are left to be looked at."""


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("service"), workers=2) as running:
        yield running


@pytest.fixture(scope="package")
def trained(server):
    """A training with checkpoints, evaluations and a labelled name, that has ended."""
    body = {
        "algorithm": "ppo",
        "n_epochs": 4,
        "seed": 1,
        "name": "trained",
        "labels": {"team": "web"},
        "overrides": {"env.name": "CartPole-v1", "algorithm.checkpoint_every": 1},
    }
    return server.wait(server.submit("train", body))


@pytest.fixture(scope="session")
def walk():
    """Play a script of this folder in Chromium; what it returns."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    if not (FOLDER / "node_modules" / "playwright-core").is_dir():
        pytest.skip("the browser's driver is not installed: python -m tools.page --dev")
    found = environment()

    def play(script, server, **given):
        given = {
            "url": str(server.client.base_url).rstrip("/"),
            "chromium": CHROMIUM,
            "shots": str(SHOTS),
            **given,
        }
        command = ["node", str(Path(__file__).parent / script), json.dumps(given)]
        done = subprocess.run(command, env=found, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{script}:\n{done.stderr[-6000:]}\n{server.log()[-2000:]}"
        return json.loads(done.stdout.strip().splitlines()[-1])

    return play
