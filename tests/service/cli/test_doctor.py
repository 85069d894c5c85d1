"""``maze doctor``: all is well beside a service, and each thing that is not is told with its way out."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from service import installed
from service.cli import doctor, main
from tests.acceptance.server import Server, await_answer, free_port


def told(folder: Path, *words: str, url: str) -> tuple[int, dict[str, dict[str, str]]]:
    command = [sys.executable, "-m", "service.cli", "doctor", "--json", "--url", url, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)
    assert done.stderr == ""
    return done.returncode, {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


def test_beside_a_service_nothing_is_wrong(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    code, found = told(server.folder, "--database-url", f"sqlite:///{server.folder / 'maze.db'}", url=url)
    assert code == 0
    assert {name for name, one in found.items() if one["status"] == "wrong"} == set()
    assert found["service: workers"]["what"] == "alive 1"
    assert {"python", "torch", "sqlite", "database", "disk", "service", "token"} <= set(found)


def test_a_service_that_is_not_there_is_wrong_and_a_database_that_is_not_there_is_not(tmp_path: Path) -> None:
    code, found = told(tmp_path, url=f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert found["service"]["way_out"].startswith("start it with maze serve")
    assert (found["database"]["status"], found["database"]["what"][-16:]) == ("note", "is not there yet")


def test_an_old_database_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "maze.db"
    file.touch()
    code, found = told(tmp_path, "--database-url", f"sqlite:///{file}", url=f"http://127.0.0.1:{free_port()}")
    assert (code, found["database"]["status"]) == (1, "wrong")
    assert "maze db upgrade" in found["database"]["what"]
    assert found["database"]["way_out"] == "do so with the service stopped"


def test_little_room_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(9, 9, doctor.LITTLE_BYTES - 1))
    database = f"sqlite:///{tmp_path / 'maze.db'}"
    assert main(["doctor", "--url", f"http://127.0.0.1:{free_port()}", "--database-url", database]) == 1
    assert "✗ disk: 1.1 GB free" in capsys.readouterr().out


def test_a_missing_extra_is_a_note_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        installed.metadata, "requires", lambda _: ['nosuch==1.0; extra == "video"', "torch>2"]
    )
    monkeypatch.setattr(doctor, "_service", lambda _: [])
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "• extra video: nosuch is not installed\n    → pip install 'maze-service[video]'" in out


def test_a_token_that_is_not_taken_is_told(tmp_path: Path) -> None:
    assert os.environ.get("MAZE_TOKEN") is None
    port, url = free_port(), f"sqlite:///{tmp_path / 'maze.db'}"
    command = [sys.executable, "-m", "service.cli"]
    subprocess.run([*command, "db", "upgrade", "--database-url", url], check=True, capture_output=True)
    api = subprocess.Popen(
        [*command, "api", "--port", str(port), "--database-url", url], stderr=subprocess.DEVNULL
    )
    try:
        await_answer(port)
        _, found = told(tmp_path, "--database-url", url, url=f"http://127.0.0.1:{port}")
        assert found["token"]["what"].startswith("is asked for, and there is none")
        assert "maze token create" in found["token"]["way_out"]
        _, found = told(tmp_path, "--token", "maze_no", url=f"http://127.0.0.1:{port}")
        assert found["token"]["what"].startswith("is not taken")
    finally:
        api.terminate()
        api.wait(30)
