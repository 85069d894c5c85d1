"""What an agent carries from one observation of an episode to the next, as one opaque text that anybody may keep.

It has the states of the policy's networks, per actor, and those of wrappers such as a stack of observations. It is
numbers and nothing else: read again, every part must be of the kind and shape that this agent's own states have, and
of its checkpoint. Nothing in it names or runs anything.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
from gymnasium import Space, spaces

from maze_core.envs.wrappers.wrapper import Wrapper
from maze_core.errors import NotServableError, StateError
from maze_core.models.networks import Network
from maze_core.types import JSON, ActorID, Array, FloatArray, Observation, StepKey

FORMAT: Final = 1
MAX_CHARACTERS: Final = 2**24
"""Longest text that is read."""
MISSING: Final = (
    "This policy carries a state through an episode: give state null (None) with the first observation, and with every "
    "further one the state that came with the last action."
)
_BEGIN_ANEW: Final = (
    "Give null to begin an episode, or the state that came with this policy's last action, unchanged."
)
_MOST_EXAMPLES: Final = 100
_ARRAY: Final = 1
"""Code of an array among the values of msgpack."""
_DTYPE: Final = re.compile(r"[<|][biuf][1248]")


@dataclass(frozen=True, slots=True)
class AgentState:
    """What is carried through one episode."""

    policy: Mapping[ActorID, FloatArray] = field(default_factory=dict)
    """Actor → state of its network ``[n]``; zeros where it is not there."""
    wrappers: tuple[Any, ...] = ()
    """Of each stateful wrapper; None as the episode begins."""
    critic: Mapping[ActorID, FloatArray] = field(default_factory=dict)
    """Actor → state of the network that judges, where that has seen all that the actor saw."""


class _Written(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    checkpoint: bytes
    policy: list[tuple[StepKey, int, bytes]]
    wrappers: list[Any]
    critic: list[tuple[StepKey, int, bytes]] = []


class _WrittenArray(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class StateText:
    """Writes and reads the states of one agent."""

    def __init__(
        self,
        widths: Mapping[StepKey, int],
        wrappers: Sequence[Wrapper],
        observation_spaces: Mapping[StepKey, spaces.Dict],
        checkpoint_sha256: str | None,
        actor: Callable[[tuple[StepKey, int]], ActorID],
    ) -> None:
        """Take what the agent has.

        Args:
            widths: sub-step → numbers that its network carries.
            wrappers: those that change observations, in order.
            observation_spaces: raw, per sub-step.
            checkpoint_sha256: of the agent's checkpoint.
            actor: gives the actor of a pair, or raises SpaceMismatchError.
        """
        self._widths, self._wrappers, self._spaces = dict(widths), list(wrappers), observation_spaces
        self._checkpoint = bytes.fromhex(checkpoint_sha256 or "")[:16]
        self._actor = actor
        self._stateful = [wrapper for wrapper in wrappers if wrapper.is_stateful]
        self.initial = AgentState({}, (None,) * len(self._stateful))
        self.is_needed = bool(self._widths or self._stateful)
        """Whether anything is carried at all."""

    def write(self, state: AgentState) -> str:
        """The state as text.

        Raises:
            NotServableError: a wrapper carries something that is no number, text, array, or list or dict of them.
        """
        written = _Written(
            FORMAT, self._checkpoint, _flat(state.policy), list(state.wrappers), _flat(state.critic)
        )
        try:
            return base64.urlsafe_b64encode(_encode(written)).decode()
        except (TypeError, ValueError, RecursionError) as error:
            names = ", ".join(type(wrapper).__name__ for wrapper in self._stateful)
            raise NotServableError(f"The state of {names} cannot be written down: {error}.") from error

    def read(self, text: JSON) -> AgentState:
        """The state of a text, or of None that of an episode's begin.

        Raises:
            StateError: it is no state of this agent.
        """
        if text is None:
            return self.initial
        if not self.is_needed:
            raise StateError("This policy carries no state: leave state out, or give null.")
        written = _decoded(text)
        if written.format != FORMAT or written.checkpoint != self._checkpoint:
            message = "The state is that of another checkpoint. Begin a new episode with null, or name the checkpoint "
            raise StateError(message + "or the version that gave it.")
        if len(written.wrappers) != len(self._stateful):
            raise StateError(f"The state is not one of this policy. {_BEGIN_ANEW}")
        policy, critic = self._parts(written.policy), self._parts(written.critic)
        for actor, numbers in policy.items():
            if len(numbers) != (width := self._widths.get(actor.step_key, 0)):
                raise StateError(f"The state of {tuple(actor)} should have {width} numbers. {_BEGIN_ANEW}")
        if not critic.keys() <= policy.keys():
            raise StateError(f"The state is not one of this policy. {_BEGIN_ANEW}")
        has_seen = any(value is not None for value in written.wrappers)
        if has_seen and not policy and self._widths.keys() >= self._spaces.keys():
            raise StateError(f"The state lacks what the policy's network carries. {_BEGIN_ANEW}")
        wrappers = [
            None if value is None else _restored(value, [of_step[i] for of_step in self._examples])
            for i, value in enumerate(written.wrappers)
        ]
        return AgentState(policy, tuple(wrappers), critic)

    def _parts(self, written: Sequence[tuple[StepKey, int, bytes]]) -> dict[ActorID, FloatArray]:
        """Of each actor, once."""
        parts: dict[ActorID, FloatArray] = {}
        for step_key, agent_id, data in written:
            actor = self._actor((step_key, agent_id))
            if actor in parts or not data or len(data) % 4:
                raise StateError(f"The state of {tuple(actor)} is there twice, or cut. {_BEGIN_ANEW}")
            parts[actor] = numbers = np.frombuffer(data, np.float32)
            if not np.isfinite(numbers).all():
                raise StateError(
                    f"The state of {tuple(actor)} has numbers that are not finite. {_BEGIN_ANEW}"
                )
        return parts

    @cached_property
    def _examples(self) -> list[list[Any]]:
        """What the stateful wrappers carry after 1, 2, … observations of every sub-step, until its shapes stay.

        By these, others are judged.
        """
        carried: list[Any] = list(self.initial.wrappers)
        found: list[list[Any]] = []
        while len(found) < _MOST_EXAMPLES:
            for key, space in self._spaces.items():
                process(
                    self._wrappers, key, {name: _nothing(part) for name, part in space.items()}, [carried]
                )
            found.append(list(carried))
            if len(found) > 1 and _kinds(found[-1]) == _kinds(found[-2]):
                break
        return found


def check_carried(states: FloatArray, network: Network, first_row: int = 0) -> None:
    """Make sure that a network may have carried these states ``[B, n]``, of rows from the first one on.

    Raises:
        StateError: it may not; its pointer names the row.
    """
    is_beyond = np.full(states.shape, states.shape[1] != network.state_width)
    if network.state_limits is not None and not is_beyond.any():
        is_beyond = np.abs(states) > network.state_limits
    if is_beyond.any():
        row = first_row + int(is_beyond.any(axis=1).argmax())
        raise StateError(
            f"The state has numbers that no network of this policy carries. {_BEGIN_ANEW}", f"/{row}"
        )


def check_next(states: FloatArray) -> None:
    """Make sure that what a network gave ``[B, n]`` can be carried on.

    Raises:
        StateError: it, or the action that came with it, is not finite; its pointer names the row.
    """
    if not (is_finite := np.isfinite(states).all(axis=1)).all():
        message = "The policy gives no finite numbers for this state with this observation. "
        raise StateError(message + _BEGIN_ANEW, f"/{int(is_finite.argmin())}")


def process(
    wrappers: Sequence[Wrapper], key: StepKey, observations: Observation, carried: Sequence[list[Any]]
) -> Observation:
    """What the policy sees of a raw batch.

    Args:
        wrappers: those that change observations, in order.
        key: the sub-step.
        observations: name → ``[B, …]``.
        carried: of each row, what the stateful wrappers carry; is brought up to date.
    """
    place = 0
    for wrapper in wrappers:
        if not wrapper.is_stateful:
            observations, _ = wrapper.observation(key, observations, None)
            continue
        observations, states = wrapper.observation(key, observations, [of_row[place] for of_row in carried])
        for of_row, state in zip(carried, states or [], strict=True):
            of_row[place] = state
        place += 1
    return observations


def _flat(states: Mapping[ActorID, FloatArray]) -> list[tuple[StepKey, int, bytes]]:
    return [(*actor, numbers.tobytes()) for actor, numbers in sorted(states.items(), key=str)]


def _decoded(text: JSON) -> _Written:
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        kind = f"{len(text)} characters long" if isinstance(text, str) else f"of type {type(text).__name__}"
        raise StateError(f"A state is null or a text that came with an action, not {kind}. {_BEGIN_ANEW}")
    try:
        return _decode(base64.b64decode(text, altchars=b"-_", validate=True))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise StateError(f"The state is damaged. {_BEGIN_ANEW}") from error


def _restored(value: Any, examples: Sequence[Any]) -> Any:
    """A value of the kind and shape of one of the examples, and of lists as long as one of them."""
    like = examples[-1]
    if isinstance(like, np.ndarray | np.generic):
        fits = isinstance(value, np.ndarray) and _kinds(value) in list(map(_kinds, examples))
        fits = fits and (_is_finite(value) or not all(map(_is_finite, examples)))
    elif isinstance(like, dict):
        fits = isinstance(value, dict) and value.keys() <= like.keys()
        parts = value.items() if fits else ()
        value = {key: _restored(part, [each[key] for each in examples if key in each]) for key, part in parts}
    elif isinstance(like, list | tuple):
        fits = isinstance(value, list) and len(value) in list(map(len, examples))
        value = type(like)(_restored(part, [x for each in examples for x in each]) for part in value if fits)
    else:
        fits = type(value) in list(map(type, examples))
        fits = fits and (_is_finite(value) or not all(map(_is_finite, examples)))
    if not fits:
        raise StateError(f"The state is not one of this policy's wrappers. {_BEGIN_ANEW}")
    return value


def _is_finite(value: Any) -> bool:
    """Whether a number or an array has no NaN and no infinity; what is neither has none."""
    is_float = isinstance(value, float) or getattr(value, "dtype", np.dtype(int)).kind == "f"
    return not is_float or bool(np.isfinite(value).all())


def _kinds(value: Any) -> Any:
    """What a value is made of, without its numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype, value.shape
    if isinstance(value, dict):
        return {key: _kinds(part) for key, part in value.items()}
    return list(map(_kinds, value)) if isinstance(value, list | tuple) else type(value)


def _nothing(space: "Space[Any]") -> Array:
    """A row ``[1, …]`` of a space: zeros, or the first category."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return np.asarray(space.start)[None]
    return np.zeros((1, *(space.shape or ())), space.dtype)


def _as_extension(value: object) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"it has a {type(value).__name__}")
    array = np.ascontiguousarray(value).reshape(np.shape(value))
    if not _DTYPE.fullmatch(array.dtype.str):
        raise TypeError(f"it has an array of {array.dtype}")
    return msgspec.msgpack.Ext(
        _ARRAY, _encode_array(_WrittenArray(array.dtype.str, array.shape, array.tobytes()))
    )


def _as_array(code: int, data: memoryview) -> Array:
    written = _decode_array(data)
    if code != _ARRAY or not _DTYPE.fullmatch(written.dtype):
        raise ValueError("no array")
    array: Array = np.frombuffer(written.data, np.dtype(written.dtype)).reshape(written.shape)
    return array


_encode = msgspec.msgpack.Encoder(enc_hook=_as_extension).encode
_decode = msgspec.msgpack.Decoder(_Written, ext_hook=_as_array).decode
_encode_array = msgspec.msgpack.Encoder().encode
_decode_array = msgspec.msgpack.Decoder(_WrittenArray).decode
