"""Composers made by hand: spaces and networks in, a policy, a critic or a whole model out.

A composer can be handed over in place of its settings, as in ``overrides={"model.policy": composer}``. When
the model is then built, the spaces that the policy sees (behind all wrappers) take the place of those the
composer was made with. A class derived from one of these may override ``compose``, which finds the spaces in
``observation_spaces_dict`` and ``action_spaces_dict``.

``as_config`` gives the settings that say the same as the composer, with which its run is recorded; None where
there are none, as for a derived class.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from maze_core.config.components import target_name
from maze_core.config.instantiate import instantiate
from maze_core.models.config import (
    Buildable,
    ConcatModelBuilderConfig,
    CriticConfig,
    CustomModelConfig,
    DeltaStateCriticConfig,
    ModelNeeds,
    ProbabilisticPolicyComposerConfig,
    SharedStateActionCriticConfig,
    SharedStateCriticConfig,
    SpacesByKey,
    StepStateActionCriticConfig,
    StepStateCriticConfig,
    TemplateModelConfig,
)
from maze_core.models.heads import DistributionMapper
from maze_core.models.size import Size
from maze_core.types import StepKey, Tree

if TYPE_CHECKING:
    from maze_core.models.acting import ActingPolicy
    from maze_core.models.model_builder import Model
    from maze_core.models.networks import ActionCritic, Critic

__all__ = [
    "CustomModelComposer",
    "DeltaStateCriticComposer",
    "ProbabilisticPolicyComposer",
    "SharedStateActionCriticComposer",
    "SharedStateCriticComposer",
    "StepStateActionCriticComposer",
    "StepStateCriticComposer",
    "TemplateModelComposer",
]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What networks are built for."""

    observation_spaces: SpacesByKey
    action_spaces: SpacesByKey = field(default_factory=dict)
    agent_counts: Mapping[StepKey, int]
    """Agents per sub-step; below 1 is not known before the episode."""
    mapper: DistributionMapper = field(default_factory=DistributionMapper)
    needs: ModelNeeds = field(default_factory=ModelNeeds)
    """What the algorithm asks for."""
    template: ConcatModelBuilderConfig | None = None
    """Template of the networks that are not named; None has none."""
    copies: dict[int, Any] | None = None
    """Memo of ``copy.deepcopy`` for one model: what modules of the user's share, their copies in its policy and its
    critic share too. None shares within a policy or critic that is composed by itself."""
    embeddings: dict[Any, Any] | None = None
    """Sub-step → settings and network of the policy of one model that its critic shares."""
    size: Size = field(default_factory=Size)
    """Counts the parameters of one model."""
    has_critic: bool = False
    """Whether the model has a critic of states."""


class _Composer:
    """What composers of a policy and of a critic share: the spaces they compose for."""

    _spec: ModelSpec

    @property
    def observation_spaces_dict(self) -> SpacesByKey:
        """Sub-step → what the network sees."""
        return self._spec.observation_spaces

    @property
    def action_spaces_dict(self) -> SpacesByKey:
        """Sub-step → what the policy does."""
        return self._spec.action_spaces

    @property
    def agent_counts_dict(self) -> Mapping[StepKey, int]:
        """Sub-step → number of agents."""
        return self._spec.agent_counts

    def fitted(self, spec: ModelSpec) -> Self:
        """The same composer for other spaces."""
        other = copy.copy(self)
        other._spec = spec
        return other


class ProbabilisticPolicyComposer(_Composer):
    """Composes a policy: a network per sub-step, and a distribution per action head."""

    def __init__(
        self,
        action_spaces_dict: SpacesByKey,
        observation_spaces_dict: SpacesByKey,
        distribution_mapper: DistributionMapper | None,
        networks: Sequence[Any] | Mapping[StepKey, Any],
        substeps_with_separate_agent_nets: Sequence[StepKey] = (),
        agent_counts_dict: Mapping[StepKey, int] | None = None,
    ) -> None:
        """Take spaces and networks.

        Args:
            action_spaces_dict: sub-step → action space.
            observation_spaces_dict: sub-step → observation space.
            distribution_mapper: which head gets which distribution; None leaves it to the model.
            networks: per sub-step: settings, ``_target_`` dicts, classes, functions or modules.
            substeps_with_separate_agent_nets: sub-steps in which each agent has its own network.
            agent_counts_dict: agents per sub-step; None is one each.

        Raises:
            InvalidSpecificationError: the settings of a network are wrong.
        """
        counts = None if agent_counts_dict is None else dict(agent_counts_dict)
        self.policy_config: ProbabilisticPolicyComposerConfig = _settings(
            ProbabilisticPolicyComposerConfig,
            networks=networks,
            substeps_with_separate_agent_nets=substeps_with_separate_agent_nets,
            agent_counts_dict=counts,
        )
        self.distribution_mapper = distribution_mapper
        self._spec = ModelSpec(
            observation_spaces=observation_spaces_dict,
            action_spaces=action_spaces_dict,
            agent_counts=counts or {},
            mapper=distribution_mapper or DistributionMapper(action_spaces_dict),
        )

    def compose(self, generator_seed: int) -> "ActingPolicy":
        """Build the policy for the composer's own spaces."""
        from maze_core.models.model_builder import compose

        return compose(self.policy_config, self._spec, generator_seed)  # type: ignore[no-any-return]

    def as_config(self) -> ProbabilisticPolicyComposerConfig | None:
        """The settings, unless the distribution mapper has rules of its own."""
        has_rules = self.distribution_mapper is not None and self.distribution_mapper.rules
        is_ours = type(self) is ProbabilisticPolicyComposer
        return self.policy_config if is_ours and not has_rules else None


