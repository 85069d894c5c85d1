"""From the settings of a model and the spaces of an environment to a policy and a critic.

Weights depend on the settings, the spaces and the seed alone. Networks of ours draw from a generator of their
own; those of the user's draw from torch's global one, which is seeded for them and put back afterwards. Torch is
imported where there is one of the user's.
"""

import dataclasses
import inspect
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import msgspec
import numpy as np
from gymnasium import spaces

from maze_core.config.instantiate import (
    COMPOSER_ARGUMENTS,
    CRITIC_NETWORK_ARGUMENTS,
    POLICY_NETWORK_ARGUMENTS,
)
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.acting import ActingPolicy, ActorNetwork, StepPolicy
from maze_core.models.builders import (
    SHARED,
    flatten_concat,
    from_template,
    has_axes,
    initial_parameters,
    input_spaces,
    is_dense,
    mask_names,
    n_parameters,
    shared_with,
    template_inputs,
    with_shared_embedding,
)
from maze_core.models.composers import ModelSpec
from maze_core.models.config import (
    ACTION_CRITICS,
    POLICY_GAIN,
    VALUE_GAIN,
    CallableModelConfig,
    DeltaStateCriticConfig,
    FlattenConcatPolicyNetConfig,
    FlattenConcatSharedEmbeddingPolicyNetConfig,
    FlattenConcatSharedEmbeddingStateValueNetConfig,
    FlattenConcatStateValueNetConfig,
    ModelNeeds,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticConfig,
    SpacesByKey,
)
from maze_core.models.graph import ActionValues, Concat, GraphNetwork, Program
from maze_core.models.heads import (
    ActionValuesHead,
    DistributionMapper,
    Head,
    StateNoiseHead,
    parameter_name,
)
from maze_core.models.networks import ActionCritic, Critic, Network, action_input
from maze_core.models.supports import learnt_by
from maze_core.models.template_config import BlockNetConfig, ConcatModelBuilderConfig
from maze_core.notices import Notices
from maze_core.threads import one_thread, one_torch_thread, plain_torch
from maze_core.types import Array, FloatArray, StepKey

_BUILDING = threading.Lock()
_ACTIONS = action_input("")
_MANY_PIXELS = 32 * 32 * 3


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a trainer trains."""

    policy: ActingPolicy
    critic: Critic | ActionCritic | None
    """None where the model's configuration has no critic, or none is needed."""


def build_model(
    config: Any,
    observation_spaces: SpacesByKey,
    action_spaces: SpacesByKey,
    agent_counts: Mapping[StepKey, int],
    generator_seed: int,
    needs: ModelNeeds,
) -> Model:
    """Build the policy and the critic of a model configuration; the rules of a composer's own mapper win.

    Raises:
        InvalidSpecificationError: a network does not fit the spaces, a space has no distribution, or a function of the
            user's gave no model.
    """
    config = getattr(config, "config", config)  # of a composer, its settings
    mapper = getattr(getattr(config, "policy", None), "distribution_mapper", None)
    rules = getattr(mapper, "rules", None) or getattr(config, "distribution_mapper_config", None)
    mapper = DistributionMapper(
        action_spaces,
        rules,
        distributions=needs.distributions,
        gaussian=getattr(config, "gaussian", None),
        by_likelihood=needs.critic != "action",
    )
    _refuse_actors(action_spaces, agent_counts, needs)
    spec = ModelSpec(
        observation_spaces=observation_spaces,
        action_spaces=action_spaces,
        agent_counts=agent_counts,
        mapper=mapper,
        needs=needs,
        template=getattr(config, "model_builder", None),
        copies={},
        embeddings={},
        has_critic=getattr(config, "critic", None) is not None and needs.critic == "state",
    )
    if isinstance(config, CallableModelConfig):
        return _called_model(config.factory, spec, generator_seed)
    policy_seed, critic_seed = (int(n) for n in np.random.SeedSequence(generator_seed).generate_state(2))
    policy = _composed(config.policy, spec, policy_seed, "model.policy")
    has_critic = config.critic is not None and needs.critic is not None  # of states or of actions
    critic = _composed(config.critic, spec, critic_seed, "model.critic") if has_critic else None
    if isinstance(critic, Critic):
        _refer(critic, policy)
    return Model(policy=policy, critic=critic)


