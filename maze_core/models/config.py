"""Settings of models, networks and policies; YAML twins in ``conf/model``, ``conf/critic``, ``conf/policy``.

A network may also be a Python class, function or module of the user's; such live objects are accepted as they are.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from gymnasium import spaces
from pydantic import BeforeValidator, ConfigDict, Field

from maze_core.config.nodes import is_node, join, shown
from maze_core.config.settings import OPERATOR_ONLY, Components, OptionalPositiveInt, dataclass
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.block_config import (
    Activation,
    BlockConfig,
    DenseBlockParams,
    Gain,
    HiddenUnits,
    LayersConfig,
)
from maze_core.models.supports import SUPPORTS, Supports
from maze_core.models.template_config import BlockNetConfig, ConcatModelBuilderConfig, ModalityConfig
from maze_core.types import StepKey

__all__ = [  # with the settings of blocks and templates, which a model has
    "BlockConfig",
    "BlockNetConfig",
    "ConcatModelBuilderConfig",
    "DenseBlockParams",
    "LayersConfig",
    "ModalityConfig",
]

if TYPE_CHECKING:
    from maze_core.models.model_builder import Model
    from maze_core.models.random_policy import RandomPolicy

POLICY_GAIN: Final = 0.01
VALUE_GAIN: Final = 1.0

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def _last_name(value: Any) -> Any:
    """``maze.perception.blocks.DenseBlock`` → ``DenseBlock``, a class → its name."""
    name = getattr(value, "__name__", value) if isinstance(value, type) else value
    return name.rpartition(".")[2] if isinstance(name, str) else name


def _spelled(**spellings: str) -> BeforeValidator:
    """Accept the published class names beside ours."""
    return BeforeValidator(lambda value: spellings.get(name := _last_name(value), name))


DistributionName = Annotated[
    Literal[
        "categorical",
        "multi_categorical",
        "bernoulli",
        "diagonal_gaussian",
        "squashed_gaussian",
        "beta",
        "deterministic",
        "action_values",
    ],
    _spelled(
        CategoricalProbabilityDistribution="categorical",
        MultiCategoricalProbabilityDistribution="multi_categorical",
        BernoulliProbabilityDistribution="bernoulli",
        DiagonalGaussianProbabilityDistribution="diagonal_gaussian",
        SquashedGaussianProbabilityDistribution="squashed_gaussian",
        BetaProbabilityDistribution="beta",
    ),
]
SpaceName = Annotated[Literal["Discrete", "MultiDiscrete", "MultiBinary", "Box"], BeforeValidator(_last_name)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GaussianArgs:
    """Settings of a diagonal Gaussian."""

    state_dependent_std: bool = False
    """The network produces the log-std beside the mean; False makes it a parameter of its own."""
    initial_log_std: Annotated[float, Field(ge=-20.0, le=2.0)] | None = None
    """Where a log-std that is a parameter starts; null is 0, a standard deviation of 1, and -3 for SAC."""
    rescale: bool = True
    """-1 and 1 mean the bounds of the Box, where it has finite ones; False takes samples in the environment's units."""
    state_dependent_noise: bool = False
    """Explore smoothly (gSDE, Raffin et al. 2021, arXiv:2005.05719): noise is the last hidden layer times a random
    matrix that is kept for several ticks; the log-std is a parameter, of shape [features, numbers]."""
    noise_ticks: OptionalPositiveInt = None
    """Ticks of a rollout for which a matrix of ``state_dependent_noise`` is kept; null (or 0) keeps it for all."""
    use_expln: bool = False
    """With ``state_dependent_noise``, let the standard deviation grow as 1 + log(1 + log_std) above 1."""

    def __post_init__(self) -> None:
        """Refuse settings that belong to another kind of noise."""
        if self.state_dependent_noise and self.state_dependent_std:
            raise ValueError("give either state_dependent_std or state_dependent_noise")
        if not self.state_dependent_noise and (self.noise_ticks or self.use_expln):
            raise ValueError("noise_ticks and use_expln are settings of state_dependent_noise, which is off")