class _StateCriticComposer(_Composer):
    """What the two state critic composers share."""

    _config: type[CriticConfig]

    def __init__(
        self,
        observation_spaces_dict: SpacesByKey,
        networks: Sequence[Any] | Mapping[StepKey, Any],
        agent_counts_dict: Mapping[StepKey, int] | None = None,
        stack_observations: bool = False,
    ) -> None:
        """Take spaces and networks.

        Args:
            observation_spaces_dict: sub-step → observation space.
            networks: value networks: settings, ``_target_`` dicts, classes, functions or modules.
            agent_counts_dict: agents per sub-step; None is one each.
            stack_observations: show the network what all agents saw last; of the shared critic alone.

        Raises:
            InvalidSpecificationError: the settings of a network are wrong.
        """
        self.critic_config = _settings(self._config, networks=networks, stack_observations=stack_observations)
        self._spec = ModelSpec(
            observation_spaces=observation_spaces_dict, agent_counts=dict(agent_counts_dict or {})
        )

    def compose(self, generator_seed: int) -> "Critic | ActionCritic":
        """Build the critic for the composer's own spaces."""
        from maze_core.models.model_builder import compose

        return compose(self.critic_config, self._spec, generator_seed)  # type: ignore[no-any-return]

    def as_config(self) -> CriticConfig | None:
        """The settings."""
        return self.critic_config if type(self).__module__ == __name__ else None


class StepStateCriticComposer(_StateCriticComposer):
    """Composes a critic with one value network per sub-step."""

    _config = StepStateCriticConfig


class SharedStateCriticComposer(_StateCriticComposer):
    """Composes a critic with one value network for all sub-steps, the only one in ``networks``."""

    _config = SharedStateCriticConfig


class DeltaStateCriticComposer(_StateCriticComposer):
    """Composes a critic whose later sub-steps predict how the value changes."""

    _config = DeltaStateCriticConfig


class StepStateActionCriticComposer(_StateCriticComposer):
    """Composes a critic of actions."""

    _config = StepStateActionCriticConfig


class SharedStateActionCriticComposer(_StateCriticComposer):
    """Composes a critic of actions that all sub-steps share."""

    _config = SharedStateActionCriticConfig


class _ModelComposer(Buildable):
    """What the two model composers share: settings, and the spaces and agents of their own."""

    config: CustomModelConfig | TemplateModelConfig
    _own: tuple[SpacesByKey, SpacesByKey, Mapping[StepKey, int]]

    def compose(self, generator_seed: int) -> "Model":
        """Build the model for the composer's own spaces."""
        return self.build(*self._own, generator_seed=generator_seed)

    def as_config(self) -> CustomModelConfig | TemplateModelConfig | None:
        """The settings."""
        return self.config if type(self) in (CustomModelComposer, TemplateModelComposer) else None


class CustomModelComposer(_ModelComposer):
    """Composes a model whose networks are named."""

    def __init__(
        self,
        action_spaces_dict: SpacesByKey,
        observation_spaces_dict: SpacesByKey,
        agent_counts_dict: Mapping[StepKey, int] | None,
        distribution_mapper_config: Any,
        policy: Any,
        critic: Any,
    ) -> None:
        """Take spaces, distribution rules, and policy and critic: settings, ``_target_`` dicts or composers.

        Raises:
            InvalidSpecificationError: a setting is wrong.
        """
        rules = distribution_mapper_config
        self.config = _settings(
            CustomModelConfig, distribution_mapper_config=rules, policy=policy, critic=critic
        )
        self._own = observation_spaces_dict, action_spaces_dict, agent_counts_dict or {}


class TemplateModelComposer(_ModelComposer):
    """Composes a model whose networks follow from the spaces by a template."""

    def __init__(
        self,
        action_spaces_dict: SpacesByKey,
        observation_spaces_dict: SpacesByKey,
        agent_counts_dict: Mapping[StepKey, int] | None,
        distribution_mapper_config: Any,
        model_builder: ConcatModelBuilderConfig | Tree | None = None,
        policy: Any = None,
        critic: Any = None,
    ) -> None:
        """Take spaces, distribution rules, template, policy and critic; None is the default of each.

        Raises:
            InvalidSpecificationError: a setting is wrong.
        """
        self.config = _settings(
            TemplateModelConfig,
            distribution_mapper_config=distribution_mapper_config,
            model_builder=ConcatModelBuilderConfig() if model_builder is None else model_builder,
            policy=ProbabilisticPolicyComposerConfig() if policy is None else policy,
            critic=critic,
        )
        self._own = observation_spaces_dict, action_spaces_dict, agent_counts_dict or {}


def _settings(config: type[Any], **fields: Any) -> Any:
    """Settings from fields that may hold ``_target_`` dicts, which are resolved and checked."""
    return instantiate({"_target_": target_name(config), **fields})