def _refer(critic: Critic, policy: ActingPolicy) -> None:
    """Leave the parameters of a module that policy and critic have together to the policy."""
    modules = [x.logits for step in policy.steps.values() for x in step.networks if x.needs_torch]
    of_critic: list[Any] = [network for _, network in critic.named() if network.needs_torch]
    for network in of_critic:
        any(network.refer(module) for module in modules)


def _refuse_actors(
    action_spaces: SpacesByKey, agent_counts: Mapping[StepKey, int], needs: ModelNeeds
) -> None:
    """Refuse sub-steps and agents that the algorithm does not learn."""
    facts = {
        "sub_steps": (len(action_spaces) > 1, f"{len(action_spaces)} sub-steps", "one sub-step"),
        "agents": (any(count != 1 for count in agent_counts.values()), "several agents", "one agent"),
    }
    for feature, (is_so, several, one) in facts.items():
        if is_so and not getattr(needs.supports, feature):
            message = f"has {several}, and {needs.algorithm} learns {one}: take {learnt_by(feature)}."
            raise _problem("env", message)


def _composed(part: Any, spec: ModelSpec, seed: int, path: str) -> Any:
    """A policy or critic from its settings, from a composer, or from a function that gives one of them."""
    if isinstance(part, partial):
        made, part = part, _called(part, spec)
        if not hasattr(part, "networks") and not hasattr(part, "fitted"):
            raise _problem(
                path, f"{made.func.__qualname__} gave a {type(part).__name__}, which is no composer."
            )
    if hasattr(part, "fitted"):
        return part.fitted(spec).compose(seed)
    return compose(getattr(part, "policy_config", getattr(part, "critic_config", part)), spec, seed)


def compose(settings: Any, spec: ModelSpec, seed: int) -> Any:
    """The policy or critic of its settings; weights of ours and of the user's follow from the seed."""
    is_policy = isinstance(settings, ProbabilisticPolicyComposerConfig)
    role, networks = _POLICY if is_policy else _CRITIC, settings.networks or ()
    entries = [*networks.values()] if isinstance(networks, Mapping) else networks
    is_numpy = all(isinstance(entry, role.settings) or entry is None for entry in entries)
    if None in entries or not entries:
        is_numpy = is_numpy and _has_dense_template(spec)
    with one_thread(), nullcontext() if is_numpy else _seeded_torch(seed):
        factory = NetworkFactory(role, spec, np.random.default_rng(seed))
        return (_compose_policy if is_policy else _compose_critic)(settings, spec, factory)


def _has_dense_template(spec: ModelSpec) -> bool:
    """Whether what the template makes of the spaces are programs of dense layers; also where there is none."""
    template, masks = spec.template, mask_names(spec.action_spaces)
    return template is None or all(
        is_dense({name: part for name, part in space.spaces.items() if name not in masks}, template)
        for space in spec.observation_spaces.values()
    )


def _called_model(factory: Callable[..., Any], spec: ModelSpec, generator_seed: int) -> Model:
    """The model of a function or composer class of the user's."""
    made = _called(factory if isinstance(factory, partial) else partial(factory), spec)
    if hasattr(made, "build"):
        made = made.build(
            spec.observation_spaces, spec.action_spaces, spec.agent_counts, generator_seed=generator_seed
        )
    if not (hasattr(made, "policy") and hasattr(made, "critic")):
        raise _problem("model", f"the given function made a {type(made).__name__}, which is no model.")
    return made  # type: ignore[no-any-return]


def _called(made: "partial[Any]", spec: ModelSpec) -> Any:
    """What a function or class of the user's gives; it is handed the spaces it has parameters for."""
    values = (spec.observation_spaces, spec.action_spaces, spec.agent_counts, spec.mapper)
    known = dict(zip(COMPOSER_ARGUMENTS, values, strict=True))
    parameters = inspect.signature(made.func).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    missing = {
        name: value
        for name, value in known.items()
        if (takes_all or name in parameters) and made.keywords.get(name) is None
    }
    return made(**missing)


