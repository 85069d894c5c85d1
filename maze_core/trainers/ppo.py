"""PPO: proximal policy optimization with the clipped objective (Schulman et al. 2017, arXiv:1707.06347).

One update: every environment steps ``n_rollout_steps`` ticks; advantages, returns and the acting policy's
log-probabilities are computed once and stay fixed; then ``n_optimization_epochs`` passes of minibatches climb the
clipped surrogate, ended early when the approximate KL divergence exceeds ``target_kl``, or with a step size that
follows it.
"""

from collections.abc import Mapping
from typing import Final

from maze_core.notices import Notices
from maze_core.objectives.losses import clipped_squared_error, clipped_surrogate, divergence
from maze_core.trainers.actor_critic import ActorCritic
from maze_core.trainers.config import factor
from maze_core.trainers.fit import Parts, UpdateReport
from maze_core.trainers.on_policy import Batch, Samples, minibatches, normalize_advantages
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from maze_core.types import Array, FloatArray, Tree

_TOLERANCE: Final = 2.0
"""Factor between the KL divergence of a pass and the wanted one, beyond which the step size changes."""
_LR_STEP: Final = 1.5
_LR_RANGE: Final = (1e-6, 1e-2)
"""Limits of an adapted step size, those of skrl."""


class PPO(ActorCritic[PPOAlgorithmConfig]):
    """The trainer of :class:`PPOAlgorithmConfig`."""

    def __init__(self, config: PPOAlgorithmConfig, parts: Parts) -> None:
        super().__init__(config, parts)
        self._adapted_lr = config.lr
        self._notices = Notices.current()
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
        self._say_long(batch)
        for _ in range(self.config.n_optimization_epochs):
            first = len(steps)
            for part in minibatches(batch, self.config.batch_size, self.minibatch_rng):
                minibatch = normalize_advantages(part) if self.config.normalize_advantages else part
                steps.append(self.gradient_step(minibatch, self._policy_loss, epoch=epoch))
            kl = sum(step["train/approx_kl"] for step in steps[first:]) / (len(steps) - first)
            if self.config.lr_schedule == "kl_adaptive":
                if self._policy_learns:  # a critic that learns alone moves no policy
                    self._adapt(kl)
            elif self.config.target_kl is not None and kl > self.config.target_kl:
                break  # the pass left the trust region
        return steps

    def _say_long(self, batch: Batch) -> None:
        """Say once that sequences are longer than minibatches are to be."""
        every = [samples.sequences for samples in batch.values() if samples.sequences is not None]
        longest = max((len(sequences.rows) for sequences in every), default=0)
        if longest > self.config.batch_size:
            self._notices.say(
                "long_sequences",
                f"A network with a state learns from whole sequences, and they have up to {longest} steps: minibatches "
                f"are larger, and fewer, than algorithm.batch_size={self.config.batch_size} says. Set "
                "algorithm.bptt_length to cut sequences.",
            )

    def _lr(self, progress: float) -> float:
        return self._adapted_lr if self.config.lr_schedule == "kl_adaptive" else super()._lr(progress)

    def _adapt(self, kl: float) -> None:
        """The step size that follows from the mean KL divergence of a pass."""
        assert self.config.target_kl is not None
        far, lr = kl / self.config.target_kl, self._adapted_lr
        if far > _TOLERANCE:
            lr = max(lr / _LR_STEP, _LR_RANGE[0])
        elif far < 1 / _TOLERANCE:
            lr = min(lr * _LR_STEP, _LR_RANGE[1])
        self._adapted_lr = self.optimizer.lr = lr

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

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        tree, arrays = super().state_dict()
        return tree | {"adapted_lr": self._adapted_lr}, arrays

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        super().load_state_dict(tree, arrays)
        self._adapted_lr = tree.get("adapted_lr", self._adapted_lr)
