"""Runs the shell blocks of a page as one session against a service that is up."""

import shutil
import subprocess
from pathlib import Path

from tests.docs.fences import Block, fenced_blocks

LOCAL = "localhost:8000"
"""The address that the documentation writes."""
SHOWN = ("json", "text")
"""Languages of a block that shows the answer to the block before it."""


def has_tools() -> bool:
    """Whether the commands that the pages use are there."""
    return all(shutil.which(tool) for tool in ("bash", "curl", "python3"))


def session(
    page: Path, address: str, directory: Path, *, needle: str = LOCAL
) -> list[tuple[Block, str, Block | None]]:
    """Run every block of a page that speaks to the service, in order, in one shell.

    Args:
        page: a Markdown file.
        address: ``host:port`` of the service, put in the place of :data:`LOCAL`.
        directory: an empty directory to work in.
        needle: blocks without this text are left out.

    Returns:
        Each block that was run, what it printed, and the block right after it that shows the answer.

    Raises:
        RuntimeError: a command failed; the message has the page's line and what was printed.
    """
    blocks = fenced_blocks(page)
    chosen = [
        (
            block,
            blocks[number + 1] if number + 1 < len(blocks) and blocks[number + 1].language in SHOWN else None,
        )
        for number, block in enumerate(blocks)
        if block.language == "bash" and block.not_run is None and needle in block.code
    ]
    script = ["set -euo pipefail"]
    for number, (block, _) in enumerate(chosen):
        script += [f"echo {block.line} > at", f"exec > out.{number}", block.code.replace(LOCAL, address)]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if done.returncode != 0:
        printed = "".join(path.read_text() for path in sorted(directory.glob("out.*"))[-1:])
        line = (directory / "at").read_text().strip()
        raise RuntimeError(f"{page.name}:{line}: a command failed:\n{printed}{done.stderr}")
    return [(block, (directory / f"out.{n}").read_text(), shown) for n, (block, shown) in enumerate(chosen)]