BY_LIKELIHOOD: Final[Mapping[str, tuple[DistributionName, ...]]] = {
    "Discrete": ("categorical",),
    "MultiDiscrete": ("multi_categorical",),
    "MultiBinary": ("bernoulli",),
    "Box": ("diagonal_gaussian", "squashed_gaussian", "beta"),
}
"""Kind of action space → what algorithms learn that ask only how likely an action was: ppo, a2c, impala, bc and es."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DistributionRule:
    """Which distribution an action head, or every head of a kind of space, gets; a rule for the head wins."""

    action_space: SpaceName | None = None
    """The kind of space, such as ``Box`` or ``gymnasium.spaces.Box``."""
    action_head: str | None = None
    """The head's name."""
    distribution: DistributionName
    """The distribution's name."""
    args: GaussianArgs | None = None
    """Settings of a distribution of numbers; of ``beta`` only ``rescale``."""
    temperature: Annotated[float, Field(gt=0.0, le=1e6)] = 1.0
    """Logits of choices are divided by it: above 1 a policy is less decided, below 1 more."""

    def __post_init__(self) -> None:
        if (self.action_space is None) == (self.action_head is None):
            raise ValueError("give either action_space or action_head")
        of_numbers = self.distribution in BY_LIKELIHOOD["Box"]
        if self.args is not None and not of_numbers:
            raise ValueError(f"{self.distribution} takes no args")
        if self.temperature != 1.0 and self.distribution not in (
            "categorical",
            "multi_categorical",
            "bernoulli",
        ):
            raise ValueError(f"{self.distribution} takes no temperature")


DistributionRules = Annotated[
    tuple[DistributionRule, ...], BeforeValidator(lambda value: () if value is None or value == {} else value)
]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FlattenConcatPolicyNetConfig(LayersConfig):
    """All observations flattened side by side, dense layers, then the logits of every action head."""

    output_gain: Gain = POLICY_GAIN
    """Scale of the orthogonal weights of the last layer; a small one begins almost undecided."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FlattenConcatStateValueNetConfig(LayersConfig):
    """All observations flattened side by side, dense layers, then one value."""

    output_gain: Gain = VALUE_GAIN
    """Scale of the orthogonal weights of the last layer."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class _SharedEmbeddingHeadConfig:
    head_units: HiddenUnits = (256,)
    """Width of each layer behind what policy and critic share."""
    non_lin: Activation = "tanh"
    """Activation after each hidden layer."""
    weight_init: Literal["orthogonal", "torch_default"] = "orthogonal"
    """First weights: orthogonal, by their gain, with biases 0; or all even within ±1/√inputs, as torch's."""
    hidden_gain: Gain = 2**0.5
    """Scale of the orthogonal weights of hidden layers; √2 suits ReLU."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FlattenConcatSharedEmbeddingPolicyNetConfig(_SharedEmbeddingHeadConfig):
    """All observations flattened side by side, dense layers that the critic shares, then layers of the policy alone."""

    hidden_units: HiddenUnits = (256,)
    """Width of each layer that is shared."""
    output_gain: Gain = POLICY_GAIN
    """Scale of the orthogonal weights of the last layer; a small one begins almost undecided."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FlattenConcatSharedEmbeddingStateValueNetConfig(_SharedEmbeddingHeadConfig):
    """What the policy of the same sub-step shares, then layers of the critic alone and one value."""

    output_gain: Gain = VALUE_GAIN
    """Scale of the orthogonal weights of the last layer."""


POLICY_NETWORKS: Final = (
    FlattenConcatPolicyNetConfig,
    FlattenConcatSharedEmbeddingPolicyNetConfig,
    BlockNetConfig,
)
CRITIC_NETWORKS: Final = (
    FlattenConcatStateValueNetConfig,
    FlattenConcatSharedEmbeddingStateValueNetConfig,
    BlockNetConfig,
)


