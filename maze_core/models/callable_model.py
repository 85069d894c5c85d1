"""A model made by a function or composer class of the user's, which a configuration names. Imports no torch."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from maze_core.config.settings import dataclass
from maze_core.models.config import SpacesByKey
from maze_core.types import StepKey

if TYPE_CHECKING:
    from maze_core.models.composing import Model


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CallableModelConfig:
    """A model from a function or composer class of the user's, named by ``_target_``."""

    factory: Callable[..., Any]
    """Gives a model's settings, a model composer or a model; it is handed the spaces it has parameters for."""

    def build(
        self,
        observation_spaces: SpacesByKey,
        action_spaces: SpacesByKey,
        agent_counts: Mapping[StepKey, int],
        *,
        generator_seed: int,
    ) -> "Model":
        """Call it, and build what it gives.

        Raises:
            InvalidSpecificationError: it gave no model.
        """
        from maze_core.models.composing import compose_called_model

        return compose_called_model(
            self.factory, observation_spaces, action_spaces, agent_counts, generator_seed
        )
