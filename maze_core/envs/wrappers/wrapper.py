"""What a wrapper is, and the vector environment with a stack of them.

A wrapper is a description and its state (statistics, counters); it knows no environment, so the same object
serves training, evaluation and a served agent. A *servable* one is a pure ``observation(batch, state)`` and
``action(batch)``: a row's bits do not depend on the rest of the batch. The first wrapper of a stack is the
closest to the environment: observations and rewards pass first to last, actions last to first.
"""

import copy
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Annotated, Any, ClassVar, Final, TypeVar

import numpy as np
from gymnasium import spaces
from pydantic import AfterValidator, ConfigDict

from maze_core.config.instantiate import instantiate
from maze_core.data.masks import masked_heads
from maze_core.envs.tick_buffers import TICK_FIELDS, empty_tick
from maze_core.envs.vector import ActorOutcomes, Tick, VectorEnv
from maze_core.errors import EnvError, InvalidSpecificationError, Problem
from maze_core.events.declared import EpisodeValues
from maze_core.metrics import Distribution
from maze_core.types import (
    Action,
    Actors,
    Array,
    BoolArray,
    FloatArray,
    NamedArrays,
    Observation,
    StepKey,
    Tree,
    mask_name,
)

Spaces = Mapping[StepKey, spaces.Dict]
States = list[Any] | None
Actions = Mapping[StepKey, Mapping[str, Array]]
_E = TypeVar("_E")

STRICT: Final = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
"""Of a wrapper's dataclass: unknown arguments are refused by name."""

