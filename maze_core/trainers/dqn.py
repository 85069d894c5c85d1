"""DQN: Q-learning from replay with a target network (Mnih et al. 2015), and its distributional form, QR-DQN.

One update: every environment steps ``n_rollout_steps`` ticks, ε-greedily; then ``n_gradient_steps`` batches are drawn,
and each moves Q(s, a) towards Σ γᵏ r + γⁿ Q'(s', a*), where a* is what the learning network would do (double) or the
target network Q' itself. With quantiles, Q is their mean, and each of them moves towards all of those of the target.
"""

import numpy as np

from maze_core.data.prioritized import PrioritizedReplay
from maze_core.data.replay import Transitions
from maze_core.models.dense import NetsPull
from maze_core.models.heads import ActionValuesHead, apply_mask
from maze_core.models.networks import ActionCritic
from maze_core.objectives.td import huber, polyak, quantile_huber
from maze_core.trainers.dqn_config import DQNAlgorithmConfig
from maze_core.trainers.fit import Parts, mean
from maze_core.trainers.learner import Nets, nets
from maze_core.trainers.off_policy import OffPolicy
from maze_core.trainers.optim import FlatParameters, GradientStep
from maze_core.types import FloatArray, IntArray, NamedArrays


class DQN(OffPolicy[DQNAlgorithmConfig]):
    """The trainer of :class:`DQNAlgorithmConfig` and :class:`QRDQNAlgorithmConfig`."""

    def __init__(self, config: DQNAlgorithmConfig, parts: Parts) -> None:
        super().__init__(config, parts)
        (self._actor,) = self.policy.steps[self.key].networks
        (part,) = self.policy.steps[self.key].parts
        assert isinstance(part.head, ActionValuesHead)
        self._head, self._mask = part.head, part.mask
        self._n_quantiles = config.model_needs.n_quantiles
        network = self._actor.logits
        target = ActionCritic([network.twin()])
        self.optimizer = GradientStep(
            {"values": network}, lr=config.lr, max_grad_norm=config.max_grad_norm, optimizer=config.optimizer
        )
        self._target = FlatParameters({"values": target})
        self.networks = {"policy": self.policy, "target": target}
        self.optimizers = {"values": self.optimizer}
        self._online_values = nets([network], [self.optimizer.gradients_of("values/")])
        self._target_values = nets(target.networks, None)

    def _follow_schedules(self, progress: float) -> dict[str, float]:
        config = self.config
        done = min(progress / config.exploration_fraction, 1.0)
        epsilon = config.initial_epsilon + done * (config.final_epsilon - config.initial_epsilon)
        assert self._actor.parameter is not None
        self._actor.parameter[...] = epsilon
        if isinstance(self.replay, PrioritizedReplay):
            self.replay.beta = config.priority_beta + progress * (1.0 - config.priority_beta)
        return super()._follow_schedules(progress) | {"train/epsilon": epsilon}

    def _follow_targets(self, n_before: int) -> None:
        every = self.config.target_update_steps
        if self.n_seen // every > n_before // every:
            polyak(self._target.flat, self.optimizer.flat, self.config.tau)

    def _learn_from(self, batch: Transitions) -> dict[str, float]:
        targets = self._targets(batch)
        values, pull = self._values(self._online_values, batch.observations)
        places = _places(batch.actions[self._head.name] - self._head.start, values)
        found = values.take(places)  # [quantiles, N]
        if len(found) == 1:
            loss, d_found, errors = huber(found[0], targets[0], batch.weights)
        else:
            loss, d_found, errors = quantile_huber(found, targets, batch.weights)
        d_values = np.zeros(values.shape, np.float32)
        d_values.reshape(-1)[places] = d_found
        self.optimizer.zero()
        pull(self._pulled(d_values))
        if isinstance(self.replay, PrioritizedReplay):
            self.replay.note_errors(batch.rows, errors)
        return {
            "train/value_loss": loss,
            "train/action_value": mean(found),
            "train/grad_norm": self.optimizer.step(),
        }

    def _targets(self, batch: Transitions) -> FloatArray:
        """What each sample's values should be: samples of the return, ``[quantiles, N]``."""
        after, _ = self._values(self._target_values, batch.next_observations)
        judged = after
        if self.config.double:
            judged, _ = self._values(self._online_values, batch.next_observations)
        best = self._best(np.add.reduce(judged, 1), batch.next_observations)
        return batch.returns + batch.discounts * after.take(_places(best, after))

    def _best(self, values: FloatArray, observations: NamedArrays) -> IntArray:
        """The action that is allowed and has the highest value, of each column of ``[n, N]``."""
        allowed = apply_mask(values.T, observations[self._mask]).T if self._mask else values
        best: IntArray = allowed.argmax(0)
        return best

    def _values(self, network: Nets, observations: NamedArrays) -> tuple[FloatArray, NetsPull]:
        """``[n, quantiles, N]``: in a duel, those of the state plus advantages, whose mean over actions is 0."""
        (output,), pull = network(observations)
        parts = output.reshape(-1, self._n_quantiles, output.shape[1])
        if not self.config.duelling:
            return parts, pull
        state, advantages = parts[0], parts[1:]
        return state + (advantages - advantages.mean(0)), pull

    def _pulled(self, d_values: FloatArray) -> list[FloatArray]:
        """∂L/∂output from ∂L/∂values, both of the one network."""
        if self.config.duelling:
            total = d_values.sum(0)
            d_values = np.concatenate((total[None], d_values - total / len(d_values)))
        return [d_values.reshape(-1, d_values.shape[-1])]


def _places(chosen: IntArray, values: FloatArray) -> IntArray:
    """Places ``[quantiles, N]`` of the chosen actions ``[N]`` in values ``[n, quantiles, N]``, counted through."""
    _, *shape = values.shape
    of_one = np.arange(shape[0] * shape[1]).reshape(shape)
    places: IntArray = chosen * of_one.size + of_one
    return places
