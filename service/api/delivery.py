"""How whole answers to GET travel: HEAD without a body, ETag and 304, gzip. Pure ASGI, around the framework alone.

Streams, and answers that have an ETag, pass as they come. Another answer's ETag is a digest of what it says, so it
holds whatever made the answer.
"""

import gzip
import hashlib
import re
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SMALLEST_GZIP = 1024
"""Shorter bodies fit into one packet anyway."""
GZIP_ON_LOOP_BYTES = 16_384
"""Longer ones are compressed in a thread: a page of a megabyte takes ten milliseconds."""
GZIP_LEVEL = 4
OPAQUE_TAG = re.compile(r'"[^"]*"')
"""An entity tag without its weakness, which If-None-Match does not look at (RFC 9110 §13.1.2)."""
_NOT_WANTED = re.compile(r"(?:^|;)\s*q\s*=\s*0(?:\.0*)?\s*(?:$|;)")
_QUALITY = re.compile(r"(?:^|;)\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:$|;)")
_TEXT = re.compile(r"text/|application/(?:[a-z.-]+\+)?(?:json|yaml|javascript)")


class Delivery:
    """Wraps an ASGI application; see the module for what it adds."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a GET or HEAD on as a GET, everything else as it is."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        inner = scope if scope["method"] == "GET" else {**scope, "method": "GET", "maze.head": True}
        held: Message | None = None
        is_cut = False

        async def deliver(message: Message) -> None:
            nonlocal held, is_cut
            if is_cut:
                return
            if message["type"] == "http.response.start":
                scope.setdefault("route", inner.get("route"))  # requests are counted by it
                if "content-length" in Headers(raw=message["headers"]):
                    held = message
                    return
            elif held is not None:
                start, held = held, None
                has_tag = "etag" in Headers(raw=start["headers"])
                if start["status"] == 200 and not has_tag and not message.get("more_body"):
                    start, message = await finished(scope, start, message.get("body", b""))
                await send(start)
            if scope["method"] == "GET":
                await send(message)
                return
            if message["type"] == "http.response.start":
                await send(message)
            await send({"type": "http.response.body"})
            is_cut = True  # the end of the answer tells a stream that nobody listens

        await self._app(inner, receive, deliver)


async def finished(scope: Scope, start: Message, body: bytes) -> tuple[Message, Message]:
    """Start and body of a whole 200 with its ETag: as a 304 where the client has it, compressed where it may be."""
    request, headers = Headers(scope=scope), MutableHeaders(raw=list(start["headers"]))
    etag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers["ETag"] = etag
    headers.add_vary_header("Accept-Encoding")
    status = 200
    known = request.get("if-none-match", "")
    if known.strip() == "*" or etag.removeprefix("W/") in OPAQUE_TAG.findall(known):
        status, body = 304, b""
        del headers["content-length"], headers["content-type"]
    elif (
        len(body) >= SMALLEST_GZIP
        and _TEXT.match(headers.get("content-type", ""))
        and accepts(request.get("accept-encoding", ""), "gzip", "x-gzip")
    ):
        if len(body) > GZIP_ON_LOOP_BYTES:
            body = await run_in_threadpool(gzip.compress, body, GZIP_LEVEL, mtime=0)
        else:
            body = gzip.compress(body, GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"], headers["Content-Length"] = "gzip", str(len(body))
    return {**start, "status": status, "headers": headers.raw}, {"type": "http.response.body", "body": body}


def accepts(header: str, *names: str) -> bool:
    """Whether a list such as Accept or Accept-Encoding has one of these names; ``q=0`` says no."""
    for part in header.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in names:
            return _NOT_WANTED.search(parameters) is None
    return False


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type that a client wants most (RFC 9110 §12.5.1); the first of equals, or of what nobody wants.

    The most specific range that fits a type says how much it is wanted; parameters other than ``q`` are not looked at.
    """
    wanted = []
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        quality = _QUALITY.search(parameters)
        wanted.append((name.strip(), float(quality[1]) if quality else 1.0))

    def quality_of(media_type: str) -> float:
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        return next((q for each in ranges for name, q in wanted if name == each), 0.0)

    return max(offered, key=quality_of)
