"""gymnasium's classic control environments stepped as one batch, with the bits of stepping them one by one.

Every expression keeps the order of operations, the precision and the functions of the environment that it stands for
(``gymnasium.envs.classic_control``, 1.4), so that states, rewards and ends are equal bit by bit. States are float64
``[n, B]``, one row per quantity: a tick costs a few dozen NumPy calls, whatever the number of environments.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from maze_core.envs.gym_env import GymEnv
from maze_core.envs.tick_buffers import FiniteCheck, empty_tick
from maze_core.envs.vector import ClosingVectorEnv, Tick
from maze_core.errors import EnvError
from maze_core.seeding import seed_process
from maze_core.types import Array, BoolArray, FloatArray, StepKey


class Physics(ABC):
    """What one environment's ``step`` and ``reset`` compute, for ``B`` of them."""

    entry_point: ClassVar[str]
    """What gymnasium registers for it."""

    def __init__(self, n_envs: int) -> None:
        """Make the state."""
        self.state = np.zeros((self.n_quantities, n_envs))

    @property
    @abstractmethod
    def n_quantities(self) -> int:
        """Rows of the state."""

    @abstractmethod
    def start(self, generator: np.random.Generator) -> Array:
        """A state to begin with, ``[n]``."""

    @abstractmethod
    def step(self, actions: Array, reward: FloatArray, terminated: BoolArray) -> None:
        """Move the state by one step; write rewards and ends, ``[B]`` each."""

    def observe(self, out: FloatArray) -> None:
        """Write the observations ``[B, k]`` of the state."""
        out[...] = self.state.T

    def observe_start(self, state: Array) -> Array:
        """The observation ``[k]`` of a state that :meth:`start` gave."""
        return state


class CartPole(Physics):
    """``CartPole-v0`` and ``-v1``: cart position, speed, pole angle, angular speed."""

    entry_point = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
    n_quantities = 4
    _total_mass = 0.1 + 1.0
    _polemass_length = 0.1 * 0.5
    _limit = 12 * 2 * math.pi / 360
    _forces = np.array([-10.0, 10.0])

    def start(self, generator: np.random.Generator) -> Array:
        """Everything near 0."""
        return generator.uniform(low=-0.05, high=0.05, size=(4,))

    def step(self, actions: Array, reward: FloatArray, terminated: BoolArray) -> None:
        """Euler's method, 0.02 s."""
        is_single = (
            len(actions) == 1
        )  # then of numbers, with which the same expressions take a fourth of the time
        x, x_dot, theta, theta_dot = self.state[:, 0].tolist() if is_single else self.state
        cos, sin = np.cos(theta), np.sin(theta)
        temp = self._polemass_length * (theta_dot * theta_dot)
        temp *= sin
        temp += self._forces[actions[0] if is_single else actions]
        temp /= self._total_mass
        theta_acc = 9.8 * sin - cos * temp
        theta_acc /= 0.5 * (4.0 / 3.0 - 0.1 * (cos * cos) / self._total_mass)
        x += 0.02 * x_dot
        x_dot += 0.02 * (temp - self._polemass_length * theta_acc * cos / self._total_mass)
        theta += 0.02 * theta_dot
        theta_dot += 0.02 * theta_acc
        if is_single:
            self.state[:, 0] = x, x_dot, theta, theta_dot
        reward.fill(1.0)
        terminated[...] = (abs(x) > 2.4) | (abs(theta) > self._limit)