def _compose_policy(
    config: ProbabilisticPolicyComposerConfig, spec: ModelSpec, factory: "NetworkFactory"
) -> ActingPolicy:
    """The policy: a network per sub-step, or per agent of a sub-step."""
    keys = list(spec.action_spaces)
    entries = by_step(config.networks, keys, "model.policy.networks")
    counts = _networks_per_step(config, spec)
    steps: dict[StepKey, StepPolicy] = {}
    for i, key in enumerate(keys):
        space = spec.observation_spaces[key]
        heads = spec.mapper.heads(spec.action_spaces[key], space.spaces)
        outputs, end = {head.name: head.logits_width for head in heads}, _end(heads, spec.needs)
        entry, path = entries[key]
        if counts[key] > 1 and _is_module(entry):
            raise _problem(path, f"one module cannot serve {counts[key]} agents: give a class.")
        logits = [factory.make(entry, space, outputs, path, end, key) for _ in range(counts[key])]
        if isinstance(end, Concat):
            heads = _with_features(heads, logits[0])
        networks = [
            ActorNetwork(
                logits=network,
                parameter=_initial_parameter(heads),
                parameter_name=parameter_name(heads),
                prefix=f"steps.{i}.agents.{agent}.",
            )
            for agent, network in enumerate(logits)
        ]
        steps[key] = StepPolicy(heads, networks)
    return ActingPolicy(steps)


def _end(heads: Sequence[Head], needs: ModelNeeds) -> ActionValues | Concat | None:
    """What stands behind the last layer, where that does not give the logits of the heads.

    The features of state-dependent noise are what the last layer reads; a Concat of its output waits for their name.
    """
    (head, *others) = heads
    if any(isinstance(part, StateNoiseHead) for part in heads):
        if others:
            message = f"has {len(heads)} action heads; state_dependent_noise is for one."
            raise _problem("model.gaussian", f"the environment {message}")
        return Concat(sources=("output",), target="output_and_features")
    if others and isinstance(head, ActionValuesHead):
        raise _problem("env", f"has {len(heads)} action heads; this algorithm learns one: take ppo or a2c.")
    if not isinstance(head, ActionValuesHead) or (needs.n_quantiles == 1 and not needs.duelling):
        return None
    return ActionValues(
        source="output",
        target="values",
        n=head.n,
        n_quantiles=needs.n_quantiles,
        duelling=needs.duelling,
    )


def _with_features(heads: Sequence[Head], network: Any) -> tuple[Head, ...]:
    """The heads, which now know how many features the network shows."""
    n_features = network.program.n_out - sum(head.logits_width for head in heads)
    return tuple(msgspec.structs.replace(head, n_features=n_features) for head in heads)


def _initial_parameter(heads: Sequence[Head]) -> FloatArray | None:
    """The parameters of the heads, side by side, as they start."""
    starts = [head.parameter_start for head in heads for _ in range(head.parameter_width)]
    return np.array(starts, np.float32) if starts else None


def _compose_critic(config: Any, spec: ModelSpec, factory: "NetworkFactory") -> Critic | ActionCritic:
    """The critic: a value network per sub-step, or one for all of them; or two that value actions."""
    keys = list(spec.observation_spaces)
    path = "model.critic.networks"
    if spec.needs.critic == "state" and isinstance(config, ACTION_CRITICS):
        message = (
            "values actions, and this algorithm learns the values of states: take critic=template_state."
        )
        raise _problem("model.critic", message)
    if spec.needs.critic == "action":
        (key,) = keys
        entry, where = by_step(config.networks, keys, path)[key]
        space, outputs = _of_actions(spec.observation_spaces[key], spec.action_spaces[key])
        return ActionCritic([factory.make(entry, space, outputs, where) for _ in range(2)])
    if not isinstance(config, SharedStateCriticConfig):
        entries = by_step(config.networks, keys, path)
        networks = {
            key: factory.make(entry, spec.observation_spaces[key], {"value": 1}, where, key=key)
            for key, (entry, where) in entries.items()
        }
        of_changes = keys[1:] if isinstance(config, DeltaStateCriticConfig) else ()
        return _without_memory(Critic(networks, of_changes=of_changes), path)
    n_stacked = {key: _fixed_count(spec, key) for key in keys} if config.stack_observations else {}
    union = _union(
        {key: _stacked(space, n_stacked.get(key)) for key, space in spec.observation_spaces.items()}
    )
    named = [str(key) for key in config.networks] if isinstance(config.networks, Mapping) else []
    # the one network may stand under any sub-step's key, as published configurations have it
    name = next((key for key in spec.observation_spaces if named == [str(key)]), "shared")
    entry, where = by_step(config.networks, [name], path)[name]
    shared = factory.make(entry, union, {"value": 1}, where)
    fill = {name: _nothing(space) for name, space in union.spaces.items()} if len(keys) > 1 else {}
    return _without_memory(Critic(dict.fromkeys(keys, shared), fill, n_stacked=n_stacked), path)


