"""SAC: soft targets and policy gradients against their definition, the entropy it keeps, both kinds of actions."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from maze_core.errors import InvalidSpecificationError
from maze_core.models.heads import MASKED_LOGIT
from maze_core.rollout.demonstrations import demonstrations
from maze_core.trainers.sac_config import SACAlgorithmConfig, SACfDAlgorithmConfig
from tests.maze_core.trainers.small_worlds import BoundedEnv, MaskedEnv, SignEnv, parts, recorded, trainer_of

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


@pytest.mark.parametrize("alpha", [0.3, 3.0])
@pytest.mark.parametrize("world", [SignEnv, MaskedEnv])
def test_a_choice_is_valued_and_improved_as_the_expectation_over_all_choices(world, alpha):
    trainer = trainer_of(SACAlgorithmConfig(**QUICK), world)
    distinct(trainer)
    observations = seen(trainer)
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


def test_only_differences_of_logits_count_however_large_they_are():
    trainer = trainer_of(SACAlgorithmConfig(**QUICK), SignEnv)
    entropies = []
    for most in (0, 200):
        trainer._logits = lambda _, most=most: ([np.full((2, 5), most, np.float32)], None)
        entropies.append(trainer._draw(seen(trainer)).entropy)
    np.testing.assert_array_equal(*entropies)
    np.testing.assert_allclose(entropies[0], np.log(2), rtol=1e-6)


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


def test_choices_are_counted_from_where_their_space_begins():
    trainer = trainer_of(SACAlgorithmConfig(**QUICK), lambda: SignEnv(spaces.Discrete(2, start=7)))
    for _ in range(20):
        trainer.update(epoch=0, progress=0.0)
    batch, given = trainer.replay.sample(8, np.random.default_rng(0)), {}
    trainer.critics.learn = lambda inputs, targets, chosen: given.update(chosen=chosen) or {}
    trainer._learn_from(batch)
    assert set(batch.actions["action"]) == {7, 8}
    np.testing.assert_array_equal(given["chosen"], batch.actions["action"] - 7)


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


def demonstrated(**settings):
    """A trainer with five episodes of SignEnv whose observations lie beyond 100."""
    config = SACfDAlgorithmConfig(**QUICK, **settings)
    made = parts(SignEnv, needs=config.model_needs)
    episodes = recorded(SignEnv)
    for episode in episodes.values():
        episode.observations[0]["observation"][...] += 100
    made.demonstrations = demonstrations(episodes, made.env, [], made.policy)
    trainer = config.build(made)
    trainer.reset_envs([0, 1])
    return trainer


def test_batches_have_their_share_of_demonstrations_and_returns_over_several_steps():
    trainer = demonstrated(demonstration_share=0.25, n_step_returns=2, gamma=0.5, replay_capacity=10)
    batches, learn = [], trainer._learn_from
    trainer._learn_from = lambda batch: batches.append(batch) or learn(batch)
    for _ in range(20):
        trainer.update(epoch=0, progress=0.0)
    assert all(
        (batch.observations["observation"][:, 0] > 50).tolist() == [True] * 2 + [False] * 6
        for batch in batches
    )
    assert {float(x) for batch in batches for x in batch.discounts} <= {0.0, 0.25, 0.5}
    assert len(trainer.replay) == 10
    assert trainer.replay.gamma == 0.5


def test_with_a_share_of_nothing_it_is_sac_bit_by_bit():
    plain, with_data = trainer_of(SACAlgorithmConfig(**QUICK), SignEnv), demonstrated(demonstration_share=0.0)
    for _ in range(6):
        ours, theirs = (trainer.update(epoch=0, progress=0.0).metrics for trainer in (plain, with_data))
        assert ours == theirs


def test_sac_from_demonstrations_goes_on_to_the_same_bits():
    first, second = demonstrated(), demonstrated()
    for _ in range(4):
        first.update(epoch=0, progress=0.0)
    second.load_state_dict(*first.state_dict())
    for trainer in (first, second):
        trainer.reset_envs([5, 6])
    assert first.update(epoch=0, progress=0.0) == second.update(epoch=0, progress=0.0)


def test_without_episodes_it_says_what_to_name():
    with pytest.raises(InvalidSpecificationError, match=r"dataset\.run"):
        trainer_of(SACfDAlgorithmConfig(**QUICK), SignEnv)
