"""What the API process and a serving child say to each other: typed msgpack, each frame after its length.

Arrays travel as dtype, shape and bytes. Nothing is ever unpickled.
"""

import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from maze_core.types import Array, StepKey

HEADER = struct.Struct("<I")
"""Length of the frame that follows, in bytes."""


class ArrayFrame(msgspec.Struct, frozen=True, array_like=True):
    """An array."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Parent → child, the first frame: become this checkpoint's agent."""

    bundle: bytes


class Act(msgspec.Struct, frozen=True, tag="act"):
    """Parent → child: actions for a batch of checked raw observations."""

    observations: dict[str, ArrayFrame]
    step_key: StepKey
    agent_id: int
    deterministic: bool
    seed: int | None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Child → parent: loaded, and it acts as recorded."""


class Actions(msgspec.Struct, frozen=True, tag="actions"):
    """Child → parent: the batch's actions."""

    actions: dict[str, ArrayFrame]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Child → parent: this one call failed."""

    is_checkpoint_error: bool
    message: str


Request = Load | Act
Reply = Ready | Actions | Failed

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def framed(message: Request | Reply) -> bytes:
    """The message after its length."""
    body = encode(message)
    return HEADER.pack(len(body)) + body


def pack_arrays(arrays: Mapping[str, Any]) -> dict[str, ArrayFrame]:
    """Named arrays (or numbers) for a frame."""
    packed = {}
    for name, value in arrays.items():
        array = np.ascontiguousarray(value)
        packed[name] = ArrayFrame(array.dtype.str, array.shape, array.tobytes())
    return packed


def unpack_arrays(packed: Mapping[str, ArrayFrame]) -> dict[str, Array]:
    """Named arrays of a frame; read-only views of its bytes."""
    return {
        name: np.frombuffer(frame.data, np.dtype(frame.dtype)).reshape(frame.shape)
        for name, frame in packed.items()
    }
