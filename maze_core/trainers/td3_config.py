"""Settings of TD3; the YAML twin is ``conf/algorithm/td3.yaml``."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from maze_core.config.settings import STRICT, OptionalPositiveInt, PositiveInt, dataclass
from maze_core.models.config import ModelNeeds
from maze_core.trainers.config import Coefficient, TwinCriticsConfig

if TYPE_CHECKING:
    from maze_core.trainers.fit import Parts
    from maze_core.trainers.td3 import TD3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TD3AlgorithmConfig(TwinCriticsConfig):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477)."""

    n_epochs: OptionalPositiveInt = 40
    """Epochs to train; schedules end here, and start anew when more are asked for."""
    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    """Step size at the start, of the policy and, unless ``critic_lr`` says otherwise, of the critics."""
    exploration_std: Coefficient = 0.1
    """Deviation of the noise on actions while training, where they go from -1 to 1."""
    exploration_noise: Literal["normal", "ornstein_uhlenbeck"] = "normal"
    """Noise anew at every tick, or an Ornstein-Uhlenbeck process that begins at 0 with every episode."""
    policy_delay: PositiveInt = 2
    """Gradient steps of the critics for one of the policy and the networks that follow."""
    target_std: Coefficient = 0.2
    """Deviation of the noise on the actions that targets are made of."""
    target_noise_limit: Coefficient = 0.5
    """Where that noise is cut."""

    @property
    def model_needs(self) -> ModelNeeds:
        """A policy without distribution for numbers, and two critics of actions."""
        return ModelNeeds(distributions={"Box": "deterministic"}, critic="action", algorithm="td3")

    def build(self, parts: "Parts") -> "TD3":
        """The trainer of these settings."""
        from maze_core.trainers.td3 import TD3

        return TD3(self, parts)
