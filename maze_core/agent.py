"""The trained agent: wrapper stack, policy and spaces together, from raw observations to the env's actions.

This one object acts in Python, on the command line and over HTTP. It is built from a checkpoint alone; a policy of
dense layers needs no torch. At load it replays recorded observations and must give the recorded actions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from types import EllipsisType
from typing import Any, overload

import numpy as np
from gymnasium import spaces

from maze_core.agent_state import MISSING, AgentState, StateText, check_carried, check_next, process
from maze_core.checkpoint import Checkpoint, section
from maze_core.config.nodes import TARGET, is_node, shown
from maze_core.config.settings import truth
from maze_core.config.targets import resolve_target
from maze_core.data.flat_space import SpaceReader, form_of, put_together, rows_of
from maze_core.envs.env_spaces import HasSpaces, described_spaces
from maze_core.envs.wrappers.wrapper import (
    ACTS,
    ProcessedObservation,
    Wrapper,
    bind_wrappers,
    build_wrappers,
    why_not_servable,
)
from maze_core.errors import (
    CheckpointError,
    InvalidSpecificationError,
    MaskError,
    NotServableError,
    SpaceMismatchError,
    StateError,
)
from maze_core.models.acting import ActingPolicy, to_env_actions
from maze_core.models.decisions import Wanted, decide
from maze_core.models.heads import BoxHead
from maze_core.models.masks import MaskCheck, mask_checks
from maze_core.models.memory import STATE
from maze_core.models.networks import ActionCritic, Critic
from maze_core.models.stored_policy import stored_critic, stored_policy
from maze_core.notices import Notices
from maze_core.types import JSON, Action, ActorID, Array, FloatArray, Observation, StepKey, Tree

SpacesByKey = Mapping[StepKey, spaces.Dict]
_WHOLE = (np.integer, np.bool_)
"""Numbers of NumPy that are answered as Python's."""


