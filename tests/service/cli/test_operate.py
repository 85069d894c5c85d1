"""The ``maze`` command line: what it says, what it refuses, and that saying it is quick."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import main


@pytest.fixture
def database(tmp_path: Path) -> list[str]:
    return ["--database-url", f"sqlite:///{tmp_path / 'maze.db'}"]


def maze(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "service.cli", *arguments]
    path = "/usr/bin:/bin"
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"PATH": path, **variables}, check=False
    )


def test_help_imports_nothing_that_a_command_needs() -> None:
    heavy = {"torch", "sqlalchemy", "pydantic", "fastapi", "uvicorn", "hydra", "numpy", "gymnasium"}
    code = (
        "import sys, service.cli\n"
        "try: service.cli.main(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        f"sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--no-auth" in done.stdout


def test_no_auth_is_refused_off_loopback_and_the_way_out_is_told() -> None:
    done = maze("serve", "--host", "0.0.0.0", "--no-auth")
    assert done.returncode == 2
    assert "loopback only" in done.stderr
    assert "maze token create" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["worker", "--workers", "0"], {}, "MAZE_WORKERS or --workers"),
        (["api"], {"MAZE_PORT": "99999"}, "MAZE_PORT or --port"),
        (["worker"], {"MAZE_LEASE_S": "soon"}, "MAZE_LEASE_S"),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_said(
    arguments: list[str], variables: dict[str, str], says: str
) -> None:
    done = maze(*arguments, **variables)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "api"])
def test_a_port_that_is_taken_is_one_sentence(command: str, database: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = maze(command, "--no-auth", "--port", str(port), *database)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_worker_without_a_database_says_how_to_make_one(database: list[str]) -> None:
    done = maze("worker", *database)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("maze db upgrade")


def test_a_database_is_made_checked_saved_and_restored(
    database: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, copy = str(tmp_path / "archive.tar"), f"sqlite:///{tmp_path / 'copy.db'}"
    assert main(["db", "upgrade", *database]) == 0
    assert main(["db", "check", *database]) == 0
    assert main(["db", "backup", archive, *database]) == 0
    assert main(["db", "restore", archive, "--database-url", copy]) == 0
    assert main(["db", "check", "--database-url", copy]) == 0
    assert capsys.readouterr().out.count("whole") == 2


def test_a_check_of_no_database_fails(database: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "check", *database]) == 1
    assert "maze db upgrade" in capsys.readouterr().err


def test_a_token_is_made_listed_and_revoked(database: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "dashboard", *database]) == 0
    text = capsys.readouterr().out.strip()
    _, token_id, secret = text.split("_")

    assert main(["token", "list", *database]) == 0
    listed = capsys.readouterr().out
    assert token_id in listed
    assert "dashboard" in listed
    assert "valid" in listed
    assert secret not in listed

    assert main(["token", "revoke", token_id, *database]) == 0
    assert main(["token", "list", *database]) == 0
    assert "revoked" in capsys.readouterr().out
    assert main(["token", "revoke", "unknown", *database]) == 1


def test_an_entry_is_imported_or_counted_or_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "zoo.yml"
    file.write_text("CartPole-v1: {n_timesteps: 100}\nPong-v4: {policy: CnnPolicy}\n")
    zoo = ["import", "zoo", "--algorithm", "dqn", str(file)]
    assert main([*zoo, "CartPole-v1", "--into", str(tmp_path), "--name", "mine"]) == 0
    assert "total_env_steps: 100" in (tmp_path / "experiment" / "mine.yaml").read_text()
    assert main([*zoo, "Pong-v4", "--into", str(tmp_path)]) == 2
    assert main([*zoo, "--count"]) == 0
    assert "zoo.yml: 1 of 2 entries can be said here" in capsys.readouterr().out
    assert main(zoo) == 1
    assert "name the ENV" in capsys.readouterr().err


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["version"]) == 0
    assert capsys.readouterr().out.strip() == version("maze-service")


def test_a_model_of_stable_baselines3_becomes_a_checkpoint_or_nothing(tmp_path, capsys):
    from maze_core.checkpoint import Checkpoint

    files = Path(__file__).parents[2] / "maze_core/sb3/files"
    model, stats = str(files / "ppo_normalized.zip"), str(files / "vecnormalize.pkl")
    target = tmp_path / "walker.ckpt"
    said = ["import", "sb3", model, "--env", "Pendulum-v1", "--vecnormalize", stats, "--out", str(target)]
    assert main(said) == 2
    assert "--allow-pickle" in capsys.readouterr().err
    assert not target.exists()
    assert main([*said, "--allow-pickle"]) == 0
    assert Checkpoint.read(target).content_sha256[:12] in capsys.readouterr().out
