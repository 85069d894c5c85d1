"""Distributions of what a policy sees, does and is paid."""

import numpy as np
from gymnasium import spaces

from maze_core.config.settings import dataclass
from maze_core.envs.vector import Tick
from maze_core.envs.wrappers.moments import Moments
from maze_core.envs.wrappers.wrapper import STRICT, Actions, Spaces, Wrapper
from maze_core.metrics import Distribution, Histogram
from maze_core.types import Array, IntArray, StepKey

_MAX_CHOICES = 64
"""Discrete heads with more choices than this are reported by their moments."""


@dataclass(kw_only=True, eq=False, config=STRICT)
class MonitoringWrapper(Wrapper):
    """Report the moments of observations, actions and rewards, and how often each choice was made.

    Each epoch also has their distributions, as histograms. Metrics are
    ``monitoring/<observation|action>/<step key>/<name>/<mean|std|min|max>`` and
    ``monitoring/reward/<…>``; a Discrete head has ``…/share_<choice>`` in place of moments.
    """

    observation_logging: bool = False
    """Report observations, as the policy sees them."""
    action_logging: bool = True
    """Report actions, as the environment is given them."""
    reward_logging: bool = True
    """Report rewards, as they are at this place in the stack."""

    def __post_init__(self) -> None:
        self._moments: dict[str, Moments] = {}
        self._starts: dict[tuple[StepKey, str], int] = {}
        self._choices: dict[tuple[StepKey, str], IntArray] = {}
        self._told: dict[str, Distribution] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find the heads whose choices are counted."""
        for key, space in action_spaces.items():
            for head, leaf in space.items():
                if isinstance(leaf, spaces.Discrete) and leaf.n <= _MAX_CHOICES:
                    self._starts[key, head] = int(leaf.start)
                    self._choices.setdefault((key, head), np.zeros(int(leaf.n), dtype=np.int64))
        return observation_spaces, action_spaces

    def on_tick(self, tick: Tick, actions: Actions) -> None:
        """Gather one step."""
        if self.reward_logging:
            self._of("monitoring/reward").add(tick.reward)
        if self.action_logging:
            for key, batch in actions.items():
                for head, values in batch.items():
                    self._gather_action(key, head, np.asarray(values))
        if self.observation_logging:
            for key, observations in tick.observations.items():
                for name, values in observations.items():
                    self._of(f"monitoring/observation/{key}/{name}").add(values[tick.active[key]])

    def metrics(self) -> dict[str, float]:
        """The moments gathered since the last call."""
        found = {
            f"{name}/{kind}": value
            for name, moments in self._moments.items()
            for kind, value in moments.items()
            if kind != "count"
        }
        histograms = {name: moments.histogram() for name, moments in self._moments.items()}
        self._told = {name: told for name, told in histograms.items() if told is not None}
        self._moments = {}
        for (key, head), counts in self._choices.items():
            start, total = self._starts[key, head], int(counts.sum())
            if total:
                self._told[f"monitoring/action/{key}/{head}"] = Histogram(
                    low=start - 0.5, high=start + len(counts) - 0.5, counts=tuple(counts.tolist())
                )
                for choice, count in enumerate(counts, start):
                    found[f"monitoring/action/{key}/{head}/share_{choice}"] = float(count / total)
            counts.fill(0)
        return found

    def distributions(self) -> dict[str, Distribution]:
        """The histograms of what the last metrics were of."""
        told, self._told = self._told, {}
        return told

    def _gather_action(self, key: StepKey, head: str, values: Array) -> None:
        if (key, head) in self._choices:
            counts = self._choices[key, head]
            counts += np.bincount(values.astype(np.int64) - self._starts[key, head], minlength=counts.size)
        else:
            self._of(f"monitoring/action/{key}/{head}").add(values)

    def _of(self, name: str) -> Moments:
        return self._moments.setdefault(name, Moments())
