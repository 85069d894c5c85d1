"""Observations within fixed limits."""

from dataclasses import field

import numpy as np
from gymnasium import spaces

from maze_core.config.settings import dataclass
from maze_core.envs.wrappers.leaves import box_names, replace_boxes, unknown_names
from maze_core.envs.wrappers.settings import STRICT, Range
from maze_core.envs.wrappers.wrapper import Spaces, States, Wrapper
from maze_core.errors import EnvError
from maze_core.types import Observation, StepKey


@dataclass(kw_only=True, eq=False, config=STRICT)
class ObservationClippingWrapper(Wrapper):
    """Clip Box observations to one range; masks are never touched."""

    clip_range: Range = (-10.0, 10.0)
    """``[low, high]`` for every element."""
    exclude: list[str] = field(default_factory=list)
    """Names of observations that stay as they are."""

    def __post_init__(self) -> None:
        self._names: dict[StepKey, list[str]] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Narrow the Boxes to the range."""
        if unknown := unknown_names(observation_spaces, self.exclude):
            raise EnvError(f"ObservationClippingWrapper excludes {unknown}, which is not observed.")
        self._names = {key: box_names(space, self.exclude) for key, space in observation_spaces.items()}

        def narrowed(_: str, box: spaces.Box) -> spaces.Box:
            low, high = (np.clip(bound, *self.clip_range).astype(box.dtype) for bound in (box.low, box.high))
            return spaces.Box(low, high, dtype=box.dtype.type)

        return replace_boxes(observation_spaces, self.exclude, narrowed), action_spaces

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """Each element within the range, in the dtype it came in."""
        low, high = self.clip_range
        result = dict(observations)
        for name in self._names[step_key]:
            values = result[name]
            result[name] = np.clip(values, low, high).astype(values.dtype, copy=False)
        return result, state
