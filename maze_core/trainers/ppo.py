"""PPO: proximal policy optimization with the clipped objective (Schulman et al. 2017, arXiv:1707.06347).

One update: every environment steps ``n_rollout_steps`` ticks; advantages, returns and the acting policy's
log-probabilities are computed once and stay fixed; then ``n_optimization_epochs`` passes of minibatches climb the
clipped surrogate, ended early when the approximate KL divergence exceeds ``target_kl``.
"""

from maze_core.objectives.losses import clipped_squared_error, clipped_surrogate, divergence
from maze_core.trainers.actor_critic import ActorCritic
from maze_core.trainers.config import factor
from maze_core.trainers.fit import Parts, UpdateReport
from maze_core.trainers.on_policy import Batch, Samples, minibatches, normalize_advantages
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from maze_core.types import FloatArray


class PPO(ActorCritic[PPOAlgorithmConfig]):
    """The trainer of :class:`PPOAlgorithmConfig`."""

    def __init__(self, config: PPOAlgorithmConfig, parts: Parts) -> None:
        super().__init__(config, parts)
        self._clip_range, self._clip_range_value = config.clip_range, config.clip_range_value

    def update(self, *, epoch: int, progress: float) -> UpdateReport:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        config = self.config
        self._clip_range = config.clip_range * factor(config.clip_range_schedule, progress)
        if config.clip_range_value is not None:
            decay = factor(config.clip_range_value_schedule, progress)
            self._clip_range_value = config.clip_range_value * decay
        return super().update(epoch=epoch, progress=progress)

    def _learn(self, batch: Batch, *, epoch: int) -> list[dict[str, float]]:
        steps: list[dict[str, float]] = []
        for _ in range(self.config.n_optimization_epochs):
            first = len(steps)
            for part in minibatches(batch, self.config.batch_size, self.minibatch_rng):
                minibatch = normalize_advantages(part) if self.config.normalize_advantages else part
                steps.append(self.gradient_step(minibatch, self._policy_loss, epoch=epoch))
            if self._is_too_far(steps[first:]):
                break
        return steps

    def _policy_loss(
        self, samples: Samples, log_probs: FloatArray
    ) -> tuple[float, FloatArray, dict[str, float]]:
        loss, gradient, log_ratio = clipped_surrogate(
            log_probs, samples.log_probs, samples.advantages, self._clip_range
        )
        kl, clipped = divergence(log_ratio, self._clip_range)
        return loss, gradient, {"train/approx_kl": kl, "train/clip_fraction": clipped}

    def _value_loss(self, samples: Samples, values: FloatArray) -> tuple[float, FloatArray]:
        if self._clip_range_value is None:
            return super()._value_loss(samples, values)
        return clipped_squared_error(
            values,
            samples.returns,
            samples.values,
            self._clip_range_value,
            pessimistic=self.config.pessimistic_value_clip,
        )

    def _is_too_far(self, steps: list[dict[str, float]]) -> bool:
        """The pass left the trust region: its mean KL divergence exceeds ``target_kl``."""
        if self.config.target_kl is None:
            return False
        divergence = sum(step["train/approx_kl"] for step in steps) / len(steps)
        return divergence > self.config.target_kl
