"""Stored bytes as an answer: whole or in part, with their digest, piece by piece (RFC 9110 §13–14, RFC 9530)."""

import base64
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from service.api.answers import UNCHANGED
from service.api.delivery import OPAQUE_TAG
from service.domain.ports import Content
from service.problems import Problem

PIECE_BYTES = 2**20
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_DIGEST = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:([A-Za-z0-9+/=]{0,64}):\s*(?=$|[,;])")

Span: TypeAlias = tuple[int, int]


def stored_bytes(
    request: Request, content: Content, *, media_type: str, filename: str, shown: bool = False
) -> Response:
    """The answer to a GET or HEAD of these bytes.

    Several ranges in one request are answered by the whole, as a server may.

    Args:
        request: what is asked.
        content: the bytes.
        media_type: their kind.
        filename: under which they are kept.
        shown: a browser shows them, rather than keeping them as a file.

    Raises:
        Problem: 416 for a range beyond the end.
    """
    etag = f'"{content.sha256}"'
    headers = {
        "ETag": etag,
        "Repr-Digest": digest_field(content.sha256),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
    }
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or etag in OPAQUE_TAG.findall(known):
        return Response(status_code=304, headers=headers)
    disposition = "inline" if shown else "attachment"
    headers["Content-Disposition"] = f'{disposition}; filename="{filename}"'
    span = None
    if request.headers.get("if-range", etag).strip() == etag:
        span = wanted_span(request.headers.get("range", ""), content.size_bytes)
    start, stop = span or (0, content.size_bytes)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    status = 200 if span is None else 206
    if request.scope.get("maze.head"):
        return Response(status_code=status, headers=headers, media_type=media_type)
    first = content.read(start, min(stop, _edge(start)))  # what is lost is told before the answer begins
    return StreamingResponse(_pieces(content, first, start, stop), status, headers, media_type)


def _edge(at: int) -> int:
    return (at // PIECE_BYTES + 1) * PIECE_BYTES


def _pieces(content: Content, first: bytes, start: int, stop: int) -> Iterator[bytes]:
    yield first
    at = start + len(first)
    while at < stop:
        yield content.read(at, min(stop, _edge(at)))
        at = _edge(at)


def wanted_span(header: str, size: int) -> Span | None:
    """First byte and the one behind the last that a Range header wants; None where it wants all, or says nothing.

    Raises:
        Problem: it begins behind the end.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < start:
            return None
    if start >= size:
        message = f"There are {size} bytes; a range begins before the end."
        raise Problem("range_not_satisfiable", message, headers={"Content-Range": f"bytes */{size}"})
    return start, stop


def digest_field(sha256: str) -> str:
    """A digest as ``Repr-Digest`` and ``Content-Digest`` have it."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def said_sha256(request: Request) -> str:
    """The SHA-256 in hex that a client says its body has.

    Raises:
        Problem: it says none.
    """
    said = ", ".join(request.headers.get(name, "") for name in ("content-digest", "repr-digest"))
    match = _DIGEST.search(said)
    if match is not None:
        try:
            if len(digest := base64.b64decode(match[1], validate=True)) == 32:
                return digest.hex()
        except ValueError:
            pass
    way_out = "Content-Digest: sha-256=:BASE64: (RFC 9530), as `openssl dgst -sha256 -binary FILE | base64` gives it."
    raise Problem("bad_request", f"Say the digest of the body in {way_out}")


def bytes_body(digest: str) -> dict[str, Any]:
    """What the document says of a route that takes bytes, with their digest in this header."""
    said = "SHA-256 of the body (RFC 9530): `sha-256=:BASE64:`."
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "parameters": [_header(digest, said, required=True, pattern="sha-256=:[A-Za-z0-9+/]{43}=:")],
        "requestBody": {"required": True, "content": content},
    }


def gives_bytes(media_type: str) -> dict[str, Any]:
    """What the document says of a route that gives bytes, as arguments of its decorator."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    asked = {
        "Range": "Which part: `bytes=0-1023`; several give the whole.",
        "If-Range": "The ETag of which the part has to be; another one gives the whole.",
        "If-None-Match": "ETags: 304 where it has one of them.",
    }
    answers: dict[int | str, dict[str, Any]] = {
        200: {"content": content, "description": "The bytes."},
        206: {"content": content, "description": "The bytes that `Range` asks for."},
        **UNCHANGED,
    }
    parameters = [_header(name, said, required=False) for name, said in asked.items()]
    return {"response_class": Response, "responses": answers, "openapi_extra": {"parameters": parameters}}


def _header(name: str, description: str, *, required: bool, pattern: str = "") -> dict[str, Any]:
    schema = {"type": "string"} | ({"pattern": pattern} if pattern else {})
    return {"name": name, "in": "header", "required": required, "description": description, "schema": schema}
