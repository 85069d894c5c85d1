"""Settings of BC; the YAML twin is ``conf/algorithm/bc.yaml``."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from maze_core.config.settings import STRICT, PositiveInt, dataclass
from maze_core.models.config import DISTRIBUTIONS, ModelNeeds
from maze_core.trainers.config import Coefficient, GradientConfig

if TYPE_CHECKING:
    from maze_core.trainers.bc import BC
    from maze_core.trainers.fit import Parts


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BCAlgorithmConfig(GradientConfig):
    """Behavioural cloning (Pomerleau 1991): a policy by maximum likelihood from recorded episodes."""

    LEARNS_FROM_EPISODES: ClassVar[bool] = True

    epoch_length: PositiveInt = 4
    """Passes over the episodes per epoch; an evaluation follows the last one."""
    lr: Annotated[float, Field(gt=0.0)] = 3e-3
    """Step size at the start."""
    batch_size: PositiveInt = 64
    """Recorded steps per gradient step."""
    validation_percentage: Annotated[float, Field(ge=0.0, lt=100.0)] = 20.0
    """Part of the episodes, of 100, that is not learnt from: ``validation/loss`` is that of theirs."""
    entropy_coef: Coefficient = 0.0
    """Weight of the entropy bonus."""
    box_distribution: Literal["diagonal_gaussian", "squashed_gaussian"] = "diagonal_gaussian"
    """Of actions in a Box: the Gaussian of PPO and A2C, or the one behind tanh, from which SAC can go on."""

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if self.max_env_steps is not None:
            raise ValueError("max_env_steps never comes, since nothing is played to learn: set n_epochs.")
        if self.patience is not None and not (self.evaluator.n_episodes or self.validation_percentage):
            raise ValueError(
                "patience has nothing to judge by: set rollout_evaluator.n_episodes or validation_percentage."
            )
        return self

    @property
    def model_needs(self) -> ModelNeeds:
        """A policy that has distributions, and no critic."""
        return ModelNeeds(
            distributions={**DISTRIBUTIONS, "Box": self.box_distribution}, critic=None, algorithm="bc"
        )

    def build(self, parts: "Parts") -> "BC":
        """The trainer of these settings."""
        from maze_core.trainers.bc import BC

        return BC(self, parts)
