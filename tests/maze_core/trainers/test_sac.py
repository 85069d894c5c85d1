"""SAC: soft targets and policy gradients against their definition, the entropy it keeps, both kinds of actions."""

import numpy as np
import pytest
import torch

from maze_core.models.heads import MASKED_LOGIT
from maze_core.trainers.sac_config import SACAlgorithmConfig
from tests.maze_core.trainers.small_worlds import BoundedEnv, MaskedEnv, SignEnv, trainer_of

QUICK = {"n_warmup_steps": 4, "batch_size": 8, "lr": 0.003}


def seen(trainer, n: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shown = {"observation": rng.standard_normal((n, 2)).astype(np.float32)}
    if trainer._parts[0].mask:
        shown["action_mask"] = np.tile(np.array([1, 1, 0], np.int8), (n, 1))
    return shown


def distinct(trainer) -> None:
    rng = np.random.default_rng(1)
    for flat in (trainer.actor.flat, trainer.critics.step.flat, trainer.critics._target_parameters.flat):
        flat[...] = 0.5 * rng.standard_normal(flat.shape)


@pytest.mark.parametrize("world", [SignEnv, MaskedEnv])
def test_a_choice_is_valued_and_improved_as_the_expectation_over_all_choices(world):
    trainer = trainer_of(SACAlgorithmConfig(**QUICK), world)
    distinct(trainer)
    observations, alpha = seen(trainer), 0.3
    (output,), _ = trainer._logits(observations)
    leaf = torch.tensor(output.T, dtype=torch.float64, requires_grad=True)
    allowed = torch.tensor(observations.get("action_mask", np.ones(output.T.shape))) != 0
    log_p = torch.log_softmax(torch.where(allowed, leaf, torch.tensor(MASKED_LOGIT, dtype=torch.float64)), 1)
    p = log_p.exp()
    online, target = (
        torch.tensor(np.minimum(*(network(observations) for network in critic.networks))).double()
        for critic in (trainer.critics.online, trainer.critics.target)
    )
    found = trainer._draw(observations)
    entropy = -(p * torch.where(allowed, log_p, 0.0)).sum(1)
    np.testing.assert_allclose(found.entropy, entropy.detach(), rtol=1e-4)
    np.testing.assert_allclose(found.value(), (p * target).sum(1).detach(), rtol=1e-4, atol=1e-5)
    loss = (p * torch.where(allowed, alpha * log_p - online, 0.0)).sum(1).mean()
    loss.backward()
    gradients = []
    (output,), _ = trainer._logits(observations)
    trainer._logits = lambda _: ([output], gradients.extend)
    assert trainer._draw(observations).improve(alpha) == pytest.approx(float(loss.detach()), rel=1e-4)
    np.testing.assert_allclose(gradients[0].T, leaf.grad, rtol=1e-3, atol=1e-6)


def test_numbers_are_improved_along_the_gradient_of_the_lower_critic():
    """By differences: the loss of fixed noise at the output and a little beside it."""
    trainer = trainer_of(SACAlgorithmConfig(**QUICK), BoundedEnv)
    distinct(trainer)
    observations, alpha = seen(trainer), 0.3
    (base,), _ = trainer._logits(observations)
    gradients = []

    def loss_at(output: np.ndarray) -> float:
        trainer.rng = np.random.default_rng(5)
        trainer._logits = lambda _: ([output], gradients.extend)
        return trainer._draw(observations).improve(alpha)

    loss_at(base)
    gradient = gradients[0]
    for i, j in [(0, 0), (1, 2), (2, 1), (3, 4)]:
        step = np.zeros_like(base)
        step[i, j] = 1e-2
        slope = (loss_at(base + step) - loss_at(base - step)) / 2e-2
        assert gradient[i, j] == pytest.approx(slope, rel=0.03, abs=2e-4)


def test_targets_count_the_entropy_of_what_follows_and_the_lower_follower():
    trainer = trainer_of(SACAlgorithmConfig(**QUICK, entropy_coef=0.5, entropy_tuning=False), SignEnv)
    distinct(trainer)
    for _ in range(4):
        trainer.update(epoch=0, progress=0.0)
    given = {}
    trainer.critics.learn = lambda inputs, targets, chosen: given.update(targets=targets) or {}
    batch = trainer.replay.sample(8, np.random.default_rng(0))
    after = trainer._draw(batch.next_observations)
    expected = batch.returns + batch.discounts * (after.value() + 0.5 * after.entropy)
    trainer._learn_from(batch)
    np.testing.assert_allclose(given["targets"], expected, rtol=1e-5)


@pytest.mark.parametrize(("world", "wanted"), [(SignEnv, 0.3 * 0.5 * np.log(2)), (BoundedEnv, -2 * 0.3)])
def test_the_policy_keeps_the_wanted_entropy(world, wanted):
    config = SACAlgorithmConfig(
        n_warmup_steps=20,
        batch_size=64,
        lr=0.003,
        entropy_coef_lr=0.01,
        target_entropy_multiplier=0.3,
        gamma=0.0,
        entropy_coef=0.1,
    )
    trainer = trainer_of(config, world, n_envs=4)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(400)]
    late = np.mean([report.metrics["train/entropy"] for report in reports[-40:]])
    assert trainer.target_entropy == pytest.approx(wanted)
    assert late == pytest.approx(wanted, abs=0.12)


def test_without_tuning_the_weight_of_the_entropy_stays():
    trainer = trainer_of(SACAlgorithmConfig(**QUICK, entropy_coef=0.25, entropy_tuning=False), SignEnv)
    for _ in range(6):
        report = trainer.update(epoch=0, progress=0.0)
    assert report.metrics["train/entropy_coef"] == pytest.approx(0.25)


@pytest.mark.parametrize(("world", "best"), [(SignEnv, 5.0), (BoundedEnv, 0.0)])
def test_what_it_learnt_pays(world, best):
    config = SACAlgorithmConfig(
        n_warmup_steps=40, batch_size=64, lr=0.01, gamma=0.0, entropy_coef=0.01, entropy_tuning=False
    )
    trainer = trainer_of(config, world, n_envs=4)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(400)]
    early, late = (
        [v for report in part for v in report.episode_returns] for part in (reports[:40], reports[-40:])
    )
    assert abs(best - np.mean(late)) < 0.7 * abs(best - np.mean(early))
