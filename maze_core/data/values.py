"""One rule for values of unknown origin, wherever they come from: environments, Python, JSON.

A :class:`LeafReader` reads one Box, Discrete, MultiDiscrete or MultiBinary. What decides is the value, not how it is
written: lists, numbers, arrays, tensors and anything with ``__array__`` are taken; texts, nulls, a wrong kind of
number, another shape, NaN and infinity, and what the space's dtype cannot hold are refused with their place.

=================== ======================================================================================
space holds         what is taken
=================== ======================================================================================
floats              floats and integers that are finite in its dtype
integers            integers within its dtype, also written as floats (``2.0``); a Discrete's and its like
                    within their limits, because they are indices
nothing but 0 and 1 the same, and truth values
=================== ======================================================================================

The declared bounds of a Box are no limit: environments overstep them by rounding and by mistake, and a policy sees
numbers all the same. Whoever reads says so once (:meth:`LeafReader.beyond`).
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from maze_core.errors import SpaceMismatchError
from maze_core.types import Array, BoolArray

LEAF_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_WHOLE = (int, np.int64)
_WRITTEN_AS = {"b": "truth values", "i": "integers", "u": "integers", "f": "floats", "c": "complex numbers"}


class LeafReader:
    """Reads values of one leaf space, one by one or as a batch."""

    def __init__(self, space: Space[Any], *, batch: tuple[int, ...] = ()) -> None:
        """Prepare to read.

        Args:
            space: one of :data:`LEAF_SPACES`, or a subclass.
            batch: axes before those of the space, such as ``(n_envs,)``.

        Raises:
            SpaceMismatchError: the space has no numbers.
        """
        if not isinstance(space, LEAF_SPACES) or space.shape is None or space.dtype is None:
            raise SpaceMismatchError(f"A {type(space).__name__} space has no values that could be checked.")
        self.space = space
        self.dtype = np.dtype(space.dtype)
        self.shape = (*batch, *space.shape)
        self._kind = self.dtype.kind
        self._is_index = not isinstance(space, spaces.Box)
        self._low, self._high = limits(space)
        self._is_binary = self._kind in "biu" and bool(np.all(self._low >= 0) and np.all(self._high <= 1))
        self._is_choice = isinstance(space, spaces.Discrete) and not batch
        least, largest = value_range(self.dtype)
        is_free = np.all(self._low == least) and np.all(self._high == largest)
        self.exact_dtype = None if self._is_index else self.dtype
        """An array of this dtype and of the shape is always :meth:`ready`; None where numbers have to be looked at."""
        self.is_bounded = not (self._is_index or is_free)
        """Whether values may overstep declared bounds and be taken."""
        is_quick = self._kind == "f" and self.shape and not batch
        self._finite_bounds = _finite_bounds(space) if is_quick else None

    def quickly(self, value: Any) -> Array | None:
        """What :meth:`read` gives for an array of floats that fits in every way; None where one has to look closer."""
        if (
            self._finite_bounds is None
            or type(value) is not np.ndarray
            or value.dtype is not self.dtype
            or value.shape != self.shape
        ):
            return None
        low, high = self._finite_bounds
        # NaN and infinity come out as a bound
        bounded: Array = np.fmax(np.fmin(value, high), low)
        return bounded if bounded.tobytes() == value.tobytes() else None

    def read(self, value: Any, pointer: str = "") -> Array:
        """The value as a new array of the space's dtype.

        Args:
            value: numbers in any form.
            pointer: where the value stands in the document it came from, as a JSON pointer.

        Raises:
            SpaceMismatchError: it does not fit; its ``pointer`` names the element.
        """
        if self._is_choice and type(value) in _WHOLE and self._low <= value <= self._high:
            return np.asarray(value, self.dtype)
        raw = value if type(value) is np.ndarray else self._array(value, pointer)
        if raw.dtype.kind not in "iuf" and not (raw.dtype.kind == "b" and self._is_binary):
            raw = self._numbers(raw, pointer)
        if raw.shape != self.shape:
            raise SpaceMismatchError(
                f"Expected shape {_shape(self.shape)}, got {_shape(raw.shape)}.", pointer
            )
        if self._kind == "f":
            with np.errstate(over="ignore"):
                fitted = raw.astype(self.dtype)
            if not np.isfinite(fitted).all():
                _refuse(~np.isfinite(raw), raw, "is not finite", pointer)
                _refuse(~np.isfinite(fitted), raw, f"does not fit into {self.dtype}", pointer)
            return fitted
        if raw.dtype is not self.dtype or self._is_index:
            self._refuse_unfit(raw, pointer)
        return raw.astype(self.dtype)

    def takes(self, values: Array) -> bool:
        """Whether all of an array ``[B, *shape]`` fits as it is; false where each has to be read."""
        if values.dtype != self.exact_dtype or values.shape[1:] != self.shape:
            return False
        return self.beyond(values) is None and (self._kind != "f" or bool(np.isfinite(values).all()))

    def ready(self, value: Any) -> Any:
        """The value, or what :meth:`read` makes of it, to be written into an array of the space's dtype at once.

        As :meth:`read`, but arrays of floats may still hold NaN or infinity, or become infinite when written, and
        must be looked at afterwards: in a batch that costs less.

        Raises:
            SpaceMismatchError: it does not fit.
        """
        if self._is_choice:
            if type(value) in _WHOLE and self._low <= value <= self._high:
                return value
        elif type(value) is np.ndarray and value.shape == self.shape:
            dtype = value.dtype
            if dtype is self.exact_dtype or (dtype.kind == "f" and self._kind == "f"):
                return value
        return self.read(value)

    def beyond(self, array: Array) -> BoolArray | None:
        """Where an array ``[…, *shape]`` of the space's dtype oversteps declared bounds; None where it does not."""
        if not self.is_bounded:
            return None
        outside: BoolArray = (array < self._low) | (array > self._high)
        return outside if outside.any() else None

    def beyond_text(self, array: Array, outside: BoolArray) -> str:
        """The first number beyond the bounds, its place, and the bounds there."""
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        low, high = (np.broadcast_to(bound, outside.shape)[index] for bound in (self._low, self._high))
        place = index[outside.ndim - len(self.space.shape or ()) :]
        at = f" at {list(place)}" if place else ""
        return f"{array[index]}{at} is outside [{low}, {high}]"

    def _refuse_unfit(self, raw: Array, pointer: str) -> None:
        """Refuse what an integer or binary space cannot hold."""
        is_float = raw.dtype.kind == "f"
        if is_float:
            raw = raw.astype(np.float64)  # a limit may be beyond float16
            _refuse(~np.isfinite(raw), raw, "is not finite", pointer)
            _refuse(raw != np.trunc(raw), raw, "is no integer", pointer)
        low, high = (self._low, self._high) if self._is_index else value_range(self.dtype)
        # the largest number of an integer type is no float, the next power of two is
        above = raw >= np.asarray(high, np.float64) + 1 if is_float else raw > high
        outside = (raw < low) | above
        if outside.any():
            index = tuple(int(i) for i in np.argwhere(outside)[0])
            bounds = ", ".join(str(np.broadcast_to(bound, outside.shape)[index]) for bound in (low, high))
            _refuse(outside, raw, f"is outside [{bounds}]", pointer)

    def _array(self, value: Any, pointer: str) -> Array:
        """The value as an array, whatever is in it."""
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            raise SpaceMismatchError("Expected numbers, got an array of which some are masked.", pointer)
        if isinstance(value, list | tuple):
            value = self._plain(value, pointer, len(self.shape) + 2)
        elif isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
            return as_array(value, pointer)
        else:
            self._refuse_other_than_number(value, pointer)
        try:
            array: Array = np.array(value)
        except ValueError:
            raise SpaceMismatchError(
                f"Expected shape {_shape(self.shape)}, got lists of unequal lengths.", pointer
            ) from None
        if array.size == 0:  # NumPy takes nothing for floats
            return array.astype(self.dtype)
        if array.dtype.kind == "f" and self._kind in "iu":
            array = self._unrounded(value, array)
        if array.dtype.kind not in "biuf":
            raise SpaceMismatchError("Expected numbers that fit into 64 bits.", pointer)
        return array

    def _unrounded(self, value: Any, rounded: Array) -> Array:
        """Whole numbers as they are, where NumPy made floats of a list because some are floats or beyond int64."""
        numbers = np.array(value, dtype=object)
        # what is no whole number, or does not fit, is refused later with its place
        with contextlib.suppress(ValueError, OverflowError):
            whole = np.frompyfunc(int, 1, 1)(numbers)
            if (whole == numbers).all():
                exact: Array = np.asarray(whole).astype(self.dtype)
                return exact
        return rounded

    def _plain(self, value: Any, pointer: str, depth: int) -> Any:
        """Lists of numbers and arrays; other elements are refused, for NumPy would take texts and nulls for numbers."""
        if isinstance(value, list | tuple):
            if depth == 0:
                raise SpaceMismatchError("The lists are nested too deep.", pointer)
            if set(map(type, value)) <= {int, float}:
                return value
            return [self._plain(part, f"{pointer}/{i}", depth - 1) for i, part in enumerate(value)]
        if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
            return self._numbers(as_array(value, pointer), pointer)
        self._refuse_other_than_number(value, pointer)
        return value

    def _refuse_other_than_number(self, value: Any, pointer: str) -> None:
        if not isinstance(value, int | float) or (isinstance(value, bool) and not self._is_binary):
            hint = "; give 0 or 1" if isinstance(value, bool) else ""
            raise SpaceMismatchError(f"Expected a number, got {_described(value)}{hint}.", pointer)

    def _numbers(self, array: Array, pointer: str) -> Array:
        """The array, with its numbers taken out of objects."""
        if array.dtype.kind == "O":
            return self._array(array.tolist(), pointer)
        if array.dtype.kind not in "iuf" and not (array.dtype.kind == "b" and self._is_binary):
            what = _WRITTEN_AS.get(array.dtype.kind, str(array.dtype))
            hint = "; give 0 and 1" if array.dtype.kind == "b" else ""
            raise SpaceMismatchError(f"Expected numbers, got {what}{hint}.", pointer)
        return array


