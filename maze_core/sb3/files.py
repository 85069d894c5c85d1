"""The files of Stable-Baselines3: a model's ZIP with its settings as JSON and its weights, and the VecNormalize pickle.

A model is read without unpickling anything: its spaces and classes are there a second time as text, and weights come
through torch's own reader that allows tensors alone. VecNormalize is stored as a pickle and nothing else; whoever says
so has it read by an unpickler that knows arrays and a few names of classes, of which it makes plain records.
"""

import io
import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from maze_core.errors import InvalidSpecificationError
from maze_core.types import Array, Tree

_MOST_BYTES = 1 << 30
_WEIGHTS = "policy.pth"
_MEMBERS = ("data", _WEIGHTS, "_stable_baselines3_version")
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """What ``model.save()`` of Stable-Baselines3 wrote."""

    path: Path
    data: Tree
    """Settings by name; what is no JSON is an object of texts there."""
    tensors: Mapping[str, Array]
    """Weights by the names that torch has for them."""
    version: str

    @property
    def policy_module(self) -> str:
        """Where the class of its policy is defined, which tells algorithms apart."""
        given = self.data.get("policy_class")
        return str(given.get("__module__", "")) if isinstance(given, dict) else ""


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """What VecNormalize did to observations: ``clip((x - mean) / sqrt(var + epsilon), ±limit)`` in float64."""

    moments: Mapping[str, tuple[Array, Array]]
    """Name of an observation → its mean and variance; a bare observation has the name ``observation``."""
    epsilon: float
    limit: float


def read_model(path: Path) -> SavedModel:
    """Read a model's ZIP file.

    Raises:
        InvalidSpecificationError: it is none, or damaged; the message says where.
    """
    content = _content(path, "model")
    try:
        members = _members(content)
        data = json.loads(members["data"])
        version = members.get("_stable_baselines3_version", b"unknown").decode().strip()
    except Exception as error:  # damage shows as whatever the reader of ZIP files stumbles over
        raise _refused(path, f"it is no ZIP file that model.save() wrote, or is damaged ({error})") from error
    if not isinstance(data, dict):
        raise _refused(path, "its member 'data' is no object")
    return SavedModel(path=path, data=data, tensors=_tensors(path, members[_WEIGHTS]), version=version)


def _content(path: Path, at: str) -> bytes:
    """The bytes of a file that is there, and not too large."""
    try:
        if not path.is_file():
            raise _refused(path, "it is a folder" if path.is_dir() else "there is no such file", at=at)
        if path.stat().st_size > _MOST_BYTES:
            raise _refused(path, f"it is larger than {_MOST_BYTES >> 20} MiB", at=at)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidSpecificationError):
            raise
        raise _refused(path, f"it cannot be read ({error})", at=at) from error


def _members(content: bytes) -> dict[str, bytes]:
    """What is read of a model's ZIP file."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        _refuse_sizes(file)
        missing = {"data", _WEIGHTS} - set(file.namelist())
        if missing:
            raise ValueError(f"it has no member {min(missing)!r}, as files of model.save() have")
        return {name: file.read(name) for name in _MEMBERS if name in file.namelist()}


def _refuse_sizes(file: zipfile.ZipFile) -> None:
    if sum(info.file_size for info in file.infolist()) > _MOST_BYTES:
        raise ValueError(f"it would unpack to more than {_MOST_BYTES >> 20} MiB")
    if any(info.compress_type not in _PACKED for info in file.infolist()):
        raise ValueError("it is packed in a way that model.save() has not")


def _tensors(path: Path, data: bytes) -> dict[str, Array]:
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            _refuse_sizes(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it does not know is an error, too
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        is_known = isinstance(loaded, Mapping) and all(
            torch.is_tensor(value) and value.layout == torch.strided for value in loaded.values()
        )
    except Exception:
        # without its cause: torch's own text advises to read it in a way that runs what is in it
        raise _refused(
            path,
            f"its weights cannot be read as tensors: {_WEIGHTS!r} is damaged, or holds more than tensors, "
            "which might run code where it is loaded and is not read",
        ) from None
    if not is_known:
        raise _refused(path, f"its member {_WEIGHTS!r} holds more than tensors by name")
    try:
        return _arrays(loaded)
    except Exception as error:
        raise _refused(path, f"its weights cannot be read as tensors ({error})") from error


def _arrays(tensors: Mapping[Any, Any]) -> dict[str, Array]:
    sizes = {str(name): value.numel() * value.element_size() for name, value in tensors.items()}
    for name, value in tensors.items():
        if sizes[str(name)] > value.untyped_storage().nbytes():
            raise ValueError(f"{str(name)!r} has more numbers than are stored of it")
    if sum(sizes.values()) > _MOST_BYTES:
        raise ValueError(f"they are larger than {_MOST_BYTES >> 20} MiB")
    return {str(name): np.ascontiguousarray(value.detach().numpy()) for name, value in tensors.items()}


def read_normalization(path: Path) -> Normalization | None:
    """The statistics of a VecNormalize file, by an unpickler that runs nothing of it; None where it scales nothing.

    Raises:
        InvalidSpecificationError: it is none, or names something that VecNormalize does not need.
    """
    content = _content(path, "vecnormalize")
    try:
        _refuse_places(content)
        return _normalization(_fields(_Unpickler(io.BytesIO(content)).load(), "VecNormalize"))
    except Exception as error:  # whatever a pickle makes its reader stumble over
        raise _refused(
            path, f"it is no file of VecNormalize.save(), or is damaged ({error})", at="vecnormalize"
        ) from error


def _refuse_places(content: bytes) -> None:
    """Refuse a pickle whose numbers would have its reader take memory that the file does not fill."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name.endswith("PUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError("it counts more objects than it has bytes")


