"""Runs the shell blocks of a page as one session against a service that is up."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tests.docs.fences import Block, fenced_blocks

LOCAL = "localhost:8000"
"""The address that the documentation writes."""
SHOWN = ("json", "text")
"""Languages of a block that shows the answer to the block before it."""

_TELLS_STATUS = 'curl() { command curl -w "%{stderr}HTTP %{http_code} %{url_effective}\\n" "$@"; }'
"""Of every request to standard error; a page's own ``-w`` comes later and wins."""
EXACT = frozenset({"kind", "code", "status", "type", "pointer", "message", "meaning", "description", "group"})
"""Members whose value is the same in every session."""

Ran: TypeAlias = tuple[Block, str, Block | None]
"""A block that was run, what it printed, and the block right after it that shows the answer."""


def has_tools() -> bool:
    """Whether the commands that the pages use are there."""
    return all(shutil.which(tool) for tool in ("bash", "curl", "python3"))


def session(page: Path, address: str, directory: Path, *, needle: str = LOCAL) -> list[Ran]:
    """Run every block of a page that speaks to the service, in order, in one shell.

    Args:
        page: a Markdown file.
        address: ``host:port`` of the service, put in the place of :data:`LOCAL`.
        directory: an empty directory to work in.
        needle: blocks without this text are left out.

    Returns:
        Each block that was run, what it printed, and the block right after it that shows the answer.

    Raises:
        RuntimeError: a command failed, or a request was refused and the page does not show that; the message has the
            page's line and what was printed.
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
    script = ["set -euo pipefail", _TELLS_STATUS]
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
    refused = re.findall(r"^HTTP ([45]\d\d .*)$", done.stderr, re.MULTILINE)
    if len(refused) > sum(shown is not None and _is_refusal(shown) for _, shown in chosen):
        raise RuntimeError(f"{page.name}: refusals that the page does not show: {refused}")
    return [(block, (directory / f"out.{n}").read_text(), shown) for n, (block, shown) in enumerate(chosen)]


def _is_refusal(shown: Block) -> bool:
    status = json.loads(shown.code).get("status", 0) if shown.language == "json" else 0
    return isinstance(status, int) and status >= 400


def wrongly_shown(ran: Sequence[Ran], *, exact: frozenset[str] = EXACT) -> list[str]:
    """What a page shows as an answer and is none, or does not show.

    Args:
        ran: what :func:`session` gave.
        exact: members of JSON whose value has to be the one that is shown; of others the type has to be.
    """
    found: list[str] = []
    for block, printed, shown in ran:
        if shown is None:
            found += [f"{block} prints an answer that the page does not show"] if printed else []
        elif shown.language == "json":
            problem = difference(json.loads(shown.code), json.loads(printed), exact=exact)
            found += [f"{shown}: {problem}"] if problem else []
        else:
            lines = {kind_of(line) for line in printed.splitlines()}
            found += [f"{shown}: {line}" for line in shown.code.splitlines() if kind_of(line) not in lines]
    return found


def difference(shown: Any, given: Any, path: str = "", *, exact: frozenset[str] = EXACT) -> str:
    """What a shown answer has that the given one has not; empty when it is a shortened form of it."""
    if isinstance(shown, dict) and isinstance(given, dict):
        for key, value in shown.items():
            where = f"{path}.{key}".lstrip(".")
            if key not in given:
                return f"{where} is missing"
            if found := difference(value, given[key], where, exact=exact):
                return found
        return ""
    if isinstance(shown, list) and isinstance(given, list):
        if len(given) < len(shown):
            return f"{path} has {len(given)} entries, {len(shown)} are shown"
        pairs = enumerate(zip(shown, given, strict=False))
        return next(
            (found for i, pair in pairs if (found := difference(*pair, f"{path}.{i}", exact=exact))), ""
        )
    if path.rpartition(".")[2] in exact:
        return "" if shown == given else f"{path} is {given!r}, {shown!r} is shown"
    are_numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in (shown, given)
    )
    if type(shown) is type(given) or are_numbers:
        return ""
    return f"{path} is a {type(given).__name__}, a {type(shown).__name__} is shown"


def kind_of(line: str) -> str:
    """A line of text without what differs from session to session: times and names of workers."""
    timeless = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", line)
    return re.sub(r'"by":"[^"]+"', '"by":"WORKER"', timeless)
