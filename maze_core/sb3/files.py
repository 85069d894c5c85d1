"""The files of Stable-Baselines3: a model's ZIP with its settings as JSON and its weights, and the VecNormalize pickle.

A model is read without unpickling anything: its spaces and classes are there a second time as text, and weights come
through torch's own reader that allows tensors alone. VecNormalize is stored as a pickle and nothing else; whoever says
so has it read by an unpickler that knows arrays and a few names of classes, of which it makes plain records.
"""

import io
import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maze_core.errors import InvalidSpecificationError
from maze_core.types import Array, Tree

_MOST_BYTES = 1 << 30
_WEIGHTS = "policy.pth"


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
    try:
        with zipfile.ZipFile(path) as file:
            missing = {"data", _WEIGHTS} - set(file.namelist())
            if missing:
                raise _refused(path, f"it has no member {min(missing)!r}, as files of model.save() have")
            if sum(info.file_size for info in file.infolist()) > _MOST_BYTES:
                raise _refused(path, f"it would unpack to more than {_MOST_BYTES >> 20} MiB")
            data, weights = json.loads(file.read("data")), file.read(_WEIGHTS)
            is_told = "_stable_baselines3_version" in file.namelist()
            version = file.read("_stable_baselines3_version").decode().strip() if is_told else "unknown"
    except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        raise _refused(path, f"it is no ZIP file that model.save() wrote, or is damaged ({error})") from error
    if not isinstance(data, dict):
        raise _refused(path, "its member 'data' is no object")
    return SavedModel(path=path, data=data, tensors=_tensors(path, weights), version=version)


def _tensors(path: Path, data: bytes) -> dict[str, Array]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it does not know is an error, too
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(loaded, Mapping) or not all(torch.is_tensor(value) for value in loaded.values()):
            raise _refused(path, f"its member {_WEIGHTS!r} holds more than tensors by name")
        return {str(name): np.ascontiguousarray(value.numpy()) for name, value in loaded.items()}
    except (RuntimeError, pickle.UnpicklingError, EOFError, TypeError, KeyError, ValueError) as error:
        if isinstance(error, InvalidSpecificationError):
            raise
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise _refused(path, f"its weights cannot be read as tensors ({reason})") from error


def read_normalization(path: Path) -> Normalization | None:
    """The statistics of a VecNormalize file, by an unpickler that runs nothing of it; None where it scales nothing.

    Raises:
        InvalidSpecificationError: it is none, or names something that VecNormalize does not need.
    """
    try:
        with path.open("rb") as file:
            loaded = _Unpickler(file).load()
        state = _fields(loaded, "VecNormalize")
        if not state.get("norm_obs", True):
            return None
        found = state["obs_rms"]
        parts = {"observation": found} if isinstance(found, _Record) else dict(found)
        moments = {name: _moments(part) for name, part in parts.items()}
        epsilon, limit = float(state["epsilon"]), float(state["clip_obs"])
    except (
        pickle.UnpicklingError,
        AttributeError,
        KeyError,
        ValueError,
        TypeError,
        IndexError,
        EOFError,
        MemoryError,
        ImportError,
        OverflowError,
    ) as error:
        if isinstance(error, InvalidSpecificationError):
            raise
        raise _refused(
            path, f"it is no file of VecNormalize.save(), or is damaged ({error})", at="vecnormalize"
        ) from error
    return Normalization(moments=moments, epsilon=epsilon, limit=limit)


def _moments(record: Any) -> tuple[Array, Array]:
    state = _fields(record, "RunningMeanStd")
    mean, var = np.asarray(state["mean"], np.float64), np.asarray(state["var"], np.float64)
    if mean.shape != var.shape or not (
        np.isfinite(mean).all() and np.isfinite(var).all() and (var >= 0).all()
    ):
        raise ValueError("its mean and variance are no statistics")
    return mean, var


class _Record:
    """What stands for an object of a foreign class: its fields, and none of its code."""

    kind = ""
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _fields(record: Any, kind: str) -> Mapping[str, Any]:
    if not isinstance(record, _Record) or record.kind != kind or not isinstance(record.state, Mapping):
        raise ValueError(
            f"it holds a {getattr(record, 'kind', type(record).__name__)} where {kind} should be"
        )
    return record.state


def _record_of(kind: str) -> type[_Record]:
    return type(kind, (_Record,), {"kind": kind})


def _scalar(dtype: Any, data: bytes) -> Any:
    if np.dtype(dtype).hasobject:
        raise pickle.UnpicklingError("a number is an object")
    return np.frombuffer(data, dtype)[0]


def _array(data: Any, dtype: Any, shape: Any, order: str) -> Array:
    return np.frombuffer(data, np.dtype(dtype)).reshape(shape, order=order)  # type: ignore[call-overload,no-any-return]


def _empty(kind: Any, shape: Any, code: Any) -> Array:
    return np.empty(0, np.uint8)  # its own state fills it


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _record_of("ndarray"),
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
}
_OF_NUMPY: Mapping[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _empty,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _array,
}
_RECORDS = {
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
    """Knows arrays and the classes of a VecNormalize, by their exact names."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file; all others are refused."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        for root in ("numpy.core.", "numpy._core."):
            if module.startswith(root) and (known := f"{module.removeprefix(root)}.{name}") in _OF_NUMPY:
                return _OF_NUMPY[known]
        if name in _RECORDS.get(module, ()):
            return _record_of(name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which VecNormalize does not need")


def _refused(path: Path, reason: str, *, at: str = "model") -> InvalidSpecificationError:
    return InvalidSpecificationError(f"{path}: {reason}.", path=at, code="sb3_file")
