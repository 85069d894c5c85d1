"""The forms in which observations come and actions go: JSON, msgpack, and the bare bytes of one array.

One reader for HTTP, WebSockets and ``/v2``. In JSON an array is nested lists, or a leaf
``{"b64": "…", "dtype": "uint8", "shape": [96, 96, 3]}``; in msgpack a leaf ``{"data": bytes, "dtype", "shape"}``: the
array's bytes in C order, little-endian. What is read here are values; whether they fit a space is asked where an
observation is checked, and the same of all forms. Nothing is ever unpickled, and msgpack's bytes are not copied.
"""

import binascii
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

import msgspec
import numpy as np

from maze_core.types import Array
from service.json_values import MAX_DEPTH, malformed_json, refuse_doubled_keys
from service.problems import Problem, pointer_to, suggestion

T = TypeVar("T")
Bytes = bytes | memoryview | msgspec.Raw

OCTETS: Final = "application/octet-stream"
"""The bytes of one array, whose dtype and shape the headers say."""
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64"),
    )
}
"""Arrays of other numbers are refused by name."""
MAX_AXES: Final = 32

_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class Form:
    """JSON or msgpack; there are :data:`JSON` and :data:`MSGPACK`, and no others."""

    media_type: str

    def reader(self, kind: type[T]) -> Callable[[Bytes], T]:
        """What decodes bodies into a struct, whose :class:`msgspec.Raw` members :meth:`value` reads.

        The reader raises :class:`Problem`: 400 for what is not of this form or says one key twice, 422 with the pointer
        for what is of another type than ``kind`` says.
        """
        raise NotImplementedError

    def value(self, raw: Bytes, pointer: str = "") -> Any:
        """The value: texts, numbers, lists, objects by text, and leaves as arrays, which may be read-only.

        Args:
            raw: a whole value in this form.
            pointer: where it stands in the document, as a JSON pointer.

        Raises:
            Problem: it is of another form, 400, or a leaf is wrong, 422.
        """
        raise NotImplementedError

    def encode(self, value: Any) -> bytes:
        """The value in this form; arrays are leaves of it, NumPy's numbers are numbers."""
        raise NotImplementedError


class _Json(Form):
    media_type = "application/json"

    def reader(self, kind: type[T]) -> Callable[[Bytes], T]:
        decode = msgspec.json.Decoder(kind).decode
        least = {one: _n_required(one) for one in get_args(kind) or (kind,)}

        def read(body: Bytes) -> T:
            try:
                value = decode(body)
                text = bytes(body)
                if text.count(b":") > least.get(
                    type(value), 0
                ):  # else every key that has to be there is all there is
                    refuse_doubled_keys(text)
            except msgspec.ValidationError as error:
                raise invalid(error, kind=kind) from error
            except (ValueError, RecursionError) as error:
                raise malformed_json(error) from error
            return value

        return read

    def value(self, raw: Bytes, pointer: str = "") -> Any:
        try:
            value = msgspec.json.decode(raw)
        except msgspec.ValidationError as error:
            raise invalid(error, pointer) from error
        except (ValueError, RecursionError) as error:
            raise malformed_json(error) from error
        return _with_arrays(value, pointer, 0) if b'"b64"' in bytes(raw) else value

    def encode(self, value: Any) -> bytes:
        return _to_json(value)


def _n_required(kind: type) -> int:
    """Keys without which there is no such struct."""
    if not issubclass(kind, msgspec.Struct):
        return 0
    has_tag = kind.__struct_config__.tag_field is not None
    return has_tag + sum(field.required for field in msgspec.structs.fields(kind))


