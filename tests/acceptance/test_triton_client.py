"""NVIDIA's tritonclient acts as it comes, with its defaults, JSON and binary, sync and asyncio.

It is installed at a pinned version into an environment of its own; ``clients/use_triton.py`` is what it does there.
"""

import json
import sys

import pytest

from tests.acceptance.test_generated_clients import CLIENTS, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it installs an environment


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment with tritonclient."""
    folder = tmp_path_factory.mktemp("triton")
    run(sys.executable, "-m", "venv", str(folder), cwd=folder)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, "-r", str(CLIENTS / "triton.txt"), cwd=folder)
    return folder / "bin/python"


def test_tritonclient_acts_as_compute_action_does(server, python):
    spec = {"configuration": "test", "overrides": {"env.name": "CartPole-v1"}, "n_epochs": 1}
    trained = server.submit("train", spec)
    assert server.wait(trained)["state"] == "succeeded"
    server.post("/v1/policies", {"name": "spoken"})
    server.post("/v1/policies/spoken/versions", {"run": trained})
    server.client.put("/v1/policies/spoken/aliases/champion", json={"version": 1})
    address = f"127.0.0.1:{server.port}"
    told = run(str(python), str(CLIENTS / "use_triton.py"), address, trained, "spoken@champion", cwd=CLIENTS)
    rows = [[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1]]
    expected = server.post(f"/v1/runs/{trained}/compute_action", {"observations": rows}).json()
    assert json.loads(told) == expected["actions"]
