"""Fixed-length rollouts for training: step ``B`` environments ``T`` times into preallocated arrays.

The collector knows no algorithm. It acts with the policy's numpy forward and keeps the samples, not the scaled and
clipped actions; values and log-probabilities are computed afterwards, in one batch, by the trainer. Of a policy with a
state, that before each action is recorded among the observations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from maze_core.data.trajectory import FinalObservations, Rollout, StepRecord, joined_ends
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.models.acting import ActingPolicy, StepPolicy, to_env_actions
from maze_core.models.heads import bounded_numbers
from maze_core.models.masks import mask_checks
from maze_core.models.memory import STATE, Memory
from maze_core.models.networks import Network
from maze_core.notices import Notices
from maze_core.rollout.turns import TurnKeeper
from maze_core.types import Action, Actors, Array, BoolArray, FloatArray, Observation, StepKey

_MANY = 1000
"""Numbers of actions over which clipping is judged."""
_NOT_IN_TORCH = tuple(map(np.dtype, ("uint16", "uint32", "uint64")))
"""Dtypes that torch holds and cannot compute with."""


class Collector:
    """Collects rollouts of ``n_steps`` ticks from one vector environment.

    The arrays of the returned rollout are reused by the next call.
    """

    def __init__(self, env: VectorEnv, n_steps: int, rng: np.random.Generator) -> None:
        """``rng`` is the stream of the action noise; its state is part of every checkpoint."""
        self.env = env
        self.n_steps = n_steps
        self.rng = rng
        self.correlated: Callable[[Array, BoolArray], Array] | None = None
        """What becomes of a policy's noise of a tick ``[B, n]``, where it is to be another; with it, which of them is
        the first of its episode. Uniform actions stay uniform."""
        self.judges: Mapping[StepKey, Network] = {}
        """Sub-step → what gives logits and V(s) at once; it then acts, in the place of the policy it has them from, and
        what it gave is part of the rollout."""
        self._buffers = {key: self._allocate(key) for key in env.observation_spaces}
        self._bounds = {key: bounds for key in self._buffers if (bounds := _bounds(env.action_spaces[key]))}
        self._masks = mask_checks(env.observation_spaces, env.action_spaces)
        self._n_judged = self._n_clipped = 0
        self._notices = Notices.current()
        self._tick: Tick | None = None
        self._memory = Memory({}, env.n_envs)
        self._rows = np.arange(env.n_envs)
        self._actors = Actors(env.agent_counts)

    def reset(self, seeds: Sequence[int]) -> None:
        """Start new episodes in every environment, with these seeds."""
        self._tick = self.env.reset(seeds)
        self._memory = Memory({}, self.env.n_envs)

    def collect(self, policy: ActingPolicy) -> Rollout:
        """Act for ``n_steps`` ticks.

        Raises:
            RuntimeError: the environments were never reset.
            EnvError: an environment broke its contract.
        """
        if self._tick is None:
            raise RuntimeError("Collector.reset must come before collect")
        T, B = self.n_steps, self.env.n_envs
        reward = np.empty((T, B), dtype=np.float32)
        terminated, truncated = np.empty((T, B), dtype=bool), np.empty((T, B), dtype=bool)
        agent_id = np.empty((T, B), dtype=np.int64)
        flat_step = np.empty((T + 1, B), dtype=np.int64)
        noise = {key: self._noise(policy, key) for key in self._buffers}
        self._remember(policy)
        cut: dict[StepKey, list[FinalObservations]] = {key: [] for key in self._buffers}
        returns: list[float] = []
        lengths: list[int] = []
        tick = self._tick
        keeper = None if tick.actors is None else TurnKeeper(self._actors, T, B)
        actor_returns: list[FloatArray] = []
        for t in range(T):
            if keeper is not None:
                keeper.begin(t, tick)
            agent_id[t], flat_step[t] = tick.agent_id, tick.flat_step
            actions = {
                key: self._act(policy, key, tick, t, drawn[t // ticks])
                for key, (drawn, ticks) in noise.items()
            }
            tick = self.env.step(actions)
            reward[t], terminated[t], truncated[t] = tick.reward, tick.terminated, tick.truncated
            if np.count_nonzero(tick.terminated) or np.count_nonzero(tick.truncated):
                ended = np.flatnonzero(tick.ended)
                returns.extend(tick.episode_return[ended].tolist())
                lengths.extend(tick.episode_length[ended].tolist())
                self._memory.forget(tick.ended)
                if tick.actors is None:
                    _keep_cut(cut, tick, t)
                else:
                    actor_returns.extend(tick.actors.episode_return[ended])
            if keeper is not None and tick.actors is not None:
                self._memory.forget_parts(tick.actors.ended, self._actors.numbers)
                for key, ends in keeper.end(tick, tick.actors).items():
                    cut[key].append(ends)
        flat_step[T] = tick.flat_step
        if keeper is not None:
            keeper.begin(T, tick)
            reward = keeper.reward
        self._tick = tick
        return Rollout(
            steps=self._buffers,
            agent_id=agent_id,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            flat_step=flat_step,
            last_observations=tick.observations,
            last_active=tick.active,
            last_agent_id=tick.agent_id,
            final={key: joined_ends(parts) for key, parts in cut.items() if parts},
            episode_returns=returns,
            episode_lengths=lengths,
            actions_clipped=self._count_clipped(policy),
            turns=None if keeper is None else keeper.turns,
            actor_returns=actor_returns,
        )

    def _act(self, policy: ActingPolicy, key: StepKey, tick: Tick, t: int, noise: Array) -> Action:
        record = self._buffers[key]
        active = tick.active[key]
        record.active[t] = active
        observations = tick.observations[key]
        if key in self._memory.widths:
            observations = {**observations, STATE: self._memory.of(key, tick.agent_id, self._rows)}
        for name, buffer in record.observations.items():
            buffer[t] = observations[name]
        if not np.count_nonzero(active):
            return {head: buffer[t] for head, buffer in record.actions.items()}
        if key in self._masks:
            self._masks[key].expect(observations, np.flatnonzero(active))
        if self.correlated is not None and not policy.needs_noise:
            noise = self.correlated(noise, tick.flat_step == 0)
        step = policy.steps[key]
        if key in self.judges:
            samples = self._judge(step, key, observations, t, noise)
        else:
            samples = step.sample(observations, noise, tick.agent_id)
        if key in self._memory.widths:
            self._memory.keep(key, tick.agent_id[active], self._rows[active], samples.pop(STATE)[active])
        for head, buffer in record.actions.items():
            buffer[t] = samples[head]
        return to_env_actions(step.in_env_units(samples), self.env.action_spaces[key])

    def _judge(
        self, step: StepPolicy, key: StepKey, observations: Observation, t: int, noise: Array
    ) -> Action:
        """Samples of a policy, from what also says what the state is worth."""
        output, record = self.judges[key](observations), self._buffers[key]
        if record.judged is None:
            record.judged = np.empty((self.n_steps, *output.shape), np.float32)
        record.judged[t] = output
        return step.decoded(output[:, :-1], observations, noise, step.networks[0].parameter)

    def _remember(self, policy: ActingPolicy) -> None:
        """Carry the states of this policy, and record them, ``[T, B, n]``, among its observations."""
        if self._memory or not policy.state_widths:
            return
        self._memory = Memory(policy.state_widths, self.env.n_envs)
        for key, width in self._memory.widths.items():
            states = np.zeros((self.n_steps, self.env.n_envs, width), np.float32)
            self._buffers[key].observations[STATE] = states

    def _count_clipped(self, policy: ActingPolicy) -> float | None:
        """Share of the bounded numbers of Box actions that lay outside their bounds in this rollout.

        Warns once when it is above a half over many numbers.
        """
        n_clipped = n_numbers = 0
        for key, bounds in self._bounds.items():
            record = self._buffers[key]
            samples = {head: record.actions[head][record.active] for head in bounds}
            actions = policy.steps[key].in_env_units(samples)
            for head, (low, high, n_bounded) in bounds.items():
                n_clipped += int(np.count_nonzero((actions[head] < low) | (actions[head] > high)))
                n_numbers += n_bounded * len(actions[head])
        if not n_numbers:
            return None
        if self._n_judged >= _MANY:
            self._n_judged = self._n_clipped = 0
        self._n_judged += n_numbers
        self._n_clipped += n_clipped
        if self._n_judged >= _MANY and self._n_clipped > self._n_judged / 2:
            self._notices.say(
                "actions_clipped",
                f"{self._n_clipped / self._n_judged:.0%} of the policy's actions lie outside the bounds of the action "
                "space and are clipped, so it hardly learns from them: turn rescale on where it is off, or try a "
                "smaller initial_log_std (both in model.gaussian) or algorithm.entropy_coef.",
            )
        return n_clipped / n_numbers

    def _noise(self, policy: ActingPolicy, key: StepKey) -> tuple[Array, int]:
        """Noise ``[n, B, width]``, and for how many ticks each is kept."""
        ticks = policy.steps[key].noise_ticks(self.n_steps)
        n_drawn = -(-self.n_steps // ticks)
        flat = policy.noise(key, self.rng, n_drawn * self.env.n_envs)
        return flat.reshape(n_drawn, self.env.n_envs, -1), ticks

    def _allocate(self, key: StepKey) -> StepRecord:
        shape = (self.n_steps, self.env.n_envs)
        observation_space, action_space = self.env.observation_spaces[key], self.env.action_spaces[key]
        return StepRecord(
            observations={name: _zeros(shape, space) for name, space in observation_space.items()},
            actions={head: _zeros(shape, space, is_action=True) for head, space in action_space.items()},
            active=np.zeros(shape, dtype=bool),
        )


def _bounds(space: spaces.Dict) -> dict[str, tuple[Array, Array, int]]:
    """Head → bounds of a Box, infinite where there are not two of them, and how many numbers have two."""
    found = {}
    for head, box in space.items():
        if isinstance(box, spaces.Box) and (bounded := bounded_numbers(box)).any():
            low, high = np.where(bounded, box.low, -np.inf), np.where(bounded, box.high, np.inf)
            found[head] = (low, high, int(np.count_nonzero(bounded)))
    return found


def _zeros(shape: tuple[int, int], space: "spaces.Space[Any]", *, is_action: bool = False) -> Array:
    is_box, dtype = isinstance(space, spaces.Box), space.dtype
    if is_box and (is_action or dtype in _NOT_IN_TORCH):
        # samples of a Box action stay real numbers, also where the environment wants whole ones
        dtype = np.dtype(np.float32)
    elif dtype in _NOT_IN_TORCH:
        dtype = np.dtype(np.int64)
    return np.zeros((*shape, *(space.shape or ())), dtype)


def _keep_cut(cut: dict[StepKey, list[FinalObservations]], tick: Tick, t: int) -> None:
    """Copy the final observations of episodes that a limit cut, under the step key they belong to."""
    for key, active in tick.final_active.items():
        b = np.flatnonzero(active & tick.truncated & ~tick.terminated)
        if b.size:
            rows = {name: array[b] for name, array in tick.final_observations[key].items()}
            agent_id = tick.final_agent_id[b]
            cut[key].append(
                FinalObservations(t=np.full(b.size, t), b=b, agent_id=agent_id, observations=rows)
            )
