"""A2C: the synchronous advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783).

One update: every environment steps ``n_rollout_steps`` ticks, advantages are estimated (returns.gae), and one
gradient step is taken on the whole rollout.
"""

from maze_core.objectives.losses import policy_gradient
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.actor_critic import ActorCritic
from maze_core.trainers.on_policy import Batch, Samples, normalize_advantages
from maze_core.types import FloatArray


class A2C(ActorCritic[A2CAlgorithmConfig]):
    """The trainer of :class:`A2CAlgorithmConfig`."""

    def _learn(self, batch: Batch, *, epoch: int) -> list[dict[str, float]]:
        if self.config.normalize_advantages:
            batch = normalize_advantages(batch)
        return [self.gradient_step(batch, _policy_loss, epoch=epoch)]


def _policy_loss(samples: Samples, log_probs: FloatArray) -> tuple[float, FloatArray, dict[str, float]]:
    return *policy_gradient(log_probs, samples.advantages), {}
