"""BC: behavioural cloning, a policy by maximum likelihood (Pomerleau 1991; Osa et al. 2018, arXiv:1811.06711).

One update is one pass over the recorded steps in minibatches, each a gradient step on -log π(a|s) of all heads and
sub-steps, minus the entropy bonus. A policy with a state learns from whole episodes, from zeros on. Some episodes are
kept back to validate.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from maze_core.checkpoint import copied, prefixed, section
from maze_core.errors import InvalidSpecificationError
from maze_core.models.memory import STATE, Sequences
from maze_core.objectives.losses import mean
from maze_core.rollout.demonstrations import Demonstrations
from maze_core.seeding import Stream, generator, generator_state, restore_generator
from maze_core.threads import plain_torch
from maze_core.trainers.bc_config import BCAlgorithmConfig
from maze_core.trainers.fit import VALIDATION_LOSS, Parts, UpdateReport, demonstrations_of, mean_metrics
from maze_core.trainers.learner import PolicyLearner
from maze_core.trainers.on_policy import Steps, minibatches
from maze_core.trainers.optim import GradientStep
from maze_core.types import Array, BoolArray, FloatArray, StepKey, Tree

_FORBIDDEN = -1e30
"""Below every log-probability but that of an action which a mask forbids."""
_VALIDATED_AT_ONCE = 4096


class BC:
    """The trainer of :class:`BCAlgorithmConfig`.

    Raises:
        InvalidSpecificationError: there are no episodes, or none that ``patience`` can judge by, or one has an action
            that its mask forbids.
    """

    def __init__(self, config: BCAlgorithmConfig, parts: Parts) -> None:
        self.config, self.policy, self._env = config, parts.policy, parts.env
        self.optimizer = GradientStep(
            {"policy": self.policy},
            lr=config.lr,
            max_grad_norm=config.max_grad_norm,
            optimizer=config.optimizer,
        )
        self._learners = {key: PolicyLearner(step, self.optimizer) for key, step in self.policy.steps.items()}
        self.rng = generator(parts.agent_seed, Stream.MINIBATCHES)
        given = demonstrations_of(parts)
        n_episodes = len(given.names)
        n_kept_back = min(round(n_episodes * config.validation_percentage / 100), n_episodes - 1)
        if config.patience is not None and not (config.evaluator.n_episodes or n_kept_back):
            message = (
                f"patience has nothing to judge by, since none of {n_episodes} episodes is kept back: "
                "set rollout_evaluator.n_episodes, or a larger validation_percentage."
            )
            raise InvalidSpecificationError(message, path="algorithm.patience")
        order = generator(parts.agent_seed, Stream.MINIBATCHES, 1).permutation(n_episodes)
        is_kept_back = np.isin(given.episode, order[:n_kept_back])
        self._refuse_forbidden(given)
        self.training = self._steps_where(given, ~is_kept_back)
        self.validation = self._steps_where(given, is_kept_back)

    def reset_envs(self, seeds: Sequence[int]) -> None:
        """Nothing is played to learn."""

    def update(self, *, epoch: int, progress: float) -> UpdateReport:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.optimizer.lr = self.config.lr * self.config.lr_factor(progress)
        with plain_torch(), np.errstate(all="ignore"):  # what overflows is found by mean_metrics
            batches = minibatches(self.training, self.config.batch_size, self.rng)
            learnt = mean_metrics([self._gradient_step(batch) for batch in batches])
        validated = mean_metrics([self._validated()])
        self.optimizer.check_finite()
        rate = {"train/learning_rate": self.optimizer.lr}
        return UpdateReport(env_steps=0, metrics=learnt | validated | rate)

    def _gradient_step(self, batch: Mapping[StepKey, Steps]) -> dict[str, float]:
        n_rows = sum(map(len, batch.values()))
        report = {"train/policy_loss": 0.0, "train/entropy": 0.0}
        self.optimizer.zero()
        for key, steps in batch.items():
            found = self._learners[key].evaluate(
                steps.observations, steps.actions, steps.agent_id, steps.sequences
            )
            d_log_probs, d_entropy = (
                np.full(len(steps), -weight / n_rows, np.float32)
                for weight in (1.0, self.config.entropy_coef)
            )
            found.backward(d_log_probs, d_entropy if self.config.entropy_coef else None)
            share = len(steps) / n_rows
            report["train/policy_loss"] -= share * mean(found.log_probs)
            report["train/entropy"] += share * mean(found.entropy)
        return report | {"train/grad_norm": self.optimizer.step()}

    def _validated(self) -> dict[str, float]:
        """Loss on the episodes that are kept back; nothing where there are none."""
        n_rows = sum(map(len, self.validation.values()))
        with np.errstate(all="ignore"):
            total = sum(
                float(self._log_probs(*item).sum(dtype=np.float64)) for item in self.validation.items()
            )
        return {VALIDATION_LOSS: -total / n_rows} if n_rows else {}

    def _log_probs(self, key: StepKey, steps: Steps) -> FloatArray:
        """Log π(a|s), ``[N]``."""
        parts = []
        with plain_torch(gradients=False):
            n_rows = _VALIDATED_AT_ONCE if steps.sequences is None else len(steps)
            for start in range(0, len(steps), n_rows):
                part = steps.slice(start, start + n_rows)
                found = self._learners[key].evaluate(
                    part.observations, part.actions, part.agent_id, steps.sequences
                )
                parts.append(found.log_probs)
        return np.concatenate(parts)

    def _refuse_forbidden(self, given: Demonstrations) -> None:
        for key, steps in self._steps_where(given, np.ones_like(given.episode, bool)).items():
            forbidden = self._log_probs(key, steps) < _FORBIDDEN
            if forbidden.any():
                number = given.episode[given.rollout.steps[key].active][np.argmax(forbidden)]
                message = f"{given.names[number]} has an action that its mask forbids; leave the episode out."
                raise InvalidSpecificationError(message, path="dataset.run", code="dataset")

    def _steps_where(self, given: Demonstrations, chosen: BoolArray) -> dict[StepKey, Steps]:
        """The recorded steps at these places ``[T, B]``, of every sub-step that has any."""
        found = {}
        agent_id = given.rollout.agent_id
        for key, record in given.rollout.steps.items():
            rows = record.active & chosen
            if not rows.any():
                continue
            observations, actions = (
                {name: array[rows] for name, array in arrays.items()}
                for arrays in (record.observations, record.actions)
            )
            found[key] = Steps(observations, actions, agent_id[rows])
            if width := self.policy.state_widths.get(key):
                observations[STATE] = np.zeros((np.count_nonzero(rows), width), np.float32)
                who = given.episode * (agent_id.max() + 1) + agent_id  # every episode is a sequence
                found[key].sequences = Sequences.of(rows, who, np.zeros_like(rows), None)
        return found

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        arrays = copied(self.policy.state_dict(), "policy") | prefixed(
            self.optimizer.state_dict(), "optimizer"
        )
        return {"minibatches": generator_state(self.rng)}, arrays

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self.policy.load_state_dict(section(arrays, "policy"))
        self.optimizer.load_state_dict(section(arrays, "optimizer"))
        restore_generator(self.rng, tree["minibatches"])

    def close(self) -> None:
        """See :class:`~maze_core.trainers.fit.Trainer`."""
        self._env.close()