@dataclass(kw_only=True)
class Agent:
    """Acts on raw observations, as the environment gives them."""

    observation_spaces: SpacesByKey
    """Raw spaces, per step key."""
    action_spaces: SpacesByKey
    """The env's own action spaces, per step key."""
    agent_counts: Mapping[StepKey, int]
    """Agents per step key."""
    wrappers: Sequence[Wrapper]
    policy: ActingPolicy
    policy_action_spaces: SpacesByKey
    """What the policy's actions are before the wrappers turn them into the env's."""
    checkpoint_sha256: str | None = None
    """Content digest of the checkpoint that this agent came from."""
    servable: bool = True
    not_servable_reason: str | None = None
    critic: Callable[[], Critic | ActionCritic | None] = lambda: None
    """Gives what judges, where the checkpoint has it; see :meth:`explain`."""
    _rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _readers: Mapping[StepKey, SpaceReader] = field(init=False)
    _masks: Mapping[StepKey, MaskCheck] = field(init=False)
    _forms: Mapping[StepKey, JSON] = field(init=False)
    """Of actions, where they are more than named values."""
    _first_actor: ActorID = field(init=False)
    _changes_observations: list[Wrapper] = field(init=False)
    _changes_actions: list[Wrapper] = field(init=False)
    """From the policy to the environment."""
    _states: StateText = field(init=False)

    @classmethod
    def of(
        cls, raw: HasSpaces, wrappers: Sequence[Wrapper], policy: ActingPolicy, policy_spaces: SpacesByKey
    ) -> "Agent":
        """The agent of environments, wrappers bound to them, and a policy; see the fields."""
        reason = why_not_servable(wrappers)
        return cls(
            observation_spaces=raw.observation_spaces,
            action_spaces=raw.action_spaces,
            agent_counts=raw.agent_counts,
            wrappers=wrappers,
            policy=policy,
            policy_action_spaces=policy_spaces,
            servable=reason is None,
            not_servable_reason=reason,
        )

    def __post_init__(self) -> None:
        """Prepare to read observations; what was not declared is said once per agent, or once per run of its own."""
        notices = Notices.current()
        self._readers = {
            key: SpaceReader(space, "observation", notices) for key, space in self.observation_spaces.items()
        }
        self._masks = mask_checks(self.observation_spaces, self.action_spaces)
        forms = {key: form_of(space) for key, space in self.action_spaces.items()}
        self._forms = {key: None if isinstance(form, str) else form for key, form in forms.items()}
        self._first_actor = ActorID(next(iter(self.observation_spaces)), 0)
        self._changes_observations, self._changes_actions = [], []
        for wrapper in self.wrappers:
            if "observation" in wrapper.overridden:
                self._changes_observations.append(wrapper)
            if "action" in wrapper.overridden:
                self._changes_actions.insert(0, wrapper)
        self._states = StateText(
            self.policy.state_widths,
            self._changes_observations,
            self.observation_spaces,
            self.checkpoint_sha256,
            self.actor,
        )

    @property
    def has_state(self) -> bool:
        """Whether something is carried from one observation of an episode to the next: by the policy or a wrapper."""
        return self._states.is_needed

    def initial_state(self) -> str | None:
        """The state with which an episode begins; None where nothing is carried. Opaque, and JSON."""
        return self._states.write(self._states.initial) if self.has_state else None

    def fresh_state(self) -> AgentState:
        """As :meth:`initial_state`, for :meth:`carry`."""
        return self._states.initial

    def check_state(self, state: JSON) -> None:
        """Make sure that a state is one of this agent, or None.

        Raises:
            StateError: it is not.
        """
        self._states.read(state)

    @property
    def needs_torch(self) -> bool:
        """Whether the policy's forward runs in torch instead of numpy."""
        return self.policy.needs_torch

    @property
    def default_actor(self) -> ActorID:
        """The actor meant when none is named: agent 0 of the first sub-step."""
        return self._first_actor

    @overload
    def compute_action(
        self,
        observation: JSON,
        *,
        actor_id: ActorID | tuple[StepKey, int] | None = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
        state: EllipsisType = ...,
    ) -> Action: ...
    @overload
    def compute_action(
        self,
        observation: JSON,
        *,
        actor_id: ActorID | tuple[StepKey, int] | None = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
        state: str | None,
    ) -> tuple[Action, str | None]: ...
    def compute_action(
        self,
        observation: JSON,
        *,
        actor_id: ActorID | tuple[StepKey, int] | None = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
        state: str | EllipsisType | None = ...,
    ) -> Any:
        """The action for one raw observation.

        Args:
            observation: what the env gave, in its own form, or name → value; the bare value where there is one
                name. Never changed.
            actor_id: who acts; None is :attr:`default_actor`.
            deterministic: the most likely action instead of a sample.
            rng: where a sample's noise comes from; None is the agent's own stream.
            state: what is carried through the episode: :meth:`initial_state` or None with its first observation, and
                what came with the last action from then on. Left out by whom nothing is carried. That an actor comes
                back after its part was over cannot be seen here: it goes on with what it carried, where rollouts and
                evaluations begin anew for it.

        Returns:
            The action in the env's own form, ready for its ``step``: nested Dicts and Tuples as they are there; an
            action that is no Dict or Tuple stands under ``"action"``. Where a state was given, the pair of the action
            and the next state.

        Raises:
            SpaceMismatchError: the observation does not fit its space, or there is no such actor.
            StateError: a state is needed and was not given, or is not one of this agent.
            InvalidSpecificationError: ``deterministic`` is neither True nor False.
            NotServableError: the checkpoint's wrappers have no pure form.
        """
        actor = self.actor(actor_id)
        is_raw = not isinstance(observation, ProcessedObservation)
        checked = self.check_observation(observation, actor) if is_raw else observation
        batch: Observation = {name: np.asarray(value)[None] for name, value in checked.items()}
        if not is_raw:
            batch = ProcessedObservation(batch)
        states = None if state is ... else [state]
        actions, after = self.advance(actor, batch, states, truth(deterministic, "deterministic"), rng)
        action: JSON = {head: _unbatched(values) for head, values in actions.items()}
        form = self._forms[actor.step_key]
        if is_raw and form is not None:
            action = put_together(form, action)
        return action if state is ... else (action, after[0])

    def compute_actions(
        self,
        observations: Observation,
        *,
        actor_id: ActorID | tuple[StepKey, int] | None = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
    ) -> Action:
        """Actions for a batch of raw observations that were checked already.

        Args:
            observations: name → ``[B, …]``; of type :class:`ProcessedObservation` where the wrappers have
                been applied.
            actor_id: who acts, the same for every row.
            deterministic: the most likely action instead of a sample.
            rng: where the samples' noise comes from.

        Returns:
            head → ``[B, …]``: the env's actions for raw observations, the wrapped env's for processed ones.

        Raises:
            SpaceMismatchError: there is no such actor.
            InvalidSpecificationError: ``deterministic`` is neither True nor False.
            StateError: a state is needed; see :meth:`advance`.
            NotServableError: the checkpoint's wrappers have no pure form.
        """
        return self.act_as(self.actor(actor_id), observations, truth(deterministic, "deterministic"), rng)

    def advance(
        self,
        actor: ActorID,
        observations: Observation,
        states: Sequence[str | None] | None,
        deterministic: bool,
        rng: np.random.Generator | None,
        noise: FloatArray | None = None,
    ) -> tuple[Action, list[str | None]]:
        """As :meth:`act_as`, with what is carried through the episode of each observation.

        Args:
            actor: one that :meth:`actor` gave.
            observations: name → ``[B, …]``.
            states: of each, as of :meth:`compute_action`; None where they are not given.
            deterministic: the most likely action instead of a sample.
            rng: where the samples' noise comes from.
            noise: used in its place.

        Returns:
            The actions, and the next states.

        Raises:
            StateError: a state is needed and was not given, or is not one of this agent.
        """
        n_rows = _n_rows(observations)
        carried = None if states is None else [self._states.read(state) for state in states]
        if carried is None or not self.has_state:
            return self.act_as(actor, observations, deterministic, rng, noise), [None] * n_rows
        actions, after = self.carry(actor, observations, carried, deterministic, rng, noise)
        return actions, [self._states.write(state) for state in after]

    def carry(
        self,
        actor: ActorID,
        observations: Observation,
        states: Sequence[AgentState],
        deterministic: bool,
        rng: np.random.Generator | None,
        noise: FloatArray | None = None,
    ) -> tuple[Action, list[AgentState]]:
        """As :meth:`advance`, with states that are no text."""
        is_raw = not isinstance(observations, ProcessedObservation)
        seen, carried = self._seen(actor, observations, states)
        actions, after = self._act(actor, seen, deterministic, rng, is_raw=is_raw, noise=noise)
        return actions, _next_states(actor, states, after, carried)

    def _seen(
        self, actor: ActorID, observations: Observation, states: Sequence[AgentState]
    ) -> tuple[Observation, list[list[Any]]]:
        """What the policy sees with these states, and what the wrappers carry then."""
        key, carried = actor.step_key, [list(state.wrappers) for state in states]
        if not isinstance(observations, ProcessedObservation):
            observations = {name: observations[name] for name in self._readers[key].leaves}
            observations = self.process(key, observations, carried)
        if width := self.policy.state_widths.get(key, 0):
            zeros = np.zeros(width, np.float32)
            own = np.stack([state.policy.get(actor, zeros) for state in states])
            networks = self.policy.steps[key].networks
            network = networks[actor.agent_id if len(networks) > 1 else 0]
            check_carried(own, network.logits)
            observations = {**observations, STATE: own}
        return observations, carried

    def explain(
        self,
        observation: JSON,
        *,
        actor_id: ActorID | tuple[StepKey, int] | None = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
        state: str | EllipsisType | None = ...,
    ) -> Tree:
        """The action for one raw observation, as :meth:`compute_action` gives it, and what the policy thought of it.

        Returns:
            ``action``; ``distribution``, head → what :mod:`maze_core.models.decisions` tells of it; ``value``, what the
            critic expects of the state, or of the action that is taken; ``mask``, head → what is allowed;
            ``log_prob`` of the action. None stands for what the policy does not have. The next ``state`` too, where one
            was given. A critic with a state has seen what was explained: its value is None once an action of the
            episode was computed without, and beside a policy that carries no state of its own.

        Raises:
            SpaceMismatchError: the observation does not fit its space, or there is no such actor.
            StateError: a state is needed; see :meth:`compute_action`.
            NotServableError: the checkpoint's wrappers have no pure form.
        """
        actor = self.actor(actor_id)
        checked = self.check_observation(observation, actor)
        batch = {name: np.asarray(value)[None] for name, value in checked.items()}
        states = None if state is ... else [state]
        deterministic = truth(deterministic, "deterministic")
        actions, (decision,), (after,) = self.explain_as(actor, batch, states, deterministic, rng)
        action = {head: _unbatched(values) for head, values in actions.items()}
        form = self._forms[actor.step_key]
        told = {"action": action if form is None else put_together(form, action), **decision}
        return told if state is ... else {**told, "state": after}

    def explain_as(
        self,
        actor: ActorID,
        observations: Observation,
        states: Sequence[str | None] | None,
        deterministic: bool,
        rng: np.random.Generator | None,
        noise: FloatArray | None = None,
        wanted: Wanted = Wanted(),  # noqa: B008 -- it never changes
    ) -> tuple[Action, list[Tree], list[str | None]]:
        """As :meth:`advance`, of raw observations, and a decision for each.

        ``candidates``, where they are wanted, are ``[{"action": in the environment's own form, "score": …}, …]``.
        """
        key, agent_id = actor
        if states is None and self.has_state:
            raise StateError(MISSING)
        before = [self._states.read(state) for state in states or [None] * _n_rows(observations)]
        seen, carried = self._seen(actor, observations, before)
        step = self.policy.steps[key]
        if noise is None and (not deterministic or self.policy.needs_noise):
            noise = self.policy.noise(key, rng or self._rng, _n_rows(seen))
        if not step.networks:
            message = "This policy has no network that could tell what it thinks."
            raise InvalidSpecificationError(message, path="policy")
        network = step.networks[agent_id if len(step.networks) > 1 else 0]
        taken = partial(self._taken, key)
        critic = self.critic()
        samples, decisions, after = decide(step, network, seen, noise, critic, key, taken, wanted)
        form = form_of(self.action_spaces[key])
        for decision in decisions if wanted.top_k else ():
            scores, best = decision["candidates"]
            pairs = zip(rows_of(form, taken(best)), scores, strict=True)
            decision["candidates"] = [{"action": action, "score": score} for action, score in pairs]
        told = _next_states(actor, before, after, carried)
        if isinstance(critic, Critic) and key in critic.state_widths and after is not None:
            for row, (value, carried_on) in _judged(critic, actor, seen, before).items():
                if "value" in wanted.members:
                    decisions[row]["value"] = value
                told[row] = replace(told[row], critic={**told[row].critic, actor: carried_on})
        texts = [self._states.write(state) if self.has_state else None for state in told]
        return taken(samples), decisions, texts

    def _taken(self, key: StepKey, samples: Action) -> Action:
        """What the environment is given of samples."""
        actions = to_env_actions(self.policy.steps[key].in_env_units(samples), self.policy_action_spaces[key])
        for wrapper in self._changes_actions:
            actions = wrapper.action(key, actions)
        return actions

    def act_as(
        self,
        actor: ActorID,
        observations: Observation,
        deterministic: bool,
        rng: np.random.Generator | None,
        noise: FloatArray | None = None,
    ) -> Action:
        """As :meth:`compute_actions`, for an actor that :meth:`actor` gave: nothing is checked again.

        ``noise``, where it is given, is used in the place of what ``rng`` would draw.

        Raises:
            StateError: a state is needed; see :meth:`advance`.
        """
        is_raw = not isinstance(observations, ProcessedObservation)
        if self._states.is_needed and (is_raw or self.policy.state_widths):
            raise StateError(MISSING)
        if is_raw:
            observations = {name: observations[name] for name in self._readers[actor.step_key].leaves}
            observations = self.process(actor.step_key, observations)
        return self._act(actor, observations, deterministic, rng, is_raw=is_raw, noise=noise)[0]

    def _act(
        self,
        actor: ActorID,
        observations: Observation,
        deterministic: bool,
        rng: np.random.Generator | None,
        *,
        is_raw: bool,
        noise: FloatArray | None = None,
    ) -> tuple[Action, FloatArray | None]:
        """The actions for what the policy sees, and its next states ``[B, n]``."""
        key, agent_id = actor
        agents = None
        if noise is None and (not deterministic or self.policy.needs_noise):
            noise = self.policy.noise(key, rng or self._rng, _n_rows(observations))
        if agent_id:
            agents = np.full(_n_rows(observations), agent_id, dtype=np.int64)
        actions = self.policy.act(
            key, observations, deterministic=deterministic, noise=noise, agent_id=agents
        )
        after = actions.pop(STATE, None)
        actions = to_env_actions(actions, self.policy_action_spaces[key])
        for wrapper in self._changes_actions if is_raw else ():
            actions = wrapper.action(key, actions)
        return actions, after

    def process(
        self, step_key: StepKey, observations: Observation, carried: Sequence[list[Any]] = ()
    ) -> Observation:
        """What the policy sees of a raw batch ``name → [B, …]``; with stateful wrappers, and what those carry."""
        if not self.servable:
            raise NotServableError(
                self.not_servable_reason or "This checkpoint cannot act on raw observations."
            )
        return process(self._changes_observations, step_key, observations, carried)

    def check_observation(self, value: JSON, actor_id: ActorID, mask: JSON = None) -> Observation:
        """One raw observation by the rule of :mod:`maze_core.data.values`, which training has too.

        Args:
            value: the observation.
            actor_id: whose it is.
            mask: what the actor may do, beside what the observation says of it, which may then be left out: 0 and 1, or
                truth values, of the one head that has a mask, or head → mask.

        Returns:
            Name → array, in the order of the space.

        Raises:
            SpaceMismatchError: a part is missing, or of a wrong shape or kind, or a mask allows nothing; its pointer
                says where.
            MaskError: the mask cannot be applied.
        """
        masks = self._masks.get(actor_id.step_key)
        given = {} if mask is None else self._read_mask(mask, actor_id.step_key)
        if given and isinstance(value, Mapping):
            value = {**given, **value}
        checked = self._readers[actor_id.step_key].read(value)
        for name, allowed in given.items():
            checked[name] = checked[name] * (allowed != 0)
        if masks is not None:
            fault = masks.fault({name: array[None] for name, array in checked.items()})
            if fault is not None:
                message = f"T{fault.message[1:]}"
                if fault.is_empty and given:
                    raise MaskError(message, code="mask_empty")
                raise SpaceMismatchError(message, f"/{fault.name}")
        return checked

    def _read_mask(self, mask: JSON, key: StepKey) -> Observation:
        """The mask observations that a mask beside an observation stands for."""
        heads = self._masks[key].heads if key in self._masks else {}
        honoured = {part.mask for part in self.policy.steps[key].parts}
        heads = {head: name for head, name in heads.items() if name in honoured}
        if not heads:
            message = (
                f"Sub-step {key!r} has no masks: its observations hold none, and the policy learnt without."
            )
            raise MaskError(message, code="mask_unsupported")
        given = mask if isinstance(mask, Mapping) else dict.fromkeys(list(heads)[: len(heads) == 1], mask)
        if not given:
            raise MaskError(f"Give an object of masks by head: {', '.join(heads)}.")
        if unknown := [head for head in given if head not in heads]:
            message = f"The head {shown(unknown[0])} has no mask; there is {', '.join(heads)}."
            raise MaskError(message, f"/{unknown[0]}", "mask_unsupported")
        leaves, read = self._readers[key].leaves, {}
        for head, its_mask in given.items():
            where = f"/{head}" if isinstance(mask, Mapping) else ""
            try:
                array = read[heads[head]] = leaves[heads[head]].read(its_mask)
            except SpaceMismatchError as error:
                raise MaskError(str(error), where + error.pointer) from error
            if ((array != 0) & (array != 1)).any():
                raise MaskError("A mask says 1 (allowed) or 0 for each action.", where)
        return read

    def heads_of_numbers(self, actor_id: ActorID) -> list[str]:
        """The heads that do not choose, and so have no candidates."""
        return [head.name for head in self.policy.steps[actor_id.step_key].heads if isinstance(head, BoxHead)]

    def takes(self, observations: Array, actor_id: ActorID) -> bool:
        """Whether an array ``[B, …]`` holds raw observations that fit as they are; if not, each has to be checked."""
        return self._readers[actor_id.step_key].takes(observations)

    def actor(self, actor_id: ActorID | tuple[StepKey, int] | None) -> ActorID:
        """The actor meant, checked.

        Raises:
            SpaceMismatchError: there is no such sub-step or agent, or this is no pair of them.
        """
        if actor_id is None:
            return self._first_actor
        if not isinstance(actor_id, tuple | list) or len(actor_id) != 2:
            raise SpaceMismatchError(
                f"An actor is a pair of a sub-step and an agent, such as {tuple(self.default_actor)}, "
                f"not {shown(actor_id)}.",
                "/actor_id",
            )
        pair: Any = actor_id  # of NumPy's numbers too
        step_key, agent_id = pair
        if isinstance(step_key, np.integer):
            step_key = int(step_key)
        if isinstance(agent_id, np.integer):
            agent_id = int(agent_id)
        if type(step_key) not in (int, str) or step_key not in self.observation_spaces:
            known = ", ".join(repr(key) for key in self.observation_spaces)
            raise SpaceMismatchError(
                f"There is no sub-step {shown(step_key)}; there is {known}.", "/actor_id/0"
            )
        count = self.agent_counts.get(step_key, 1)
        if type(agent_id) is not int or agent_id < 0 or 0 <= count <= agent_id:
            has = f"agents 0 to {count - 1}" if count >= 0 else "agents from 0 on"
            raise SpaceMismatchError(
                f"Sub-step {step_key!r} has {has}, not {shown(agent_id)}.", "/actor_id/1"
            )
        return ActorID(step_key, agent_id)


