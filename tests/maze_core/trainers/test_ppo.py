"""PPO: passes and minibatches, the KL stop, fixed old log-probabilities, the clip; each switch both ways."""

import math

import numpy as np
import pytest

from maze_core.trainers import ppo
from maze_core.trainers.on_policy import prepare
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.models.autograd import values
from tests.maze_core.trainers.small_worlds import PictureEnv, flat, probability, trainer_of, two_actions
from tests.maze_core.trainers.test_golden import of_pictures

QUICK = {"n_rollout_steps": 6, "lr": 0.01, "entropy_coef": 0.0}


class Passes:
    """Stands in for the gradient step: notes the minibatches and reports the divergences it is given."""

    def __init__(self, divergences):
        self.batches = []
        self._divergences = iter(divergences)

    def __call__(self, batch, policy_loss, *, epoch):
        self.batches.append({key: samples.advantages.copy() for key, samples in batch.items()})
        names = ("train/policy_loss", "train/value_loss", "train/entropy", "train/grad_norm")
        return {**dict.fromkeys(names, 0.0), "train/approx_kl": next(self._divergences)}


def passes(divergences, **settings):
    """The gradient steps of one learning on 4 rows in minibatches of 2: two per pass."""
    trainer = trainer_of(PPOAlgorithmConfig(batch_size=2, **{**QUICK, **settings}))
    trainer.gradient_step = noted = Passes(divergences)
    trainer._learn({0: two_actions([1.0, 2.0, 3.0, 4.0])}, epoch=0)
    return noted.batches


@pytest.mark.parametrize("n", [1, 3])
def test_every_pass_takes_all_minibatches(n):
    batches = passes([0.0] * 9, n_optimization_epochs=n, normalize_advantages=False)
    assert len(batches) == 2 * n
    for i in range(n):
        rows = np.concatenate([batch[0] for batch in batches[2 * i : 2 * i + 2]])
        assert sorted(rows.tolist()) == [1.0, 2.0, 3.0, 4.0]


def test_every_pass_has_an_order_of_its_own():
    batches = passes([0.0] * 40, n_optimization_epochs=20, normalize_advantages=False)
    orders = {
        tuple(np.concatenate([a[0], b[0]]).tolist()) for a, b in zip(batches[::2], batches[1::2], strict=True)
    }
    assert len(orders) > 3


@pytest.mark.parametrize(
    ("target", "divergences", "n_steps"),
    [
        (None, [9.0] * 8, 8),
        (0.5, [0.4] * 8, 8),
        (0.5, [0.6, 0.6], 2),
        (0.5, [0.1, 0.1, 0.6, 0.6], 4),
        (0.5, [9.0, 0.0], 2),
        (0.5, [0.5] * 8, 8),
        (0.5, [0.0, 0.9, 0.0, 0.9, 0.0, 0.9, 0.0, 0.9], 8),
    ],
    ids=["off", "below", "above", "later", "mean", "equal", "mean of each"],
)
def test_the_passes_end_after_the_one_whose_mean_divergence_exceeds_the_target(target, divergences, n_steps):
    assert len(passes(divergences, n_optimization_epochs=4, target_kl=target)) == n_steps


def test_the_target_is_asked_of_the_last_pass_and_not_of_all_of_them():
    """0, 0, 0, then 0.6: the last pass exceeds 0.5, their mean 0.15 does not."""
    batches = passes([0.0] * 6 + [0.6] * 4, n_optimization_epochs=5, target_kl=0.5)
    assert len(batches) == 8


def test_a_real_update_stops_where_its_policy_went_too_far():
    counts = []
    for target in (None, 1e-6):
        trainer = trainer_of(PPOAlgorithmConfig(target_kl=target, batch_size=4, **QUICK))
        report = trainer.update(epoch=0, progress=0.0)
        counts.append(int(trainer.optimizer.state_dict()["step"]))
        assert report.metrics["train/approx_kl"] > 1e-6
    assert counts == [12, 3]


