"""Numbers as choices: for algorithms that choose, such as dqn, in environments that want numbers."""

from typing import Annotated

import numpy as np
from gymnasium import spaces
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.wrappers.wrapper import STRICT, Spaces, Wrapper
from maze_core.errors import EnvError
from maze_core.types import Action, FloatArray, StepKey

_Bins = Annotated[int, Field(ge=2, le=4096)]
_Bound = float | list[float]


@dataclass(kw_only=True, eq=False, config=STRICT)
class DiscretizeActionsWrapper(Wrapper):
    """Let a policy choose among evenly spaced numbers, bounds included, in each dimension of Box heads of one axis.

    A head of one number becomes Discrete, one of several MultiDiscrete.
    """

    num_bins: _Bins | list[_Bins] = 5
    """How many numbers to choose from, in each dimension or for each on its own."""
    low: _Bound | None = None
    """The least ones; null takes those of the space."""
    high: _Bound | None = None
    """The largest ones; null takes those of the space."""

    def __post_init__(self) -> None:
        self._grids: dict[tuple[StepKey, str], tuple[spaces.Box, list[FloatArray]]] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Lay the grids, and change the spaces."""
        changed = {}
        for key, space in action_spaces.items():
            heads = dict(space.spaces)
            for head, leaf in space.items():
                if isinstance(leaf, spaces.Box):
                    grid = self._grid(head, leaf)
                    self._grids[key, head] = leaf, grid
                    sizes = [len(numbers) for numbers in grid]
                    heads[head] = (
                        spaces.Discrete(sizes[0]) if len(sizes) == 1 else spaces.MultiDiscrete(sizes)
                    )
            changed[key] = spaces.Dict(list(heads.items()))
        if not self._grids:
            raise EnvError(f"DiscretizeActionsWrapper finds no Box among the actions {dict(action_spaces)}.")
        return observation_spaces, changed

    def action(self, step_key: StepKey, actions: Action) -> Action:
        """The numbers that were chosen."""
        numbers = dict(actions)
        for head, chosen in actions.items():
            if (step_key, head) in self._grids:
                box, grid = self._grids[step_key, head]
                columns = np.asarray(chosen).reshape(len(chosen), len(grid))
                picked = [line[columns[:, i]] for i, line in enumerate(grid)]
                numbers[head] = np.stack(picked, 1).reshape(-1, *box.shape).astype(box.dtype)
        return numbers

    def reverse_action(self, step_key: StepKey, actions: Action) -> Action:
        """The choices that come nearest."""
        chosen = dict(actions)
        for head, numbers in actions.items():
            if (step_key, head) in self._grids:
                _, grid = self._grids[step_key, head]
                columns = np.asarray(numbers, np.float64).reshape(len(numbers), len(grid), 1)
                nearest = [np.abs(columns[:, i] - line).argmin(1) for i, line in enumerate(grid)]
                chosen[head] = nearest[0] if len(grid) == 1 else np.stack(nearest, 1)
        return chosen

    def _grid(self, head: str, box: spaces.Box) -> list[FloatArray]:
        """The numbers of each dimension."""
        low, high = (
            np.asarray(bound if given is None else given, np.float64)
            for bound, given in ((box.low, self.low), (box.high, self.high))
        )
        try:
            if len(box.shape) > 1:
                raise ValueError
            n = int(np.prod(box.shape, dtype=int))
            low, high, bins = (
                np.broadcast_to(part, (n,)) for part in (low.ravel(), high.ravel(), self.num_bins)
            )
        except ValueError:
            raise EnvError(
                f"DiscretizeActionsWrapper: num_bins, low and high do not fit the action {head!r}, {box}, of which "
                "one axis at most can be discretised."
            ) from None
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise EnvError(
                f"DiscretizeActionsWrapper needs finite bounds, low below high, for the action {head!r}, which is "
                f"{box}: give low and high."
            )
        return [np.linspace(a, b, int(k)) for a, b, k in zip(low, high, bins, strict=True)]