class MountainCar(Physics):
    """``MountainCar-v0``: position and speed."""

    entry_point = "gymnasium.envs.classic_control.mountain_car:MountainCarEnv"
    n_quantities = 2

    def start(self, generator: np.random.Generator) -> Array:
        """In the valley, at rest."""
        return np.array([generator.uniform(low=-0.6, high=-0.4), 0])

    def step(self, actions: Array, reward: FloatArray, terminated: BoolArray) -> None:
        """One step of the hill."""
        position, velocity = self.state
        # the C library's cosine, as there: NumPy's differs in the last bit here and there
        slope = np.array([math.cos(3 * x) for x in position.tolist()])
        velocity += (actions - 1) * 0.001 + slope * (-0.0025)
        np.clip(velocity, -0.07, 0.07, out=velocity)
        position += velocity
        np.clip(position, -1.2, 0.6, out=position)
        velocity[(position == -1.2) & (velocity < 0)] = 0
        reward.fill(-1.0)
        np.logical_and(position >= 0.5, velocity >= 0, out=terminated)


class Pendulum(Physics):
    """``Pendulum-v1``: angle and angular speed."""

    entry_point = "gymnasium.envs.classic_control.pendulum:PendulumEnv"
    n_quantities = 2
    _high = np.array([np.pi, 1.0])

    def start(self, generator: np.random.Generator) -> Array:
        """Any angle."""
        return generator.uniform(low=-self._high, high=self._high)

    def step(self, actions: Array, reward: FloatArray, terminated: BoolArray) -> None:
        """One step of 0.05 s; the torque is float32, as is what is computed of it alone."""
        theta, speed = self.state
        torque = np.clip(actions[:, 0], -2.0, 2.0)
        angle = ((theta + np.pi) % (2 * np.pi)) - np.pi
        squared_torque = np.array([u**2 for u in torque])  # scalars, as there: the last bit
        costs = _squared(angle) + 0.1 * _squared(speed) + 0.001 * squared_torque
        np.negative(costs, out=reward)
        speed += (15.0 * np.sin(theta) + 3.0 * torque) * 0.05
        np.clip(speed, -8, 8, out=speed)
        theta += speed * 0.05

    def observe(self, out: FloatArray) -> None:
        """Cosine and sine of the angle, angular speed."""
        theta, speed = self.state
        out[:, 0], out[:, 1], out[:, 2] = np.cos(theta), np.sin(theta), speed

    def observe_start(self, state: Array) -> Array:
        """Cosine and sine of the angle, angular speed."""
        return np.array([np.cos(state[0]), np.sin(state[0]), state[1]])


class Acrobot(Physics):
    """``Acrobot-v1``: two angles and their speeds, by the equations of the book."""

    entry_point = "gymnasium.envs.classic_control.acrobot:AcrobotEnv"
    n_quantities = 4

    def start(self, generator: np.random.Generator) -> Array:
        """Hanging, nearly at rest; float32."""
        return generator.uniform(low=-0.1, high=0.1, size=(4,)).astype(np.float32)

    def step(self, actions: Array, reward: FloatArray, terminated: BoolArray) -> None:
        """Runge-Kutta's fourth order, 0.2 s."""
        torque = actions - 1.0
        first = self.state
        k1 = self._derivative(first, torque)
        k2 = self._derivative(first + 0.1 * k1, torque)
        k3 = self._derivative(first + 0.1 * k2, torque)
        k4 = self._derivative(first + 0.2 * k3, torque)
        self.state = state = first + 0.2 / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = state[:2]
        while (over := angles > math.pi).any():
            angles[over] -= 2 * math.pi
        while (under := angles < -math.pi).any():
            angles[under] += 2 * math.pi
        np.clip(state[2], -4 * math.pi, 4 * math.pi, out=state[2])
        np.clip(state[3], -9 * math.pi, 9 * math.pi, out=state[3])
        np.greater(-np.cos(state[0]) - np.cos(state[1] + state[0]), 1.0, out=terminated)
        np.subtract(terminated, 1.0, out=reward)

    @staticmethod
    def _derivative(state: FloatArray, torque: FloatArray) -> FloatArray:
        """Of angles and speeds; masses and lengths are 1, centres of mass at a half, moments of inertia 1."""
        theta1, theta2, speed1, speed2 = state
        cos2, sin2 = np.cos(theta2), np.sin(theta2)
        d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0
        d2 = 0.25 + 0.5 * cos2 + 1.0
        phi2 = 4.9 * np.cos(theta1 + theta2 - math.pi / 2.0)
        phi1 = -0.5 * _squared(speed2) * sin2 - speed2 * speed1 * sin2
        phi1 = phi1 + 1.5 * 9.8 * np.cos(theta1 - math.pi / 2) + phi2
        acc2 = torque + d2 / d1 * phi1 - 0.5 * _squared(speed1) * sin2 - phi2
        acc2 /= 1.25 - _squared(d2) / d1
        return np.array((speed1, speed2, -(d2 * acc2 + phi1) / d1, acc2))

    def observe(self, out: FloatArray) -> None:
        """Cosine and sine of both angles, both speeds."""
        theta1, theta2, *speeds = self.state
        for column, values in enumerate(
            (np.cos(theta1), np.sin(theta1), np.cos(theta2), np.sin(theta2), *speeds)
        ):
            out[:, column] = values

    def observe_start(self, state: Array) -> Array:
        """Cosine and sine of both angles, both speeds."""
        a, b = state[:2]
        return np.array([np.cos(a), np.sin(a), np.cos(b), np.sin(b), *state[2:]])