def limits(space: Space[Any]) -> tuple[Any, Any]:
    """Least and largest value of a leaf space; of index spaces not in its own dtype, in which they could wrap."""
    match space:
        case spaces.Box():
            return space.low, space.high
        case spaces.Discrete():
            start = int(space.start)
            return start, start + int(space.n) - 1
        case spaces.MultiDiscrete():
            wide = np.uint64 if space.dtype == np.uint64 else np.int64
            starts = space.start.astype(wide)
            return starts, starts + space.nvec.astype(wide) - 1
        case spaces.MultiBinary():
            return 0, 1
    raise SpaceMismatchError(f"A {type(space).__name__} space has no values that could be checked.")


def _finite_bounds(space: Space[Any]) -> tuple[Array, Array]:
    """Bounds of a Box of floats, the largest finite numbers in place of infinite ones."""
    finite = np.finfo(space.dtype)
    low, high = limits(space)
    return np.maximum(low, finite.min), np.minimum(high, finite.max)


def fit_to_box(values: Array, space: spaces.Box) -> Array:
    """Numbers ``[…, *shape]`` clipped to the bounds of a Box, and rounded where it holds whole ones, in its dtype."""
    clipped: Array = np.minimum(np.maximum(values, space.low), space.high)
    if space.dtype.kind == "f":
        return clipped.astype(space.dtype, copy=False)
    # the largest int64 is no float: the bound itself takes the place of what would wrap around
    below, above = clipped <= space.low, clipped >= space.high
    within = np.where(below | above, 0, np.rint(clipped)).astype(space.dtype)
    return np.where(below, space.low, np.where(above, space.high, within))


def value_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Least and largest number of a dtype; infinite for floats."""
    if dtype.kind == "f":
        return -np.inf, np.inf
    return (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)


def as_array(value: Any, pointer: str = "") -> Array:
    """Whatever NumPy makes of an object with ``__array__``.

    Raises:
        SpaceMismatchError: it makes nothing of it.
    """
    try:
        array: Array = np.asarray(value)
    except (
        Exception
    ) as error:  # a tensor on a device or with a gradient, or whatever an object's __array__ does
        raise SpaceMismatchError(
            f"A {type(value).__name__} could not be read as an array ({error}).", pointer
        ) from error
    return array


def _refuse(wrong: Array, raw: Array, what: str, pointer: str) -> None:
    """Name the first wrong element, if there is one."""
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        leaf = "".join(f"/{i}" for i in index)
        raise SpaceMismatchError(f"{raw[index].item()} {what}.", pointer + leaf)


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _described(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str | bool):
        return f"{value!r:.40}"
    return "dict" if isinstance(value, Mapping) else type(value).__name__
