"""Reading a ``compute_action`` request: the body, with a limit, and its JSON into a typed struct.

Decoded by msgspec: strict (no text or bool for numbers, no NaN), unknown fields refused. The observation
stays raw JSON until the agent's space is known.
"""

import re
from typing import Annotated

import msgspec
from starlette.types import Message, Receive

from service.json_values import malformed_json, refuse_doubled_keys
from service.problems import Problem, pointer_to, suggestion, too_large

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
    explain: bool = False
    """Say what the policy thought, too."""
    state: str | msgspec.UnsetType | None = msgspec.UNSET
    """What a policy with a state carries: null with an episode's first observation, then that of the last answer."""
    states: list[str | None] | msgspec.UnsetType | None = msgspec.UNSET
    """One for each of ``observations``; null begins an episode with all of them."""

    @property
    def is_many(self) -> bool:
        """It has ``observations``, and gets a list of actions."""
        return self.observation is msgspec.UNSET

    @property
    def gives_state(self) -> bool:
        """It has ``state`` or ``states``, and gets the next."""
        return self.state is not msgspec.UNSET or self.states is not msgspec.UNSET

    def states_of(self, n_rows: int) -> list[str | None]:
        """The state of each observation.

        Raises:
            Problem: there are more or fewer of them.
        """
        given = self.states if self.is_many else [self.state]
        if not isinstance(given, list):
            return [None] * n_rows
        if len(given) != n_rows:
            message = f"There are {n_rows} observations, and {len(given)} states: give one for each, or null."
            raise Problem.at("/states", "invalid_value", message)
        return [state if isinstance(state, str) else None for state in given]


class ClientDisconnectedError(Exception):
    """The client went away before its answer."""


_decode = msgspec.json.Decoder(ActionRequest).decode


async def read_body(message: Message, receive: Receive, limit: int) -> bytes:
    """The whole body, which begins with this message.

    Raises:
        Problem: it is longer than ``limit`` bytes.
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
            raise too_large(limit)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def decode_request(body: bytes) -> ActionRequest:
    """The body as a request.

    Raises:
        Problem: 400 where it is not JSON, 422 with the pointer of what is wrong.
    """
    try:
        request = _decode(body)
        refuse_doubled_keys(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (ValueError, RecursionError) as error:
        raise malformed_json(error) from error
    if (request.observation is msgspec.UNSET) == (request.observations is msgspec.UNSET):
        raise Problem.at("", "missing_field", "Give one of 'observation' and 'observations'.")
    if (request.states if not request.is_many else request.state) is not msgspec.UNSET:
        one, other = ("states", "state") if request.is_many else ("state", "states")
        message = f"Give '{one}' here: 'state' goes with 'observation', 'states' with 'observations'."
        raise Problem.at(f"/{other}", "invalid_value", message)
    if request.checkpoint != "best" and not _SELECTOR.fullmatch(request.checkpoint):
        raise Problem.at(
            "/checkpoint", "invalid_value", "A checkpoint is best, last, epoch:N or a checkpoint id."
        )
    return request


def invalid(error: msgspec.ValidationError, prefix: str = "") -> Problem:
    """The 422 for what msgspec found in JSON that lies at ``prefix``."""
    message, _, path = str(error).partition(" - at `$")
    if unknown := _UNKNOWN_FIELD.match(message):
        name = unknown[1][:64]
        known = suggestion(name, sorted(ActionRequest.__struct_fields__))
        return Problem.at(pointer_to(name), "unknown_field", "There is no such field.", **known)
    return Problem.at(prefix + _pointer(path.rstrip("`")), "invalid_value", message + ".")


def _pointer(path: str) -> str:
    """Msgspec's ``.a[0]`` as a JSON pointer ``/a/0``."""
    steps = (name or index for name, index in _PATH_STEP.findall(path))
    return pointer_to(*steps)