LEARN_EVERY: Final = 128
"""Ticks between updates of running statistics."""


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError(f"the lower end must be below the upper one, got [{value[0]}, {value[1]}]")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""``[low, high]`` with low < high."""


class ProcessedObservation(dict[str, Array]):
    """An observation that has been through the wrappers: a policy takes it as it is."""


class Wrapper:
    """Changes what a policy sees, does or is paid. Override what you need; every default changes nothing."""

    servable: ClassVar[bool] = True
    """``observation`` and ``action`` are pure functions of the batch and the state."""
    is_stateful: ClassVar[bool] = False
    """``observation`` carries something from one observation of an episode to the next."""
    overridden: ClassVar[frozenset[str]] = frozenset()
    """What a class does something in."""

    @classmethod
    def wrap(cls, env: _E, **kwargs: Any) -> _E:
        """Wrap a MazeEnv or a VectorEnv in a new wrapper of this class.

        Args:
            env: what to wrap; it is owned, and closed, by the result.
            **kwargs: arguments of this class.

        Returns:
            The same kind: a MazeEnv for a MazeEnv, a VectorEnv for a VectorEnv.
        """
        wrapper = cls(**kwargs)
        if isinstance(env, VectorEnv):
            return WrappedVectorEnv(env, [wrapper])  # type: ignore[return-value]
        if hasattr(env, "wrapped_by"):
            return env.wrapped_by(wrapper)  # type: ignore[no-any-return]
        raise EnvError(f"{cls.__name__} wraps a MazeEnv or a VectorEnv, not a {type(env).__name__}.")

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Learn the spaces it sits on; called once per environment or agent, before anything else.

        Returns:
            The spaces as they are seen through this wrapper.

        Raises:
            EnvError: it does not fit these spaces.
        """
        return observation_spaces, action_spaces

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """Process a batch of observations.

        Args:
            step_key: the sub-step they belong to.
            observations: name → ``[B, ...]``; not to be written to.
            state: one entry per row, None where an episode begins, not to be written to; None for a stateless
                wrapper.

        Returns:
            The processed batch and the next state.
        """
        return observations, state

    def action(self, step_key: StepKey, actions: Action) -> Action:
        """Turn a batch of the policy's actions, head → ``[B, ...]``, into the environment's."""
        return actions

    def reverse_action(self, step_key: StepKey, actions: Action) -> Action:
        """The policy's actions that :meth:`action` turns into these of the environment, or the nearest ones."""
        return actions

    def reward(self, tick: Tick) -> FloatArray:
        """The reward ``[B]`` that training sees; the episode return stays the sum of raw rewards."""
        return tick.reward

    def see_reward(self, tick: Tick, begins: BoolArray) -> None:
        """Take note of a step of training before :meth:`reward` gets it.

        Args:
            tick: as there, not to be kept or written to.
            begins: ``[B]``: this step is the first of its episode.
        """

    def on_tick(self, tick: Tick, actions: Actions) -> None:
        """Watch one step.

        Args:
            tick: after the step, with the observations that the policy sees and the reward as it is above
                this wrapper; not to be kept or written to.
            actions: what the environments were given: step key → head → ``[n, ...]``, of those that acted in
                this sub-step.
        """

    def stepping(self, env: VectorEnv) -> VectorEnv:
        """The environment as it is stepped through this wrapper; see :mod:`~maze_core.envs.wrappers.stepping`.

        Raises:
            EnvError: such an environment cannot be stepped so.
        """
        return env

    def needs_statistics(self) -> bool:
        """Whether ``estimate`` must be called before the first observation."""
        return False

    def estimate(self, observations: Mapping[StepKey, Observation]) -> None:
        """Begin the statistics with samples as the wrapper below gives them, key → name → ``[N, ...]``."""

    def see(self, step_key: StepKey, observations: Observation) -> None:
        """Take note of what training shows, name → ``[n, ...]``, before :meth:`observation` gets it.

        The arrays are not to be kept.
        """

    def learn(self) -> None:
        """Bring the statistics up to date with what was seen; comes at fixed times of training."""

    def state_dict(self) -> dict[str, Array]:
        """What a checkpoint keeps of this wrapper."""
        return {}

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Take back what ``state_dict`` gave."""

    def metrics(self) -> dict[str, float]:
        """Numbers gathered since the last call; gathering starts anew."""
        return {}

    def distributions(self) -> dict[str, Distribution]:
        """Histograms and pictures of what was gathered until the last call of :meth:`metrics`, by name."""
        return {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = [
            (name, method) for name, method in vars(Wrapper).items() if isinstance(method, FunctionType)
        ]
        cls.overridden = frozenset(name for name, method in methods if getattr(cls, name) is not method)


def bind_wrappers(
    wrappers: Sequence[Wrapper], observation_spaces: Spaces, action_spaces: Spaces
) -> tuple[Spaces, Spaces]:
    """Bind a stack to an environment's spaces; the result is what a policy sees and does.

    Raises:
        EnvError: a wrapper does not fit, or parts a mask from its head.
    """
    for wrapper in wrappers:
        seen, done = wrapper.bind(observation_spaces, action_spaces)
        _expect_masks(wrapper, masked_heads(observation_spaces, action_spaces), seen, done)
        observation_spaces, action_spaces = seen, done
    return observation_spaces, action_spaces


def _expect_masks(
    wrapper: Wrapper, masked: Mapping[StepKey, Sequence[str]], seen: Spaces, done: Spaces
) -> None:
    """Make sure that every mask is still that of its head, or both are gone."""
    for key, heads in masked.items():
        for head in heads:
            if (head in done[key].spaces) != (mask_name(head) in seen[key].spaces):
                raise EnvError(
                    f"{type(wrapper).__name__} parts the action {head!r} from its mask {mask_name(head)!r}, so that "
                    "actions would be taken that are forbidden: leave the mask out of what it changes, or name the "
                    "mask after the new action, <action>_mask."
                )


def estimate_statistics(wrappers: Sequence[Wrapper], samples: Mapping[StepKey, Observation]) -> None:
    """Give every wrapper that needs statistics the raw ``samples`` as it sees them, through those below."""
    for wrapper in wrappers:
        if wrapper.needs_statistics():
            wrapper.estimate(samples)
        samples = {
            key: wrapper.observation(key, batch, _fresh(wrapper, batch))[0] for key, batch in samples.items()
        }


def _take(batch: Observation, rows: Array) -> Observation:
    """These rows of a batch, by number or by mask."""
    return {name: values[rows] for name, values in batch.items()}


def _fresh(wrapper: Wrapper, batch: Observation) -> States:
    """The states of rows that each begin an episode; None for a stateless wrapper."""
    return [None] * len(next(iter(batch.values()))) if wrapper.is_stateful else None


def build_wrappers(
    nodes: Sequence[Tree] | Mapping[int, Tree], objects: Mapping[str, object] | None = None
) -> list[Wrapper]:
    """Wrappers in order, the first next to the environment.

    Args:
        nodes: ``{"_target_": dotted class name, …keyword arguments}`` each, as in a resolved configuration; or some of
            them by their places there.
        objects: live objects by path, such as ``wrappers.0``; wrappers among them are copied, so that statistics
            are the result's own.

    Raises:
        InvalidSpecificationError: something in it is not a wrapper, or a live object is not there.
    """
    given = {
        path: copy.deepcopy(value) if isinstance(value, Wrapper) else value
        for path, value in (objects or {}).items()
    }
    placed = nodes if isinstance(nodes, Mapping) else dict(enumerate(nodes))
    paths = {f"wrappers.{i}": node for i, node in placed.items()}
    return [_checked(instantiate(node, path, given), path) for path, node in paths.items()]


def why_not_servable(wrappers: Sequence[Wrapper]) -> str | None:
    """Why the stack cannot act on single raw observations; None when it can."""
    names = [type(wrapper).__name__ for wrapper in wrappers if not wrapper.servable]
    if not names:
        return None
    return (
        f"{', '.join(names)} needs more than observations (it overrides step()), so single observations cannot pass "
        "it: whole episodes can, in evaluations and rollouts. What it does can be done below, by a wrapper of "
        "gymnasium's in env.wrappers: the environment itself then shows it, and the policy acts."
    )


def acting_wrappers(wrappers: Sequence[Wrapper]) -> list[Wrapper]:
    """Those that change what a policy sees or does; rewards and statistics are training's own."""
    return [w for w in wrappers if ACTS & w.overridden]


