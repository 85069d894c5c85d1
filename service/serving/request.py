"""Reading a ``compute_action`` request: the body, with a limit, and what it says into a typed struct.

Decoded by msgspec: strict (no text or bool for numbers, no NaN), unknown fields refused. The observation
stays as it came until the agent's space is known. A body that is the bytes of one array says the rest in its headers
and in the query.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl

import msgspec
import numpy as np
from starlette.types import Message, Receive

from maze_core.models.decisions import MAX_CANDIDATES, MEMBERS, Wanted
from service.problems import Problem, query_problem, too_large
from service.serving.forms import JSON, MSGPACK, OCTETS, Form, array, invalid

_SELECTOR = re.compile(r"best|last|scheduled|epoch:\d{1,9}|[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
DTYPE_HEADER, SHAPE_HEADER = "X-Array-Dtype", "X-Array-Shape"
"""What the bytes of one array are: ``uint8`` and ``96,96,3``."""
_SHAPE = re.compile(r"\d{1,10}( *, *\d{1,10}){0,31}|")


class ActionRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Body of ``POST /v1/runs/{id}/compute_action``."""

    form: ClassVar[Form] = JSON
    """In which it came."""
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
    traffic_key: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    """Where an alias's traffic is split: requests of one key are answered by one version."""
    explain: bool = False
    """Say what the policy thought, too."""
    state: str | msgspec.UnsetType | None = msgspec.UNSET
    """What a policy with a state carries: null with an episode's first observation, then that of the last answer."""
    states: list[str | None] | msgspec.UnsetType | None = msgspec.UNSET
    """One for each of ``observations``; null begins an episode with all of them."""
    action_mask: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """What may be done, where the environment has masks: of the one head that has one, or by head."""
    action_masks: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """One for each of ``observations``."""
    top_k: Annotated[int, msgspec.Meta(ge=1, le=MAX_CANDIDATES)] | None = None
    """So many candidates with their scores."""
    members: tuple[Literal["distribution", "log_prob", "value", "mask"], ...] = msgspec.field(
        name="return", default=()
    )
    """What is to be told of the decision; ``explain`` is all of it."""
    timing: bool = False
    """Say how long it took."""
    errors: Literal["per_item"] | None = None
    """With ``observations``: each is answered as if it had come alone."""

    @property
    def is_many(self) -> bool:
        """It has ``observations``, and gets a list of actions."""
        return self.observation is msgspec.UNSET

    @property
    def is_common(self) -> bool:
        """It asks for nothing but an action."""
        return not (self.explain or self.gives_state or self.members or self.timing) and (
            self.errors is None
            and self.top_k is None
            and self.action_mask is msgspec.UNSET
            and self.action_masks is msgspec.UNSET
        )

    @property
    def wanted(self) -> Wanted | None:
        """What is to be told of decisions."""
        if not (self.explain or self.members or self.top_k):
            return None
        members = MEMBERS if self.explain else tuple(name for name in MEMBERS if name in self.members)
        return Wanted(members, self.top_k or 0)

    def masks_of(self, n_rows: int) -> list[Any]:
        """What may be done with each observation; None where nothing is said of it.

        Raises:
            Problem: there are more or fewer of them.
        """
        given = self.action_masks if self.is_many else self.action_mask
        if not isinstance(given, msgspec.Raw):
            return [None] * n_rows
        if not self.is_many:
            return [self.form.value(given, "/action_mask")]
        masks = self.form.value(given, "/action_masks")
        if isinstance(masks, np.ndarray) and masks.ndim:
            masks = list(masks)
        if not isinstance(masks, list) or len(masks) != n_rows:
            raise Problem.at(
                "/action_masks", "invalid_value", f"Give a list of {n_rows} masks, one for each."
            )
        return masks

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


class PackedActionRequest(ActionRequest):
    """The same in msgpack."""

    form = MSGPACK


class ClientDisconnectedError(Exception):
    """The client went away before its answer."""


_READERS = {
    JSON.media_type: JSON.reader(ActionRequest),
    MSGPACK.media_type: MSGPACK.reader(PackedActionRequest),
}
_IN_QUERY = sorted(
    {*ActionRequest.__struct_encode_fields__}
    - {"observation", "observations", "states", "action_mask", "action_masks", "errors"}
)
"""What is said of the bytes of one array."""


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


def decode_request(
    body: bytes,
    media_type: str = JSON.media_type,
    headers: Mapping[bytes, bytes] | None = None,
    query: bytes = b"",
) -> ActionRequest:
    """The body as a request.

    Args:
        body: in one of the forms.
        media_type: of msgpack, or ``application/octet-stream``; all others are JSON's.
        headers: by lower-case name; those of an array's bytes say what they are.
        query: as it was sent; with an array's bytes it says what is to be done.

    Raises:
        Problem: 400 where it is not of that form, 422 with the pointer of what is wrong.
    """
    if problem := query_problem(query, _IN_QUERY if media_type == OCTETS else ()):
        raise problem
    if media_type == OCTETS:
        request = _of_octets(body, headers or {}, query)
    else:
        request = _READERS.get(media_type, _READERS[JSON.media_type])(body)
    if (request.observation is msgspec.UNSET) == (request.observations is msgspec.UNSET):
        raise Problem.at("", "missing_field", "Give one of 'observation' and 'observations'.")
    for one in ("state", "action_mask"):
        here, other = (f"{one}s", one) if request.is_many else (one, f"{one}s")
        if getattr(request, other) is not msgspec.UNSET:
            message = f"Give '{here}' here: '{one}' goes with 'observation', '{one}s' with 'observations'."
            raise Problem.at(f"/{other}", "invalid_value", message)
    if request.errors is not None and not request.is_many:
        raise Problem.at("/errors", "invalid_value", "Errors per item go with 'observations'.")
    if request.checkpoint != "best" and not _SELECTOR.fullmatch(request.checkpoint):
        raise Problem.at(
            "/checkpoint", "invalid_value", "A checkpoint is best, last, epoch:N or a checkpoint id."
        )
    return request


def _of_octets(body: bytes, headers: Mapping[bytes, bytes], query: bytes) -> ActionRequest:
    """The request whose observation is the bytes of one array."""
    dtype, shape = (
        headers.get(name.lower().encode(), b"").decode("latin-1") for name in (DTYPE_HEADER, SHAPE_HEADER)
    )
    if not dtype or not _SHAPE.fullmatch(shape):
        detail = f"Bytes need {DTYPE_HEADER}, such as uint8, and {SHAPE_HEADER}, such as 96,96,3."
        raise Problem("bad_request", detail)
    leaf = MSGPACK.encode(
        array(body, dtype, [int(size) for size in shape.split(",") if size], "/observation")
    )
    said = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    try:
        request = msgspec.convert(
            {name: _meant(text) for name, text in said}, PackedActionRequest, strict=False
        )
    except msgspec.ValidationError as error:
        (mistake,) = invalid(error).errors
        name = str(mistake["pointer"]).split("/")[1]
        raise Problem.in_query(name, "invalid_value", str(mistake["message"])) from error
    request.observation = msgspec.Raw(leaf)
    return request


def _meant(text: str) -> object:
    """What a parameter says: null, a list as JSON has it, or a text, which may be that of a number."""
    try:
        return msgspec.json.decode(text) if text.startswith("[") else None if text == "null" else text
    except (ValueError, RecursionError):
        return text  # no list, which is what is wrong with it
