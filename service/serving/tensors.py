"""Tensors of the Open Inference Protocol (``/v2``): read from requests, written into answers.

A tensor is a list in the JSON, flat or nested, or bytes behind it (the binary extension): little-endian, row-major,
in the order in which the JSON names them, with their sum in ``Content-Length`` and the JSON's own length in
``Inference-Header-Content-Length``.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np

from maze_core.types import Array
from service.problems import Problem, pointer_to, suggestion
from service.serving.forms import JSON, MAX_AXES, array, invalid

DATATYPES = {
    "BOOL": "bool",
    **{f"{sign}INT{8 * n}": f"{sign.lower()}int{8 * n}" for sign in ("", "U") for n in (1, 2, 4, 8)},
    "FP32": "float32",
    "FP64": "float64",
}
"""Datatype → dtype."""
_NAMES = {dtype: name for name, dtype in DATATYPES.items()} | {"float16": "FP32"}
HEAD_LENGTH = "Inference-Header-Content-Length"


class InputParameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Of an input; shared memory is not offered."""

    binary_data_size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Bytes of it behind the JSON; None where its data is in the JSON."""


class InputTensor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One tensor of a request; its data is here or behind the JSON."""

    name: str
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=MAX_AXES)]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: InputParameters = InputParameters()


class OutputParameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Of an output."""

    binary_data: bool | None = None
    """Behind the JSON; None is as the request says for all."""


class OutputTensor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One tensor that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How to act; fields as in ``compute_action``."""

    deterministic: bool = True
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    checkpoint: str | None = None
    actor_step_key: int | str | None = None
    actor_agent_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    traffic_key: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    binary_data_output: bool = False
    """Every output is sent behind the JSON."""
    sequence_id: Annotated[int, msgspec.Meta(ge=0)] | Annotated[str, msgspec.Meta(max_length=128)] = 0
    """The sequence that the request belongs to; 0 and an empty text are none."""
    sequence_start: bool = False
    """It is the first one of its sequence ..."""
    sequence_end: bool = False
    """... and the last one."""


class InferRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The JSON of ``POST /v2/models/{model}/infer``."""

    inputs: list[InputTensor]
    outputs: list[OutputTensor] = []
    """Those wanted; none means the action alone, as far as there is no reason to compute more."""
    id: str = ""
    parameters: InferParameters = InferParameters()
    model_name: str = ""
    """Not read: the path says it."""
    model_version: str = ""
    """Not read."""


_read = JSON.reader(InferRequest)
_encode = msgspec.json.Encoder().encode


def datatype_of(dtype: "np.dtype[Any]") -> str:
    """The datatype in which elements of a dtype are given and taken; half floats travel as FP32."""
    return _NAMES[dtype.name]


def read_request(body: bytes, head_length: str | None) -> tuple[InferRequest, dict[str, Array]]:
    """The request and its tensors by name.

    Args:
        body: of the HTTP request.
        head_length: ``Inference-Header-Content-Length``; None where the body is JSON alone.

    Raises:
        Problem: 400 where the JSON or the header is malformed, 422 with the pointer of what is wrong.
    """
    if head_length is not None and not (head_length.isdecimal() and int(head_length[:19]) <= len(body)):
        message = (
            "Inference-Header-Content-Length is the number of bytes of the JSON at the beginning of the body."
        )
        raise Problem("bad_request", message)
    head = body if head_length is None else body[: int(head_length)]
    request = _read(head)
    tensors: dict[str, Array] = {}
    start = len(head)
    for i, tensor in enumerate(request.inputs):
        place = pointer_to("inputs", i)
        if tensor.name in tensors:
            raise Problem.at(f"{place}/name", "doubled", f"The tensor {tensor.name[:64]!r} is given twice.")
        size = tensor.parameters.binary_data_size
        if size is None:
            tensors[tensor.name] = _from_json(tensor, place)
        else:
            tensors[tensor.name] = _from_bytes(tensor, memoryview(body)[start:], size, place)
            start += size
    if start != len(body):
        message = f"{len(body) - start} bytes behind the JSON belong to no tensor: binary_data_size says how many do."
        raise Problem.at("/inputs", "invalid_value", message)
    return request, tensors


def write_response(
    head: Mapping[str, Any], tensors: Mapping[str, Array], binary: Sequence[str]
) -> tuple[dict[str, str], bytes]:
    """Headers and body of an answer.

    Args:
        head: its members but for ``outputs``.
        tensors: name → array, in order.
        binary: those that are sent behind the JSON.
    """
    outputs, tail = [], []
    for name, values in tensors.items():
        datatype = datatype_of(values.dtype)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if name in binary:
            tail.append(values.astype(np.dtype(DATATYPES[datatype]).newbyteorder("<")).tobytes())
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    text = _encode({**head, "outputs": outputs})
    if not tail:
        return {"Content-Type": "application/json"}, text
    headers = {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(len(text))}
    return headers, b"".join([text, *tail])


def _dtype(tensor: InputTensor, place: str) -> str:
    dtype = DATATYPES.get(tensor.datatype)
    if dtype is None:
        message = f"Tensors of {tensor.datatype[:32]} are not taken: give one of {', '.join(DATATYPES)}."
        near = suggestion(tensor.datatype[:32], DATATYPES)
        raise Problem.at(f"{place}/datatype", "unsupported_datatype", message, **near)
    return dtype


def _from_bytes(tensor: InputTensor, rest: memoryview, size: int, place: str) -> Array:
    dtype = _dtype(tensor, place)
    if tensor.data is not msgspec.UNSET:
        message = "Give data, or binary_data_size and bytes: one of both."
        raise Problem.at(f"{place}/data", "invalid_value", message)
    if size > len(rest):
        message = f"{size} bytes are announced, and {len(rest)} are left behind the JSON."
        raise Problem.at(f"{place}/parameters/binary_data_size", "invalid_value", message)
    return array(rest[:size], dtype, tensor.shape, place)


def _from_json(tensor: InputTensor, place: str) -> Array:
    dtype = _dtype(tensor, place)
    if tensor.data is msgspec.UNSET:
        raise Problem.at(
            f"{place}/data", "missing_field", "Give data, or binary_data_size and bytes behind the JSON."
        )
    raw = bytes(tensor.data)
    is_nested = raw[1:].lstrip().startswith(b"[")
    try:
        values = _lists(tensor.datatype, len(tensor.shape) if is_nested else 1).decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(error, f"{place}/data") from error
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused with its place
            found: Array = np.array(values, dtype)
    except (ValueError, OverflowError):
        message = f"The lists are of unequal lengths, or hold what no {tensor.datatype} is."
        raise Problem.at(f"{place}/data", "invalid_value", message) from None
    if found.size != math.prod(tensor.shape) or (is_nested and list(found.shape) != tensor.shape):
        message = f"The data has the shape {list(found.shape)}, not {tensor.shape}."
        raise Problem.at(f"{place}/data", "invalid_value", message)
    return found.reshape(tensor.shape)


@cache
def _lists(datatype: str, n_axes: int) -> "msgspec.json.Decoder[list[Any]]":
    """Reads lists of the elements of a datatype, strictly, nested so many deep."""
    dtype = np.dtype(DATATYPES[datatype])
    kind: Any = {"b": bool, "f": float}.get(dtype.kind, int)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        # the largest UINT64 is beyond what the decoder compares with; NumPy refuses what is larger
        most = None if limits.max >= 2**63 else int(limits.max)
        kind = Annotated[int, msgspec.Meta(ge=int(limits.min), le=most)]
    for _ in range(n_axes):
        kind = list[kind]
    return msgspec.json.Decoder(kind)
