"""Settings of A2C; the YAML twin is ``conf/algorithm/a2c.yaml``."""

from typing import TYPE_CHECKING

from maze_core.config.settings import (
    STRICT,
    OptionalPositiveFloat,
    OptionalPositiveInt,
    PositiveInt,
    RolloutSteps,
    dataclass,
)
from maze_core.trainers.config import ActorCriticConfig, Coefficient, Fraction

if TYPE_CHECKING:
    from maze_core.trainers.a2c import A2C
    from maze_core.trainers.fit import Parts


@dataclass(frozen=True, kw_only=True, config=STRICT)
class A2CAlgorithmConfig(ActorCriticConfig):
    """Advantage actor-critic: one gradient step per rollout (Mnih et al. 2016, arXiv:1602.01783)."""

    n_epochs: OptionalPositiveInt = 60
    """Epochs to train; the learning-rate schedule ends here, and starts anew when more are asked for."""
    epoch_length: PositiveInt = 25
    """Updates per epoch; an evaluation follows the last one."""
    n_rollout_steps: RolloutSteps = 16
    """Ticks per update, in each parallel environment."""
    gae_lambda: Fraction = 1.0
    """λ of the generalised advantage estimate; 1 is the n-step return with a bootstrap."""
    entropy_coef: Coefficient = 0.00025
    """Weight of the entropy bonus."""
    max_grad_norm: OptionalPositiveFloat = 0.5
    """L2 limit on the gradient of policy and critic together; null does not clip."""

    def build(self, parts: "Parts") -> "A2C":
        """The trainer of these settings."""
        from maze_core.trainers.a2c import A2C

        return A2C(self, parts)
