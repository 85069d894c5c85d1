"""From a clone to a learnt pole and its video, with a stopwatch: ``make first-minutes``.

    python -m tests.web.first_minutes            a fresh clone, `make serve`, and what a newcomer does on the page
    python -m tests.web.first_minutes --wheel    a wheel in a new virtual environment, `maze serve` in an empty folder

The page has to show a policy that balances for 475 steps or more, its curve and its video within three minutes after
the installation. Needs Chromium, and `python -m tools.page --dev` here.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.server import free_port
from tests.web.conftest import CHROMIUM, SHOTS
from tools.page import environment

ROOT = Path(__file__).resolve().parents[2]
GOAL_S = 180.0
LEARNT = 475.0
"""`CartPole-v1` counts as solved from this mean return."""
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MAZE_", "PYTHON", "VIRTUAL_ENV", "MAKE"))
}


class Stopwatch:
    """Prints each step with the seconds that it took."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def step(self, what: str) -> float:
        """Say that something is done; seconds since the step before."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        print(f"{now - self._began:7.1f} s  (+{took:5.1f})  {what}", flush=True)
        return took


def main() -> int:
    """Play the first minutes; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", action="store_true", help="install a wheel in place of a clone")
    arguments = parser.parse_args()
    watch = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="first-minutes-") as name:
        folder, port = Path(name), free_port()
        prepare = installed_wheel if arguments.wheel else clone
        command, cwd = prepare(folder, port, watch)
        with serving(command, cwd, watch) as ready_at:
            found = play(f"http://127.0.0.1:{port}")
            for what, after_ms in found["steps"]:
                print(f"         page {after_ms / 1000:6.1f} s  {what}")
            watch.step("the page has shown all of it")
            took_s = time.monotonic() - ready_at
    is_learnt = found["score"] >= LEARNT
    print(f"\nafter the installation: {took_s:.0f} s of {GOAL_S:.0f}; mean return {found['score']:g}")
    print(f"screenshots in {SHOTS}")
    return 0 if is_learnt and took_s <= GOAL_S else 1


def clone(folder: Path, port: int, watch: Stopwatch) -> tuple[list[str], Path]:
    """What is committed, in a folder of its own."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "maze")], check=True)
    watch.step("cloned")
    return ["make", "serve", f"PORT={port}"], folder / "maze"


def installed_wheel(folder: Path, port: int, watch: Stopwatch) -> tuple[list[str], Path]:
    """The project's wheel, installed with what it needs."""
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(wheel, check=True)
    watch.step("built the wheel")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    (built,) = folder.glob("*.whl")
    pip = [
        str(folder / "venv/bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    subprocess.run([*pip, f"{built}[video]"], check=True, env=CLEAN, cwd=folder)
    watch.step("pip install")
    (folder / "work").mkdir()
    command = [str(folder / "venv/bin/maze"), "serve", "--no-auth", "--port", str(port)]
    return command, folder / "work"


@contextmanager
def serving(command: list[str], cwd: Path, watch: Stopwatch) -> Iterator[float]:
    """The service, once it says that it is up; yields when the installation was over."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=CLEAN,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    installed_at = time.monotonic()
    try:
        for line in process.stdout:
            if re.match(r"\d/\d ", line):
                watch.step(line.strip())
                installed_at = time.monotonic()  # of the last line: the service itself
            if "Maze is up" in line:
                watch.step(line.strip())
                break
        else:
            raise RuntimeError(f"{' '.join(command)} ended without a service")
        yield installed_at
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def play(url: str) -> dict[str, object]:
    """What a newcomer does on the page, in a real browser."""
    given = {"url": url, "chromium": CHROMIUM, "shots": str(SHOTS)}
    command = ["node", str(Path(__file__).parent / "first_minutes.mjs"), json.dumps(given)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