def _fixed_count(spec: ModelSpec, key: StepKey) -> int:
    """Agents of a sub-step, whose observations are stacked."""
    count = spec.agent_counts.get(key, 1)
    if count < 1:
        message = f"sub-step {key!r} has no fixed number of agents; stack_observations needs one."
        raise _problem("model.critic.stack_observations", message)
    return count


def _stacked(space: spaces.Dict, n_agents: int | None) -> spaces.Dict:
    """The observations of several agents together, the agent being the first axis; None changes nothing."""
    if n_agents is None:
        return space
    parts: OrderedDict[str, spaces.Space[Any]] = OrderedDict()
    for name, part in space.spaces.items():
        shape = (n_agents, *(part.shape or ()))
        if isinstance(part, spaces.Box):
            low, high = (np.broadcast_to(end, shape) for end in (part.low, part.high))
            parts[name] = spaces.Box(low, high, dtype=part.dtype.type)
        elif isinstance(part, spaces.MultiBinary):
            parts[name] = spaces.MultiBinary(shape)
        elif isinstance(part, spaces.Discrete):
            parts[name] = spaces.MultiDiscrete([int(part.n)] * n_agents, start=[int(part.start)] * n_agents)
        elif isinstance(part, spaces.MultiDiscrete):
            sizes, starts = (np.broadcast_to(x, shape) for x in (part.nvec, part.start))
            parts[name] = spaces.MultiDiscrete(sizes.reshape(-1), start=starts.reshape(-1))
        else:
            parts[name] = part
    return spaces.Dict(parts)


def _without_memory(critic: Critic, path: str) -> Critic:
    """The critic, which sees beyond an observation either by a state or by more observations."""
    if critic.state_widths and (critic.n_stacked or critic.of_changes):
        message = "carry a state, which critics of changes and of several agents do not: take critic=template_state."
        raise _problem(path, message)
    return critic


def _of_actions(observation: spaces.Dict, action: spaces.Dict) -> tuple[spaces.Dict, dict[str, int]]:
    """What a critic of actions reads, and its outputs: numbers are read, of choices each has an output."""
    choices = {head: int(part.n) for head, part in action.items() if isinstance(part, spaces.Discrete)}
    numbers = {
        action_input(head): spaces.Box(-1.0, 1.0, part.shape or (), np.float32)
        for head, part in action.items()
        if isinstance(part, spaces.Box)
    }
    # in order: a plain dict would be sorted, and modules of the user's would see another order than in training
    read = spaces.Dict(OrderedDict({**observation.spaces, **numbers}))
    return read, choices or {"value": 1}


class _Role(NamedTuple):
    """What tells the networks of a policy from those of a critic."""

    settings: tuple[type[Any], ...]
    """Networks of dense layers; the first is the one to name in messages."""
    gain: float
    """Of the output layer of a template."""
    arguments: tuple[str, ...]
    """What classes and functions of the user's are called with."""


_POLICY = _Role(
    (FlattenConcatPolicyNetConfig, FlattenConcatSharedEmbeddingPolicyNetConfig),
    POLICY_GAIN,
    POLICY_NETWORK_ARGUMENTS,
)
_CRITIC = _Role(
    (FlattenConcatStateValueNetConfig, FlattenConcatSharedEmbeddingStateValueNetConfig),
    VALUE_GAIN,
    CRITIC_NETWORK_ARGUMENTS,
)


