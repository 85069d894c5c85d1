"""Environments that come with a vector form of their own, brought to same-step autoreset.

Such an environment steps all rows in one numpy expression. What it does at the end of an episode differs
(``metadata["autoreset_mode"]``), so each way is brought to the one of :mod:`maze_core.envs.vector`:

* *same-step* resets at once and gives the last observation in ``infos["final_obs"]``;
* *disabled*, and *next-step* where a reset mask takes the place of its own reset, are reset here, at once, where
  an episode ended.

Any other next-step environment cannot be reset row by row; it is refused, and ``per_env`` serves it. Rows share one
random stream, which is seeded by all seeds together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector import VectorEnv as GymVectorEnv

from maze_core.data.flat_space import FlatSpace, action_layout, observation_layout
from maze_core.envs.contract import close_all, column, failure_of, first_observation, five_values, making
from maze_core.envs.gym_env import GYM_STEP_KEY, find_spec
from maze_core.envs.tick_buffers import FiniteCheck, ObservationWriter, empty_tick
from maze_core.envs.vector import ClosingVectorEnv, Tick
from maze_core.errors import USER_CODE_ERRORS, EnvError
from maze_core.seeding import seed_process
from maze_core.types import Array, BoolArray, StepKey

_WAY_OUT = "use env.vectorization=per_env."
_MAX_TRIED_STEPS = 10_000
"""Steps in which some episode must end, so that what happens then can be tried."""

ResetRows = Callable[[BoolArray, Sequence[int | None]], Any]
"""Resets the rows of a mask and returns the whole batch of observations."""


class NativeVectorEnv(ClosingVectorEnv):
    """A batch stepped by the environment's own vector form."""

    def __init__(
        self,
        env: str | GymVectorEnv[Any, Any, Any],
        n_envs: int,
        *,
        kwargs: Mapping[str, Any] | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        """Make it by id, or take a made one.

        Raises:
            EnvError: it has no vector form, or one that cannot be brought to same-step autoreset.
        """
        self._env = _make(env, n_envs, kwargs, max_episode_steps) if isinstance(env, str) else env
        if self._env.num_envs != n_envs:
            raise EnvError(f"{self._env} holds {self._env.num_envs} environments, not {n_envs}.")
        super().__init__()
        self.n_envs = n_envs
        self._seen = _bare(observation_layout(self._env.single_observation_space))
        self._done = _bare(action_layout(self._env.single_action_space))
        self.observation_spaces = {GYM_STEP_KEY: self._seen}
        self.action_spaces = {GYM_STEP_KEY: self._done}
        self.agent_counts = {GYM_STEP_KEY: 1}
        self._reset_rows = _way_to_reset_rows(self._env, n_envs)
        self._tick = empty_tick(self.observation_spaces, n_envs)
        self._tick.active[GYM_STEP_KEY].fill(True)
        ((name, self._shown),) = self._tick.observations[GYM_STEP_KEY].items()
        ((_, self._final),) = self._tick.final_observations[GYM_STEP_KEY].items()
        ((self._head, leaf),) = self._done.items()
        self._action_dtype = leaf.dtype
        self._returns = np.zeros(n_envs, dtype=np.float64)
        arrays = (self._tick.reward, self._shown, self._final)
        self._check = FiniteCheck(
            list(zip(("reward", "observation", "final observation"), arrays, strict=True))
        )
        self._writer = ObservationWriter(self.observation_spaces, self._tick)
        self._ready = self._writer.ready(GYM_STEP_KEY, name)
        self._all_ready = self._writer.ready(GYM_STEP_KEY, name, (n_envs,))

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """Start new episodes in ``rows``, all by default."""
        self._expect_open(seeds)
        tick, everyone = self._tick, np.ones(self.n_envs, dtype=np.bool_)
        chosen = everyone if rows is None else rows
        if not chosen.any():
            return tick
        if (seed := _one_seed(seeds)) is not None:
            seed_process(seed)
        if self._reset_rows is not None:
            shown = self._reset_rows(chosen, seeds)
        elif chosen.all():
            shown = _first(self._env, seed, None)
        else:
            raise EnvError(f"{self._env} resets single rows only by itself; use env.vectorization=per_env.")
        self._shown[...] = self._all_ready(shown)
        for array in (tick.reward, self._returns, tick.flat_step):
            array[chosen] = 0
        for flags in (tick.terminated, tick.truncated, tick.final_active[GYM_STEP_KEY]):
            flags[chosen] = False
        self._expect_finite()
        return tick

    def step(self, actions: Mapping[StepKey, Mapping[str, Array]]) -> Tick:
        """Act in every environment; see :meth:`VectorEnv.step`."""
        self._expect_open()
        tick = self._tick
        values = np.array(actions[GYM_STEP_KEY][self._head], dtype=self._action_dtype)
        try:
            shown, reward, terminated, truncated, infos = five_values(self._env.step(values))
        except USER_CODE_ERRORS as error:
            raise EnvError(f"{self._env} failed: {failure_of(error)}") from error
        tick.reward[:] = column(reward, self.n_envs, "reward")
        tick.terminated[:] = column(terminated, self.n_envs, "terminated")
        tick.truncated[:] = column(truncated, self.n_envs, "truncated")
        tick.flat_step += 1
        self._returns += tick.reward
        ended = tick.final_active[GYM_STEP_KEY]
        np.logical_or(tick.terminated, tick.truncated, out=ended)
        shown = self._all_ready(shown)
        if any_ended := bool(ended.any()):
            shown = self._end_episodes(ended, shown, infos)
        self._shown[...] = shown
        self._expect_finite(any_ended=any_ended)
        return tick

    def _close(self) -> list[str]:
        return close_all([self._env])

    def _end_episodes(self, ended: BoolArray, shown: Array, infos: Mapping[str, Any]) -> Array:
        """Note the ends, and return what is shown after the resets."""
        tick, last = self._tick, infos.get("final_obs", ())
        is_there = isinstance(last, np.ndarray | list | tuple) and len(last) == self.n_envs
        if is_there != (self._reset_rows is None):
            raise EnvError(
                f"{self._env} has the autoreset_mode {self._env.metadata.get('autoreset_mode')}, and its step gave "
                f"{'' if is_there else 'no '}last observations in infos['final_obs'], as those do that reset in the "
                f"same step, and no others; {_WAY_OUT}"
            )
        if self._reset_rows is None:
            for row in np.flatnonzero(ended):
                self._final[row] = self._ready(last[row])
        else:
            self._final[ended] = shown[ended]
            shown = self._all_ready(self._reset_rows(ended, [None] * self.n_envs))
        tick.episode_return[ended] = self._returns[ended]
        tick.episode_length[ended] = tick.flat_step[ended]
        self._returns[ended] = 0.0
        tick.flat_step[ended] = 0
        return shown

    def _expect_finite(self, *, any_ended: bool = False) -> None:
        bad = self._check.bad_row()
        if bad is not None:
            row, what = bad
            self._final[row] = 0
            step = self._tick.flat_step[row]
            raise EnvError(f"Environment {row}, step {step} of its episode: the {what} is NaN or infinite")
        self._writer.look(any_ended=any_ended)


def _make(
    name: str, n_envs: int, kwargs: Mapping[str, Any] | None, max_episode_steps: int | None
) -> GymVectorEnv[Any, Any, Any]:
    spec = find_spec(name)
    if spec.vector_entry_point is None:
        raise EnvError(f"{name} has no native vectorization; use env.vectorization=per_env.")
    given = dict(kwargs or {})
    if max_episode_steps is not None:
        given["max_episode_steps"] = max_episode_steps
    with making(name):
        return gymnasium.make_vec(spec, n_envs, vectorization_mode="vector_entry_point", **given)


def _bare(space: FlatSpace) -> FlatSpace:
    if not space.is_bare:
        raise EnvError("Native vectorization needs one observation and one action; use per_env.")
    return space


def _way_to_reset_rows(env: GymVectorEnv[Any, Any, Any], n_envs: int) -> ResetRows | None:
    """How to reset single rows; None where the environment does so itself, at once.

    Raises:
        EnvError: there is no way.
    """
    mode = env.metadata.get("autoreset_mode")
    if mode == AutoresetMode.SAME_STEP:
        return None

    def reset_rows(rows: BoolArray, seeds: Sequence[int | None]) -> Any:
        options = None if rows.all() else {"reset_mask": rows.copy()}
        seed = _one_seed([seeds[row] for row in np.flatnonzero(rows).tolist()])
        return _first(env, seed, options)

    if mode != AutoresetMode.DISABLED:
        try:
            obeys_mask = n_envs == 1 or _obeys_mask(env, reset_rows, n_envs)
            steps_after_reset = obeys_mask and _steps_after_reset(env, reset_rows, n_envs)
        except (EnvError, MemoryError):
            raise
        except USER_CODE_ERRORS as error:
            raise EnvError(f"{env} failed while it was tried: {failure_of(error)}; {_WAY_OUT}") from error
        if not obeys_mask:
            raise EnvError(
                f"{env} resets on the step after an episode and obeys no reset mask, so the first observation of "
                f"the next episode cannot be had in time; {_WAY_OUT}"
            )
        if not steps_after_reset:
            raise EnvError(
                f"{env} resets on the step after an episode, and it could not be seen that a reset before that "
                f"step takes its place (gymnasium's AsyncVectorEnv without shared memory resets twice); {_WAY_OUT}"
            )
    return reset_rows


def _first(env: GymVectorEnv[Any, Any, Any], seed: int | None, options: Mapping[str, Any] | None) -> Any:
    """Reset: the batch of observations."""
    try:
        return first_observation(env, seed, options)[0]
    except USER_CODE_ERRORS as error:
        raise EnvError(f"{env} cannot be reset: {failure_of(error)}; {_WAY_OUT}") from error


def _obeys_mask(env: GymVectorEnv[Any, Any, Any], reset_rows: ResetRows, n_envs: int) -> bool:
    """Try whether a reset of row 0 leaves the other rows as they are."""
    env.reset(seed=0)
    env.action_space.seed(0)
    before = np.array(env.step(env.action_space.sample())[0])
    after = np.asarray(reset_rows(np.arange(n_envs) == 0, [None] * n_envs))
    return bool(np.array_equal(before[1:], after[1:]))


def _steps_after_reset(env: GymVectorEnv[Any, Any, Any], reset_rows: ResetRows, n_envs: int) -> bool:
    """Try whether the step after an end and a reset is one of the new episode, and not another reset.

    The first step of an episode after an end is held against that of one begun in between, with the same seed and
    action: both lead to the same, or at least as far.
    """
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(_MAX_TRIED_STEPS):
        _, _, terminated, truncated, _ = five_values(env.step(env.action_space.sample()))
        if (ended := np.logical_or(terminated, truncated)).any():
            break
    else:
        return False
    seeds, action = [0] * n_envs, env.action_space.sample()
    begun = []
    for _ in range(2):
        first = np.array(reset_rows(ended, seeds))[ended]
        shown, reward, *_ = env.step(action)
        begun.append((np.array(shown)[ended], np.array(reward)[ended], np.asarray(shown)[ended] - first))
    (shown, reward, way), (other_shown, other_reward, other_way) = begun
    leads_as_far = np.array_equal(shown, other_shown) or np.array_equal(way, other_way)
    return leads_as_far and np.array_equal(reward, other_reward)


def _one_seed(seeds: Sequence[int | None]) -> int | None:
    """One seed for an environment with one random stream, depending on all those given."""
    given = [int(seed) for seed in seeds if seed is not None]
    return int(np.random.SeedSequence(given).generate_state(1)[0]) if given else None
