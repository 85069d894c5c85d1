"""What :class:`~maze_core.envs.wrappers.PreProcessingWrapper` does to single observations, in numpy, row by row.

Each takes a batch ``[B, ...]`` of one observation and gives another one; what becomes of a row depends on that row
alone, to the bit. Axes are those of one observation, without the batch, and may be counted from the end.
"""

from abc import ABC, abstractmethod
from functools import lru_cache
from math import prod
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from gymnasium import Space, spaces
from pydantic import Field

from maze_core.config.settings import STRICT, OptionalPositiveInt, dataclass
from maze_core.errors import EnvError
from maze_core.types import Array, FloatArray

MOST_CHOICES: Final = 4096
_VECTORS = "for observations that are vectors take wrappers=vector_obs"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PreProcessor(ABC):
    """One step of pre-processing; a subclass says what becomes of a space and of a batch."""

    tag: ClassVar[str]
    """What is added to the name of the observation: ``<observation>-<tag>``."""
    observation: str
    """Name of the observation that is read."""
    keep_original: bool = False
    """Show it, too, beside what becomes of it."""

    @abstractmethod
    def processed_space(self, space: Space[Any]) -> Space[Any]:
        """The space of what :meth:`process` gives.

        Raises:
            EnvError: an observation of this space cannot be processed; by :meth:`refusal`.
        """

    @abstractmethod
    def process(self, values: Array) -> Array:
        """The observations ``[B, ...]``, processed; those given are not written to."""

    def refusal(self, needs: str, space: Space[Any]) -> EnvError:
        """That this observation does not do, why, and the way out."""
        return EnvError(
            f"{type(self).__name__} needs {needs}; the observation {self.observation!r} is {space}: leave it out, or "
            f"{_VECTORS}."
        )

    def box(self, space: Space[Any], least_axes: int = 0) -> spaces.Box:
        """The space, where it is a Box of as many axes."""
        if not isinstance(space, spaces.Box) or len(space.shape) < least_axes:
            raise self.refusal(f"a Box of at least {least_axes} axes" if least_axes else "a Box", space)
        return space


