"""Fenced code blocks of a Markdown page, so that what the documentation shows can be run.

A block that cannot be run here has the reason on the line before it::

    <!-- not run: needs a PostgreSQL server -->
    ```bash
"""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"(?P<indent> {0,3})(?P<ticks>`{3,})(?P<info>[^`]*)$")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(?P<reason>.+?)\s*-->$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    path: Path
    line: int
    """Line of its first line of code, from 1."""
    language: str
    """First word after the fence; empty without one."""
    code: str
    """Without the fences; ends with a newline unless empty."""
    not_run: str | None = None
    """Why the documentation asks not to run it."""

    def __str__(self) -> str:
        """``page.md:12``, as test names and messages show it."""
        return f"{self.path.name}:{self.line}"


def fenced_blocks(path: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order.

    Args:
        path: a Markdown file.
        language: only blocks of this language; None gives all.

    Raises:
        ValueError: a fence is never closed, or a ``not run`` comment stands before no block.
    """
    blocks: list[Block] = []
    reason: str | None = None
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is not None:
            body = []
            for _, inner in lines:
                if inner.strip() == fence["ticks"]:
                    break
                body.append(inner.removeprefix(fence["indent"]))
            else:
                raise ValueError(f"{path.name}:{number}: this fence is never closed")
            info = fence["info"].split()
            code = "".join(f"{inner}\n" for inner in body)
            blocks.append(Block(path, number + 1, info[0] if info else "", code, reason))
            reason = None
        elif reason is not None and line.strip():
            raise ValueError(f"{path.name}:{number}: 'not run' stands before no code block")
        else:
            comment = _NOT_RUN.match(line.strip())
            reason = comment["reason"] if comment else reason
    if reason is not None:
        raise ValueError(f"{path.name}: 'not run' stands before no code block")
    return [block for block in blocks if language in (None, block.language)]


def commands(block: Block) -> list[str]:
    """The commands of a shell block: comments left out, continued lines joined, a here-document kept whole.

    A quoted text may go over several lines.
    """
    found: list[str] = []
    pending = ""
    for line in block.code.splitlines():
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending += line if not pending else f"\n{line}"
        if not _goes_on(pending):
            found.append(pending.replace("\\\n", ""))
            pending = ""
    if pending:
        raise ValueError(f"{block}: the last command does not end: {pending!r}")
    return found


def _goes_on(text: str) -> bool:
    """Whether a command needs another line: after a backslash, in a quote or a here-document."""
    if text.endswith("\\"):
        return True
    here = re.search(r"<<-?\s*'?(\w+)'?", text)
    if here is not None:
        return text.rpartition("\n")[2].strip() != here[1] or "\n" not in text
    quote = ""
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
    return bool(quote)