class _Msgpack(Form):
    media_type = "application/msgpack"

    def reader(self, kind: type[T]) -> Callable[[Bytes], T]:
        decode = msgspec.msgpack.Decoder(kind).decode

        def read(body: Bytes) -> T:
            try:
                value = decode(body)
                _members(memoryview(body))
            except msgspec.ValidationError as error:
                raise invalid(error, kind=kind) from error
            except (ValueError, RecursionError) as error:
                raise _malformed(error) from error
            return value

        return read

    def value(self, raw: Bytes, pointer: str = "") -> Any:
        try:
            return _unpacked(memoryview(raw), pointer, 0)
        except (ValueError, RecursionError) as error:
            raise _malformed(error) from error

    def encode(self, value: Any) -> bytes:
        return _to_msgpack(value)


JSON: Final[Form] = _Json()
MSGPACK: Final[Form] = _Msgpack()


def invalid(error: msgspec.ValidationError, pointer: str = "", kind: type | None = None) -> Problem:
    """The 422 for what msgspec found.

    Args:
        error: what it says.
        pointer: where the value stands that was decoded.
        kind: the struct that it should have been, whose fields are suggested.
    """
    message, _, path = str(error).partition(" - at `$")
    place = pointer + pointer_to(*(name or index for name, index in _PATH_STEP.findall(path.rstrip("`"))))
    if unknown := _UNKNOWN_FIELD.match(message):
        name = unknown[1][:64]
        fields = () if path or kind is None else sorted(getattr(kind, "__struct_encode_fields__", ()))
        known = suggestion(name, fields) if fields else {}
        return Problem.at(place + pointer_to(name), "unknown_field", "There is no such field.", **known)
    return Problem.at(place, "invalid_value", message + ".")


def array(data: bytes | memoryview, dtype: str, shape: Sequence[int], pointer: str = "") -> Array:
    """The array that bytes are, without a copy; read-only where they are.

    Args:
        data: the numbers in C order, little-endian.
        dtype: one of :data:`DTYPES`.
        shape: of at most :data:`MAX_AXES` axes.
        pointer: where the leaf stands, as a JSON pointer.

    Raises:
        Problem: 422 with the pointer, there is no such dtype, or there are more or fewer bytes.
    """
    kind = DTYPES.get(dtype)
    if kind is None:
        message = f"There is no dtype {dtype[:32]!r} here; arrays are little-endian, in C order."
        raise Problem.at(f"{pointer}/dtype", "invalid_array", message, **suggestion(dtype[:32], DTYPES))
    if len(shape) > MAX_AXES or any(size < 1 for size in shape):
        message = f"A shape is a list of at most {MAX_AXES} sizes from 1 on."
        raise Problem.at(f"{pointer}/shape", "invalid_array", message)
    expected = math.prod(shape) * kind.itemsize
    if len(data) != expected:
        has = f"{expected} bytes" if expected < 2**63 else "more bytes than there are"
        message = f"An array of {dtype} of shape {list(shape)} has {has}, and {len(data)} came."
        raise Problem.at(pointer, "invalid_array", message)
    if dtype == "bool" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise Problem.at(pointer, "invalid_array", "Truth values are bytes of 0 and 1; another one came.")
    found: Array = np.frombuffer(data, kind).reshape(shape)
    return found if sys.byteorder == "little" else found.astype(kind.newbyteorder("="))


