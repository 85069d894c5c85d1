"""What type checkers see of the client: its own types, in a script of a user."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

SCRIPT = """
import asyncio
from maze_client import AsyncClient, AsyncRun, AsyncSweep, Client, Run

run = Client().train(algorithm="ppo", seed=1).wait()
reveal_type(run)
epoch: int | None = run.progress.epoch


async def main() -> None:
    async with AsyncClient() as client:
        theirs = await client.run("run_1")
        waiting: asyncio.Task[AsyncRun] = asyncio.create_task(theirs.wait())
        looking: asyncio.Task[AsyncSweep] = asyncio.create_task((await client.get_sweep("sweep_1")).refresh())
        ready = asyncio.create_task(client.health())
        print(await waiting, await looking, (await ready).is_ready)


asyncio.run(main())
"""
WRONG = SCRIPT + "wrong: str = run.attempt\nClient().train(algoritm=1)\n"


def checked(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    (path / "script.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(path / "cache"), "script.py"]
    return subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)


def test_a_strict_type_checker_sees_the_types_of_a_users_script(tmp_path):
    right = checked(tmp_path, SCRIPT)
    assert right.returncode == 0, right.stdout + right.stderr
    assert 'Revealed type is "maze_client.run.Run"' in right.stdout
    wrong = checked(tmp_path, WRONG)
    assert 'expression has type "int", variable has type "str"' in wrong.stdout
    assert '"algoritm"' in wrong.stdout


def test_the_package_says_that_it_is_typed():
    assert resources.files("maze_client").joinpath("py.typed").is_file()
