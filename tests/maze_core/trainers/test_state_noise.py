"""Algorithms whose policy has state-dependent noise: gradients, learning, exact resume."""

import numpy as np
import pytest
import torch

from maze_core.models.config import GaussianArgs
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from maze_core.trainers.sac_config import SACAlgorithmConfig
from tests.maze_core.models import autograd
from tests.maze_core.trainers.small_worlds import OneNumberEnv, flat, learner_of, parts, trainer_of

NOISE = GaussianArgs(state_dependent_noise=True, noise_ticks=3, initial_log_std=-1.0)
SETTINGS = {
    "a2c": A2CAlgorithmConfig(n_rollout_steps=8, lr=0.02, gamma=0.0),
    "ppo": PPOAlgorithmConfig(n_rollout_steps=16, lr=0.01, gamma=0.0, batch_size=32),
    "sac": SACAlgorithmConfig(
        n_warmup_steps=40, batch_size=64, lr=0.01, gamma=0.0, entropy_coef=0.01, entropy_tuning=False
    ),
}


def made(name: str, **given):
    return trainer_of(SETTINGS[name], OneNumberEnv, gaussian=NOISE, **given)


@pytest.mark.parametrize(("name", "n_updates"), [("a2c", 300), ("ppo", 60), ("sac", 400)])
def test_what_it_learnt_pays(name, n_updates):
    trainer = made(name, n_envs=8)
    returns = [trainer.update(epoch=0, progress=0.0).episode_returns for _ in range(n_updates)]
    early, late = (np.mean(np.concatenate(part)) for part in (returns[: n_updates // 10], returns[-20:]))
    assert abs(late) < 0.6 * abs(early)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_restored_learner_goes_on_bit_by_bit(name):
    first, second = made(name), made(name, seed=8)
    for _ in range(30):
        first.update(epoch=0, progress=0.0)
    second.load_state_dict(*first.state_dict())
    for trainer in (first, second):
        trainer.reset_envs([5, 6])
        for _ in range(3):
            trainer.update(epoch=0, progress=0.0)
    left, right = (trainer.state_dict() for trainer in (first, second))
    assert left[0] == right[0]
    assert all(np.array_equal(left[1][key], right[1][key]) for key in left[1])


def test_policy_and_critic_together_have_the_gradients_of_autograd():
    model = parts(OneNumberEnv, gaussian=NOISE)
    learner, step = learner_of(model.policy, model.critic)
    assert learner._steps[0]._policy_and_critic is not None, "computed at once"
    rng = np.random.default_rng(0)
    rows = (
        {"observation": rng.standard_normal((5, 2), np.float32)},
        {"action": rng.standard_normal((5, 1), np.float32)},
    )
    upstream = rng.standard_normal((3, 5), np.float32)
    step.zero()
    learner.evaluate(0, *rows, np.zeros(5, int)).backward(*upstream)
    leaf = autograd.Leaves()
    log_probs, entropy = autograd.log_probs_and_entropy(model.policy, 0, *rows, None, leaf)
    values = autograd.values(model.critic, 0, rows[0], leaf)
    expected = zip(upstream, (log_probs, entropy, values), strict=True)
    loss = torch.stack([(torch.from_numpy(d) * found).sum() for d, found in expected]).sum()
    gradients = torch.autograd.grad(loss, [leaf(parameter) for parameter in step.parameters.values()])
    for ours, theirs in zip(step.gradients.values(), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4)


def test_sac_wants_the_entropy_of_its_numbers_and_not_of_its_matrices():
    assert made("sac").target_entropy == -1.0


def test_sac_draws_one_matrix_for_all_rows_and_its_log_std_learns():
    trainer = made("sac")
    seen = {"observation": np.ones((6, 2), np.float32)}
    assert np.ptp(trainer._draw(seen).entropy) < 1e-5, "equal rows act alike"
    before = trainer.policy.steps[0].networks[0].parameter.copy()
    for _ in range(25):
        trainer.update(epoch=0, progress=0.0)
    assert (trainer.policy.steps[0].networks[0].parameter != before).all()


def test_sac_improves_along_the_gradient_of_the_whole_policy():
    """By differences, of every parameter: the loss of one matrix, a little beside where the policy is."""
    trainer = made("sac")
    for parameter in (*trainer.critics.online.parameters.values(), *trainer.policy.parameters.values()):
        parameter += 0.3 * np.random.default_rng(parameter.size).standard_normal(parameter.shape, np.float32)
    seen = {"observation": np.random.default_rng(1).standard_normal((7, 2), np.float32)}

    def loss() -> float:
        trainer.rng = np.random.default_rng(5)
        return trainer._draw(seen).improve(0.3)

    trainer.actor.zero()
    loss()
    gradient = trainer.actor.gradient.copy()
    for i in range(0, len(gradient), 3):
        start, ends = trainer.actor.flat[i], []
        for step in (1e-2, -1e-2):
            trainer.actor.flat[i] = start + step
            ends.append(loss())
        trainer.actor.flat[i] = start
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=0.05, abs=2e-3)


def test_the_same_seed_learns_the_same():
    ends = []
    for _ in range(2):
        trainer = made("ppo")
        trainer.update(epoch=0, progress=0.0)
        ends.append(flat(trainer.policy))
    assert np.array_equal(*ends)