class NetworkFactory:
    """Makes the networks of a policy, or those of a critic."""

    def __init__(self, role: _Role, spec: ModelSpec, rng: np.random.Generator) -> None:
        """``rng`` is where the weights of ours come from."""
        self._role, self._spec, self._rng = role, spec, rng
        self._copies: dict[int, Any] = {} if spec.copies is None else spec.copies

    def make(
        self,
        entry: Any,
        space: spaces.Dict,
        outputs: Mapping[str, int],
        path: str,
        end: ActionValues | Concat | None = None,
        key: StepKey | None = None,
    ) -> Network:
        """A new network.

        Args:
            entry: what the configuration names; None asks for the template.
            space: the observations.
            outputs: action head → number of logits, or ``{"value": 1}``.
            path: where the entry stands in the configuration.
            end: what stands behind the last layer, which is then as wide as that reads.
            key: the sub-step whose policy and critic may share their embedding; None shares nothing.

        Raises:
            InvalidSpecificationError: the entry is no network, or does not fit the spaces.
        """
        is_ours = entry is None or isinstance(entry, (*self._role.settings, BlockNetConfig))
        inputs = input_spaces(space, mask_names(self._spec.action_spaces)) if is_ours else {}
        template = self._template(inputs) if entry is None else None
        if entry is None and template is None:
            raise _problem(path, "names no networks, and this model has no template: use model=vector_obs.")
        if isinstance(entry, self._role.settings) or (template is not None and is_dense(inputs, template)):
            return self._program_of(entry or template, inputs, outputs, path, end, key)
        if end:
            raise _problem(
                path,
                "a network of torch gives one value per action: take dqn without duelling."
                if isinstance(end, ActionValues)
                else "a network of torch shows no features, which state_dependent_noise needs: take "
                f"{self._role.settings[0].__name__}.",
            )
        if not is_ours and not callable(entry):
            kind = self._role.settings[0].__name__
            raise _problem(path, f"{type(entry).__name__} is no network: give {kind}, a class or a module.")
        from maze_core.models.module_network import module_network, wrapped_module

        if is_ours:
            made = self._of_blocks(entry or template, inputs, outputs, path, key)
            network = wrapped_module(made, space, outputs, path)
        else:
            network = module_network(
                entry, space, outputs, path, arguments=self._role.arguments, copies=self._copies
            )
        if network.state_width and not self._spec.needs.supports.memory:
            message = (
                f"carries a state from one observation to the next, which {self._spec.needs.algorithm} does not learn: "
                f"take {learnt_by('memory')}, or a network without one and show it the past by ObservationStackWrapper."
            )
            raise _problem(path, message)
        return network

    def _template(self, inputs: Mapping[str, spaces.Space[Any]]) -> ConcatModelBuilderConfig | None:
        """The template; what it says of actions counts where there are any among the inputs."""
        template = self._spec.template
        if template is None:
            return None
        heads = {head for space in self._spec.action_spaces.values() for head in space.spaces}
        mapping = {
            name if name in inputs or name not in heads else action_input(name): kind
            for name, kind in template.observation_modality_mapping.items()
        }
        known = {
            name: kind for name, kind in mapping.items() if name in inputs or not name.startswith(_ACTIONS)
        }
        return dataclasses.replace(template, observation_modality_mapping=known)

    def _program_of(
        self,
        settings: Any,
        inputs: Mapping[str, spaces.Space[Any]],
        outputs: Mapping[str, int],
        path: str,
        end: ActionValues | Concat | None,
        key: StepKey | None,
    ) -> GraphNetwork:
        """A network of dense layers, with what it shares with the policy of its sub-step."""
        n_out = end.n_in if isinstance(end, ActionValues) else sum(outputs.values())
        shares = False
        if isinstance(settings, ConcatModelBuilderConfig):
            program, shares = (
                from_template(inputs, settings, n_out, self._role.gain),
                self._shares(settings, key),
            )
        elif isinstance(settings, FlattenConcatSharedEmbeddingStateValueNetConfig):
            given = self._embedding(key, path)
            program, shares = with_shared_embedding(inputs, given[0], settings, n_out), True
        elif isinstance(settings, FlattenConcatSharedEmbeddingPolicyNetConfig):
            program, shares = with_shared_embedding(inputs, settings, settings, n_out), True
        else:
            _say_pictures(inputs)
            program = flatten_concat(inputs, settings, n_out, settings.output_gain)
        if isinstance(end, Concat):
            end = msgspec.structs.replace(end, sources=(*end.sources, program.dense[-1].source))
        if end:
            program = Program((*program.ops, end))
        if not (shares and self._role is _CRITIC):
            self._spec.size.add(n_parameters(program), path)
            network = GraphNetwork(program, initial_parameters(program, self._rng))
            if shares:
                self._keep_embedding(key, settings, network, path)
            return network
        policy, program = self._embedding(key, path)[1], shared_with(program)
        self._spec.size.add(n_parameters(program), path)
        own = initial_parameters(program, self._rng)
        shared = {
            name: policy.parameters[name.removeprefix(SHARED)] for name in own if name.startswith(SHARED)
        }
        return GraphNetwork(program, own | shared)

    def _of_blocks(
        self,
        settings: Any,
        inputs: Mapping[str, spaces.Space[Any]],
        outputs: Mapping[str, int],
        path: str,
        key: StepKey | None,
    ) -> Any:
        """A torch module of blocks; that of the policy, where policy and critic of a sub-step share one."""
        from maze_core.models.block_network import BlockNetwork, named_embedding, template_embedding

        if isinstance(settings, BlockNetConfig):
            embedding = named_embedding(inputs, settings, path, self._spec.size)
            self._add_head(embedding, outputs, path)
            return BlockNetwork(embedding, outputs, settings.output_gain or self._role.gain)
        shares = self._shares(settings, key)
        if shares and self._role is _CRITIC:
            return self._embedding(key, path)[1]
        embedding = template_embedding(template_inputs(inputs, settings), settings, self._spec.size)
        self._add_head(embedding, outputs, "model.model_builder")
        weight_init: Any = getattr(settings.modality_config.hidden.settings, "weight_init", "orthogonal")
        network = BlockNetwork(embedding, outputs, self._role.gain, weight_init)
        if shares:
            self._keep_embedding(key, settings, network, path)
            if self._spec.has_critic and "value" in outputs:
                message = (
                    "an action head is called 'value', as what a critic gives: rename it, or share nothing."
                )
                raise _problem("model.model_builder.shared_embedding_keys", message)
            if self._spec.has_critic:
                network.add_value(_CRITIC.gain)
        return network

    def _add_head(self, embedding: Any, outputs: Mapping[str, int], path: str) -> None:
        """Count the layer behind the blocks."""
        width = sum(prod(embedding.shapes[key]) for key in embedding.out_keys)
        self._spec.size.add((width + 1) * sum(outputs.values()), path)

    def _shares(self, template: ConcatModelBuilderConfig, key: StepKey | None) -> bool:
        """Whether policy and critic share what the template makes."""
        if key is None and template.shared_embedding_keys:
            message = (
                "policy and critic share their embedding where the critic values states by a network per sub-step: "
                "take critic=template_state, or shared_embedding_keys=null."
            )
            raise _problem("model.model_builder.shared_embedding_keys", message)
        return key is not None and template.shares(key)

    def _keep_embedding(self, key: StepKey | None, settings: Any, embedding: Any, path: str) -> None:
        """Have the critic of this sub-step find what it shares."""
        kept = self._spec.embeddings
        if kept is None:
            return
        if key in kept:
            raise _problem(path, "agents with networks of their own share no embedding with a critic.")
        kept[key] = settings, embedding

    def _embedding(self, key: StepKey | None, path: str) -> tuple[Any, Any]:
        """Settings and embedding of the policy that the critic of a sub-step shares."""
        found = (self._spec.embeddings or {}).get(key)
        if found is None:
            message = (
                f"shares the embedding of the policy at sub-step {key!r}, which has none to share: name "
                "FlattenConcatSharedEmbeddingPolicyNetConfig there, or take model=flatten_concat_shared_embedding."
            )
            raise _problem(path, message)
        return found  # type: ignore[no-any-return]