def _squared(x: FloatArray) -> FloatArray:
    """``x ** 2`` of float64 scalars: C's ``pow``, whose last bit is not that of ``x * x`` for one in a thousand."""
    squares: FloatArray = np.float_power(x, 2.0)
    return squares


_PHYSICS: Final = {kind.entry_point: kind for kind in (CartPole, MountainCar, Pendulum, Acrobot)}
BATCHED_IDS: Final = frozenset({"CartPole-v0", "CartPole-v1", "MountainCar-v0", "Pendulum-v1", "Acrobot-v1"})
"""The ids for which gymnasium itself registers one of these; somebody else may have registered them anew."""


def has_batch(name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether :class:`ClassicVectorEnv` stands for this environment; not where it is made with settings."""
    return not kwargs and _physics_of(name) is not None


def _physics_of(name: str) -> type[Physics] | None:
    spec = gymnasium.registry.get(name)
    if spec is None or spec.kwargs or spec.additional_wrappers or not isinstance(spec.entry_point, str):
        return None
    return _PHYSICS.get(spec.entry_point)


class ClassicVectorEnv(ClosingVectorEnv):
    """``B`` classic control environments: each row has a random stream of its own and ends by itself."""

    def __init__(self, name: str, n_envs: int, *, max_episode_steps: int | None = None) -> None:
        """Make the batch.

        Args:
            name: a registered id for which :func:`has_batch` is true.
            n_envs: rows, ≥ 1.
            max_episode_steps: steps after which an episode is truncated; None keeps the id's own limit.
        """
        super().__init__()
        kind = _physics_of(name)
        if kind is None:
            raise EnvError(f"{name} has no builtin vectorization; use env.vectorization=per_env.")
        spec = gymnasium.spec(name)
        single = GymEnv(gymnasium.make(spec, disable_env_checker=True))
        self.n_envs = n_envs
        self.observation_spaces: Mapping[StepKey, spaces.Dict] = single.observation_spaces
        self.action_spaces: Mapping[StepKey, spaces.Dict] = single.action_spaces
        self.agent_counts = single.agent_counts
        single.close()
        self._physics = kind(n_envs)
        limit = max_episode_steps or spec.max_episode_steps
        # arrays, because NumPy takes twice as long for numbers
        self._limit, self._one = None if limit is None else np.array(limit), np.array(1)
        self._streams = [seeding.np_random(None)[0] for _ in range(n_envs)]
        self._tick = tick = empty_tick(self.observation_spaces, n_envs)
        ((self._key, shown),) = tick.observations.items()
        ((name, self._shown),) = shown.items()
        self._final = tick.final_observations[self._key][name]
        self._ended = tick.final_active[self._key]
        tick.active[self._key].fill(True)
        ((self._head, leaf),) = self.action_spaces[self._key].items()
        self._action_dtype = leaf.dtype
        self._n_actions = np.array(leaf.n, np.uint64) if isinstance(leaf, spaces.Discrete) else None
        self._returns = np.zeros(n_envs)
        self._any_ended = False
        self._check = FiniteCheck([("reward", tick.reward)])

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """Start new episodes in ``rows``, all by default."""
        self._expect_open(seeds)
        tick, chosen = self._tick, list(range(self.n_envs)) if rows is None else np.flatnonzero(rows).tolist()
        for row in chosen:
            if (seed := seeds[row]) is not None:
                seed_process(int(seed))  # of no use to these environments, but code around them may draw
                self._streams[row] = seeding.np_random(int(seed))[0]
        self._start(chosen)
        for array in (tick.reward, self._returns):
            array[chosen] = 0
        for flags in (tick.terminated, tick.truncated, self._ended):
            flags[chosen] = False
        return tick

    def step(self, actions: Mapping[StepKey, Mapping[str, Array]]) -> Tick:
        """Act in every environment; see :meth:`VectorEnv.step`."""
        return self._stepped(actions, None)

    def step_rows(self, actions: Mapping[StepKey, Mapping[str, Array]], rows: BoolArray) -> Tick:
        """Act in some environments; see :meth:`VectorEnv.step_rows`."""
        return self._stepped(actions, None if rows.all() else ~rows)

    def _stepped(self, actions: Mapping[StepKey, Mapping[str, Array]], resting: BoolArray | None) -> Tick:
        self._expect_open()
        tick = self._tick
        if self._any_ended:
            tick.truncated.fill(False)
            self._ended.fill(False)
        given = actions[self._key][self._head]
        given = given if given.dtype == self._action_dtype else given.astype(self._action_dtype)
        # as unsigned numbers, negative ones are too large too
        if self._n_actions is not None and np.count_nonzero(given.view(np.uint64) >= self._n_actions):
            raise EnvError(f"The actions {given.tolist()} are not all in 0…{self._n_actions - 1}.")
        if resting is not None:
            before = self._physics.state[:, resting], self._shown[resting], tick.flat_step[resting]
        self._physics.step(given, tick.reward, tick.terminated)
        self._physics.observe(self._shown)
        np.add(tick.flat_step, self._one, out=tick.flat_step)
        if resting is not None:
            self._physics.state[:, resting], self._shown[resting], tick.flat_step[resting] = before
            tick.reward[resting], tick.terminated[resting] = 0.0, False
        np.add(self._returns, tick.reward, out=self._returns)
        if self._limit is not None:
            np.greater_equal(tick.flat_step, self._limit, out=tick.truncated)
        np.logical_or(tick.terminated, tick.truncated, out=self._ended)
        if self._n_actions is None and (bad := self._check.bad_row()) is not None:
            raise EnvError(
                f"Environment {bad[0]}, step {tick.flat_step[bad[0]]} of its episode: the {bad[1]} is NaN"
            )
        self._any_ended = bool(np.count_nonzero(self._ended))
        if self._any_ended:
            self._end_episodes(np.flatnonzero(self._ended).tolist())
        return tick

    def _end_episodes(self, rows: list[int]) -> None:
        tick = self._tick
        self._final[rows] = self._shown[rows]
        tick.episode_return[rows] = self._returns[rows]
        tick.episode_length[rows] = tick.flat_step[rows]
        self._returns[rows] = 0.0
        self._start(rows)

    def _start(self, rows: list[int]) -> None:
        """First states of new episodes."""
        self._tick.flat_step[rows] = 0
        for row in rows:
            state = self._physics.start(self._streams[row])
            self._physics.state[:, row] = state
            self._shown[row] = self._physics.observe_start(state)

    def _close(self) -> list[str]:
        return []
