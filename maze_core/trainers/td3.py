"""TD3: twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477).

One update: every environment steps ``n_rollout_steps`` ticks with noise on its actions; then batches are drawn. Each
moves both critics towards Σ γᵏ r + γⁿ min Q'(s', μ'(s') + cut noise), and every ``policy_delay``-th the policy up
the first Q(s, μ(s)) and the networks that follow.
"""

from collections.abc import Mapping

import numpy as np

from maze_core.data.replay import Transitions
from maze_core.models.networks import ActionCritic, action_input
from maze_core.objectives.td import polyak
from maze_core.rollout.correlated_noise import OrnsteinUhlenbeck
from maze_core.trainers.fit import Parts, mean
from maze_core.trainers.learner import nets
from maze_core.trainers.off_policy import OffPolicy
from maze_core.trainers.optim import FlatParameters, GradientStep
from maze_core.trainers.td3_config import TD3AlgorithmConfig
from maze_core.trainers.twin_critics import TwinCritics
from maze_core.types import Array, FloatArray, NamedArrays, Tree


class TD3(OffPolicy[TD3AlgorithmConfig]):
    """The trainer of :class:`TD3AlgorithmConfig`."""

    def __init__(self, config: TD3AlgorithmConfig, parts: Parts) -> None:
        super().__init__(config, parts)
        step = self.policy.steps[self.key]
        (actor,), self._parts = step.networks, step.parts
        inputs = [action_input(head.name) for head in step.heads]
        self.critics = TwinCritics(config, parts, inputs, n_judges=1)
        assert actor.parameter is not None
        actor.parameter[...] = config.exploration_std
        if config.exploration_noise == "ornstein_uhlenbeck":
            self.collector.correlated = OrnsteinUhlenbeck()
        target = ActionCritic([actor.logits.twin()])
        self.actor = GradientStep(
            {"actor": actor.logits},
            lr=config.lr,
            max_grad_norm=config.max_grad_norm,
            optimizer=config.optimizer,
        )
        self._target = FlatParameters({"actor": target.networks[0]})
        self.networks = {
            "policy": self.policy,
            "actor_target": target,
            "critic": self.critics.online,
            "target": self.critics.target,
        }
        self.optimizers = {"policy": self.actor, "critic": self.critics.step}
        self._actor = nets([actor.logits], [self.actor.gradients_of("actor/")])
        self._follower = nets(target.networks, None)
        self.n_learnt = 0
        """Gradient steps so far."""

    def _learn_from(self, batch: Transitions) -> dict[str, float]:
        (output,), _ = self._follower(batch.next_observations)
        limit, n_rows = self.config.target_noise_limit, output.shape[1]
        noise = self.config.target_std * self.rng.standard_normal(output.shape, np.float32)
        noise = np.minimum(np.maximum(noise, -limit), limit)
        after = np.minimum(np.maximum(np.tanh(output) + noise, -1.0), 1.0)
        values = self.critics.predict(self._shown(batch.next_observations, after))[0]
        actions = {action_input(head): array for head, array in batch.actions.items()}
        report = self.critics.learn(
            {**batch.observations, **actions}, batch.returns + batch.discounts * values, None
        )
        self.n_learnt += 1
        if self.n_learnt % self.config.policy_delay == 0:
            report["train/policy_loss"] = self._improve(batch.observations, n_rows)
            self.critics.follow()
            polyak(self._target.flat, self.actor.flat, self.config.tau)
        return report

    def _improve(self, observations: NamedArrays, n_rows: int) -> float:
        """One step of the policy up the critics; the loss."""
        (output,), pull = self._actor(observations)
        action = np.tanh(output)
        values, pull_values = self.critics.judge(self._shown(observations, action))
        d_inputs = pull_values(-1.0 / n_rows)
        d_action = np.concatenate([d_inputs[action_input(part.head.name)] for part in self._parts])
        self.actor.zero()
        pull([d_action * (1.0 - action * action)])
        self.actor.step()
        return -mean(values)

    def _shown(self, observations: NamedArrays, actions: FloatArray) -> NamedArrays:
        """What critics read; actions are ``[n, N]``, of all heads."""
        return {
            **observations,
            **{
                action_input(part.head.name): (actions if part.logits is None else actions[part.logits]).T
                for part in self._parts
            },
        }

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        tree, arrays = super().state_dict()
        return tree | {"n_learnt": self.n_learnt}, arrays

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        super().load_state_dict(tree, arrays)
        self.n_learnt = tree["n_learnt"]