def _say_pictures(inputs: Mapping[str, spaces.Space[Any]]) -> None:
    """Say that convolutions read pictures better than dense layers do, where one is large."""
    for name, space in inputs.items():
        if has_axes(space, (3,)) and space.dtype == np.uint8 and np.prod(space.shape or ()) >= _MANY_PIXELS:
            Notices.current().say(
                f"picture {name}",
                f"The observation {name!r} is a picture {list(space.shape or ())}, which these dense layers read as "
                "numbers side by side; model=nature_cnn reads it by convolutions.",
            )


def by_step(networks: Any, step_keys: Sequence[StepKey], path: str) -> dict[StepKey, tuple[Any, str]]:
    """Sub-step → what its network is made from, and where that stands in the configuration.

    Raises:
        InvalidSpecificationError: the networks do not fit the sub-steps, or one module stands for several.
    """
    if networks is None:
        return dict.fromkeys(step_keys, (None, path))
    n_steps = len(step_keys)
    if isinstance(networks, Mapping):
        named = {str(key): (entry, f"{path}.{key}") for key, entry in networks.items()}
        allowed = tuple(map(str, step_keys))
        if set(named) != set(allowed):
            raise _problem(path, f"should name exactly the sub-steps {list(step_keys)}.", allowed)
        return {key: named[str(key)] for key in step_keys}
    entries = [(entry, f"{path}.{i}") for i, entry in enumerate(networks)]
    if len(entries) == 1:
        if n_steps > 1 and _is_module(entries[0][0]):
            raise _problem(path, f"one module cannot serve {n_steps} sub-steps: give a list or a class.")
        entries *= n_steps
    if len(entries) != n_steps:
        raise _problem(
            path, f"has {len(entries)} networks for {n_steps} sub-steps; give one, or one for each."
        )
    return dict(zip(step_keys, entries, strict=True))


