"""Settings of PPO; the YAML twin is ``conf/algorithm/ppo.yaml``."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from maze_core.config.settings import STRICT, OptionalPositiveFloat, PositiveInt, dataclass
from maze_core.trainers.config import ActorCriticConfig, Schedule

if TYPE_CHECKING:
    from maze_core.trainers.fit import Parts
    from maze_core.trainers.ppo import PPO


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOAlgorithmConfig(ActorCriticConfig):
    """Proximal policy optimization: several passes over each rollout (Schulman et al. 2017, arXiv:1707.06347)."""

    n_optimization_epochs: PositiveInt = 4
    """Passes over each rollout."""
    batch_size: PositiveInt = 256
    """Samples per gradient step."""
    clip_range: Annotated[float, Field(gt=0.0)] = 0.2
    """ε of the clipped objective; from 1 on only gains are cut, a large one such as 10 cuts nothing."""
    clip_range_schedule: Schedule = "constant"
    """``linear`` falls to 0 over ``n_epochs``."""
    clip_range_value: OptionalPositiveFloat = None
    """How far from those before the update values count in the critic's loss; null does not clip."""
    clip_range_value_schedule: Schedule = "constant"
    """``linear`` falls to 0 over ``n_epochs``."""
    pessimistic_value_clip: bool = False
    """Take the larger of clipped and unclipped error, as OpenAI's baselines, CleanRL, Tianshou and rsl_rl; false takes
    the clipped one, as Stable-Baselines3 and skrl."""
    lr_schedule: Literal["constant", "linear", "kl_adaptive"] = "linear"  # type: ignore[assignment]
    """``linear`` falls to 0 over ``n_epochs``; ``kl_adaptive`` is ÷ 1.5 after a pass whose KL divergence exceeds twice
    ``target_kl``, × 1.5 after one below half of it, from 1e-6 to 1e-2."""
    target_kl: OptionalPositiveFloat = None
    """End an update's passes after one whose mean approximate KL divergence exceeds this; null never. With
    ``lr_schedule=kl_adaptive`` it is what step sizes are adapted to, and no pass is left out."""

    def __post_init__(self) -> None:
        """Refuse an adaptive step size that has nothing to adapt to."""
        if self.lr_schedule == "kl_adaptive" and self.target_kl is None:
            raise ValueError("lr_schedule=kl_adaptive needs target_kl, such as 0.01")

    def build(self, parts: "Parts") -> "PPO":
        """The trainer of these settings."""
        from maze_core.trainers.ppo import PPO

        return PPO(self, parts)