def _normalization(state: Mapping[str, Any]) -> Normalization | None:
    if not bool(_array(state.get("norm_obs", True))):
        return None
    found = state["obs_rms"]
    parts = found if isinstance(found, dict) else {"observation": found}
    moments = {str(name): _moments(part) for name, part in parts.items()}
    epsilon, limit = float(_array(state["epsilon"])), float(_array(state["clip_obs"]))
    if not (0 < epsilon < np.inf and limit > 0):
        raise ValueError(f"its epsilon is {epsilon} and its clip_obs {limit}")
    return Normalization(moments=moments, epsilon=epsilon, limit=limit)


def _moments(record: Any) -> tuple[Array, Array]:
    state = _fields(record, "RunningMeanStd")
    mean, var = (_array(state[name]).astype(np.float64) for name in ("mean", "var"))
    if mean.shape != var.shape or not (
        np.isfinite(mean).all() and np.isfinite(var).all() and (var >= 0).all()
    ):
        raise ValueError("its mean and variance are no statistics")
    return mean, var


class _Sealed(type):
    """Classes that a pickle cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError(f"it sets {name} of a class")


class _Record(metaclass=_Sealed):
    """What stands for an object of a foreign class: what it was made of, and none of its code."""

    __slots__ = ("arguments", "state")
    kind = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> "_Record":
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _fields(record: Any, kind: str) -> Mapping[str, Any]:
    if not isinstance(record, _Record) or record.kind != kind or not isinstance(record.state, dict):
        raise ValueError(
            f"it holds a {getattr(record, 'kind', type(record).__name__)} where {kind} should be"
        )
    return record.state


def _array(value: Any) -> Array:
    """Numbers: plain ones, or those that a record says, once its bytes are as many as its shape and dtype ask for."""
    if isinstance(value, int | float):
        return np.asarray(value, np.float64)
    shape: Any = ()
    order = "C"
    match getattr(value, "kind", None):
        case "multiarray.scalar":
            dtype, data = value.arguments
        case "multiarray._reconstruct":
            _, shape, dtype, is_fortran, data = value.state
            order = "F" if is_fortran is True else "C"
        case "numeric._frombuffer":
            data, dtype, shape, order = value.arguments
        case _:
            raise ValueError(f"it holds a {type(value).__name__} where numbers should be")
    code, content = _number_type(dtype), _bytes(data)
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape) or order not in "CF":
        raise ValueError("it has an array without a shape")
    if len(content) != code.itemsize * prod(shape):
        raise ValueError(f"it has an array of {len(content)} bytes with the shape {list(shape)}")
    return np.frombuffer(content, code).reshape(shape, order="F" if order == "F" else "C").copy()


def _number_type(record: Any) -> np.dtype[Any]:
    if getattr(record, "kind", None) != "numpy.dtype" or type(record.state) is not tuple:
        raise ValueError("it has an array without a dtype")
    (code, *_), (_, order, *more) = record.arguments, record.state
    is_plain = type(code) is str and _NUMBERS.fullmatch(code) and more[:3] == [None, None, None]
    if not is_plain or order not in ("<", ">", "|", "="):
        raise ValueError(f"it has an array of {code!r}, which are no numbers")
    return np.dtype(f"{order}{code}")


def _bytes(data: Any) -> bytes:
    """Bytes, as protocols from 3 on have them, or as text before."""
    if getattr(data, "kind", None) == "_codecs.encode" and type(data.arguments[0]) is str:
        return data.arguments[0].encode("latin1")
    if type(data) not in (bytes, bytearray):
        raise ValueError(f"it has an array of {type(data).__name__}")
    return bytes(data)


_NUMBERS = re.compile("b1|f[248]|[iu][1248]")
_OF_NUMPY = {"multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer"}
_RECORDS = {
    "numpy": {"ndarray", "dtype"},
    "_codecs": {"encode"},
    "stable_baselines3.common.vec_env.vec_normalize": {"VecNormalize"},
    "stable_baselines3.common.running_mean_std": {"RunningMeanStd"},
    "gymnasium.spaces.box": {"Box"},
    "gymnasium.spaces.dict": {"Dict"},
    "gymnasium.spaces.discrete": {"Discrete"},
    "gymnasium.spaces.multi_binary": {"MultiBinary"},
    "gymnasium.spaces.multi_discrete": {"MultiDiscrete"},
    "numpy.random._pickle": {"__generator_ctor", "__bit_generator_ctor"},
    "numpy.random._pcg64": {"PCG64"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
}
"""Module → the classes and constructors whose objects become records."""


class _Unpickler(pickle.Unpickler):
    """Knows arrays and the classes of a VecNormalize by their exact names, and makes new records of each file."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file; all others are refused."""
        kind = f"{module}.{name}"
        for root in ("numpy.core.", "numpy._core."):
            if kind.startswith(root) and kind.removeprefix(root) in _OF_NUMPY:
                return self._made(kind.removeprefix(root), _Record)
        if kind == "collections.OrderedDict":
            return self._made(kind, dict)
        if name in _RECORDS.get(module, ()):
            return self._made(kind if module in ("numpy", "_codecs") else name, _Record)
        raise pickle.UnpicklingError(f"it names {kind}, which VecNormalize does not need")

    def _made(self, kind: str, base: type) -> type:
        if kind not in self._known:
            self._known[kind] = _Sealed(kind, (base,), {"__slots__": (), "kind": kind})
        return self._known[kind]


def _refused(path: Path, reason: str, *, at: str = "model") -> InvalidSpecificationError:
    return InvalidSpecificationError(f"{path}: {reason}.", path=at, code="sb3_file")