def stepped(env: VectorEnv, wrappers: Sequence[Wrapper]) -> tuple[VectorEnv, tuple[Wrapper, ...]]:
    """The environment as wrappers step it that change how, and those above them.

    Raises:
        EnvError: one that sees, changes or counts steps stands below one that takes several.
    """
    above = list(wrappers)
    for wrapper in [w for w in wrappers if "stepping" in w.overridden]:
        at = above.index(wrapper)
        below, above = above[:at], above[at + 1 :]
        for other in below:
            if _SEES & other.overridden:
                names = type(other).__name__, type(wrapper).__name__
                raise EnvError(
                    f"{names[0]} stands below {names[1]}, which changes what a step is: put it above."
                )
        env = wrapper.stepping(WrappedVectorEnv(env, below) if below else env)
    return env, tuple(above)


ACTS: Final = frozenset({"observation", "action", "stepping"})
"""What a wrapper overrides that changes what a policy sees or does."""
_SEES = frozenset({"observation", "action", "on_tick", "see_reward", "estimate"})


def stepping_wrappers(wrappers: Sequence[Wrapper]) -> list[Wrapper]:
    """Those that change how environments are stepped."""
    return [w for w in wrappers if "stepping" in w.overridden]


def _checked(value: Any, path: str) -> Wrapper:
    if isinstance(value, Wrapper):
        return value
    message = f"{type(value).__name__} is not a Wrapper of maze_core.envs.wrappers."
    raise InvalidSpecificationError([Problem(path=path, message=message)])