@pytest.mark.parametrize("normalize", [True, False])
def test_advantages_are_normalised_per_minibatch_or_kept(normalize):
    for batch in passes([0.0] * 8, n_optimization_epochs=1, normalize_advantages=normalize):
        rows = batch[0]
        if normalize:
            assert rows.mean() == pytest.approx(0.0, abs=1e-6)
            assert rows.std(ddof=1) == pytest.approx(1.0, abs=1e-5)
        else:
            assert set(rows.tolist()) < {1.0, 2.0, 3.0, 4.0}


def test_a_normalised_minibatch_leaves_the_batch_as_it_was():
    """The next pass must not normalise what a pass before it normalised."""
    batch = {0: two_actions([1.0, 2.0, 3.0, 4.0])}
    trainer = trainer_of(PPOAlgorithmConfig(batch_size=2, **QUICK))
    trainer._learn(batch, epoch=0)
    assert batch[0].advantages.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_minibatches_of_one_row_teach():
    trainer = trainer_of(PPOAlgorithmConfig(batch_size=1, **QUICK))
    before = flat(trainer.policy)
    trainer.update(epoch=0, progress=0.0)
    assert not np.array_equal(flat(trainer.policy), before)


def test_where_one_row_of_a_sub_step_is_in_a_minibatch_it_is_compared_with_the_others():
    trainer = trainer_of(PPOAlgorithmConfig(batch_size=5, n_rollout_steps=5), make_boxes, n_envs=1)
    trainer.gradient_step = noted = Passes([0.0] * 9)
    trainer.update(epoch=0, progress=0.0)
    for batch in noted.batches:
        rows = np.concatenate(list(batch.values()))
        assert rows.mean() == pytest.approx(0.0, abs=1e-5)
        assert rows.std(ddof=1) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("advantage", "direction"), [(1.0, 1), (-1.0, -1)])
def test_the_better_action_becomes_likelier(advantage, direction):
    trainer = trainer_of(PPOAlgorithmConfig(normalize_advantages=False, **QUICK))
    before = probability(trainer)
    trainer._learn({0: two_actions([advantage] * 2)}, epoch=0)
    assert (probability(trainer) - before) * direction > 0


def test_ratios_are_taken_against_the_policy_that_acted_in_every_pass():
    """The loss of a pass, recomputed from the probabilities before and after the update so far."""
    trainer = trainer_of(PPOAlgorithmConfig(normalize_advantages=False, n_optimization_epochs=3, **QUICK))
    samples = two_actions([1.0, 1.0])
    samples.log_probs = np.full(2, math.log(probability(trainer)), np.float32)
    acted, losses, expected = probability(trainer), [], []
    step = trainer.gradient_step

    def look(batch, policy_loss, *, epoch):
        ratio = probability(trainer) / acted
        expected.append(-min(ratio, min(max(ratio, 0.8), 1.2)))
        report = step(batch, policy_loss, epoch=epoch)
        losses.append(report["train/policy_loss"])
        return report

    trainer.gradient_step = look
    trainer._learn({0: samples}, epoch=0)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[0] == pytest.approx(-1.0)
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize(("clip_range", "moves"), [(0.01, False), (0.5, True), (10.0, True)])
def test_beyond_the_clip_a_gain_moves_the_policy_no_further(clip_range, moves):
    trainer = trainer_of(PPOAlgorithmConfig(clip_range=clip_range, value_loss_coef=0.0, **QUICK))
    samples = two_actions([1.0, 1.0])
    samples.log_probs = np.full(2, math.log(probability(trainer) / 1.3), np.float32)
    before = probability(trainer)
    trainer.gradient_step({0: samples}, trainer._policy_loss, epoch=0)
    assert (probability(trainer) != before) == moves


def test_the_report_says_how_far_the_policy_moved_and_how_often_it_was_clipped():
    trainer = trainer_of(PPOAlgorithmConfig(**QUICK))
    samples = two_actions([1.0, 1.0])
    ratio = probability(trainer) / 0.5
    (first, *_) = trainer._learn({0: samples}, epoch=0)
    assert first["train/approx_kl"] == pytest.approx(ratio - 1 - math.log(ratio), abs=1e-6)
    assert first["train/clip_fraction"] == float(abs(ratio - 1) > 0.2)


