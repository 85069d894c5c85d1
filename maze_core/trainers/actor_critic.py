"""What A2C, PPO and IMPALA do in the same way: collect, prepare, report, save. How they learn is their own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from maze_core.checkpoint import copied, prefixed, section
from maze_core.data.trajectory import Rollout, actor_returns
from maze_core.errors import InvalidSpecificationError
from maze_core.models.memory import Memory
from maze_core.models.networks import Critic
from maze_core.objectives.losses import mean, squared_error
from maze_core.rollout.collector import Collector
from maze_core.seeding import Stream, generator, generator_state, restore_generator
from maze_core.trainers.config import ActorCriticConfig, loss_weights
from maze_core.trainers.critic_context import CriticContext
from maze_core.trainers.fit import Parts, UpdateReport, critic_of, mean_metrics
from maze_core.trainers.learner import Learner
from maze_core.trainers.on_policy import Batch, Estimator, Samples, prepare
from maze_core.trainers.optim import GradientStep
from maze_core.types import Array, FloatArray, Tree

C = TypeVar("C", bound=ActorCriticConfig)
PolicyLoss = Callable[[Samples, FloatArray], tuple[float, FloatArray, dict[str, float]]]
"""(samples, log_probs under the weights of now) → policy loss, its gradient by log_probs, and what to report."""


class ActorCritic(ABC, Generic[C]):
    """Collector, optimizer and streams of one actor-critic run.

    Args:
        config: the algorithm's settings.
        parts: environments, policy and critic.

    Raises:
        InvalidSpecificationError: the model has no critic.
    """

    _learns_as_it_acts = True
    """Whether what acted is under the weights that learn from it."""
    _off_policy: Estimator | None = None
    """Gives advantages and returns of what another policy did."""

    def __init__(self, config: C, parts: Parts) -> None:
        self.config = config
        self.policy, self.critic = parts.policy, critic_of(parts, Critic)
        self.optimizer = GradientStep(
            {"policy": self.policy, "critic": self.critic},
            lr=config.lr,
            max_grad_norm=config.max_grad_norm,
            optimizer=config.optimizer,
            rates=None if config.critic_lr is None else {"critic": config.critic_lr / config.lr},
        )
        self.learner = Learner(self.policy, self.critic, self.optimizer)
        if self.learner.has_memory and parts.env.rewards == "per_actor":
            message = (
                "carries a state, and env pays each agent its own: such networks learn where a team is paid. Take a "
                "network without a state, and show it the past inside the environment."
            )
            raise InvalidSpecificationError(message, path="model")
        self._progress = 0.0
        self._policy_learns = config.critic_burn_in_epochs == 0
        self.minibatch_rng = generator(parts.agent_seed, Stream.MINIBATCHES)
        actions = generator(parts.agent_seed, Stream.ACTIONS)
        self.collector = Collector(parts.env, config.n_rollout_steps, actions)
        if self._learns_as_it_acts:
            self.collector.judges = self.learner.judges
        self._memory = Memory(self.critic.state_widths, parts.env.n_envs)
        self._context = CriticContext(self.critic, parts.env.n_envs)

    def reset_envs(self, seeds: Sequence[int]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.collector.reset(seeds)
        self._memory.forget_all()
        self._context.forget()

    def _lr(self, progress: float) -> float:
        """The step size of an update where this part of the run is done."""
        return self.config.lr * self.config.lr_factor(progress)

    def _collect(self) -> Rollout:
        """What to learn from; with ``log_probs`` where another policy acted than the one that learns."""
        return self.collector.collect(self.policy)

    @abstractmethod
    def _learn(self, batch: Batch, *, epoch: int) -> list[dict[str, float]]:
        """Take the gradient steps of one update; the values to report of each."""

    def update(self, *, epoch: int, progress: float) -> UpdateReport:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        config = self.config
        self._progress = progress
        self.optimizer.lr = lr = self._lr(progress)
        if not self._policy_learns and epoch >= config.critic_burn_in_epochs:
            # Adam counted the steps in which the policy's gradient was 0; its bias correction must begin here
            self.optimizer.load_state_dict({})
            self.optimizer.hold(())
            self._policy_learns = True
        rollout = self._collect()
        with np.errstate(all="ignore"):  # what overflows is found by mean_metrics
            with self.learner.torch(keeps_gradients=False):
                batch, explained = prepare(
                    self._context.added(rollout),
                    self.learner,
                    gamma=config.gamma,
                    lam=config.gae_lambda,
                    off_policy=self._off_policy,
                    memory=self._memory,
                    bptt_length=config.bptt_length,
                )
            with self.learner.torch(keeps_gradients=True):
                if not self._policy_learns:
                    seen = {key: samples.observations for key, samples in batch.items()}
                    self.optimizer.hold(self.learner.of_policy(seen))
                metrics = mean_metrics(self._learn(batch, epoch=epoch))
        self.optimizer.check_finite()
        metrics["train/learning_rate"] = lr
        if rollout.actions_clipped is not None:
            metrics["train/actions_clipped"] = rollout.actions_clipped
        if np.isfinite(explained):
            metrics["train/explained_variance"] = explained
        return UpdateReport(
            env_steps=rollout.n_steps,
            metrics=metrics,
            episode_returns=rollout.episode_returns,
            episode_lengths=rollout.episode_lengths,
            actor_returns=actor_returns(rollout, self.collector.env.agent_counts),
        )

    def gradient_step(self, batch: Batch, policy_loss_of: PolicyLoss, *, epoch: int) -> dict[str, float]:
        """One step on the weighted sum of policy loss, value loss and entropy bonus, over all step keys."""
        total = sum(len(samples) for samples in batch.values())
        policy_weight, value_weight, entropy_weight = loss_weights(self.config, epoch, self._progress)
        report: dict[str, float] = {}
        self.optimizer.zero()
        for key, samples in batch.items():
            share = len(samples) / total
            found = None if self.learner.needs_torch else samples.found  # autograd was off while it was found
            if found is None:
                found = self.learner.evaluate(
                    key, samples.observations, samples.actions, samples.agent_id, samples.sequences
                )
            policy_loss, d_log_probs, details = policy_loss_of(samples, found.log_probs)
            value_loss, d_values = self._value_loss(samples, found.values)
            d_entropy = np.full(len(samples), -entropy_weight / total, np.float32) if entropy_weight else None
            found.backward(
                d_log_probs * (share * policy_weight), d_entropy, d_values * (share * value_weight)
            )
            losses = {
                "train/policy_loss": policy_loss,
                "train/value_loss": value_loss,
                "train/entropy": mean(found.entropy),
                **details,
            }
            for name, value in losses.items():
                report[name] = report.get(name, 0.0) + share * value
        report["train/grad_norm"] = self.optimizer.step()
        return report

    def _value_loss(self, samples: Samples, values: FloatArray) -> tuple[float, FloatArray]:
        """The loss of V(s) under the weights of now, ``[N]``, and its gradient."""
        return squared_error(values, samples.returns)

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        arrays = {
            **copied(self.policy.state_dict(), "policy"),
            **copied(self.critic.state_dict(), "critic"),
            **prefixed(self.optimizer.state_dict(), "optimizer"),
        }
        tree = {
            "actions": generator_state(self.collector.rng),
            "minibatches": generator_state(self.minibatch_rng),
            "policy_learns": self._policy_learns,
        }
        return tree, arrays

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.policy.load_state_dict(section(arrays, "policy"))
        self.critic.load_state_dict(section(arrays, "critic"))
        self.optimizer.load_state_dict(section(arrays, "optimizer"))
        restore_generator(self.collector.rng, tree["actions"])
        restore_generator(self.minibatch_rng, tree["minibatches"])
        self._policy_learns = tree["policy_learns"]

    def close(self) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.collector.env.close()