class WrappedVectorEnv(VectorEnv):
    """A vector environment seen through a stack of wrappers."""

    def __init__(
        self,
        env: VectorEnv,
        wrappers: Sequence[Wrapper],
        *,
        processed: bool = True,
        is_training: bool = False,
        learn_every: float = LEARN_EVERY,
    ) -> None:
        """Bind the wrappers to ``env`` and take ownership of it.

        Args:
            env: what is wrapped.
            wrappers: closest to the environment first.
            processed: False leaves observations and actions raw; rewards and statistics still apply.
            is_training: the wrappers' running statistics learn from what is shown here.
            learn_every: ticks after which they do; infinite leaves it to resets of all environments.
        """
        env, self.wrappers = stepped(env, wrappers)
        self.env = env
        self.n_envs = env.n_envs
        self.agent_counts, self.rewards = env.agent_counts, env.rewards
        self.event_interfaces = env.event_interfaces
        seen, done = bind_wrappers(self.wrappers, env.observation_spaces, env.action_spaces)
        self.observation_spaces: Spaces = seen if processed else env.observation_spaces
        self.action_spaces: Spaces = done if processed else env.action_spaces
        acting = acting_wrappers(self.wrappers) if processed else []
        self._on_observation = [w for w in acting if "observation" in w.overridden]
        self._on_action = [w for w in reversed(acting) if "action" in w.overridden]
        self._after_step = [w for w in self.wrappers if "reward" in w.overridden or "on_tick" in w.overridden]
        self._is_watched = any("on_tick" in w.overridden for w in self.wrappers)
        self._learners = [w for w in self._on_observation if is_training and "learn" in w.overridden]
        self._reward_learners = [w for w in self.wrappers if is_training and "see_reward" in w.overridden]
        self._begins = np.ones(self.n_envs, dtype=np.bool_)
        self._learn_every = learn_every
        self._n_ticks = 0
        self._carried = {w: _Carried(self.n_envs) for w in self._on_observation if w.is_stateful}
        agents = self.agent_counts if self.rewards == "per_actor" else None
        self._tick = empty_tick(self.observation_spaces, self.n_envs, agents)
        self._actors = self._tick.actors
        """Where what each actor was paid, and saw last, is written as it is above the wrappers."""
        if agents and (following := [w for w in self.wrappers if "see_reward" in w.overridden]):
            raise EnvError(
                f"{type(following[0]).__name__} follows one return per environment, and this one pays each actor its "
                "own: take RewardScalingWrapper, or RewardClippingWrapper."
            )
        self.inner_actions: Actions = {}
        """What the wrapped environment was given at the last step."""
        self.inner_tick: Tick
        """What the wrapped environment showed last."""

    @property
    def is_processed(self) -> bool:
        """Observations are not the environment's own any more, or the environment below says so."""
        return bool(self._on_observation) or (
            isinstance(self.env, WrappedVectorEnv) and self.env.is_processed
        )

    def reset(self, seeds: Sequence[int | None], rows: BoolArray | None = None) -> Tick:
        """Start new episodes; see :meth:`VectorEnv.reset`."""
        started = np.ones(self.n_envs, dtype=np.bool_) if rows is None else rows
        if rows is None:
            self._learn()
        self._begins |= started
        inner = self.env.reset(seeds, rows)
        self._forget(started)
        return self._present(inner, started)

    def step(self, actions: Actions) -> Tick:
        """Act through the wrappers; see :meth:`VectorEnv.step`."""
        for wrapper in self._on_action:
            actions = {key: wrapper.action(key, dict(batch)) for key, batch in actions.items()}
        watched = self._of_actors(actions) if self._is_watched else actions
        self.inner_actions = actions
        self._n_ticks += 1
        if self._learners and self._n_ticks >= self._learn_every:
            self._learn()
        return self._paid(self._present(self.env.step(actions), None), watched)

    def step_rows(self, actions: Actions, rows: BoolArray) -> Tick:
        """Act in some environments; see :meth:`VectorEnv.step_rows`. Only wrappers of rewards stand below a layer."""
        self.inner_actions = actions
        return self._paid(self._present(self.env.step_rows(actions, rows), None), actions)

    def _paid(self, tick: Tick, watched: Actions) -> Tick:
        """The tick with the rewards as they are above the wrappers."""
        for wrapper in self._after_step:
            if wrapper in self._reward_learners:
                wrapper.see_reward(tick, self._begins)
            tick.reward = wrapper.reward(tick) if self._actors is None else self._rewards(wrapper, tick)
            wrapper.on_tick(tick, watched)
        if self._reward_learners:
            self._begins = tick.ended
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
        """Close what is wrapped."""
        self.env.close()

    def _present(self, inner: Tick, rows: BoolArray | None) -> Tick:
        """The inner tick with processed observations; ``rows`` are those that changed, None all."""
        self.inner_tick = inner
        if not (self._on_observation or self._after_step):
            return inner
        tick = self._tick
        for name in TICK_FIELDS:
            setattr(tick, name, getattr(inner, name))
        if inner.actors is not None and self._actors is not None:
            tick.actors = self._present_actors(inner.actors, self._actors)
        if not self._on_observation:
            return tick
        if rows is None and (ended := inner.ended).any():
            tick.final_observations = self._process(inner.final_observations, inner.final_active, "final")
            self._forget(ended)
        active = inner.active if rows is None else {key: a & rows for key, a in inner.active.items()}
        tick.observations = self._process(inner.observations, active, "shown")
        return tick

    def _present_actors(self, inner: ActorOutcomes, actors: ActorOutcomes) -> ActorOutcomes:
        """What each actor was paid, and what those saw last whose part was cut, processed."""
        actors.reward[...] = inner.reward
        actors.terminated, actors.truncated = inner.terminated, inner.truncated
        actors.is_shown, actors.episode_return = inner.is_shown, inner.episode_return
        if np.count_nonzero(inner.is_shown):
            first = Actors(self.agent_counts).first
            for key, batch in inner.observations.items():
                of_key = inner.is_shown[:, first[key] : first[key] + self.agent_counts[key]]
                rows, agents = np.nonzero(of_key)
                shown = {name: array[rows, agents] for name, array in batch.items()}
                for wrapper in self._on_observation if rows.size else ():
                    states = self._carried[wrapper].states if wrapper.is_stateful else None
                    given = None if states is None else [states[row] for row in rows]
                    shown, _ = wrapper.observation(key, shown, given)
                for name, array in actors.observations[key].items():
                    array[rows, agents] = shown[name]
        return actors

    def _rewards(self, wrapper: Wrapper, tick: Tick) -> FloatArray:
        """Change what each actor is paid; what all are paid together ``[B]``."""
        assert tick.actors is not None
        rewards = tick.actors.reward
        for number in range(rewards.shape[1]):
            tick.reward = rewards[:, number].copy()
            rewards[:, number] = wrapper.reward(tick)
        total: FloatArray = rewards.sum(1)
        return total

    def _learn(self) -> None:
        self._n_ticks = 0
        for wrapper in self._learners:
            wrapper.learn()

    def _forget(self, rows: BoolArray) -> None:
        """Let the next observation of these rows be the first of its episode."""
        for carried in self._carried.values():
            for row in np.flatnonzero(rows):
                carried.states[row] = None

    def _process(
        self, batches: Mapping[StepKey, Observation], rows: Mapping[StepKey, BoolArray], purpose: str
    ) -> dict[StepKey, Observation]:
        processed: dict[StepKey, Observation] = {}
        for key, batch in batches.items():
            for wrapper in self._on_observation:
                if purpose == "shown" and wrapper in self._learners and (n := np.count_nonzero(rows[key])):
                    wrapper.see(key, batch if n == self.n_envs else _take(batch, rows[key]))
                if wrapper.is_stateful:
                    carried = self._carried[wrapper]
                    batch = carried.process(wrapper, key, batch, np.flatnonzero(rows[key]), purpose)
                else:
                    batch, _ = wrapper.observation(key, batch, None)
            processed[key] = ProcessedObservation(batch)
        return processed

    def _of_actors(self, actions: Actions) -> Actions:
        if len(self.action_spaces) == 1:
            return actions
        active = self._tick.active
        return {
            key: {head: values[active[key]] for head, values in batch.items()}
            for key, batch in actions.items()
        }


class _Carried:
    """What a stateful wrapper carries for each row, and the batches it has processed so far."""

    def __init__(self, n_envs: int) -> None:
        self.states: list[Any] = [None] * n_envs
        self._batches: dict[tuple[StepKey, str], Observation] = {}

    def process(
        self, wrapper: Wrapper, key: StepKey, batch: Observation, rows: Array, purpose: str
    ) -> Observation:
        """Process these rows with the states of their episodes; the others stay as they were."""
        chosen = _take(batch, rows)
        given, states = wrapper.observation(key, chosen, [self.states[row] for row in rows])
        for row, state in zip(rows, states or [], strict=True):
            self.states[row] = state
        shown = self._batches.setdefault((key, purpose), {})
        for name, values in given.items():
            if name not in shown:
                shown[name] = np.zeros((len(self.states), *values.shape[1:]), dtype=values.dtype)
            shown[name][rows] = values
        return shown