def test_the_policy_that_learns_is_the_one_that_acts():
    trainer = trainer_of(PPOAlgorithmConfig(lr=0.02, batch_size=32, n_rollout_steps=32), n_envs=4)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(20)]
    first, last = reports[0].episode_returns, reports[-1].episode_returns
    assert sum(first) / len(first) < 3.5
    assert sum(last) / len(last) > 4.5, "SignEnv pays 5 to who has learnt"


@pytest.mark.parametrize(("schedule", "clips_all"), [("constant", False), ("linear", True)])
def test_a_linear_clip_range_falls_with_the_run(schedule, clips_all):
    settings = {**QUICK, "lr_schedule": "constant", "batch_size": 4, "n_optimization_epochs": 6}
    config = PPOAlgorithmConfig(clip_range=0.5, clip_range_schedule=schedule, **settings)
    trainer = trainer_of(config)
    trainer.update(epoch=0, progress=0.0)
    report = trainer.update(epoch=0, progress=1 - 1e-9)
    assert (report.metrics["train/clip_fraction"] > 0.25) == clips_all


VALUES = {"off": {}, "clipped": {"clip_range_value": 1e-3}, "wide": {"clip_range_value": 1e3}}


@pytest.mark.parametrize("name", VALUES)
def test_values_beyond_their_range_teach_the_critic_no_further(name):
    """Without a clip it takes all steps; within 1e-3 of where it was, the first of each row."""
    trainer = trainer_of(PPOAlgorithmConfig(batch_size=2, **QUICK, **VALUES[name]))
    samples = two_actions([0.0, 0.0], returns=5.0)
    samples.values = values(trainer.critic, 0, samples.observations).detach().numpy().astype(np.float32)
    for _ in range(3):
        steps = trainer._learn({0: samples}, epoch=0)
    assert (
        steps[-1]["train/value_loss"] == pytest.approx((5 - 1e-3 - samples.values[0]) ** 2 / 2, rel=1e-5)
    ) == (name == "clipped")


@pytest.mark.parametrize("pessimistic", [False, True])
def test_the_pessimistic_clip_brings_back_a_value_that_went_the_wrong_way(pessimistic):
    settings = {"clip_range_value": 0.1, "pessimistic_value_clip": pessimistic, "n_optimization_epochs": 1}
    trainer = trainer_of(PPOAlgorithmConfig(**QUICK, **settings))
    samples, before = two_actions([0.0], returns=9.0), flat(trainer.critic)
    samples.values += 5.0  # from which the value of now, near 0, has gone away from 9
    trainer._learn({0: samples}, epoch=0)
    assert (flat(trainer.critic) != before).any() == pessimistic


@pytest.mark.parametrize(("schedule", "factor"), [("constant", 1.0), ("linear", 0.25)])
def test_a_linear_clip_range_of_values_falls_with_the_run(schedule, factor):
    trainer = trainer_of(
        PPOAlgorithmConfig(clip_range_value=0.4, clip_range_value_schedule=schedule, **QUICK)
    )
    samples = two_actions([0.0], returns=9.0)
    for progress, expected in ((0.0, 0.4), (0.75, 0.4 * factor)):
        trainer.update(epoch=0, progress=progress)
        loss, _ = trainer._value_loss(samples, np.full(1, 5.0, np.float32))
        assert loss == pytest.approx((9 - expected) ** 2 / 2)


ADAPTIVE = {"lr_schedule": "kl_adaptive", "target_kl": 0.1}


