"""Observations on a common scale, by statistics that move only where they would hide something.

They begin with whole episodes of a random policy, sampled before training. A random policy does not see what a trained
one does (on MountainCar it never leaves the valley), so training goes on counting, and where it shows what is clipped,
shift and scale follow all that was seen. Elsewhere they stand still: scales that drift cost a policy what it has
learnt (on Pendulum); ``running: always`` has them all the same. They move every 128 ticks and at a reset of all
environments at most, and never in evaluation, in a checkpoint or wherever an agent acts. Statistics belong to the
*name* of an observation and are shared by the sub-steps that see it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from gymnasium import spaces
from pydantic import AfterValidator

from maze_core.config.settings import dataclass
from maze_core.envs.wrappers.box_observations import BoxObservationWrapper
from maze_core.envs.wrappers.moments import FeatureMoments, difference, far_reference
from maze_core.envs.wrappers.wrapper import STRICT, Range, Spaces
from maze_core.errors import EnvError
from maze_core.notices import Notices
from maze_core.types import Array, NamedArrays, Observation, StepKey

Strategy = Literal["mean_zero_std_one", "range_zero_one"]
Axis = Annotated[list[int] | None, AfterValidator(lambda axis: _sample_axes(axis))]

_FLOAT32 = np.dtype(np.float32)
_MAX_SEEN_BYTES = 4 * 1024 * 1024
"""Observations that are kept before the statistics take them in, where single ones are large."""
_FEW = 1024
"""Numbers of each observation that one statistic for all of them is followed by, where it has many more."""
_MANY = 1000
"""Values of a feature from which a share of clipped ones says something."""
_TOO_MANY_CLIPPED = 0.01
"""Share of a feature's values from which clipping is warned about."""
_ROUNDING = 1e-5
"""How far a scaled value may lie outside of the clip range and still count as within."""


def _sample_axes(axis: list[int] | None) -> list[int] | None:
    if axis is not None and (0 not in axis or min(axis) < 0 or len(set(axis)) != len(axis)):
        raise ValueError(f"axis must hold 0, the axis of the samples, and no axis twice, got {axis}")
    return axis


_MOMENTS = tuple(entry.name for entry in fields(FeatureMoments))
_STATISTICS = ("reference", "shift", "scale", *(f"running_{moment}" for moment in _MOMENTS))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ObservationNormalizationRule:
    """What is different for one observation; ``default`` is as the wrapper says."""

    strategy: Strategy | Literal["default"] = "default"
    """See :class:`ObservationNormalizationWrapper`, as for those that follow."""
    clip_range: Range | Literal["default"] | None = "default"
    """``[low, high]``; null does not clip."""
    axis: Axis | Literal["default"] = "default"
    """Axes of the samples that share one statistic; null takes one for all."""
    statistics: dict[Literal["mean", "std", "min", "max"], float | list[Any]] | None = None
    """``mean`` and ``std``, or ``min`` and ``max``, which stay as they are; null estimates and follows them."""


class _Scaling(NamedTuple):
    """What is done to a batch, as arrays of its axes, which NumPy broadcasts at the least cost."""

    reference: Array | None
    shift: Array
    scale: Array
    ends: tuple[Array, Array] | None
    """Of the clip range."""


