"""An installed wheel serves and trains, outside the checkout.

The wheel is built from what the Dockerfile copies and nothing else, so that a file missing there is missing
here. It is installed without its dependencies into a new virtual environment, and only then that environment
gets a ``.pth`` file with one line: the site-packages of the environment that runs this test. Python puts the
directory on the path and does *not* read the ``.pth`` files in it, so the dependencies can be imported and the
editable install of the checkout cannot. Building asks the package index for the build backend.
"""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.docs.service_process import service
from tests.packaging.dockerfile import read

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = ("__pycache__", "*.pyc", "node_modules")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [name for rest in read(ROOT / "Dockerfile")[0].all("COPY") for name in rest.split()[:-1]]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(target), ".", cwd=source)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The virtual environment; its dependencies are those of this one."""
    directory = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(directory, symlinks=True, with_pip=False)
    python = str(directory / "bin" / "python")
    arguments = ("install", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))
    run(sys.executable, "-m", "pip", "--python", python, *arguments, cwd=directory)
    (site_packages,) = directory.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return directory


def test_the_wheel_has_modules_migrations_licence_and_commands(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    conf = {f"maze_core/conf/{file.relative_to(ROOT / 'conf')}" for file in (ROOT / "conf").rglob("*.yaml")}
    migrations = {
        f"service/migrations/versions/{file.name}" for file in (ROOT / "alembic/versions").glob("*.py")
    }
    assert conf | migrations | {"service/migrations/env.py", "maze_client/py.typed"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    page = {file.relative_to(ROOT).as_posix() for file in (ROOT / "service/web").rglob("*.js")}
    assert {name for name in page if "node_modules" not in name} <= names
    assert "service/web/vendor/LICENSES.txt" in names
    assert not [name for name in names if "node_modules" in name or name.endswith("schema.d.ts")]
    assert "maze = service.cli:main" in entry_points
    assert "maze-run = maze_core.cli:main" in entry_points


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        odd = [name for name in archive.namelist() if name.endswith((".pyc", ".db", ".ckpt"))]
    assert {top for top in tops if not top.endswith(".dist-info")} == {"maze_core", "service", "maze_client"}
    assert not odd


def test_the_wheel_asks_for_what_the_project_declares(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {normal(line) for line in asked} == {normal(line) for line in declared["dependencies"]}
    assert metadata["License-Expression"] == "Apache-2.0"


def test_everything_is_imported_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    script = """
import json, maze_core, service
from maze_core.config import conf_root
from service.store.migrations import head_revision, migrations_dir
places = [maze_core.__file__, service.__file__, conf_root(), migrations_dir()]
print(json.dumps({"places": [str(place) for place in places], "head": head_revision()}))
"""
    found = json.loads(run(str(installed / "bin" / "python"), "-c", script, cwd=tmp_path))
    (site_packages,) = installed.glob("lib/python*/site-packages")
    assert all(place.startswith(str(site_packages)) for place in found["places"])
    assert found["places"][2].endswith("maze_core/conf")
    assert found["places"][3].endswith("service/migrations")
    assert found["head"]


def test_the_command_line_finds_its_modules(installed: Path, tmp_path: Path) -> None:
    words = ("-cn", "conf_train", "algorithm=a2c", "seed=1", "--cfg", "job")
    printed = run(str(installed / "bin" / "maze-run"), *words, cwd=tmp_path)
    in_checkout = run(sys.executable, "-m", "maze_core.cli", *words, cwd=ROOT)
    assert printed.startswith("# config_sha256: ")
    assert printed == in_checkout


def test_it_serves_and_trains_over_http(installed: Path, tmp_path: Path) -> None:
    body = {"configuration": "test", "n_epochs": 1, "seed": 1}
    with service(
        tmp_path, command=[str(installed / "bin" / "maze")], environment=clean_environment()
    ) as address:
        run_ = post(f"http://{address}/v1/train", body, {"prefer": "wait=120"})
        assert run_["state"] == "succeeded", run_["error"]
        assert run_["result"]["epoch"] == 1
        acted = post(
            f"http://{address}/v1/runs/{run_['id']}/compute_action", {"observation": [0.0, 0.0, 0.0, 0.0]}
        )
        assert acted["action"] in (0, 1)
        browser = urllib.request.Request(f"http://{address}/", headers={"accept": "text/html"})
        with urllib.request.urlopen(browser, timeout=30) as answer:
            document = answer.read().decode()
        for path in re.findall(r'(?:src|href)="(/page/[^"]+)"', document):
            with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
                assert answer.read(), path
    assert (tmp_path / "maze.db").exists()


def run(*command: str, cwd: Path) -> str:
    """Run a command in a clean environment; what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def normal(requirement: str) -> str:
    """A requirement as text that is the same for equal ones; names differ in case."""
    return str(Requirement(requirement)).lower()


def clean_environment() -> dict[str, str]:
    """This environment without what could lead back to the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAZE_", "PYTHON"))}


def post(url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    """POST JSON; the answer."""
    sent = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), sent)
    with urllib.request.urlopen(request, timeout=150) as answer:
        return json.loads(answer.read())