@pytest.mark.parametrize(
    ("divergences", "lr"),
    [
        ([0.25, 0.15], 0.01),
        ([0.25, 0.16], 0.01 / 1.5),
        ([0.06, 0.04], 0.01),
        ([0.06, 0.03], 0.01 * 1.5),
        ([0.3, 0.3, 0.3, 0.3], 0.01 / 1.5**2),
        ([0.3, 0.3, 0.0, 0.0], 0.01),
    ],
    ids=["at twice", "beyond twice", "at half", "below half", "each pass", "to and fro"],
)
def test_an_adaptive_step_size_follows_the_mean_divergence_of_each_pass(divergences, lr):
    n = len(divergences) // 2
    config = PPOAlgorithmConfig(batch_size=2, n_optimization_epochs=n, **{**QUICK, **ADAPTIVE, "lr": 0.01})
    trainer = trainer_of(config)
    trainer.gradient_step = noted = Passes(divergences)
    noted_limits, ppo._LR_RANGE = ppo._LR_RANGE, (1e-6, 1.0)
    try:
        trainer._learn({0: two_actions([1.0, 2.0, 3.0, 4.0])}, epoch=0)
    finally:
        ppo._LR_RANGE = noted_limits
    assert len(noted.batches) == 2 * n, "no pass is left out"
    assert trainer.optimizer.lr == pytest.approx(lr)


def test_while_the_critic_learns_alone_the_step_size_stays():
    settings = {**QUICK, **ADAPTIVE, "lr": 1e-3, "critic_burn_in_epochs": 2}
    trainer = trainer_of(PPOAlgorithmConfig(**settings))
    for epoch in (0, 1):
        trainer.update(epoch=epoch, progress=0.0)
    assert trainer.optimizer.lr == 1e-3
    trainer.update(epoch=2, progress=0.0)
    assert trainer.optimizer.lr != 1e-3


@pytest.mark.parametrize(("kl", "limit"), [(0.0, 1e-2), (9.0, 1e-6)])
def test_an_adaptive_step_size_keeps_within_its_limits(kl, limit):
    trainer = trainer_of(PPOAlgorithmConfig(**{**QUICK, **ADAPTIVE, "lr": 1e-3}))
    for _ in range(30):
        trainer._adapt(kl)
    assert trainer.optimizer.lr == limit


def test_an_adapted_step_size_holds_for_the_next_update_and_is_kept_in_the_state():
    config = PPOAlgorithmConfig(**{**QUICK, **ADAPTIVE, "lr": 1e-3})
    first, second = trainer_of(config), trainer_of(config)
    first._adapt(9.0)
    second.load_state_dict(*first.state_dict())
    for trainer in (first, second):
        rate = trainer.update(epoch=0, progress=0.9).metrics["train/learning_rate"]
        assert rate == pytest.approx(1e-3 / 1.5), "progress is no part of it"


def test_on_one_trunk_what_acted_is_not_evaluated_again():
    """Six ticks, what follows the last of them, and a pass of three minibatches of four rows."""
    trainer = trainer_of(
        PPOAlgorithmConfig(n_optimization_epochs=1, batch_size=4, **QUICK),
        PictureEnv,
        model=of_pictures("ppo"),
    )
    seen = []
    module = trainer.policy.steps[0].networks[0].logits.module
    module.register_forward_hook(lambda *given: seen.append(len(given[2]["value"])))
    trainer.update(epoch=0, progress=0.0)
    assert sorted(seen) == [2, 4, 4, 4, 8, 8, 8, 8, 8, 8]  # two environments, in blocks of 8 rows


def test_what_was_said_while_acting_is_what_an_evaluation_says():
    trainer = trainer_of(PPOAlgorithmConfig(**QUICK), PictureEnv, model=of_pictures("ppo"))
    rollout = trainer.collector.collect(trainer.policy)
    settings = {"gamma": 0.9, "lam": 0.9}
    recalled, _ = prepare(rollout, trainer.learner, **settings)
    for record in rollout.steps.values():
        record.judged = None
    with trainer.learner.torch(keeps_gradients=False):
        evaluated, _ = prepare(rollout, trainer.learner, **settings)
    for name in ("log_probs", "values", "advantages", "returns"):
        ours, theirs = (getattr(batch[0], name) for batch in (recalled, evaluated))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="not to be learnt from"):
        recalled[0].found.backward(*[np.zeros(12, np.float32)] * 3)