@dataclass(kw_only=True, eq=False, config=STRICT)
class ObservationNormalizationWrapper(BoxObservationWrapper):
    """Shift and scale Box observations to float32 of mean 0 and deviation 1, or to the range 0 to 1."""

    strategy: Strategy = "mean_zero_std_one"
    """What becomes of what was seen: mean 0 and standard deviation 1, or minimum 0 and maximum 1."""
    clip_range: Range | None = (-10.0, 10.0)
    """``[low, high]`` applied after scaling; None does not clip."""
    axis: Axis = field(default_factory=lambda: [0])
    """Axes of the samples ``[N, ...]`` that share one statistic; ``[0]`` is per feature, None one for all."""
    exclude: list[str] = field(default_factory=list)
    """Names of observations that stay as they are."""
    running: bool | Literal["always"] = True
    """Let shift and scale follow what training shows where they would clip it, or always, as Stable-Baselines3's
    ``VecNormalize`` does; False keeps those from before it."""

    manual_config: dict[str, ObservationNormalizationRule] = field(default_factory=dict)
    """Observation → what is different for it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rules: dict[str, ObservationNormalizationRule] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._reference: dict[str, Array] = {}
        self._moments: dict[str, FeatureMoments] = {}
        self._scalings: dict[str, _Scaling] = {}
        self._seen: dict[str, list[Array]] = {}
        self._uncounted: dict[tuple[StepKey, str], list[Array]] = {}
        self._hides: set[str] = set()
        self._clipped: dict[tuple[StepKey, str], tuple[Array, int]] = {}
        self._clipped_before: set[tuple[StepKey, str]] = set()
        self._notices: Notices | None = None

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find the observations to normalise; those with a rule of their own are among them."""
        bound = super().bind(observation_spaces, action_spaces)
        if unknown := sorted(set(self.manual_config).difference(*self._names.values())):
            raise EnvError(
                f"ObservationNormalizationWrapper: manual_config names {unknown}, and no such Box is normalised."
            )
        return bound

    def box(self, name: str, box: spaces.Box) -> spaces.Box:
        """Within the clip range, in float32."""
        self._notices = self._notices or Notices.current()
        rule = self._rules[name] = self._rule(name)
        axis: Any = rule.axis
        if axis is not None and max(axis) > len(box.shape):
            raise EnvError(
                f"ObservationNormalizationWrapper: axis {axis} needs samples of "
                f"{max(axis) + 1} axes, those of {name!r} are [N, {', '.join(map(str, box.shape))}]."
            )
        self._dtypes[name] = np.promote_types(self._dtypes.get(name, box.dtype), box.dtype)
        if rule.statistics is not None:
            self._fix(name, rule.statistics, box)
        low, high = self._clip_range(name) or (-np.inf, np.inf)
        return spaces.Box(low, high, shape=box.shape, dtype=np.float32)

    def values(self, name: str, values: Array) -> Array:
        """``(x - shift) / scale``, clipped: in a dtype that holds the space's digits, then in float32."""
        scaled, scaling = self._scaled(name, values)
        if scaling.ends is not None:
            low, high = scaling.ends
            np.minimum(np.maximum(scaled, low, out=scaled), high, out=scaled)
        return scaled if scaled.dtype is _FLOAT32 else scaled.astype(np.float32)

    def needs_statistics(self) -> bool:
        """Some observation has none yet."""
        return any(name not in self._scalings for names in self._names.values() for name in names)

    def estimate(self, observations: Mapping[StepKey, Observation]) -> None:
        """Begin the statistics with samples ``[N, ...]``, those of all sub-steps together."""
        gathered: dict[str, list[Array]] = {}
        for key, names in self._names.items():
            for name in names:
                if self._rules[name].statistics is not None:
                    continue
                if key in observations and len(observations[key][name]):
                    gathered.setdefault(name, []).append(observations[key][name])
        for name, parts in gathered.items():
            if self._rules[name].axis is not None and len({part.shape[1:] for part in parts}) > 1:
                raise EnvError(
                    f"Observation {name!r} has different shapes in different sub-steps, so they cannot share "
                    "statistics per feature: set axis to null or exclude it."
                )
            self._moments.pop(name, None)
            self._reference.pop(name, None)
            rows = self._joined(name, parts)
            if (reference := far_reference(rows, self._axes(name))) is not None:
                self._reference[name] = reference.copy()
            self._take_in(name, parts)
            self._adopt(name)

    def see(self, step_key: StepKey, observations: Observation) -> None:
        """Keep a copy until the next :meth:`learn`, which comes at once where observations are large."""
        for name in self._names[step_key]:
            seen = self._seen.setdefault(name, [])
            seen.append(self._some(name, observations[name], len(seen)).copy())
            self._uncounted.setdefault((step_key, name), []).append(seen[-1])
            if len(seen) * seen[-1].nbytes > _MAX_SEEN_BYTES:
                self.learn()

    def learn(self) -> None:
        """Take in what was seen; shift and scale follow where some of it was clipped, or always."""
        self._count_clipped()
        seen, self._seen = self._seen, {}
        hides, self._hides = self._hides, set()
        for name, parts in seen.items():
            if self.running and name in self._moments:
                self._take_in(name, parts)
                if name in hides or self.running == "always":
                    self._adopt(name)

    def metrics(self) -> dict[str, float]:
        """``train/observations_clipped``: the share of the values seen in training that were clipped."""
        self._count_clipped()
        clipped, self._clipped = self._clipped, {}
        for place, (counts, n_rows) in clipped.items():
            name, share = place[1], counts / n_rows
            # statistics that follow what they clip soon clip no more: only what lasts is worth a word
            lasts = place in self._clipped_before or not (self.running and name in self._moments)
            is_too_much = n_rows >= _MANY and bool((share > _TOO_MANY_CLIPPED).any())
            (self._clipped_before.add if is_too_much else self._clipped_before.discard)(place)
            if is_too_much and lasts and self._notices is not None:
                where = list(map(int, np.unravel_index(share.argmax(), share.shape)))
                limits = list(self._clip_range(name) or ())
                self._notices.say(
                    "observations_clipped",
                    f"{share.max():.0%} of the values of observation {name!r} at {where} are clipped to "
                    f"{limits} in training, so the policy does not see them: widen clip_range "
                    "of ObservationNormalizationWrapper, or set it to null.",
                )
        n_values = sum(counts.size * n_rows for counts, n_rows in clipped.values())
        n_clipped = sum(int(counts.sum()) for counts, _ in clipped.values())
        return {"train/observations_clipped": n_clipped / n_values} if n_values else {}

    def state_dict(self) -> dict[str, Array]:
        """``<name>/shift`` and ``<name>/scale``, which act, and ``<name>/running_…``, which training goes on with.

        All of them are of what is left of integers beyond 2^53 less ``<name>/reference``, which only those have.
        """
        arrays = {f"{name}/reference": values for name, values in self._reference.items()}
        for name, scaling in self._scalings.items():
            arrays |= {f"{name}/shift": scaling.shift[0], f"{name}/scale": scaling.scale[0]}
        for name, moments in self._moments.items():
            arrays |= {f"{name}/running_{kind}": getattr(moments, kind) for kind in _MOMENTS}
        return arrays

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Take back what ``state_dict`` gave; without ``running_…``, as 0.1.0 wrote it, the statistics stay fixed."""
        self._seen, self._uncounted, self._hides = {}, {}, set()
        acting: dict[str, dict[str, Array]] = {"reference": {}, "shift": {}, "scale": {}}
        moments: dict[str, dict[str, Array]] = {}
        for key, values in arrays.items():
            name, _, kind = key.rpartition("/")
            if not name or kind not in _STATISTICS:
                raise EnvError(f"{key!r} is not the name of a normalisation statistic.")
            if kind in acting:
                acting[kind][name] = np.array(values)
            else:
                moments.setdefault(name, {})[kind.removeprefix("running_")] = np.array(values)
        self._moments = {name: FeatureMoments(**found) for name, found in moments.items()}
        self._reference, self._scalings = acting["reference"], {}
        for name, shift in acting["shift"].items():
            self._act(name, shift, acting["scale"][name])

    def _scaled(self, name: str, values: Array) -> tuple[Array, _Scaling]:
        """Before clipping, a new array in the dtype of the statistics; and by what."""
        scaling = self._scalings.get(name)
        if scaling is None:
            raise EnvError(
                f"Observation {name!r} has no statistics yet: train with this wrapper, load those of a "
                "checkpoint, or call estimate() with samples."
            )
        rest, shift = difference(values, scaling.reference), scaling.shift
        # each a call without arguments by name where the dtypes are the same, as they mostly are
        scaled: Array = np.subtract(rest if rest.dtype is shift.dtype else rest.astype(shift.dtype), shift)
        np.divide(scaled, scaling.scale, out=scaled)
        return scaled, scaling

    def _act(self, name: str, shift: Array, scale: Array) -> None:
        """Shift and scale an observation by these from now on."""
        limits = self._clip_range(name)
        ends = limits and (np.array(limits[0], shift.dtype), np.array(limits[1], shift.dtype))
        self._scalings[name] = _Scaling(self._reference.get(name), shift[None], scale[None], ends)

    def _take_in(self, name: str, parts: Sequence[Array]) -> None:
        """Add rows to the moments of an observation."""
        rows = difference(self._joined(name, parts), self._reference.get(name))
        moments = FeatureMoments.of(rows, self._axes(name))
        if name in self._moments:
            moments = self._moments[name].merged(moments)
        self._moments[name] = moments

    def _joined(self, name: str, parts: Sequence[Array]) -> Array:
        is_one = self._rules[name].axis is None
        return np.concatenate([part.reshape(-1) if is_one else part for part in parts])

    def _rule(self, name: str) -> ObservationNormalizationRule:
        """What holds for an observation, without defaults."""
        given = self.manual_config.get(name, ObservationNormalizationRule())
        own: dict[str, Any] = {"strategy": self.strategy, "clip_range": self.clip_range, "axis": self.axis}
        return replace(
            given, **{key: value for key, value in own.items() if getattr(given, key) == "default"}
        )

    def _axes(self, name: str) -> tuple[int, ...]:
        axis: Any = self._rules[name].axis
        return tuple(axis or (0,))

    def _clip_range(self, name: str) -> tuple[float, float] | None:
        limits: Any = self._rules[name].clip_range
        return limits  # type: ignore[no-any-return]

    def _some(self, name: str, values: Array, turn: int) -> Array:
        """Of large observations that share one statistic, numbers from other places at every turn."""
        stride = values[0].size // _FEW
        if self._rules[name].axis is not None or stride < 2:
            return values
        return values.reshape(len(values), -1)[:, turn % stride :: stride][:, : values[0].size // stride]

    def _fix(self, name: str, statistics: Mapping[Any, Any], box: spaces.Box) -> None:
        """Let shift and scale be the given ones."""
        pair = ("mean", "std") if self._rules[name].strategy == "mean_zero_std_one" else ("min", "max")
        message = (
            f"ObservationNormalizationWrapper: the statistics of {name!r} have to be {pair[0]} and {pair[1]}"
        )
        if set(statistics) != set(pair):
            raise EnvError(f"{message}, not {', '.join(statistics)}.")
        dtype = np.promote_types(self._dtypes[name], np.float32)
        try:
            first, second = (np.broadcast_to(np.array(statistics[key], dtype), box.shape) for key in pair)
        except ValueError as error:
            raise EnvError(f"{message}, numbers or arrays of shape {box.shape}.") from error
        scale = second if pair[1] == "std" else second - first
        if not ((scale > 0) & np.isfinite(scale)).all():
            raise EnvError(f"{message}, of which no scale is 0 or less.")
        self._act(name, first, scale)

    def _adopt(self, name: str) -> None:
        """Let shift and scale be those of the moments."""
        moments = self._moments[name]
        spread = moments.high - moments.low
        if self._rules[name].strategy == "mean_zero_std_one":
            # the rounding of a mean must not lie outside what was seen, or a constant would not become 0
            shift, scale = np.clip(moments.mean, moments.low, moments.high), moments.std
        else:
            shift, scale = moments.low, spread
        # what varies by the rounding of its own dtype does not vary, and has nothing to scale
        box_dtype = self._dtypes[name]
        rounding = 4 * np.finfo(box_dtype).eps if box_dtype.kind == "f" else 0.0
        scale = np.where(spread <= rounding * np.abs(moments.high), 1.0, scale)
        dtype = np.promote_types(box_dtype, np.float32)
        with np.errstate(over="ignore"):
            scale = scale.astype(dtype)
            shift = shift.astype(dtype)
        if not ((scale > 0) & np.isfinite(scale)).all():
            raise EnvError(f"Observation {name!r} has no finite statistics in {dtype}; exclude it.")
        self._act(name, shift, scale)

    def _count_clipped(self) -> None:
        """Count what the statistics of now clip of the rows seen since the last count."""
        uncounted, self._uncounted = self._uncounted, {}
        for place, parts in uncounted.items():
            name = place[1]
            limits = self._clip_range(name)
            if limits is not None and name in self._scalings:
                scaled, _ = self._scaled(name, np.concatenate(parts))
                is_clipped = np.abs(scaled - scaled.clip(*limits)) > _ROUNDING
                if is_clipped.any():
                    self._hides.add(name)
                counts, n_rows = self._clipped.get(place, (np.zeros((), np.int64), 0))
                self._clipped[place] = (counts + is_clipped.sum(axis=0), n_rows + len(scaled))