def _networks(*settings: type[Any]) -> BeforeValidator:
    """The check of networks that are described by settings, or by a class, function or module of the user's."""

    def check(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping | list | tuple) or is_node(value) or not value:
            raise ValueError(
                "give a list of networks, one per sub-step, such as [{'_target_': …}], or a dict sub-step → network"
            )
        found = [
            Problem(
                path=str(key),
                message=f"{shown(entry)} is no network: give {{'_target_': '{settings[0].__name__}', 'hidden_units': "
                "[…]}, a class or function that makes one, or a torch.nn.Module.",
                code="wrong_kind",
            )
            for key, entry in _entries(value)
            if not (entry is None or callable(entry) or is_node(entry) or isinstance(entry, settings))
        ]
        if found:
            raise InvalidSpecificationError(found)
        return dict(value) if isinstance(value, Mapping) else tuple(value)

    return BeforeValidator(check)


def _left_to_a_template(networks: Any, part: str, way_out: str) -> list[Problem]:
    """The problem of each network that only a template could make, of ``policy`` or ``critic``."""
    path = f"{part}.networks"
    nulls = [join(path, key) for key, entry in _entries(networks) if entry is None]
    message = (
        "is null, which leaves the network to a template, and this model has none: give "
        f"{way_out}, or take model='vector_obs'."
    )
    where = [path] if networks is None else nulls
    return [Problem(path=place, message=message, code="no_template") for place in where]


def _entries(networks: Any) -> Iterable[tuple[Any, Any]]:
    """Key or number → network."""
    if networks is None:
        return ()
    return networks.items() if isinstance(networks, Mapping) else enumerate(networks)


_PolicyNetwork = Annotated[Any, Components(*POLICY_NETWORKS, type(None))]
_CriticNetwork = Annotated[Any, Components(*CRITIC_NETWORKS, type(None))]

_Filled = Field(min_length=1)

PolicyNetworks = Annotated[
    Annotated[tuple[_PolicyNetwork, ...], _Filled] | Annotated[dict[StepKey, _PolicyNetwork], _Filled] | None,
    _networks(*POLICY_NETWORKS),
]
"""Networks per sub-step: settings, classes, functions or modules. One entry in a list stands for every
sub-step, each with weights of its own. None leaves them to the template."""
CriticNetworks = Annotated[
    Annotated[tuple[_CriticNetwork, ...], _Filled] | Annotated[dict[StepKey, _CriticNetwork], _Filled] | None,
    _networks(*CRITIC_NETWORKS),
]
"""The same for a critic."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ProbabilisticPolicyComposerConfig:
    """A policy: one network per sub-step, and a distribution per action head."""

    networks: PolicyNetworks = None
    """Networks per sub-step; None leaves them to the template model."""
    substeps_with_separate_agent_nets: tuple[StepKey, ...] = ()
    """Sub-steps in which each agent has a network of its own; elsewhere all agents share one."""
    agent_counts_dict: dict[StepKey, int] | None = None
    """Agents per sub-step, checked against the environment's; None takes the environment's."""


_COUNTS: Mapping[str, str] = {
    "agent_counts_dict": "the environment says how many agents there are; leave it out."
}
_OF_CRITICS: Mapping[str, str] = {
    **_COUNTS,
    "stack_observations": "this critic sees the observations of one agent at a time: take critic=flatten_concat_shared "
    "with critic.stack_observations=true, or leave it out.",
}


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CriticConfig:
    """What the settings of all critics share."""

    ALWAYS_NULL: ClassVar[Mapping[str, str]] = _OF_CRITICS
    """What the published composers take beside the networks."""

    networks: CriticNetworks = None
    """Value networks per sub-step, or the one that all of them share, in a list; None leaves them to the template
    model."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StepStateCriticConfig(CriticConfig):
    """A state critic: one value network per sub-step."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SharedStateCriticConfig(CriticConfig):
    """A state critic: one value network for all sub-steps, over the observations of all of them.

    Observations that a sub-step does not show are 0 there.
    """

    ALWAYS_NULL: ClassVar[Mapping[str, str]] = _COUNTS
    """What the published composers take beside the networks."""
    stack_observations: bool = False
    """Show it what all agents of a sub-step saw last, the one that acts first; needs a fixed number of agents."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DeltaStateCriticConfig(CriticConfig):
    """A state critic whose later sub-steps predict how the value changes from the sub-step before."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StepStateActionCriticConfig(CriticConfig):
    """A critic of actions, for algorithms that learn Q(s, a): two networks per sub-step, of which the lower counts."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SharedStateActionCriticConfig(CriticConfig):
    """The same for all sub-steps; algorithms that learn Q(s, a) have one sub-step, where it is no other."""


