"""Observations as pictures, drawn by a function of the user's once per epoch."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.png import png_of
from maze_core.envs.vector import Tick
from maze_core.envs.wrappers.wrapper import STRICT, Actions, Spaces, Wrapper
from maze_core.errors import USER_CODE_ERRORS, EnvError, reason_of
from maze_core.metrics import Distribution
from maze_core.types import Array


@dataclass(kw_only=True, eq=False, config=STRICT)
class ObservationVisualizationWrapper(Wrapper):
    """Draw what was observed; the pictures are beside the metrics, by epoch, and in TensorBoard.

    They are called ``observation/<step key>/<name>``.
    """

    plot_function: Callable[[str, Array], Any]
    """Takes the name of an observation and what was kept of it, ``[n, ...]``; gives a figure of matplotlib's, a
    picture, uint8 ``[h, w, 3]`` or ``[h, w]``, or None for none."""
    observations: list[str] | None = None
    """Names of the observations that are drawn; null draws all."""
    n_samples: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Most observations that are kept of an epoch, the first ones."""

    def __post_init__(self) -> None:
        self._kept: dict[str, list[Array]] = {}
        self._drawn: dict[str, Distribution] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Make sure that the names are observed."""
        known = {name for space in observation_spaces.values() for name in space.spaces}
        if missing := sorted(set(self.observations or ()) - known):
            raise EnvError(
                f"ObservationVisualizationWrapper draws {missing}, and {sorted(known)} are observed."
            )
        return observation_spaces, action_spaces

    def on_tick(self, tick: Tick, actions: Actions) -> None:
        """Keep some of what is shown."""
        for key, batch in tick.observations.items():
            for name, values in batch.items():
                if self.observations is None or name in self.observations:
                    kept = self._kept.setdefault(f"{key}/{name}", [])
                    room = self.n_samples - sum(map(len, kept))
                    if room > 0 and len(rows := values[tick.active[key]][:room]):
                        kept.append(rows.copy())

    def metrics(self) -> dict[str, float]:
        """Draw what was kept; no numbers."""
        kept, self._kept = self._kept, {}
        for place, parts in kept.items():
            if parts and (picture := self._picture(place, np.concatenate(parts))) is not None:
                self._drawn[f"observation/{place}"] = picture
        return {}

    def distributions(self) -> dict[str, Distribution]:
        """The pictures."""
        drawn, self._drawn = self._drawn, {}
        return drawn

    def _picture(self, place: str, values: Array) -> bytes | None:
        try:
            figure = self.plot_function(place.partition("/")[2], values)
            return None if figure is None else png_of(figure)
        except USER_CODE_ERRORS as error:
            raise EnvError(f"plot_function could not draw observation {place}: {reason_of(error)}") from error