class _Leaf(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    b64: str
    dtype: str
    shape: tuple[int, ...]


class _PackedLeaf(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    data: memoryview
    dtype: str
    shape: tuple[int, ...]


_read_members = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_read_items = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_read_leaf = msgspec.msgpack.Decoder(_PackedLeaf).decode
_read_any = msgspec.msgpack.Decoder().decode


def _with_arrays(value: Any, pointer: str, depth: int) -> Any:
    """A value of JSON with its leaves as arrays; what is nested deeper than anything that is taken stays as it is."""
    if depth > MAX_DEPTH or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        # most of a large value are lists of numbers
        if not any(isinstance(item, dict | list) for item in value):
            return value
        return [_with_arrays(item, f"{pointer}/{i}", depth + 1) for i, item in enumerate(value)]
    if not isinstance(value.get("b64"), str):
        return {key: _with_arrays(item, pointer + pointer_to(key), depth + 1) for key, item in value.items()}
    try:
        leaf = msgspec.convert(value, _Leaf)
        data = binascii.a2b_base64(leaf.b64, strict_mode=True)
    except msgspec.ValidationError as error:
        raise _wrong_leaf(error, "b64", pointer) from error
    except ValueError as error:
        raise Problem.at(
            f"{pointer}/b64", "invalid_array", "This is no base64 (RFC 4648, padded)."
        ) from error
    return array(data, leaf.dtype, leaf.shape, pointer)


def _unpacked(raw: memoryview, pointer: str, depth: int) -> Any:
    """A value of msgpack with its leaves as arrays."""
    if depth > MAX_DEPTH or not _is_nested(raw):
        return _read_any(raw)
    if not _is_map(raw[0]):
        items = [memoryview(item) for item in _read_items(raw)]
        if not any(map(_is_nested, items)):
            return _read_any(raw)
        return [_unpacked(item, f"{pointer}/{i}", depth + 1) for i, item in enumerate(items)]
    members = _members(raw)
    if "data" in members and memoryview(members["data"])[0] in _BINARY:
        try:
            leaf = _read_leaf(raw)
        except msgspec.ValidationError as error:
            raise _wrong_leaf(error, "data", pointer) from error
        return array(leaf.data, leaf.dtype, leaf.shape, pointer)
    return {
        key: _unpacked(memoryview(item), pointer + pointer_to(key), depth + 1)
        for key, item in members.items()
    }


_BINARY = (0xC4, 0xC5, 0xC6)


def _is_map(first: int) -> bool:
    return first & 0xF0 == 0x80 or first in (0xDE, 0xDF)


def _is_nested(raw: memoryview) -> bool:
    """Whether a value of msgpack is a map or an array."""
    return len(raw) > 0 and (_is_map(raw[0]) or raw[0] & 0xF0 == 0x90 or raw[0] in (0xDC, 0xDD))


def _members(raw: memoryview) -> dict[str, msgspec.Raw]:
    """The members of a map, none of them there twice: msgspec lets the last of equal keys win in silence."""
    members = _read_members(raw)
    width = {0xDE: 2, 0xDF: 4}.get(raw[0], 0)
    announced = int.from_bytes(raw[1 : 1 + width], "big") if width else raw[0] & 0x0F
    if len(members) < announced:
        raise Problem("malformed_body", "The body is not usable msgpack: an object has the same key twice.")
    return members


def _malformed(error: ValueError | RecursionError) -> Problem:
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else "it cannot be read"
    if isinstance(error, msgspec.ValidationError):
        reason = "keys are texts"
    return Problem("malformed_body", f"The body is not usable msgpack: {reason}.")


def _wrong_leaf(error: msgspec.ValidationError, of: str, pointer: str) -> Problem:
    message = f"An array is an object of {of!r}, 'dtype' (text) and 'shape' (list of sizes): {error}."
    return Problem.at(pointer, "invalid_array", message)


def _json_leaf(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data, dtype = laid_out(value)
        b64 = binascii.b2a_base64(data, newline=False).decode()
        return {"b64": b64, "dtype": dtype, "shape": list(value.shape)}
    return _number(value)


def _msgpack_leaf(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data, dtype = laid_out(value)
        return {"data": data, "dtype": dtype, "shape": list(value.shape)}
    return _number(value)


def laid_out(value: Array) -> tuple[bytes, str]:
    """The bytes of an array as a leaf has them, and its dtype's name."""
    return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes(), value.dtype.name


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"objects of type {type(value).__name__} are not encoded")


_to_json = msgspec.json.Encoder(enc_hook=_json_leaf).encode
_to_msgpack = msgspec.msgpack.Encoder(enc_hook=_msgpack_leaf).encode
