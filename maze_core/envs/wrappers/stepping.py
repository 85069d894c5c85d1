"""What wrappers share that change how environments are stepped: a layer between the environments and all else.

Such a wrapper stands next to the environment; only what changes rewards may stand below it. Rows stay exact under any
number of environments: a row that has ended, or has to wait, is not stepped with the others
(:meth:`VectorEnv.step_rows`). What is recorded as raw is what such a layer shows.
"""

from collections.abc import Sequence

import numpy as np

from maze_core.envs.tick_buffers import empty_tick
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv
from maze_core.errors import EnvError
from maze_core.events.declared import EpisodeValues
from maze_core.types import BoolArray, FloatArray


class StepLayer(VectorEnv):
    """Passes everything on, and has a tick of its own to write into."""

    def __init__(self, env: VectorEnv, name: str) -> None:
        """Take ownership of ``env``.

        Args:
            env: what is stepped.
            name: of the wrapper, for messages.

        Raises:
            EnvError: it pays each actor its own.
        """
        if env.rewards == "per_actor":
            raise EnvError(
                f"{name} steps environments that pay a team, and this one pays each actor its own: "
                "do in the environment what it does."
            )
        self.env = env
        self.n_envs, self.agent_counts = env.n_envs, env.agent_counts
        self.observation_spaces, self.action_spaces = env.observation_spaces, env.action_spaces
        self.event_interfaces = env.event_interfaces
        self.raw_reward: FloatArray = np.zeros(self.n_envs)
        """``[B]``: what the environments themselves paid for the last step, below all wrappers."""
        self._tick = empty_tick(self.observation_spaces, self.n_envs)

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """Start new episodes in ``rows``, all by default."""
        started = np.ones(self.n_envs, np.bool_) if rows is None else rows
        self._show(self.env.reset(seeds, rows))
        tick = self._tick
        tick.reward[started] = 0.0
        for flags in (tick.terminated, tick.truncated, *tick.final_active.values()):
            flags[started] = False
        return tick

    def take_ended(self) -> list[tuple[int, EpisodeValues]]:
        """See :meth:`VectorEnv.take_ended`."""
        return self.env.take_ended()

    def begin_statistics(self, rows: BoolArray) -> None:
        """See :meth:`VectorEnv.begin_statistics`."""
        self.env.begin_statistics(rows)

    def episode_values(self, row: int) -> EpisodeValues:
        """See :meth:`VectorEnv.episode_values`."""
        return self.env.episode_values(row)

    def close(self) -> None:
        """Close what is below."""
        self.env.close()

    def _begin_step(self) -> None:
        """Forget what the last step paid and ended."""
        tick = self._tick
        self.raw_reward[...] = 0.0
        for array in (tick.reward, tick.terminated, tick.truncated, *tick.final_active.values()):
            array[...] = 0

    def _add(self, inner: Tick, rows: BoolArray) -> None:
        """Take in what a step of these rows paid, and which of them ended with it."""
        tick = self._tick
        tick.reward[rows] += inner.reward[rows]
        self.raw_reward[rows] += raw_reward(self.env, inner)[rows]
        ended = inner.ended & rows
        if not ended.any():
            return
        for name in ("terminated", "truncated", "final_agent_id", "episode_return", "episode_length"):
            getattr(tick, name)[ended] = getattr(inner, name)[ended]
        for key, active in inner.final_active.items():
            at = active & ended
            tick.final_active[key][at] = True
            for name, values in inner.final_observations[key].items():
                tick.final_observations[key][name][at] = values[at]

    def _show(self, inner: Tick) -> None:
        """Show what is shown below, and who acts on it."""
        tick = self._tick
        tick.observations = inner.observations
        tick.agent_id, tick.flat_step = inner.agent_id, inner.flat_step
        for key, active in inner.active.items():
            tick.active[key][...] = active


def raw_reward(env: VectorEnv, tick: Tick) -> FloatArray:
    """``[B]``: what the environments themselves paid, of the tick that ``env`` gave."""
    while isinstance(env, WrappedVectorEnv):
        tick, env = env.inner_tick, env.env
    return env.raw_reward if isinstance(env, StepLayer) else tick.reward


def has_layer(env: VectorEnv) -> bool:
    """Whether wrappers change how these environments are stepped."""
    while isinstance(env, WrappedVectorEnv):
        env = env.env
    return isinstance(env, StepLayer)
