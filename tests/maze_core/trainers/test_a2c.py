"""A2C: one gradient step on the whole rollout, towards what paid; normalisation both ways, a lone advantage."""

import numpy as np
import pytest

from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from tests.maze_core.trainers.small_worlds import flat, probability, trainer_of, two_actions

QUICK = {"n_rollout_steps": 4, "lr": 0.01}


def learn(trainer, *samples):
    """One update's learning on a batch of one step key."""
    return trainer._learn({0: two_actions(*samples)}, epoch=0)


def test_one_update_is_one_gradient_step_on_the_whole_rollout():
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK), n_envs=3)
    sizes, step = [], trainer.gradient_step
    trainer.gradient_step = lambda batch, *rest, **named: (
        sizes.append(sum(map(len, batch.values()))) or step(batch, *rest, **named)
    )
    trainer.update(epoch=0, progress=0.0)
    assert sizes == [12]


@pytest.mark.parametrize(("advantages", "direction"), [([1.0, -1.0], 1), ([-1.0, 1.0], -1)])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_better_action_becomes_likelier(advantages, direction, normalize):
    trainer = trainer_of(A2CAlgorithmConfig(normalize_advantages=normalize, entropy_coef=0.0, **QUICK))
    before = probability(trainer)
    learn(trainer, advantages, [1, 0])
    assert (probability(trainer) - before) * direction > 0


@pytest.mark.parametrize(("normalize", "scale"), [(True, 1 / 2.0**0.5), (False, 300.0)])
def test_advantages_are_normalised_where_that_is_asked_for_and_kept_where_not(normalize, scale):
    """Advantages 100 and 700: centred and scaled they are ∓1/√2; the loss says which ones were used."""
    trainer = trainer_of(A2CAlgorithmConfig(normalize_advantages=normalize, **QUICK))
    kept = two_actions([100.0, 700.0], [0, 1])
    log_probs = np.log([probability(trainer, 0), probability(trainer, 1)])
    used = np.array([-scale, scale]) if normalize else kept.advantages
    (report,) = learn(trainer, [100.0, 700.0], [0, 1])
    expected = -(log_probs * used).mean()
    assert report["train/policy_loss"] == pytest.approx(expected, rel=1e-4)


def test_an_advantage_that_is_alone_teaches():
    """One environment, one step: as 0 it would leave the policy where it is for ever."""
    trainer = trainer_of(A2CAlgorithmConfig(n_rollout_steps=1, lr=0.01, entropy_coef=0.0), n_envs=1)
    before = flat(trainer.policy)
    trainer.update(epoch=0, progress=0.0)
    assert not np.array_equal(flat(trainer.policy), before)
    for sign in (1, -1):
        chance = probability(trainer)
        trainer.optimizer.load_state_dict({})
        learn(trainer, [2.0 * sign], [1])
        assert (probability(trainer) - chance) * sign > 0


def test_the_policy_that_learns_is_the_one_that_acts():
    trainer = trainer_of(A2CAlgorithmConfig(lr=0.05, epoch_length=1, n_rollout_steps=32), n_envs=4)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(120)]
    first, last = reports[0].episode_returns, reports[-1].episode_returns
    assert sum(first) / len(first) < 3.5
    assert sum(last) / len(last) > 4.5, "SignEnv pays 5 to who has learnt"
