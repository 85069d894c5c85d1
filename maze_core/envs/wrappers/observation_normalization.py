"""Observations on a common scale, by statistics that are estimated once before training and then fixed.

Statistics belong to the *name* of an observation and are shared by the sub-steps that see it. Fixed
statistics keep a checkpoint's behaviour fixed; nothing here learns while it acts. Masks are never touched.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

import numpy as np
from gymnasium import spaces
from pydantic import AfterValidator

from maze_core.config.settings import dataclass
from maze_core.envs.wrappers.leaves import box_names, replace_boxes, unknown_names
from maze_core.envs.wrappers.settings import STRICT, Range
from maze_core.envs.wrappers.wrapper import Spaces, States, Wrapper
from maze_core.errors import EnvError
from maze_core.types import Array, NamedArrays, Observation, StepKey

Strategy = Literal["mean_zero_std_one", "range_zero_one"]


def _sample_axes(axis: list[int] | None) -> list[int] | None:
    if axis is not None and (0 not in axis or min(axis) < 0 or len(set(axis)) != len(axis)):
        raise ValueError(f"axis must hold 0, the axis of the samples, and no axis twice, got {axis}")
    return axis


@dataclass(kw_only=True, eq=False, config=STRICT)
class ObservationNormalizationWrapper(Wrapper):
    """Shift and scale Box observations to float32 of mean 0 and deviation 1, or to the range 0 to 1."""

    strategy: Strategy = "mean_zero_std_one"
    """What becomes of the samples: mean 0 and standard deviation 1, or minimum 0 and maximum 1."""
    clip_range: Range | None = (-3.0, 3.0)
    """``[low, high]`` applied after scaling; None does not clip."""
    axis: Annotated[list[int] | None, AfterValidator(_sample_axes)] = field(default_factory=lambda: [0])
    """Axes of the samples ``[N, ...]`` that share one statistic; ``[0]`` is per feature, None one for all."""
    exclude: list[str] = field(default_factory=list)
    """Names of observations that stay as they are."""

    def __post_init__(self) -> None:
        self._shift: dict[str, Array] = {}
        self._scale: dict[str, Array] = {}
        self._names: dict[StepKey, list[str]] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find the observations to normalise; they become float32 Boxes within the clip range."""
        if unknown := unknown_names(observation_spaces, self.exclude):
            raise EnvError(f"ObservationNormalizationWrapper excludes {unknown}, which is not observed.")
        self._names = {key: box_names(space, self.exclude) for key, space in observation_spaces.items()}
        low, high = self.clip_range or (-np.inf, np.inf)

        def normalised(name: str, box: spaces.Box) -> spaces.Box:
            if self.axis is not None and max(self.axis) > len(box.shape):
                raise EnvError(
                    f"ObservationNormalizationWrapper: axis {self.axis} needs samples of "
                    f"{max(self.axis) + 1} axes, those of {name!r} are [N, {', '.join(map(str, box.shape))}]."
                )
            return spaces.Box(low, high, shape=box.shape, dtype=np.float32)

        return replace_boxes(observation_spaces, self.exclude, normalised), action_spaces

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """``(x - shift) / scale``, clipped; in float32."""
        result = dict(observations)
        for name in self._names[step_key]:
            if name not in self._shift:
                raise EnvError(
                    f"Observation {name!r} has no statistics yet: train with this wrapper, load those of a "
                    "checkpoint, or call estimate() with samples."
                )
            values = result[name].astype(np.float32)
            np.subtract(values, self._shift[name], out=values)
            np.divide(values, self._scale[name], out=values)
            if self.clip_range is not None:
                np.maximum(values, np.float32(self.clip_range[0]), out=values)
                np.minimum(values, np.float32(self.clip_range[1]), out=values)
            result[name] = values
        return result, state

    def needs_statistics(self) -> bool:
        """Some observation has none yet."""
        return any(name not in self._shift for names in self._names.values() for name in names)

    def estimate(self, observations: Mapping[StepKey, Observation]) -> None:
        """Fix shift and scale from samples ``[N, ...]``, those of all sub-steps together."""
        gathered: dict[str, list[Array]] = {}
        for key, names in self._names.items():
            for name in names:
                if key in observations and len(observations[key][name]):
                    gathered.setdefault(name, []).append(np.asarray(observations[key][name], np.float64))
        for name, parts in gathered.items():
            self._shift[name], self._scale[name] = self._statistics(name, parts)

    def _statistics(self, name: str, parts: list[Array]) -> tuple[Array, Array]:
        if self.axis is None:
            parts = [part.reshape(-1) for part in parts]
        elif len({part.shape[1:] for part in parts}) > 1:
            raise EnvError(
                f"Observation {name!r} has different shapes in different sub-steps, so they cannot share "
                "statistics per feature: set axis to null or exclude it."
            )
        samples, axes = np.concatenate(parts), tuple(self.axis or (0,))
        if self.strategy == "mean_zero_std_one":
            shift = samples.mean(axis=axes, keepdims=True)
            scale = samples.std(axis=axes, keepdims=True)
        else:
            shift = samples.min(axis=axes, keepdims=True)
            scale = samples.max(axis=axes, keepdims=True) - shift
        # a feature that never varies has nothing to scale, up to the rounding of its mean
        scale = np.where(scale <= 1e-7 * np.abs(shift), 1.0, scale)
        shift, scale = shift[0].astype(np.float32), scale[0].astype(np.float32)
        if not (np.isfinite(shift).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise EnvError(f"Observation {name!r} has no finite statistics in float32; exclude it.")
        return shift, scale

    def state_dict(self) -> dict[str, Array]:
        """``<name>/shift`` and ``<name>/scale``, float32."""
        shift = {f"{name}/shift": values for name, values in self._shift.items()}
        return shift | {f"{name}/scale": values for name, values in self._scale.items()}

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Take back what ``state_dict`` gave."""
        self._shift, self._scale = {}, {}
        for key, values in arrays.items():
            name, _, kind = key.rpartition("/")
            if kind not in ("shift", "scale") or not name:
                raise EnvError(f"{key!r} is not the name of a normalisation statistic.")
            target = self._shift if kind == "shift" else self._scale
            target[name] = np.array(values, dtype=np.float32)