class _Reshaped(PreProcessor):
    """Changes the shape alone, that of the bounds too."""

    def processed_space(self, space: Space[Any]) -> Space[Any]:
        """The same bounds, in the new shape."""
        box = self.box(space, self.least_axes)
        low, high = (self.process(bound[None])[0] for bound in (box.low, box.high))
        return spaces.Box(low, high, dtype=box.dtype.type)

    @property
    def least_axes(self) -> int:
        """Axes that an observation must have."""
        return 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FlattenPreProcessor(_Reshaped):
    """The last axes of an observation as one."""

    tag: ClassVar[str] = "flatten"
    num_flatten_dims: OptionalPositiveInt = None
    """How many axes become one, from the last one; null takes all."""

    @property
    def least_axes(self) -> int:
        """As many as are to become one."""
        return self.num_flatten_dims or 0

    def process(self, values: Array) -> Array:
        """``[B, ..., n]``."""
        kept = 1 if self.num_flatten_dims is None else values.ndim - self.num_flatten_dims
        return values.reshape(*values.shape[:kept], prod(values.shape[kept:]))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UnSqueezePreProcessor(_Reshaped):
    """One more axis, of length 1: a grey picture ``[h, w]`` gets the channel that convolutions ask for."""

    tag: ClassVar[str] = "unsqueeze"
    dim: int = -3
    """Where the axis stands in what comes out; -3 makes ``[1, h, w]`` of ``[h, w]``."""

    @property
    def least_axes(self) -> int:
        """As many as the place of the axis asks for."""
        return self.dim if self.dim >= 0 else -self.dim - 1

    def process(self, values: Array) -> Array:
        """``[B, ..., 1, ...]``."""
        return np.expand_dims(values, self.dim + 1 if self.dim >= 0 else self.dim)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransposePreProcessor(_Reshaped):
    """The axes in another order: ``[2, 0, 1]`` puts the channels of a picture ``[h, w, c]`` first."""

    tag: ClassVar[str] = "transpose"
    axes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Of one observation, each once, in the new order."""

    def __post_init__(self) -> None:
        if sorted(self.axes) != list(range(len(self.axes))):
            raise ValueError(f"axes must hold each of 0 to {len(self.axes) - 1} once, got {list(self.axes)}")

    def processed_space(self, space: Space[Any]) -> Space[Any]:
        """The same bounds, in the new order."""
        if not isinstance(space, spaces.Box) or len(space.shape) != len(self.axes):
            raise self.refusal(f"a Box of {len(self.axes)} axes", space)
        return super().processed_space(space)

    def process(self, values: Array) -> Array:
        """The same numbers."""
        return np.ascontiguousarray(values.transpose(0, *(axis + 1 for axis in self.axes)))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OneHotPreProcessor(PreProcessor):
    """Whole numbers as indicators: ``[..., n]`` with one 1 each, float32."""

    tag: ClassVar[str] = "one_hot"

    def processed_space(self, space: Space[Any]) -> Space[Any]:
        """Zeros and ones."""
        start, n = self._range(space)
        object.__setattr__(self, "_choices", np.arange(start, start + n))
        return spaces.Box(0.0, 1.0, (*(space.shape or ()), n), np.float32)

    def process(self, values: Array) -> Array:
        """``[B, ..., n]``."""
        choices: Array = getattr(self, "_choices", np.arange(0))
        is_chosen: Array = values[..., None] == choices
        return is_chosen.astype(np.float32)

    def _range(self, space: Space[Any]) -> tuple[int, int]:
        """The least number, and how many there are."""
        low, n = 0, MOST_CHOICES + 1
        if isinstance(space, spaces.Discrete):
            low, n = int(space.start), int(space.n)
        elif isinstance(space, spaces.MultiDiscrete):
            low = int(space.start.min())
            n = int((space.start + space.nvec).max()) - low
        elif isinstance(space, spaces.Box) and space.dtype.kind in "iu" and space.is_bounded():
            low = int(space.low.min())
            n = int(space.high.max()) - low + 1
        if n <= MOST_CHOICES:
            return low, n
        raise self.refusal(
            f"a Discrete, a MultiDiscrete or a Box of integers, of at most {MOST_CHOICES} values", space
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rgb2GrayPreProcessor(PreProcessor):
    """Pictures without colours, by the luma of ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, in the dtype they had."""

    tag: ClassVar[str] = "rgb2gray"
    rgb_dim: int = -1
    """The axis of red, green and blue, which goes."""

    def processed_space(self, space: Space[Any]) -> Space[Any]:
        """Without the axis of colours."""
        if isinstance(space, spaces.Box) and len(space.shape) == 2:
            raise self._grey(space)
        box = self.box(space, 3)
        is_there = -len(box.shape) <= self.rgb_dim < len(box.shape)
        if not is_there or box.shape[self.rgb_dim] != 3:
            if is_there and box.shape[self.rgb_dim] == 1:
                raise self._grey(space)
            raise self.refusal(f"three colours at axis {self.rgb_dim}", space)
        low, high = (self.process(bound[None])[0] for bound in (box.low, box.high))
        return spaces.Box(low, high, dtype=box.dtype.type)

    def _grey(self, space: Space[Any]) -> EnvError:
        return EnvError(
            f"Rgb2GrayPreProcessor makes colours grey, and the observation {self.observation!r} is {space}, which is "
            "grey already: leave it out, and read that observation in the next step; where the picture has no axis of "
            "channels, UnSqueezePreProcessor adds it."
        )

    def process(self, values: Array) -> Array:
        """``[B, h, w]``; whole numbers are rounded to the nearest."""
        colours = np.moveaxis(values, self.rgb_dim + 1 if self.rgb_dim >= 0 else self.rgb_dim, 0)
        if values.dtype.kind == "f":
            red, green, blue = (w * c for w, c in zip((0.299, 0.587, 0.114), colours, strict=True))
            luma: Array = red + green + blue
            return luma.astype(values.dtype, copy=False)
        weighted = np.full(colours.shape[1:], 500, np.int32 if values.dtype.itemsize < 4 else np.int64)
        for weight, colour in zip((299, 587, 114), colours, strict=True):
            weighted += weight * colour.astype(weighted.dtype)
        weighted //= 1000
        return weighted.astype(values.dtype)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResizeImgPreProcessor(PreProcessor):
    """Pictures of another size, by a triangle filter that widens as they shrink, so that nothing is skipped.

    What Pillow calls ``BILINEAR``: every pixel is a mean of those around its place, weighted by nearness.
    """

    tag: ClassVar[str] = "resize_img"
    target_size: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]
    """``[height, width]``."""
    transpose: bool = False
    """Channels stand first, ``[c, h, w]``; else last, ``[h, w, c]``, or there are none, ``[h, w]``."""

    def processed_space(self, space: Space[Any]) -> Space[Any]:
        """Of the other size; the bounds are the widest of all pixels."""
        box = self.box(space, 3 if self.transpose else 2)
        if len(box.shape) > 3:
            raise self.refusal("a picture of two or three axes", space)
        rest = box.shape[:-2] if self.transpose else box.shape[2:]
        shape = (*rest, *self.target_size) if self.transpose else (*self.target_size, *rest)
        return spaces.Box(box.low.min(), box.high.max(), shape, box.dtype.type)

    def process(self, values: Array) -> Array:
        """``[B, ...]`` in the dtype they had; whole numbers are rounded to the nearest."""
        has_last = values.ndim == 4 and not self.transpose
        pictures = np.moveaxis(values, 3, 1) if has_last else values
        dtype = np.float64 if values.dtype.itemsize > 4 else np.float32
        rows, columns = (
            _weights(size, to).astype(dtype)
            for size, to in zip(pictures.shape[-2:], self.target_size, strict=True)
        )
        # picture by picture, so that the product of one does not depend on how many there are
        resized = np.matmul(np.matmul(rows, pictures.astype(dtype)), columns.T)
        if values.dtype.kind in "iu":
            info = np.iinfo(values.dtype)
            resized = np.rint(resized).clip(info.min, info.max)
        resized = resized.astype(values.dtype)
        return np.ascontiguousarray(np.moveaxis(resized, 1, 3)) if has_last else resized


@lru_cache(maxsize=64)
def _weights(size: int, to: int) -> FloatArray:
    """``[to, size]``: what each old place weighs in each new one; rows add up to 1."""
    scale = size / to
    reach = max(scale, 1.0)
    centers = (np.arange(to) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centers[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - distance)
    normalised: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return normalised
