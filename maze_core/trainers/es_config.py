"""Settings of ES; the YAML twin is ``conf/algorithm/es.yaml``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from maze_core.config.settings import (
    STRICT,
    NonNegativeInt,
    OptionalPositiveFloat,
    OptionalPositiveInt,
    PositiveInt,
    dataclass,
)
from maze_core.models.config import ModelNeeds
from maze_core.trainers.config import Coefficient, GradientConfig, Schedule

if TYPE_CHECKING:
    from maze_core.trainers.es import ES
    from maze_core.trainers.fit import Parts


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ESAlgorithmConfig(GradientConfig):
    """Evolution strategies: steps along the perturbations of the weights that paid (arXiv:1703.03864)."""

    ALWAYS_NULL: ClassVar[Mapping[str, str]] = {
        "policy_wrapper": "what stands between policy and environment is a wrapper: see wrappers.",
    }
    """What the reference takes beside these settings."""
    PLAYS_WHOLE_EPISODES: ClassVar[bool] = True

    n_epochs: OptionalPositiveInt = 100
    """Epochs to train; the step-size schedule ends here, and starts anew when more are asked for."""
    epoch_length: PositiveInt = 1
    """Updates per epoch; an evaluation follows the last one."""
    n_rollouts_per_update: PositiveInt = 10
    """Episodes per update, at least; they are played in pairs, with opposite perturbations."""
    n_timesteps_per_update: NonNegativeInt = 0
    """Environment steps per update, at least: more pairs are played until their episodes have as many."""
    max_episode_steps: OptionalPositiveInt = 10_000
    """Flat steps after which an episode is cut, for environments without a limit of their own; null never cuts."""
    noise_stddev: Annotated[float, Field(gt=0.0)] = 0.02
    """Deviation of the perturbations of each weight."""
    l2_penalty: Coefficient = 0.005
    """Weights, times this, are taken from the gradient; ``optimizer.weight_decay`` does the same."""
    lr: Annotated[float, Field(gt=0.0)] = 0.01
    """Step size at the start."""
    lr_schedule: Schedule = "constant"
    """``linear`` falls to 0 over ``n_epochs``."""
    max_grad_norm: OptionalPositiveFloat = None
    """L2 limit on the gradient; null does not clip."""

    @property
    def model_needs(self) -> ModelNeeds:
        """A policy alone."""
        return ModelNeeds(critic=None, algorithm="es")

    def build(self, parts: "Parts") -> "ES":
        """The trainer of these settings."""
        from maze_core.trainers.es import ES

        return ES(self, parts)
