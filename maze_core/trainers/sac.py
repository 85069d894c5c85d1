"""SAC: the soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905; for choices Christodoulou 2019, 1910.07207).

One update: every environment steps ``n_rollout_steps`` ticks; then batches are drawn, and each moves, in this order,
both critics towards Σ γᵏ r + γⁿ (min Q'(s', a') - α log π(a'|s')), the policy up min Q(s, a) - α log π(a|s) with a
drawn anew, log α towards the wanted entropy, and the critics that follow.
"""

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import NamedTuple

import numpy as np

from maze_core.data.replay import ReplayWithDemonstrations, Transitions
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.dense import SquashedSamples, squashed_samples
from maze_core.models.heads import BoxHead, CategoricalHead, Part, StateNoiseHead, apply_mask
from maze_core.models.networks import action_input
from maze_core.models.state_noise import squashed_state_noise
from maze_core.trainers.fit import Parts, demonstrations_of
from maze_core.trainers.learner import nets
from maze_core.trainers.off_policy import OffPolicy
from maze_core.trainers.optim import GradientStep
from maze_core.trainers.sac_config import SACAlgorithmConfig, SACfDAlgorithmConfig
from maze_core.trainers.twin_critics import TwinCritics
from maze_core.types import FloatArray, NamedArrays


class Temperature:
    """The weight of the entropy, as its logarithm; it learns as networks do."""

    needs_torch = False
    frozen = ()

    def __init__(self, alpha: float) -> None:
        """Start at ``alpha`` ≥ 0."""
        self.parameters = {"log_alpha": np.log(np.array([alpha], np.float32).clip(min=1e-30))}

    def bind(self, arrays: NamedArrays, prefix: str = "") -> None:
        """Have ``prefix + log_alpha`` as parameter."""
        self.parameters = {"log_alpha": arrays[f"{prefix}log_alpha"]}

    def state_dict(self) -> NamedArrays:
        """The logarithm, where it lies."""
        return self.parameters

    def load_state_dict(self, arrays: NamedArrays) -> None:
        """Go back to a state."""
        self.parameters["log_alpha"][...] = arrays["log_alpha"]

    @property
    def alpha(self) -> float:
        """The weight."""
        return float(np.exp(self.parameters["log_alpha"][0]))


class Draw(NamedTuple):
    """What a policy does in ``N`` states, and how to make it do better."""

    entropy: FloatArray
    """-log π of the actions that were drawn, or of all choices on average, ``[N]``."""
    value: Callable[[], FloatArray]
    """Q of the same by the critics that follow, ``[N]``."""
    improve: Callable[[float], float]
    """Entropy weight α → the loss mean(α log π - Q); the gradients of the policy grow."""