@contextmanager
def _seeded_torch(seed: int) -> Iterator[None]:
    """Torch's global generator seeded meanwhile, for modules that draw from it; for one thread at a time."""
    import torch

    # the caller's one_thread() did not see a torch that is imported only here
    with _BUILDING, one_torch_thread(), plain_torch(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _is_module(entry: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(entry, torch.nn.Module)


def _networks_per_step(config: ProbabilisticPolicyComposerConfig, spec: ModelSpec) -> dict[StepKey, int]:
    """Sub-step → number of networks: one, or one per agent."""
    known = {str(key): key for key in spec.action_spaces}
    for key, count in (config.agent_counts_dict or {}).items():
        actual = spec.agent_counts.get(known.get(str(key), key), 1)
        if str(key) not in known or (count > 0 and actual > 0 and count != actual):
            counts = {key: spec.agent_counts.get(key, 1) for key in spec.action_spaces}
            raise _problem("model.policy.agent_counts_dict", f"does not fit the environment: {counts}.")
    per_step = dict.fromkeys(spec.action_spaces, 1)
    for key in config.substeps_with_separate_agent_nets:
        path = "model.policy.substeps_with_separate_agent_nets"
        if str(key) not in known:
            raise _problem(path, f"there is no sub-step {key!r}.", tuple(known))
        count = spec.agent_counts.get(known[str(key)], 1)
        if count < 1:
            raise _problem(path, f"sub-step {key!r} has no fixed number of agents, so they share a network.")
        per_step[known[str(key)]] = count
    return per_step


def _union(observation_spaces: SpacesByKey) -> spaces.Dict:
    """The observations of all sub-steps together; one name must mean one space."""
    if len(observation_spaces) == 1:
        return next(iter(observation_spaces.values()))
    union: dict[str, spaces.Space[Any]] = {}
    for space in observation_spaces.values():
        for name, part in space.spaces.items():
            if union.setdefault(name, part) != part:
                message = (
                    f"sub-steps show {name!r} in different spaces, so they cannot share a critic: "
                    "use critic=template_state, or name the observations apart."
                )
                raise _problem("model.critic", message)
    return spaces.Dict(union)


def _nothing(space: spaces.Space[Any]) -> Array:
    """One row that stands for an observation which is not shown: zeros, or the first category."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return np.asarray(space.start)[None]
    return np.zeros((1, *(space.shape or ())), np.float32)


def _problem(path: str, message: str, allowed: Sequence[str] = ()) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message, allowed=tuple(allowed))])
