"""Settings of BC; the YAML twin is ``conf/algorithm/bc.yaml``."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

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

    @property
    def model_needs(self) -> ModelNeeds:
        """A policy that has distributions, and no critic."""
        return ModelNeeds(distributions={**DISTRIBUTIONS, "Box": self.box_distribution}, critic=None)

    def build(self, parts: "Parts") -> "BC":
        """The trainer of these settings."""
        from maze_core.trainers.bc import BC

        return BC(self, parts)
