"""What networks are built for: the spaces behind all wrappers. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maze_core.models.config import ConcatModelBuilderConfig, SpacesByKey
from maze_core.models.distribution_mapper import DistributionMapper
from maze_core.types import StepKey


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What networks are built for."""

    observation_spaces: SpacesByKey
    action_spaces: SpacesByKey
    agent_counts: Mapping[StepKey, int]
    """Agents per sub-step; below 1 is not known before the episode."""
    mapper: DistributionMapper
    template: ConcatModelBuilderConfig | None
    """Template of the networks that are not named; None has none."""
    copies: dict[int, Any] | None = None
    """Memo of ``copy.deepcopy`` for one model: what modules of the user's share, their copies in its policy and its
    critic share too. None shares within a policy or critic that is composed by itself."""