def load_agent(
    source: Checkpoint | bytes | str | PathLike[str],
    *,
    check: bool = True,
    objects: Mapping[str, object] | None = None,
) -> Agent:
    """The agent of a checkpoint.

    Args:
        source: a checkpoint, the bytes of its bundle, or the path of its file.
        check: replay the recorded observations and compare with the recorded actions.
        objects: live objects that the configuration only names, by path, such as ``wrappers.0``.

    Raises:
        CheckpointError: damaged, of another kind, or acting differently from the run that wrote it.
    """
    if isinstance(source, str | PathLike):
        source = Checkpoint.read(source)
    checkpoint = Checkpoint.from_bytes(source) if isinstance(source, bytes) else source
    try:
        agent = _build(checkpoint, objects or {})
    except InvalidSpecificationError as error:
        raise CheckpointError(f"The checkpoint's agent cannot be built here: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"The checkpoint does not describe an agent: {error!r}.") from error
    if check and agent.servable:
        _replay(agent, checkpoint)
    return agent


def record_actions(agent: Agent, observations: Mapping[StepKey, Observation]) -> dict[str, Array]:
    """Raw observations and this agent's actions on them, as the arrays of a checkpoint's ``recorded/``."""
    arrays: dict[str, Array] = {}
    for i, key in enumerate(agent.observation_spaces):
        batch = observations.get(key)
        if not batch or not agent.servable:
            continue
        actions = _in_a_row(agent, key, batch)
        arrays |= {f"{i}/observation/{name}": values for name, values in batch.items()}
        arrays |= {f"{i}/action/{head}": np.asarray(values) for head, values in actions.items()}
    return arrays


def _in_a_row(agent: Agent, key: StepKey, observations: Observation) -> Action:
    """Actions of the first actor on recorded observations; where it carries a state, as if they were one episode."""
    actor = ActorID(key, 0)
    if not agent.has_state:
        return agent.compute_actions(observations, actor_id=actor)
    states, acted = [agent.fresh_state()], []
    for row in range(_n_rows(observations)):
        seen = {name: values[row : row + 1] for name, values in observations.items()}
        actions, states = agent.carry(actor, seen, states, True, None)
        acted.append(actions)
    return {head: np.concatenate([actions[head] for actions in acted]) for head in acted[0]}


def _only_watches(node: Any) -> bool:
    """Whether a wrapper is training's own, so that acting goes on without it where it cannot be built."""
    kind = resolve_target(node[TARGET]) if is_node(node) else None
    return (
        isinstance(kind, type) and issubclass(kind, Wrapper) and kind.servable and not ACTS & kind.overridden
    )


def _build(checkpoint: Checkpoint, objects: Mapping[str, object]) -> Agent:
    identity = checkpoint.identity
    raw = described_spaces(identity["spaces"])
    placed: dict[int, Wrapper] = {}
    for i, node in enumerate(identity["config"]["wrappers"]):
        try:
            (placed[i],) = build_wrappers({i: node}, objects)
        except InvalidSpecificationError:  # such as for a function that was handed over
            if not _only_watches(node):
                raise
    wrappers = list(placed.values())
    seen, policy_actions = bind_wrappers(wrappers, raw.observation_spaces, raw.action_spaces)
    for i, wrapper in placed.items():
        wrapper.load_state_dict(section(checkpoint.tensors, f"wrappers/{i}"))
    return Agent(
        observation_spaces=raw.observation_spaces,
        action_spaces=raw.action_spaces,
        agent_counts=raw.agent_counts,
        wrappers=wrappers,
        policy=stored_policy(checkpoint, objects, seen, policy_actions, raw.agent_counts),
        critic=stored_critic(checkpoint, objects, seen, policy_actions, raw.agent_counts),
        policy_action_spaces=policy_actions,
        checkpoint_sha256=checkpoint.content_sha256,
        servable=identity["servable"],
        not_servable_reason=identity["not_servable_reason"],
    )


def _replay(agent: Agent, checkpoint: Checkpoint) -> None:
    for i, key in enumerate(agent.observation_spaces):
        observations = section(checkpoint.tensors, f"recorded/{i}/observation")
        if not observations:
            continue
        if any(not values.shape[:1] or not len(values) for values in observations.values()):
            raise CheckpointError(f"The checkpoint's recorded observations of sub-step {key!r} have no rows.")
        actions = _in_a_row(agent, key, observations)
        expected = section(checkpoint.tensors, f"recorded/{i}/action")
        for head, values in actions.items():
            if head not in expected or not _same(np.asarray(values), expected[head]):
                raise CheckpointError(
                    "The agent does not act here as it did when it was trained: recorded observations "
                    f"give other actions (sub-step {key!r}, head {head!r})."
                )


def _judged(
    critic: Critic, actor: ActorID, seen: Observation, states: Sequence[AgentState]
) -> dict[int, tuple[float, FloatArray]]:
    """Row → what a critic with a state expects, and its next state; of rows in which it knows all that was seen."""
    network, shown = critic.by_key[actor.step_key], critic.filled(seen)
    begin = np.zeros(network.state_width, np.float32)
    found: dict[int, tuple[float, FloatArray]] = {}
    for row, state in enumerate(states):
        own = begin if actor not in state.policy else state.critic.get(actor)
        if own is None:
            continue
        check_carried(own[None], network, row)
        output = network(
            {**{name: values[row : row + 1] for name, values in shown.items()}, STATE: own[None]}
        )[0]
        if np.isfinite(output).all():
            found[row] = float(output[0]), output[1:]
    return found


def _next_states(
    actor: ActorID, states: Sequence[AgentState], after: FloatArray | None, carried: Sequence[list[Any]]
) -> list[AgentState]:
    """States of rows after what the network and the wrappers of an actor gave.

    Raises:
        StateError: what the network gave is not finite.
    """
    if after is not None:
        check_next(after)
    return [
        AgentState(
            state.policy if after is None else {**state.policy, actor: after[row]},
            tuple(carried[row]),
            {other: numbers for other, numbers in state.critic.items() if other != actor},
        )
        for row, state in enumerate(states)
    ]


def _same(actual: Array, expected: Array) -> bool:
    """Equal discrete actions; floats to rtol 1e-5, since another machine may round otherwise."""
    if expected.dtype.kind == "f":
        return actual.shape == expected.shape and bool(np.allclose(actual, expected, rtol=1e-5, atol=1e-6))
    return bool(np.array_equal(actual, expected))


def _n_rows(batch: Observation) -> int:
    return len(next(iter(batch.values())))


def _unbatched(values: Any) -> Any:
    value = values[0]
    return value.item() if isinstance(value, _WHOLE) else value
