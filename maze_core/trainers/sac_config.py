"""Settings of SAC; the YAML twin is ``conf/algorithm/sac.yaml``."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from maze_core.config.settings import STRICT, OptionalPositiveInt, dataclass
from maze_core.models.config import ModelNeeds
from maze_core.trainers.config import Coefficient, Fraction, TwinCriticsConfig

if TYPE_CHECKING:
    from maze_core.trainers.fit import Parts
    from maze_core.trainers.sac import SAC, SACfD


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SACAlgorithmConfig(TwinCriticsConfig):
    """Soft actor-critic for numbers (Haarnoja et al. 2018, arXiv:1812.05905) and for choices (arXiv:1910.07207)."""

    n_epochs: OptionalPositiveInt = 40
    """Epochs to train; schedules end here, and start anew when more are asked for."""
    entropy_coef: Coefficient = 1.0
    """Weight α of the entropy; with tuning, where it starts."""
    entropy_tuning: bool = True
    """Let α find the weight at which the policy has the wanted entropy."""
    entropy_coef_lr: Annotated[float, Field(gt=0.0)] = 3e-4
    """Adam's step size of log α."""
    target_entropy_multiplier: Annotated[float, Field(gt=0.0)] = 1.0
    """The wanted entropy: as a multiple of -1 nat per number, or of a half of the greatest entropy of a choice."""
    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    """Step size at the start, of the policy and, unless ``critic_lr`` says otherwise, of the critics."""

    @property
    def model_needs(self) -> ModelNeeds:
        """A Gaussian behind tanh or a categorical policy, and two critics of actions."""
        return ModelNeeds(
            distributions={"Box": "squashed_gaussian", "Discrete": "categorical"},
            critic="action",
            algorithm="sac",
        )

    def build(self, parts: "Parts") -> "SAC":
        """The trainer of these settings."""
        from maze_core.trainers.sac import SAC

        return SAC(self, parts)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SACfDAlgorithmConfig(SACAlgorithmConfig):
    """SAC from demonstrations: they are never forgotten (Vecerik et al. 2017, arXiv:1707.08817)."""

    LEARNS_FROM_EPISODES: ClassVar[bool] = True

    demonstration_share: Fraction = 0.5
    """Part of every batch that is drawn from the demonstrations; a half as in Ball et al. 2023 (arXiv:2302.02948)."""

    def build(self, parts: "Parts") -> "SACfD":
        """The trainer of these settings."""
        from maze_core.trainers.sac import SACfD

        return SACfD(self, parts)
