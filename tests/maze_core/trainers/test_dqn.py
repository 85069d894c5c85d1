"""DQN and QR-DQN: targets by hand, exploration, masks, duels, priorities, the network that follows."""

import numpy as np
import pytest
from gymnasium import spaces

from maze_core.data.replay import Transitions
from maze_core.trainers.dqn_config import DQNAlgorithmConfig, QRDQNAlgorithmConfig
from tests.maze_core.trainers.small_worlds import MaskedEnv, SignEnv, trainer_of


def transitions(n: int = 3, **arrays) -> Transitions:
    rng = np.random.default_rng(0)
    seen = {"observation": rng.standard_normal((n, 2)).astype(np.float32)}
    after = {"observation": rng.standard_normal((n, 2)).astype(np.float32), **arrays.pop("after", {})}
    given = {
        "observations": seen | arrays.pop("seen", {}),
        "actions": {"action": np.arange(n) % 2},
        "returns": np.arange(n, dtype=np.float32),
        "discounts": np.full(n, 0.5, np.float32),
        "next_observations": after,
        "weights": np.ones(n, np.float32),
        "rows": np.arange(n),
    }
    return Transitions(**given | arrays)


def values_of(trainer, network, observations) -> np.ndarray:
    """Q ``[N, n]`` as the policy acts by it."""
    return network({name: array for name, array in observations.items() if name != "action_mask"})


def follower(trainer):
    return trainer.networks["target"].networks[0]


def shake(trainer) -> None:
    """Give learner and follower weights that tell them apart."""
    rng = np.random.default_rng(1)
    for flat in (trainer.optimizer.flat, trainer._target.flat):
        flat[...] = rng.standard_normal(flat.shape)