class SAC(OffPolicy[SACAlgorithmConfig]):
    """The trainer of :class:`SACAlgorithmConfig`."""

    def __init__(self, config: SACAlgorithmConfig, parts: Parts) -> None:
        super().__init__(config, parts)
        step = self.policy.steps[self.key]
        (actor,), self._parts = step.networks, step.parts
        self._choice = next((head for head in step.heads if isinstance(head, CategoricalHead)), None)
        if self._choice and len(self._parts) > 1:
            message = (
                "has several action heads and a choice among them, which sac does not learn: take ppo or a2c."
            )
            raise InvalidSpecificationError([Problem(path="env", message=message)])
        inputs = [] if self._choice else [action_input(head.name) for head in step.heads]
        self.critics = TwinCritics(config, parts, inputs)
        self.actor = GradientStep(
            {"policy": self.policy},
            lr=config.lr,
            max_grad_norm=config.max_grad_norm,
            optimizer=config.optimizer,
        )
        self.temperature = Temperature(config.entropy_coef)
        self.tuning = GradientStep(
            {"temperature": self.temperature}, lr=config.entropy_coef_lr, max_grad_norm=None
        )
        wanted = (
            0.5 * np.log(self._choice.n)
            if self._choice
            else -float(sum(prod(head.shape) for head in step.heads if isinstance(head, BoxHead)))
        )
        self.target_entropy = config.target_entropy_multiplier * wanted
        self.networks = {
            "policy": self.policy,
            "critic": self.critics.online,
            "target": self.critics.target,
            "temperature": self.temperature,
        }
        self.optimizers = {"policy": self.actor, "critic": self.critics.step, "temperature": self.tuning}
        self._logits = nets([actor.logits], [self.actor.gradients_of(f"policy/{actor.prefix}network.")])
        self._actor, self._d_log_std = actor, self.actor.gradients.get(f"policy/{actor.prefix}log_std")
        self._draw = self._draw_choice if self._choice else self._draw_numbers

    def _learn_from(self, batch: Transitions) -> dict[str, float]:
        alpha = self.temperature.alpha
        after = self._draw(batch.next_observations)
        targets = batch.returns + batch.discounts * (after.value() + alpha * after.entropy)
        if self._choice:
            chosen = batch.actions[self._choice.name] - self._choice.start
            report = self.critics.learn(batch.observations, targets, chosen)
        else:
            report = self.critics.learn(_shown(batch.observations, batch.actions), targets, None)
        now = self._draw(batch.observations)
        self.actor.zero()
        report["train/policy_loss"] = now.improve(alpha)
        self.actor.step()
        entropy = float(now.entropy.mean())
        if self.config.entropy_tuning:  # the loss log α · (entropy - wanted)
            self.tuning.gradients["temperature/log_alpha"][...] = entropy - self.target_entropy
            self.tuning.step()
        self.critics.follow()
        return report | {"train/entropy": entropy, "train/entropy_coef": alpha}

    def _draw_numbers(self, observations: NamedArrays) -> Draw:
        (output,), pull = self._logits(observations)
        n_rows = output.shape[1]
        samples = [
            self._sample(part, output if part.logits is None else output[part.logits]) for part in self._parts
        ]
        actions = {part.head.name: x.action.T for part, x in zip(self._parts, samples, strict=True)}
        inputs = _shown(observations, actions)
        log_probs = reduce(np.add, [x.log_prob for x in samples])

        def improve(alpha: float) -> float:
            values, pull_values = self.critics.judge(inputs)
            d_inputs = pull_values(-1.0 / n_rows)
            d_log_probs = np.full(n_rows, alpha / n_rows, np.float32)
            d_outputs = [
                x.pull(d_inputs[action_input(part.head.name)], d_log_probs)
                for part, x in zip(self._parts, samples, strict=True)
            ]
            pull([np.concatenate(d_outputs)])
            return float((alpha * log_probs - values[0]).mean())

        return Draw(-log_probs, lambda: self.critics.predict(inputs)[0], improve)

    def _sample(self, part: Part, output: FloatArray) -> SquashedSamples:
        """Actions of one head; with state-dependent noise, all rows share a matrix."""
        head = part.head
        if not isinstance(head, StateNoiseHead):
            noise = self.rng.standard_normal((head.noise_width, output.shape[1]), np.float32)
            return squashed_samples(output, noise)
        matrix = self.rng.standard_normal((head.n_features, head.n_numbers), np.float32)
        assert self._actor.parameter is not None
        assert self._d_log_std is not None
        return SquashedSamples(
            *squashed_state_noise(head, output, matrix, self._actor.parameter, self._d_log_std)
        )

    def _draw_choice(self, observations: NamedArrays) -> Draw:
        # all choices are weighed, so nothing is drawn: L = Σ π (α log π - Q) and ∂L/∂l_j = π_j ((α log π_j - Q_j) - L)
        (output,), pull = self._logits(observations)
        mask = self._parts[0].mask
        logits = output if mask is None else apply_mask(output.T, observations[mask]).T
        log_p = logits - np.maximum.reduce(logits, 0)
        log_p -= np.log(np.add.reduce(np.exp(log_p), 0))
        p = np.exp(log_p)
        log_p = np.where(p > 0, log_p, np.float32(0))

        def improve(alpha: float) -> float:
            values, _ = self.critics.judge(observations)
            costs = alpha * log_p - values
            losses = np.add.reduce(p * costs, 0)
            pull([p * (costs - losses) / np.float32(len(losses))])
            return float(losses.mean())

        entropy = -np.add.reduce(p * log_p, 0)
        return Draw(entropy, lambda: np.add.reduce(p * self.critics.predict(observations), 0), improve)


class SACfD(SAC):
    """The trainer of :class:`SACfDAlgorithmConfig`: SAC whose batches are demonstrations in part.

    Raises:
        InvalidSpecificationError: there are no episodes, or a wrapper follows the rewards of training.
    """

    def __init__(self, config: SACfDAlgorithmConfig, parts: Parts) -> None:
        wrappers = parts.env.wrappers if isinstance(parts.env, WrappedVectorEnv) else ()
        if following := [type(w).__name__ for w in wrappers if "see_reward" in w.overridden]:
            message = (
                f"{following[0]} follows the rewards of training, so those of recorded episodes would have another "
                "scale than those beside them: leave it out, or take RewardScalingWrapper, whose scale is fixed."
            )
            raise InvalidSpecificationError([Problem(path="wrappers", message=message)])
        super().__init__(config, parts)
        self.replay = ReplayWithDemonstrations(
            demonstrations_of(parts).rollout,
            self.key,
            share=config.demonstration_share,
            capacity=config.replay_capacity,
            gamma=config.gamma,
            n_steps=config.n_step_returns,
        )


def _shown(observations: NamedArrays, actions: NamedArrays) -> NamedArrays:
    """What critics of actions read."""
    return {**observations, **{action_input(head): values for head, values in actions.items()}}