STATE_CRITICS: Final = (StepStateCriticConfig, SharedStateCriticConfig, DeltaStateCriticConfig)
ACTION_CRITICS: Final = (StepStateActionCriticConfig, SharedStateActionCriticConfig)


def _composer(what: str, kind: str, ways: str, *kinds: type[Any]) -> BeforeValidator:
    """The check of a policy or critic: its settings, a function that makes them, or a composer."""

    def check(value: Any) -> Any:
        if isinstance(value, type):
            raise ValueError(f"{value.__name__} is a class; give {kind}, made with its arguments")
        if isinstance(value, (*kinds, partial)) or hasattr(value, f"{what}_config"):
            return value
        raise ValueError(f"give {ways}")

    return BeforeValidator(check)


Policy = Annotated[
    Any,
    _composer(
        "policy",
        "a ProbabilisticPolicyComposer",
        "a ProbabilisticPolicyComposer, as an object or as "
        "{'_target_': 'maze_core.ProbabilisticPolicyComposerConfig', 'networks': […]}",
        ProbabilisticPolicyComposerConfig,
    ),
    Components(ProbabilisticPolicyComposerConfig),
]
Critic = Annotated[
    Any,
    _composer(
        "critic",
        "a state critic composer",
        "critic=template_state or flatten_concat_shared, a state critic composer, or null",
        *STATE_CRITICS,
        *ACTION_CRITICS,
        type(None),
    ),
    Components(*STATE_CRITICS, *ACTION_CRITICS, type(None)),
]
SpacesByKey = Mapping[StepKey, spaces.Dict]

