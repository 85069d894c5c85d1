"""Files that go and come: taken up again where they broke, and whole only when their digest is right."""

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from maze_client.errors import MazeClientError, error_of, unexpected
from maze_client.following import answered, retry_in_s
from maze_client.transport import Transport


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What comes in, in parts of so many bytes; ``parts`` are the numbers of those that are there."""

    id: str
    n_parts: int
    part_bytes: int
    parts: list[int]


async def download(transport: Transport, max_retries: int, path: str, target: Path) -> Path:
    """Store what is at a path as a file, which is there whole or not at all.

    What came before the connection broke, also in an earlier call, is not asked for again.

    Raises:
        ProblemError: there is no such thing.
        ConnectionFailed: the service was not reached.
        MazeClientError: what came is not what its digest says.
    """
    # a byte rather than a HEAD, whose refusal would not say why
    first = await answered(transport, max_retries, "GET", path, headers={"Range": "bytes=0-0"})
    etag, size = first.headers.get("etag"), first.headers.get("content-range", "").rpartition("/")[2]
    if not etag or not size.isdecimal():
        raise unexpected(first)
    sha256 = etag.strip('"')
    partial = target.with_name(f".{target.name}.{sha256[:16]}.part")
    tries = 0
    with partial.open("ab") as file:
        while (there := file.tell()) < int(size):
            headers = {"Range": f"bytes={there}-", "If-Range": etag}
            outcome = await transport.send("GET", path, headers=headers, stream=True)
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                if outcome.status_code == 200:
                    file.truncate(0)
                if (broken := await _received(transport, outcome, file)) is None:
                    continue
                outcome = broken
            tries = 0 if file.tell() > there else tries
            if (wait_s := retry_in_s(outcome, tries, max_retries)) is None:
                raise error_of(outcome)
            await transport.sleep(wait_s)
            tries += 1
    if sha256_of(partial) != sha256:
        partial.unlink()
        raise MazeClientError(f"What came of {path} has not the digest that it should have; try again.")
    os.replace(partial, target)
    return target


async def _received(
    transport: Transport, response: httpx.Response, file: BinaryIO
) -> httpx.RequestError | None:
    """Append what comes; how the connection broke, if it did."""
    try:
        async with aclosing(transport.chunks(response)) as chunks:
            async for chunk in chunks:
                file.write(chunk)
    except httpx.RequestError as error:
        return error
    finally:
        file.flush()
    return None


def sha256_of(path: Path) -> str:
    """Digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def announced(path: Path) -> dict[str, Any]:
    """What a checkpoint's import begins with."""
    return {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}


def missing_parts(path: Path, upload: Upload) -> Iterator[tuple[int, bytes]]:
    """The parts that an upload lacks, with their numbers."""
    with path.open("rb") as file:
        for number in sorted({*range(upload.n_parts)} - {*upload.parts}):
            file.seek(number * upload.part_bytes)
            yield number, file.read(upload.part_bytes)


def bytes_headers(data: bytes) -> dict[str, str]:
    """What a body of bytes says of itself."""
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"Content-Type": "application/octet-stream", "Content-Digest": f"sha-256=:{digest}:"}
