"""TD3: smoothed targets, the delayed policy, the first critic's gradient, exploration."""

import numpy as np
import pytest

from maze_core.models.networks import action_input
from maze_core.trainers.td3_config import TD3AlgorithmConfig
from tests.maze_core.trainers.small_worlds import BoundedEnv, trainer_of

QUICK = {"n_warmup_steps": 4, "batch_size": 8, "lr": 0.003}


def shown(n: int = 6) -> dict[str, np.ndarray]:
    return {"observation": np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)}


def started(**settings):
    trainer = trainer_of(TD3AlgorithmConfig(**QUICK, **settings), BoundedEnv)
    for _ in range(3):
        trainer.update(epoch=0, progress=0.0)
    rng = np.random.default_rng(1)
    for parameters in (
        trainer.actor,
        trainer._target,
        trainer.critics.step,
        trainer.critics._target_parameters,
    ):
        parameters.flat[...] = 0.5 * rng.standard_normal(parameters.flat.shape)
    return trainer


def inputs(observations, actions: np.ndarray) -> dict[str, np.ndarray]:
    """Of actions ``[N, 2]``."""
    heads = {action_input(name): actions[:, i : i + 1] for i, name in enumerate(("first", "second"))}
    return {**observations, **heads}


@pytest.mark.parametrize("std", [0.0, 0.2])
def test_targets_are_the_lower_value_of_the_followers_action_with_cut_noise(std):
    trainer, same = (started(target_std=std, target_noise_limit=0.1) for _ in range(2))
    for each in (trainer, same):
        for name, array in each.networks["actor_target"].networks[0].parameters.items():
            array *= 0 if "bias" in name else 3  # both bounds are reached
    batch = trainer.replay.sample(200, np.random.default_rng(0))
    state = trainer.rng.bit_generator.state
    given = {}
    learn = trainer.critics.learn
    trainer.critics.learn = lambda seen, targets, chosen: (
        given.update(targets=targets) or learn(seen, targets, chosen)
    )
    trainer._learn_from(batch)
    follower = same.networks["actor_target"].networks[0]
    trainer.rng.bit_generator.state = state
    noise = (std * trainer.rng.standard_normal((2, 200), np.float32)).clip(-0.1, 0.1).T
    acted = (np.tanh(follower(batch.next_observations)) + noise).clip(-1, 1).astype(np.float32)
    assert std == 0 or {-1, 1} < set(acted.flat)
    critics = same.networks["target"].networks
    values = np.minimum(*(critic(inputs(batch.next_observations, acted))[:, 0] for critic in critics))
    np.testing.assert_allclose(
        given["targets"], batch.returns + batch.discounts * values, rtol=1e-4, atol=1e-5
    )


def test_policy_and_followers_move_at_every_second_step_only():
    trainer = started(policy_delay=2)
    trainer.n_learnt = 0
    batch = trainer.replay.sample(8, np.random.default_rng(0))
    moved = []
    for _ in range(4):
        before = [p.flat.copy() for p in (trainer.actor, trainer._target, trainer.critics._target_parameters)]
        trainer._learn_from(batch)
        after = (trainer.actor, trainer._target, trainer.critics._target_parameters)
        moved.append([not np.array_equal(b, a.flat) for b, a in zip(before, after, strict=True)])
    assert moved == [[False] * 3, [True] * 3] * 2


def test_the_policy_climbs_the_first_critic():
    """By differences: the loss at the network's output and a little beside it."""
    trainer = started()
    observations = shown()
    (base,), _ = trainer._actor(observations)
    gradients = []
    trainer._actor = lambda _: ([base], gradients.extend)
    loss = trainer._improve(observations, len(observations["observation"]))

    def loss_at(output: np.ndarray) -> float:
        first = trainer.networks["critic"].networks[0]
        return -float(first(inputs(observations, np.tanh(output).T)).mean())

    assert loss == pytest.approx(loss_at(base), rel=1e-5)
    for i, j in [(0, 0), (1, 3)]:
        step = np.zeros_like(base)
        step[i, j] = 1e-2
        slope = (loss_at(base + step) - loss_at(base - step)) / 2e-2
        assert gradients[0][i, j] == pytest.approx(slope, rel=0.03, abs=1e-5)


def test_exploration_has_the_deviation_that_was_asked_for_and_stays_within_bounds():
    trainer = trainer_of(TD3AlgorithmConfig(**QUICK, exploration_std=0.3), BoundedEnv, n_envs=2000)
    rollout = trainer.collector.collect(trainer.policy)
    for samples in rollout.steps[0].actions.values():
        assert samples.std() == pytest.approx(0.3, rel=0.1)
        assert np.abs(samples).max() <= 1


def test_noise_that_remembers_is_small_at_first_and_grows_within_an_episode():
    """One tick of 0.01 adds a deviation of 0.3 · √0.01; after three, it is that of three, but for their pull."""
    config = TD3AlgorithmConfig(
        **QUICK, exploration_std=0.3, exploration_noise="ornstein_uhlenbeck", n_rollout_steps=3
    )
    trainer = trainer_of(config, BoundedEnv, n_envs=2000)
    uniform = trainer.collector.collect(trainer._uniform).steps[0].actions["second"]
    assert uniform.std() == pytest.approx(1 / 3**0.5, rel=0.1)
    trainer.reset_envs(range(2000))
    samples = trainer.collector.collect(trainer.policy).steps[0].actions["second"]
    for t, deviation in ((0, 0.03), (2, 0.03 * 3**0.5)):
        assert samples[t].std() == pytest.approx(deviation, rel=0.1)


def test_what_it_learnt_pays():
    config = TD3AlgorithmConfig(n_warmup_steps=40, batch_size=64, lr=0.01, gamma=0.0)
    trainer = trainer_of(config, BoundedEnv, n_envs=4)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(400)]
    early, late = (
        [v for report in part for v in report.episode_returns] for part in (reports[:40], reports[-40:])
    )
    assert np.mean(late) > 0.7 * np.mean(early)


def test_the_policys_loss_is_told_of_the_gradient_steps_that_moved_it():
    """Three steps an update and a delay of two: the policy moves in the second, then in the first and the third."""
    trainer = trainer_of(TD3AlgorithmConfig(**QUICK, n_gradient_steps=3), BoundedEnv)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(4)]
    assert ["train/policy_loss" in report.metrics for report in reports] == [False, True, True, True]


def test_a_restored_trainer_goes_on_counting_the_gradient_steps():
    one, other = (trainer_of(TD3AlgorithmConfig(**QUICK, n_gradient_steps=3), BoundedEnv) for _ in range(2))
    for _ in range(4):
        one.update(epoch=0, progress=0.0)
    other.load_state_dict(*one.state_dict())
    assert other.n_learnt == 3 * 3