@pytest.mark.parametrize("duelling", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_the_target_is_the_followers_value_of_the_action_that_the_judge_prefers(double, duelling):
    trainer = trainer_of(DQNAlgorithmConfig(double=double, duelling=duelling))
    shake(trainer)
    batch = transitions(20)
    judged = values_of(
        trainer, trainer._actor.logits if double else follower(trainer), batch.next_observations
    )
    after = values_of(trainer, follower(trainer), batch.next_observations)
    expected = batch.returns + 0.5 * after[np.arange(20), judged.argmax(1)]
    np.testing.assert_allclose(trainer._targets(batch)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_forbidden_action_is_never_the_best_next_one():
    trainer = trainer_of(DQNAlgorithmConfig(), MaskedEnv)
    trainer._actor.logits.parameters["output_bias"][2] = 1000.0
    mask = {"action_mask": np.tile(np.array([1, 1, 0], np.int8), (4, 1))}
    assert trainer._targets(transitions(4, after=mask)).max() < 500


@pytest.mark.parametrize("best", [0, 1])
def test_of_the_actions_that_are_allowed_the_most_valuable_is_the_next_one(best):
    trainer = trainer_of(DQNAlgorithmConfig(), MaskedEnv)
    values = np.full((3, 2), -5.0, np.float32)
    values[best], values[2] = -4.0, 7.0
    mask = {"action_mask": np.array([[1, 1, 0]] * 2, np.int8)}
    assert trainer._best(values, mask).tolist() == [best] * 2


def test_in_a_duel_gradients_go_back_the_way_that_values_came():
    """Values are linear in the output: ⟨d, V(x)⟩ = ⟨Vᵀ(d), x⟩."""
    trainer, rng = trainer_of(QRDQNAlgorithmConfig(n_quantiles=4, duelling=True)), np.random.default_rng(0)
    x = rng.standard_normal((3 * 4, 5))
    values, _ = trainer._values(lambda _: ((x,), None), {})
    d = rng.standard_normal(values.shape)
    (back,) = trainer._pulled(d)
    assert (d * values).sum() == pytest.approx((back * x).sum())


def test_each_quantile_moves_towards_all_quantiles_of_the_target():
    trainer = trainer_of(QRDQNAlgorithmConfig(n_quantiles=4))
    shake(trainer)
    batch = transitions(60)
    targets = trainer._targets(batch)
    assert targets.shape == (4, 60)
    found = values_of(trainer, follower(trainer), batch.next_observations)
    judged = values_of(trainer, trainer._actor.logits, batch.next_observations)
    expected = batch.returns + 0.5 * found[np.arange(60), judged.argmax(1)]
    np.testing.assert_allclose(targets.mean(0), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        DQNAlgorithmConfig(lr=0.01, max_grad_norm=None),
        DQNAlgorithmConfig(lr=0.01, duelling=True),
        QRDQNAlgorithmConfig(lr=0.01, n_quantiles=4),
        QRDQNAlgorithmConfig(lr=0.01, n_quantiles=4, duelling=True),
    ],
    ids=["dqn", "duel", "quantiles", "both"],
)
def test_learning_brings_the_values_of_what_was_done_to_their_targets_and_leaves_the_others(config):
    trainer = trainer_of(config)
    batch = transitions(1, actions={"action": np.array([1])}, discounts=np.zeros(1, np.float32))
    batch.returns[...] = 3.0
    for _ in range(400):
        trainer._learn_from(batch)
    ((other, chosen),) = values_of(trainer, trainer._actor.logits, batch.observations)
    assert chosen == pytest.approx(3.0, abs=0.05)
    assert other < 2.9 if not config.duelling else other < 3.5


def test_actions_are_counted_from_where_their_space_begins():
    config = DQNAlgorithmConfig(lr=0.01, max_grad_norm=None)
    trainer = trainer_of(config, lambda: SignEnv(spaces.Discrete(2, start=7)))
    batch = transitions(1, actions={"action": np.array([8])}, discounts=np.zeros(1, np.float32))
    batch.returns[...] = 3.0
    for _ in range(200):
        trainer._learn_from(batch)
    assert values_of(trainer, trainer._actor.logits, batch.observations)[0, 1] == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(
    ("progress", "epsilon"),
    [(0.0, 0.9), (0.1, 0.5), (0.2, 0.1), (0.9, 0.1)],
    ids=["start", "half", "end", "after"],
)
def test_exploration_falls_in_a_straight_line_over_its_part_of_the_run(progress, epsilon):
    config = DQNAlgorithmConfig(
        initial_epsilon=0.9, final_epsilon=0.1, exploration_fraction=0.2, n_warmup_steps=0
    )
    trainer = trainer_of(config)
    report = trainer.update(epoch=0, progress=progress)
    assert report.metrics["train/epsilon"] == pytest.approx(epsilon)
    assert trainer.policy.parameters["steps.0.agents.0.epsilon"] == pytest.approx(epsilon)


def test_the_policy_explores_as_often_as_epsilon_says_and_never_where_it_may_not():
    trainer = trainer_of(DQNAlgorithmConfig(n_warmup_steps=0), MaskedEnv, n_envs=1000)
    trainer._follow_schedules(0.1)  # ε = 0.525
    trainer._actor.logits.parameters["output_bias"][...] = [0.0, 10.0, 20.0]
    actions = trainer.collector.collect(trainer.policy).steps[0].actions["action"]
    assert (actions == 0).mean() == pytest.approx(0.525 / 2, abs=0.04)
    assert (actions == 2).sum() == 0


@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_the_follower_moves_after_so_many_steps_and_by_tau(tau):
    config = DQNAlgorithmConfig(target_update_steps=6, tau=tau, n_warmup_steps=0, batch_size=4, lr=0.01)
    trainer = trainer_of(config)
    trainer._target.flat[...] = 1.0
    for n_seen in (2, 4):
        trainer.update(epoch=0, progress=0.0)
        assert trainer.n_seen == n_seen
        assert (trainer._target.flat == 1.0).all()
    trainer.update(epoch=0, progress=0.0)
    np.testing.assert_allclose(trainer._target.flat, 1.0 + tau * (trainer.optimizer.flat - 1.0), atol=1e-6)


def test_errors_become_priorities_and_weights_make_up_for_them_more_and_more():
    config = DQNAlgorithmConfig(prioritized=True, priority_alpha=1.0, priority_beta=0.4, n_warmup_steps=0)
    trainer = trainer_of(config)
    trainer.update(epoch=0, progress=0.5)
    assert trainer.replay.beta == pytest.approx(0.7)
    batch = transitions(2, discounts=np.zeros(2, np.float32), returns=np.array([0.0, 50.0], np.float32))
    before = [values_of(trainer, trainer._actor.logits, batch.observations)[i, i] for i in range(2)]
    trainer._learn_from(batch)
    found = trainer.replay._tree.priorities(np.arange(2))
    np.testing.assert_allclose(found, np.abs(np.array([0.0, 50.0]) - before), rtol=1e-4, atol=1e-5)


def test_what_it_learnt_pays(monkeypatch):
    trainer = trainer_of(DQNAlgorithmConfig(n_warmup_steps=20, lr=0.01, gamma=0.0), SignEnv, n_envs=4)
    reports = [trainer.update(epoch=0, progress=i / 150) for i in range(150)]
    late = [value for report in reports[-20:] for value in report.episode_returns]
    assert np.mean(late) > 4.5
