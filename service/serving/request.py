"""Reading a ``compute_action`` request: the body, with a limit, and its JSON into a typed struct.

Decoded by msgspec: strict (no text or bool for numbers, no NaN), unknown fields refused. The observation
stays raw JSON until the agent's space is known.
"""

import difflib
import re
from typing import Annotated

import msgspec
from starlette.types import Message, Receive

from service.serving.problems import RequestError

_SELECTOR = re.compile(r"best|last|scheduled|epoch:\d{1,9}|[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class ActionRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Body of ``POST /v1/runs/{id}/compute_action``."""

    observation: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """One raw observation, as the environment gives it."""
    observations: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Up to 1024 of them, in place of ``observation``."""
    deterministic: bool = True
    checkpoint: str = "best"
    """``best``, ``last``, ``epoch:N`` or a checkpoint id."""
    actor_id: tuple[int | str, Annotated[int, msgspec.Meta(ge=0)]] | None = None
    """``[step_key, agent_id]``; None is the environment's first actor."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    """Of the action noise, with ``deterministic: false``; equal seeds give equal actions."""


class ClientDisconnectedError(Exception):
    """The client went away before its answer."""


_decode = msgspec.json.Decoder(ActionRequest).decode


async def read_body(message: Message, receive: Receive, limit: int) -> bytes:
    """The whole body, which begins with this message.

    Raises:
        RequestError: it is longer than ``limit`` bytes.
        ClientDisconnectedError: it never came.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientDisconnectedError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def decode_request(body: bytes) -> ActionRequest:
    """The body as a request.

    Raises:
        RequestError: 422 with the pointer of what is wrong.
    """
    try:
        request = _decode(body)
    except (ValueError, RecursionError) as error:
        raise malformed(error, "") from error
    if (request.observation is msgspec.UNSET) == (request.observations is msgspec.UNSET):
        raise RequestError.at("", "missing_field", "Give one of 'observation' and 'observations'.")
    if request.checkpoint != "best" and not _SELECTOR.fullmatch(request.checkpoint):
        raise RequestError.at(
            "/checkpoint", "invalid_value", "A checkpoint is best, last, epoch:N or a checkpoint id."
        )
    return request


def malformed(error: ValueError | RecursionError, prefix: str) -> RequestError:
    """The 422 for what msgspec (or Python, below it) found; ``prefix`` is where the decoded part lies."""
    if isinstance(error, RecursionError):
        return RequestError.at(prefix, "malformed_json", "The JSON is nested too deeply.")
    if isinstance(error, msgspec.ValidationError):
        message, _, path = str(error).partition(" - at `$")
        if unknown := _UNKNOWN_FIELD.match(message):
            return _unknown_field(unknown[1])
        return RequestError.at(prefix + _pointer(path.rstrip("`")), "invalid_value", message + ".")
    if isinstance(error, UnicodeDecodeError):
        return RequestError.at(prefix, "malformed_json", "The JSON is not UTF-8.")
    hint = " NaN and Infinity are not JSON." if "invalid character" in str(error) else ""
    return RequestError.at(prefix, "malformed_json", f"{error}.{hint}")


def _unknown_field(name: str) -> RequestError:
    allowed = sorted(ActionRequest.__struct_fields__)
    closest = difflib.get_close_matches(name[:64], allowed, n=1)
    mistake = {
        "pointer": "/" + _escaped(name[:64]),
        "code": "unknown_field",
        "message": "There is no such field.",
        "allowed": allowed,
    } | ({"did_you_mean": closest[0]} if closest else {})
    return RequestError(422, "invalid_request", "There is no such field.", errors=[mistake])


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _pointer(path: str) -> str:
    """Msgspec's ``.a[0]`` as a JSON pointer ``/a/0``."""
    steps = (name or index for name, index in _PATH_STEP.findall(path))
    return "".join("/" + _escaped(step) for step in steps)


def _too_large(limit: int) -> RequestError:
    """The connection is closed, because the rest of the body is not read."""
    return RequestError(
        413,
        "payload_too_large",
        f"The body is larger than {limit} bytes; operators set MAZE_MAX_BODY_BYTES.",
        headers=[(b"connection", b"close")],
    )