DISTRIBUTIONS: Final[Mapping[str, DistributionName]] = {
    "Discrete": "categorical",
    "MultiDiscrete": "multi_categorical",
    "MultiBinary": "bernoulli",
    "Box": "diagonal_gaussian",
}
"""Kind of action space → its distribution, where an algorithm asks for no other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelNeeds:
    """What an algorithm asks of a model, whatever its settings say of layers."""

    distributions: Mapping[str, DistributionName] = field(default_factory=lambda: DISTRIBUTIONS)
    """Kind of action space → distribution; in other spaces the algorithm does not act."""
    critic: Literal["state", "action"] | None = "state"
    """Whether the critic values states, V(s), or actions, twice: Q(s, a); None needs none."""
    algorithm: str | None = None
    """Its name in the table of what each supports; None supports everything."""
    n_quantiles: int = 1
    """Numbers per action value."""
    duelling: bool = False
    """Action values are those of the state plus advantages."""

    @property
    def supports(self) -> Supports:
        """What the algorithm learns."""
        return Supports() if self.algorithm is None else SUPPORTS[self.algorithm]


class Buildable:
    """What settings of a model and model composers share: they are built from the spaces of an environment."""

    def build(
        self,
        observation_spaces: SpacesByKey,
        action_spaces: SpacesByKey,
        agent_counts: Mapping[StepKey, int],
        *,
        generator_seed: int,
        needs: ModelNeeds | None = None,
    ) -> "Model":
        """Build policy and critic; weights depend on the settings, the spaces and ``generator_seed`` alone.

        ``needs`` is what the algorithm asks for; None is a policy that has distributions, and a state critic.

        Raises:
            InvalidSpecificationError: a network does not fit the spaces, a space has no distribution, or a function
                gave no model.
        """
        from maze_core.models.model_builder import build_model

        return build_model(
            self, observation_spaces, action_spaces, agent_counts, generator_seed, needs or ModelNeeds()
        )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TemplateModelConfig(Buildable):
    """A model whose networks follow from the spaces by a template."""

    distribution_mapper_config: DistributionRules = ()
    """Exceptions to the default distribution of a space."""
    gaussian: GaussianArgs = field(default_factory=GaussianArgs)
    """Settings of every Gaussian head that no exception gives ``args``."""
    model_builder: ConcatModelBuilderConfig = field(default_factory=ConcatModelBuilderConfig)
    """The template."""
    policy: Policy = field(default_factory=ProbabilisticPolicyComposerConfig)
    """The policy; its networks follow the template where it names none."""
    critic: Critic = None
    """The critic; None has none, ``critic=template_state`` adds one."""


def _all_named() -> dict[str, Any]:
    """What a JSON Schema says of a model without a template: each network of its policy and critic is there."""
    there = {"not": {"type": "null"}}
    networks = {**there, "items": there, "additionalProperties": there}
    is_ours = {"properties": {"_target_": {"pattern": "^maze_core\\."}}, "required": ["_target_"]}
    named = {"if": is_ours, "then": {"properties": {"networks": networks}}}
    return {"allOf": [{"properties": {"policy": named, "critic": named}}]}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(**_STRICT, json_schema_extra=_all_named()))
class CustomModelConfig(Buildable):
    """A model whose networks are named."""

    distribution_mapper_config: DistributionRules = ()
    """Exceptions to the default distribution of a space."""
    gaussian: GaussianArgs = field(default_factory=GaussianArgs)
    """Settings of every Gaussian head that no exception gives ``args``."""
    policy: Policy = field(
        default_factory=lambda: ProbabilisticPolicyComposerConfig(networks=(FlattenConcatPolicyNetConfig(),))
    )
    """The policy, with its networks."""
    critic: Critic = field(
        default_factory=lambda: StepStateCriticConfig(networks=(FlattenConcatStateValueNetConfig(),))
    )
    """The critic, with its networks; None has none."""

    def __post_init__(self) -> None:
        """Refuse networks that are left to a template.

        Raises:
            InvalidSpecificationError: a network is null.
        """
        found = []
        if isinstance(self.policy, ProbabilisticPolicyComposerConfig):
            way_out = "[{'_target_': 'FlattenConcatPolicyNetConfig'}]"
            found += _left_to_a_template(self.policy.networks, "policy", way_out)
        if isinstance(self.critic, (*STATE_CRITICS, *ACTION_CRITICS)):
            way_out = "[{'_target_': 'FlattenConcatStateValueNetConfig'}], or critic='flatten_concat_shared'"
            found += _left_to_a_template(self.critic.networks, "critic", way_out)
        if found:
            raise InvalidSpecificationError(found)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CallableModelConfig(Buildable):
    """A model from a function or composer class of the user's, named by ``_target_``."""

    factory: Callable[..., Any]
    """Gives a model's settings, a model composer or a model; it is handed the spaces it has parameters for."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RandomPolicyConfig:
    """Actions drawn uniformly from the space, masks honoured."""

    def build(self, observation_spaces: SpacesByKey, action_spaces: SpacesByKey) -> "RandomPolicy":
        """Build the policy for these action spaces; it finds masks among the observations by name."""
        from maze_core.models.random_policy import RandomPolicy

        return RandomPolicy(action_spaces)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TorchPolicyConfig:
    """The policy of a trained run."""

    run: Annotated[str | None, OPERATOR_ONLY] = None
    """Id or directory of the run; None takes it from where the rollout is asked for."""
    checkpoint: Annotated[str, Field(min_length=1, max_length=256)] = "best"
    """``best``, ``last``, ``epoch:N`` or the id of a checkpoint."""
