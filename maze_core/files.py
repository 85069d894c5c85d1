"""Files that are whole or not there, in one piece or in chunks that several share, and JSON that every reader takes.

A file in chunks is a list of them, ``_CUT``, the length of its JSON, the JSON ``[[size, SHA-256 or null], …]`` and the
bytes of small pieces; the others lie in ``chunks/`` beside it, by their digest. They are written before the file that
names them, and go when no file of the folder does.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file under a temporary name, flush it to the disk, rename it, flush the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


_CUT = b"maze: in chunks\n"
_CHUNKS = "chunks"
_LEAST_CHUNK = 4096
"""A smaller piece has no file of its own."""
_SHA256 = re.compile("[0-9a-f]{64}")
_TRIES = 10


def cut(folder: Path, data: bytes, edges: Iterable[int]) -> bytes:
    """Store the pieces of a file, between these places, once for all files of the folder.

    Nobody else may write there meanwhile.

    Returns:
        What a file of the folder holds for :func:`read_cut` to give the data; without edges, the data.
    """
    pieces = [data[start:end] for start, end in pairwise((0, *edges, len(data)))]
    if len(pieces) < 2:
        return data
    parts: list[tuple[int, str | None]] = []
    rest: list[bytes] = []
    for piece in pieces:
        if len(piece) < _LEAST_CHUNK:
            parts.append((len(piece), None))
            rest.append(piece)
            continue
        sha256 = hashlib.sha256(piece).hexdigest()
        parts.append((len(piece), sha256))
        if not (folder / _CHUNKS / sha256).exists():
            write_atomically(folder / _CHUNKS / sha256, piece)
    header = json.dumps(parts).encode()
    return b"".join((_CUT, len(header).to_bytes(8, "little"), header, *rest))


def read_cut(path: Path) -> bytes:
    """The bytes that were given to :func:`cut`, or those of any other file.

    Raises:
        OSError: the file or a chunk of it cannot be read.
        ValueError: the list of its chunks is damaged.
    """
    for tries_left in reversed(range(_TRIES)):
        data = path.read_bytes()
        if not data.startswith(_CUT):
            return data
        parts, at = _parts(data)
        pieces = []
        try:
            for size, sha256 in parts:
                if sha256 is None:
                    pieces.append(data[at : at + size])
                    at += size
                else:
                    pieces.append((path.parent / _CHUNKS / sha256).read_bytes())
            return b"".join(pieces)
        except FileNotFoundError:  # it may have been written anew meanwhile, and its chunks have gone
            if not tries_left or path.read_bytes() == data:
                raise
    raise AssertionError("unreachable")


def drop_chunks(folder: Path) -> None:
    """Remove what no file of the folder names any more, and what a process that was killed left half written.

    While a file cannot be read, the chunks stay: they may be its own. Nobody else may write there meanwhile.
    """
    for half_written in folder.glob(".*.tmp"):
        half_written.unlink(missing_ok=True)
    if not (folder / _CHUNKS).is_dir():
        return
    named = set()
    try:
        for path in filter(Path.is_file, folder.iterdir()):
            with path.open("rb") as file:
                if (start := file.read(len(_CUT))) == _CUT:
                    named |= {sha256 for _, sha256 in _parts(start + file.read())[0]}
    except (OSError, ValueError):
        return
    for chunk in (folder / _CHUNKS).iterdir():
        if chunk.name not in named:
            chunk.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not empty
        (folder / _CHUNKS).rmdir()


def _parts(data: bytes) -> tuple[list[tuple[int, str | None]], int]:
    """Sizes and digests of the pieces, and where those without a digest begin.

    Raises:
        ValueError: the list is damaged, or names what is no digest and so may lie anywhere.
    """
    start = len(_CUT) + 8
    end = start + int.from_bytes(data[len(_CUT) : start], "little")
    try:
        parts = [(int(size), sha256) for size, sha256 in json.loads(data[start:end])]
        is_whole = all(sha256 is None or _SHA256.fullmatch(sha256) for _, sha256 in parts)
    except (TypeError, ValueError, OverflowError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError("its list of chunks is none")
    return parts, end


def sync_directory(folder: Path) -> None:
    """Make a rename inside the directory survive power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_safe(value: Any) -> Any:
    """The value with mappings as dicts, sequences as lists, and as text the numbers that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): json_safe(member) for key, member in value.items()}
    return [json_safe(member) for member in value] if isinstance(value, list | tuple) else value
