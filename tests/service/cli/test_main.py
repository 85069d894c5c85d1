"""Whatever goes wrong is one line and an exit code, and text of others never steers the terminal."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from service.cli import main, parser_of_all
from service.cli.printing import complain, plain
from service.cli.remote import print_columns, print_json

COMMAND = [sys.executable, "-m", "service.cli"]
STEERING = "\x1b]0;owned\x07 \x9b2J\r\n\u202etxt.exe \ud800 \x7f"


class OtherServer(BaseHTTPRequestHandler):
    """Says hello whatever it is asked."""

    def do_GET(self) -> None:
        body = b"<html>hello</html>"
        self.send_response(200 if self.server.server_port % 2 else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def other_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), OtherServer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_text_of_others_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(STEERING) == "\\u001b]0;owned\\u0007 \\u009b2J\\r\\n\\u202etxt.exe \\ud800 \\u007f"
    assert plain("naïve – 漢字 👩‍🚀 \\n") == "naïve – 漢字 👩‍🚀 \\n"
    print_columns([["name"], [STEERING]])
    complain("first\nsecond \x1b[2J")
    out, err = capsys.readouterr()
    assert out.splitlines() == ["name", plain(STEERING)]
    assert err.splitlines() == ["maze: first", "maze: second \\u001b[2J"]


def test_json_is_exact_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    said = {"name": STEERING.replace("\ud800", ""), "quote": '\\"'}
    print_json(said)
    out = capsys.readouterr().out
    assert json.loads(out) == said
    assert out.removesuffix("\n").isprintable()


@pytest.mark.parametrize(
    ("words", "name", "given"),
    [
        ("runs cancel run_a --json run_b", "ids", ["run_a", "run_b"]),
        ("metrics run_a --plot loss", "names", ["loss"]),
        ("policies compare a@b --seed 1 run_b", "policies", ["a@b", "run_b"]),
        ("sweep pause --json sweep_a --url x sweep_b", "ids", ["sweep_a", "sweep_b"]),
        ("train algorithm=ppo --wait seed=1", "words", ["algorithm=ppo", "seed=1"]),
        ("act run_a --sample [1]", "observation", "[1]"),
        ("import zoo a.yml --count Env-v0", "env", "Env-v0"),
    ],
)
def test_positionals_may_stand_behind_options(words: str, name: str, given: object) -> None:
    assert getattr(parser_of_all().parse_args(words.split()), name) == given


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("runs list --limit -1", "-1: write a whole number, 0 or more"),
        ("sweep list --limit x", "x: write a whole number, 0 or more"),
        ("runs wait run_a --timeout nan", "nan: write a number of seconds"),
        ("sweep wait sweep_a --timeout -1", "-1: write a number of seconds"),
        ("train --timeout inf", "inf: write a number of seconds"),
        (
            "policies promote pole@champion abc",
            "abc: write a version's number, such as 3, or a run's id, run_…",
        ),
        ("policies show pole@champion", "pole@champion: write the name of the policy alone, pole"),
        ("policies versions pole:3", "pole:3: write the name of the policy alone, pole"),
        ("runs show sweep_a", "sweep_a: write the id of a run, run_…"),
        ("sweep show run_a", "run_a: write the id of a sweep, sweep_…"),
        ("logs pole@champion", "pole@champion: write the id of a run, run_…"),
        ("runs cancel run_a --wiat", "unrecognized arguments: --wiat"),
        ("runs show run_a run_b", "unrecognized arguments: run_b"),
        ("runs cancel", "the following arguments are required: ID"),
    ],
)
def test_what_is_said_wrongly_is_told_with_what_is_expected(
    capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_deep_json_is_no_observation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["act", "run_a", "[" * 200_000]) == 2
    assert capsys.readouterr().err.startswith("maze: OBSERVATION is no JSON")


@pytest.mark.parametrize("words", ["runs list", "runs show run_a", "policies list", "env list", "sweep list"])
def test_another_server_is_one_line(
    capsys: pytest.CaptureFixture[str], other_server: str, words: str
) -> None:
    assert main([*words.split(), "--url", other_server]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("maze: ")


def test_an_error_that_nobody_foresaw_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.runs.print_facts", None)
    monkeypatch.setattr("maze_client.Client.run", lambda *_: None)
    assert main(["runs", "show", "run_a"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("maze: this was not foreseen: TypeError: ")


def test_the_doctor_goes_on_beside_another_server_and_a_url_that_is_none(
    capsys: pytest.CaptureFixture[str], other_server: str
) -> None:
    assert main(["doctor", "--url", other_server, "--database-url", "garbage"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "✗ database: the database's URL is none" in out
    assert f"✗ service: {other_server} is no Maze service" in out


def test_a_file_that_is_no_database_is_not_to_be_upgraded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, other_server: str
) -> None:
    (tmp_path / "maze.db").write_text("no database at all" * 100)
    main(["doctor", "--url", other_server, "--database-url", f"sqlite:///{tmp_path / 'maze.db'}"])
    out = capsys.readouterr().out
    assert "file is not a database" in out
    assert "maze db upgrade" not in out


@pytest.mark.parametrize("stream", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_is_no_error(stream: str) -> None:
    command = f"{sys.executable} -m service.cli version {stream}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_before_anything_is_done_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.parser_of_all", lambda: signal.raise_signal(signal.SIGINT))
    assert main(["version"]) == 130


def test_lines_of_a_log_stay_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime
    from types import SimpleNamespace

    at = datetime(2026, 1, 2, tzinfo=UTC)
    line = SimpleNamespace(at=at, level="ERROR", message="Traceback:\n2026 INFO forged \x1b[2J")
    run = SimpleNamespace(logs=lambda follow: [line])
    monkeypatch.setattr("maze_client.Client.run", lambda *_: run)
    assert main(["logs", "run_a"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-01-02 00:00:00 ERROR   Traceback:",
        "    2026 INFO forged \\u001b[2J",
    ]
