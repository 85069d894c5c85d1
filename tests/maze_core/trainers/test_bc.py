"""BC: the loss by definition and by hand, who is kept back, sub-steps and masks, and that it goes on exactly."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maze_core.errors import DivergedError, InvalidSpecificationError
from maze_core.rollout.demonstrations import demonstrations
from maze_core.seeding import Stream, generator
from maze_core.trainers.bc_config import BCAlgorithmConfig
from maze_core.trainers.fit import Parts
from tests.maze_core.models.autograd import log_probs_and_entropy
from tests.maze_core.trainers.small_worlds import (
    WORLDS,
    BoundedEnv,
    MaskedEnv,
    ReachEnv,
    SignEnv,
    TwoAgentsEnv,
    flat,
    parts,
    recorded,
    twin_of,
)


def cloner(world=SignEnv, episodes=None, seed: int = 7, by_torch: bool = False, **settings):
    config = BCAlgorithmConfig(**{"lr": 0.01, "batch_size": 4, **settings})
    made = parts(world, seed=seed, needs=config.model_needs)
    if by_torch:
        for step in made.policy.steps.values():
            for network in step.networks:
                network.logits = twin_of(network.logits)
    made.demonstrations = demonstrations(episodes or recorded(world), made.env, [], made.policy)
    return config.build(made)


def definition(trainer, steps) -> tuple[float, float]:
    """-mean log π(a|s) and the mean entropy, by autograd's arithmetic in float64."""
    found = [
        log_probs_and_entropy(trainer.policy, key, x.observations, x.actions, x.agent_id)
        for key, x in steps.items()
    ]
    log_probs, entropy = (np.concatenate([x[i].detach().numpy() for x in found]) for i in (0, 1))
    return -float(log_probs.mean()), float(entropy.mean())


