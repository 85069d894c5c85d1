"""compose.yaml is what its documentation says, and its steps work: read as data, and run as processes.

There is no Docker where this project is developed. What Compose would do is done by hand: PostgreSQL is started, then
the commands of the file run in their order, with the environment that the file gives them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.docs.fences import fenced_blocks
from tests.docs.service_process import free_port
from tests.packaging.dockerfile import read
from tests.service.databases import postgres_programs, running_postgres

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "api", "worker")
_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")
SECRET = "a secret of this test"


def environment_of(name: str) -> dict[str, str]:
    """What Compose gives a service, with the password in its place."""
    given = SERVICES[name]["environment"]
    return {key: _VARIABLE.sub(SECRET, value) for key, value in given.items()}


def test_it_has_a_database_a_migration_an_api_and_two_workers() -> None:
    assert set(SERVICES) == {"database", *OURS}
    assert SERVICES["worker"]["deploy"] == {"replicas": 2}
    assert [SERVICES[name]["command"] for name in OURS] == [
        ["maze", "db", "upgrade"],
        ["maze", "api"],
        ["maze", "worker"],
    ]


def test_images_are_pinned_and_ours_is_built_here_at_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert {SERVICES[name]["image"] for name in OURS} == {f"maze-service:{version[1]}"}
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", SERVICES["database"]["image"])
    build = SERVICES["migrate"]["build"]
    arguments = {line.partition("=")[0] for line in read(ROOT / "Dockerfile")[0].all("ARG")}
    assert set(build["args"]) <= arguments
    assert (ROOT / build["context"] / "Dockerfile").exists()


def test_schema_and_database_are_there_before_who_needs_them() -> None:
    ready = {"database": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["depends_on"] == ready
    migrated = ready | {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["api"]["depends_on"] == SERVICES["worker"]["depends_on"] == migrated


@pytest.mark.parametrize("name", OURS)
def test_ours_run_without_rights_and_write_nowhere_but_in_tmp(name: str) -> None:
    service = SERVICES[name]
    (user,) = read(ROOT / "Dockerfile")[-1].all("USER")
    assert service["user"] == user
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert "volumes" not in service


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_with_a_value_that_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment_of(name)
    settings = {key for key in given if key.startswith("MAZE_")}
    assert {key.removeprefix("MAZE_").lower() for key in settings} <= set(Settings.model_fields)
    assert set(given) - settings == {"PGPASSWORD"}, "libpq's own variable, so that no URL has the password"
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    read_settings = Settings()
    assert read_settings.auth
    assert SECRET not in read_settings.database_url


def test_the_url_leads_to_the_database_of_the_file() -> None:
    (url,) = {environment_of(name)["MAZE_DATABASE_URL"] for name in OURS}
    database = environment_of("database")
    assert url == f"postgresql://{database['POSTGRES_USER']}@database:5432/{database['POSTGRES_DB']}"


def test_what_stops_gets_longer_than_its_grace() -> None:
    for name in ("api", "worker"):
        grace_s = float(environment_of(name)["MAZE_SHUTDOWN_GRACE_S"])
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > grace_s


def test_the_password_is_asked_for_and_stands_nowhere() -> None:
    (line,) = (
        line for line in (ROOT / "compose.env.example").read_text().splitlines() if not line.startswith("#")
    )
    name, _, value = line.partition("=")
    assert not value
    assert set(_VARIABLE.findall((ROOT / "compose.yaml").read_text())) == {name}
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_api_is_reached_and_only_from_this_machine() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"api"}
    port = environment_of("api")["MAZE_PORT"]
    assert SERVICES["api"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_the_volume_of_the_database_outlives_it() -> None:
    (mounted,) = SERVICES["database"]["volumes"]
    assert mounted.partition(":")[0] in COMPOSE["volumes"]


def test_health_checks_are_those_of_programs_that_the_images_have() -> None:
    assert SERVICES["api"]["healthcheck"]["test"][:2] == ["CMD", "python"]
    compile(SERVICES["api"]["healthcheck"]["test"][3], "healthcheck", "exec")
    assert SERVICES["database"]["healthcheck"]["test"][1] == "pg_isready"
    assert SERVICES["worker"]["healthcheck"] == SERVICES["migrate"]["healthcheck"] == {"disable": True}


def test_the_page_shows_services_of_the_file() -> None:
    page = ROOT / "docs" / "how_to" / "compose.md"
    rows = set(re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE))
    assert rows == set(SERVICES)
    (block, *_) = fenced_blocks(page, "bash")
    (executed,) = re.findall(r"docker compose exec -T (\w+) ", block.code)
    assert executed in SERVICES


@pytest.mark.slow
@pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL")
def test_its_steps_serve_and_train_on_both_workers(tmp_path: Path) -> None:
    programs = postgres_programs()
    assert programs is not None
    with running_postgres(programs) as cluster, ExitStack() as processes:
        cluster.create("maze")
        changed = {"MAZE_DATABASE_URL": cluster.url("maze"), "MAZE_PORT": str(free_port())}
        migrated = _command("migrate", changed)
        subprocess.run(migrated["args"], env=migrated["env"], cwd=tmp_path, check=True)
        processes.enter_context(_running("api", changed, tmp_path))
        for _ in range(SERVICES["worker"]["deploy"]["replicas"]):
            processes.enter_context(_running("worker", changed, tmp_path))
        _until(lambda: _is_healthy(changed))

        base, token = f"http://127.0.0.1:{changed['MAZE_PORT']}", _token(changed, tmp_path)
        _until(lambda: _call(base, token, "/health/ready")["checks"]["workers"].get("alive") == 2)
        spec = {"overrides": {"algorithm.n_epochs": 20, "algorithm.epoch_length": 4}}
        runs = [_call(base, token, "/v1/train", spec | {"seed": seed})["id"] for seed in range(6)]
        _until(lambda: {_call(base, token, f"/v1/runs/{run}")["state"] for run in runs} == {"succeeded"})
        acted = _call(base, token, f"/v1/runs/{runs[0]}/compute_action", {"observation": [0, 0, 0, 0]})
        assert acted["action"] in (0, 1)
        workers = {
            event["data"]["by"]
            for run in runs
            for event in _call(base, token, f"/v1/runs/{run}/events?types=state")["data"]
            if event["data"]["state"] == "running"
        }
        assert len(workers) == 2, "both workers have worked"


def _token(changed: Mapping[str, str], directory: Path) -> str:
    """What the page has the reader do in the API's container."""
    made = _command("api", changed)
    created = [made["args"][0], "token", "create", "me"]
    done = subprocess.run(created, env=made["env"], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _command(name: str, changed: Mapping[str, str]) -> dict[str, Any]:
    """Words and environment of a service of the file; its program is the one beside this Python."""
    program, *arguments = SERVICES[name]["command"]
    given = {**read(ROOT / "Dockerfile")[-1].env(), **environment_of(name)}
    kept = {key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {key: value for key, value in given.items() if key.startswith(("MAZE_", "PG", "PYTHON"))}
    return {
        "args": [str(Path(sys.executable).parent / program), *arguments],
        "env": {**kept, **settings, **changed, "PATH": path},
    }


@contextmanager
def _running(name: str, changed: Mapping[str, str], directory: Path) -> Iterator[None]:
    """A service of the file as a process, ended as Compose ends it."""
    with (directory / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(**_command(name, changed), cwd=directory, stdout=log, stderr=log)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(float(SERVICES[name]["stop_grace_period"].removesuffix("s"))) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _is_healthy(changed: Mapping[str, str]) -> bool:
    """What the file's own health check says."""
    command = SERVICES["api"]["healthcheck"]["test"][2:]
    done = subprocess.run(
        [sys.executable, *command], env=_command("api", changed)["env"], capture_output=True, check=False
    )
    return done.returncode == 0


def _call(base: str, token: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(base + path, data, headers), timeout=60) as answer:
        return json.loads(answer.read())


def _until(is_so: Any) -> None:
    deadline = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < deadline, "nothing has changed for 90 s"
        time.sleep(0.1)