@pytest.mark.parametrize("world", [*WORLDS.values(), MaskedEnv, BoundedEnv, TwoAgentsEnv])
def test_the_loss_is_the_mean_of_minus_log_pi_over_all_steps_of_all_sub_steps(world):
    trainer = cloner(world, batch_size=10_000, lr=1e-9, validation_percentage=40)
    loss, entropy = definition(trainer, trainer.training)
    validated, _ = definition(trainer, trainer.validation)
    metrics = trainer.update(epoch=0, progress=0.0).metrics
    assert metrics["train/policy_loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["train/entropy"] == pytest.approx(entropy, rel=1e-4)
    assert metrics["validation/loss"] == pytest.approx(validated, rel=1e-4)
    assert trainer.update(epoch=0, progress=0.0).env_steps == 0


@pytest.mark.parametrize("world", [*WORLDS.values(), MaskedEnv, BoundedEnv])
@pytest.mark.parametrize("coef", [0.0, 0.3])
def test_the_gradient_is_that_of_the_loss_by_differences(world, coef):
    trainer = cloner(world, batch_size=10_000, entropy_coef=coef, max_grad_norm=None, validation_percentage=0)
    flat_parameters = trainer.optimizer.flat
    rng = np.random.default_rng(0)
    flat_parameters += 0.3 * rng.standard_normal(flat_parameters.shape).astype(np.float32)
    gradients = []
    trainer.optimizer.step = lambda: gradients.append(trainer.optimizer.gradient.copy()) or 0.0
    trainer._gradient_step(trainer.training)
    start = flat_parameters.copy()

    def loss_at(values):
        flat_parameters[...] = values
        loss, entropy = definition(trainer, trainer.training)
        return loss - coef * entropy

    for i in rng.choice(len(start), 6, replace=False):
        step = np.zeros_like(start)
        step[i] = 1e-2
        slope = (loss_at(start + step) - loss_at(start - step)) / 2e-2
        assert gradients[0][i] == pytest.approx(slope, rel=0.03, abs=2e-3)


def test_by_hand_a_uniform_policy_loses_log_2_per_choice_and_learns_to_lose_less():
    """All weights 0: of the gradient only ∂L/∂bias_j = ½ - (share of action j) is not 0, and Adam steps by ± lr."""
    trainer = cloner(batch_size=10_000, lr=0.01, validation_percentage=0)
    trainer.optimizer.flat[...] = 0.0
    share = trainer.training[0].actions["action"].mean()
    assert share not in (0.0, 0.5)
    first = trainer.update(epoch=0, progress=0.0).metrics
    assert first["train/policy_loss"] == pytest.approx(np.log(2))
    assert first["train/entropy"] == pytest.approx(np.log(2))
    assert first["train/grad_norm"] == pytest.approx(np.sqrt(2) * abs(share - 0.5))
    step = 0.01 * np.sign(share - 0.5)
    likely = 1 / (1 + np.exp(-2 * step))
    loss = -(share * np.log(likely) + (1 - share) * np.log(1 - likely))
    second = trainer.update(epoch=0, progress=0.0).metrics
    assert second["train/policy_loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("world", [*WORLDS.values(), MaskedEnv, BoundedEnv])
def test_passes_over_the_same_steps_lose_less_and_less(world):
    trainer = cloner(world, validation_percentage=0)
    losses = [trainer.update(epoch=0, progress=0.0).metrics["train/policy_loss"] for _ in range(60)]
    assert losses[-1] < losses[0] - 0.01


@given(n=st.integers(1, 12), percentage=st.floats(0, 99.9), seed=st.integers(0, 5))
@example(n=5, percentage=30.0, seed=0)  # 1.5 of them
def test_episodes_are_kept_back_whole_and_one_at_least_is_learnt_from(n, percentage, seed):
    episodes = dict(list(_MANY.items())[:n])
    trainer = cloner(episodes=episodes, seed=seed, validation_percentage=percentage)
    shown = {
        part: {tuple(row) for row in steps[0].observations["observation"]} if steps else set()
        for part, steps in (("training", trainer.training), ("validation", trainer.validation))
    }
    sides = []
    for episode in episodes.values():
        rows = {tuple(row) for row in episode.observations[0]["observation"]}
        sides.append([name for name, of_part in shown.items() if rows <= of_part])
        assert sum(bool(rows & of_part) for of_part in shown.values()) == 1
    kept_back = sides.count(["validation"])
    assert kept_back == min(round(n * percentage / 100), n - 1)
    assert sum(map(len, shown.values())) == 5 * n


_MANY = recorded(n=12)


def test_without_episodes_that_are_kept_back_nothing_is_validated():
    assert "validation/loss" not in cloner(validation_percentage=0).update(epoch=0, progress=0.0).metrics


def test_seeds_decide_who_is_kept_back_and_the_order_of_minibatches():
    def run(seed):
        trainer = cloner(seed=seed)
        trainer.optimizer.flat[...] = 0.01
        metrics = [trainer.update(epoch=0, progress=0.0).metrics for _ in range(2)]
        return metrics, flat(trainer.policy)

    (first, weights), (again, same), (other, _) = run(1), run(1), run(2)
    assert first == again
    np.testing.assert_array_equal(weights, same)
    assert first[0]["validation/loss"] != other[0]["validation/loss"]


def test_who_is_kept_back_and_the_order_of_minibatches_have_streams_of_their_own():
    trainer = cloner(seed=3, episodes=_MANY)
    assert trainer.rng.bit_generator.state == generator(3, Stream.MINIBATCHES).bit_generator.state
    kept_back = generator(3, Stream.MINIBATCHES, 1).permutation(12)[:2]
    rows = {tuple(row) for row in trainer.validation[0].observations["observation"]}
    for number, episode in enumerate(_MANY.values()):
        is_there = tuple(episode.observations[0]["observation"][0]) in rows
        assert is_there == (number in kept_back)


@pytest.mark.parametrize("world", [SignEnv, MaskedEnv, ReachEnv])
def test_a_dense_net_and_the_same_net_as_a_torch_module_learn_the_same(world):
    dense, torch = cloner(world), cloner(world, by_torch=True)
    for _ in range(3):
        ours, theirs = (trainer.update(epoch=0, progress=0.0).metrics for trainer in (dense, torch))
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-4)
    np.testing.assert_allclose(flat(dense.policy), flat(torch.policy), rtol=2e-3, atol=2e-4)


def test_a_state_that_was_loaded_goes_on_to_the_same_bits():
    first, second = cloner(), cloner()
    first.update(epoch=0, progress=0.0)
    tree, arrays = first.state_dict()
    second.load_state_dict(tree, arrays)
    ends = [trainer.update(epoch=1, progress=0.5) for trainer in (first, second)]
    assert ends[0] == ends[1]
    for name, array in first.state_dict()[1].items():
        np.testing.assert_array_equal(array, second.state_dict()[1][name])
    assert first.state_dict()[0] == second.state_dict()[0]


def test_the_step_size_falls_with_the_run():
    trainer = cloner(lr=0.2, lr_schedule="linear")
    assert trainer.update(epoch=0, progress=0.25).metrics["train/learning_rate"] == pytest.approx(0.15)


def test_an_action_that_its_mask_forbids_is_told_with_its_episode():
    episodes = recorded(MaskedEnv)
    actions = episodes["episode 3"].actions[0]["action"]
    actions[2] = 2
    with pytest.raises(InvalidSpecificationError, match="episode 3 has an action that its mask forbids"):
        cloner(MaskedEnv, episodes)


def test_a_run_without_episodes_is_told_what_to_name():
    config = BCAlgorithmConfig()
    made: Parts = parts(SignEnv, needs=config.model_needs)
    with pytest.raises(InvalidSpecificationError, match=r"dataset.run: .*name the rollout"):
        config.build(made)


def test_what_diverges_is_told():
    trainer = cloner(ReachEnv, lr=1e30, max_grad_norm=None)
    with pytest.raises(DivergedError):
        [trainer.update(epoch=0, progress=0.0) for _ in range(5)]


def test_weights_that_are_not_finite_after_the_last_step_are_told():
    trainer = cloner(batch_size=10_000, validation_percentage=0)
    trainer.optimizer.step = lambda: trainer.optimizer.flat.fill(np.nan) or 0.0
    with pytest.raises(DivergedError, match="weights are not finite"):
        trainer.update(epoch=0, progress=0.0)


def test_many_steps_are_validated_part_by_part(monkeypatch):
    whole, parted = (cloner(validation_percentage=60, lr=1e-9) for _ in range(2))
    expected = whole.update(epoch=0, progress=0.0).metrics["validation/loss"]
    monkeypatch.setattr("maze_core.trainers.bc._VALIDATED_AT_ONCE", 4)
    assert len(parted.validation[0]) == 15
    assert parted.update(epoch=0, progress=0.0).metrics["validation/loss"] == pytest.approx(expected)


def test_a_gaussian_behind_tanh_is_asked_for_by_name():
    config = BCAlgorithmConfig(box_distribution="squashed_gaussian")
    assert config.model_needs.distributions["Box"] == "squashed_gaussian"
    assert config.model_needs.distributions["Discrete"] == "categorical"
    trainer = cloner(BoundedEnv, box_distribution="squashed_gaussian", validation_percentage=0)
    losses = [trainer.update(epoch=0, progress=0.0).metrics["train/policy_loss"] for _ in range(60)]
    assert losses[-1] < losses[0] - 0.05


def test_environments_are_closed_with_the_trainer():
    trainer = cloner()
    closed = []
    trainer._env.close = lambda: closed.append(True)
    trainer.reset_envs([0, 1])
    trainer.close()
    assert closed == [True]


@pytest.mark.parametrize(("patience", "n_episodes"), [(None, None), (2, 1)])
def test_patience_needs_episodes_that_are_kept_back_or_an_evaluation(patience, n_episodes):
    two = dict(list(recorded(SignEnv).items())[:2])
    settings = {"validation_percentage": 20, "rollout_evaluator": {"n_episodes": n_episodes}}
    cloner(episodes=two, patience=patience, **settings)
    with pytest.raises(InvalidSpecificationError, match="none of 2 episodes is kept back"):
        cloner(episodes=two, patience=2, validation_percentage=20, rollout_evaluator={"n_episodes": None})
