"""What A2C, PPO and IMPALA share: the loss by definition, schedules, burn-in, divergence, state; switches both ways."""

import numpy as np
import pytest
import torch

from maze_core.errors import DivergedError, InvalidSpecificationError
from maze_core.models.config import (
    CustomModelConfig,
    ProbabilisticPolicyComposerConfig,
    StepStateCriticConfig,
)
from maze_core.objectives.losses import policy_gradient
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.config import OptimizerConfig
from maze_core.trainers.fit import MUST_BE_FINITE, mean_metrics
from maze_core.trainers.impala_config import ImpalaAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.models.autograd import Leaves, log_probs_and_entropy, values
from tests.maze_core.trainers.small_worlds import (
    PictureEnv,
    Pictures,
    SignEnv,
    entropy,
    flat,
    parts,
    trainer_of,
    two_actions,
)

CONFIGS = [A2CAlgorithmConfig, ImpalaAlgorithmConfig, PPOAlgorithmConfig]
QUICK = {"n_rollout_steps": 6, "lr": 0.01}


def loss_of(samples, log_probs):
    return *policy_gradient(log_probs, samples.advantages), {}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("schedule", "expected"), [("linear", [0.01, 0.0075, 0.001]), ("constant", [0.01] * 3)]
)
def test_the_step_size_falls_linearly_or_stays(config, schedule, expected):
    trainer = trainer_of(config(lr_schedule=schedule, **QUICK))
    for progress, lr in zip([0.0, 0.25, 0.9], expected, strict=True):
        report = trainer.update(epoch=0, progress=progress)
        assert report.metrics["train/learning_rate"] == pytest.approx(lr)
        assert trainer.optimizer.lr == pytest.approx(lr)


def test_adams_first_step_is_as_long_as_the_step_size_of_now():
    trainer = trainer_of(A2CAlgorithmConfig(lr_schedule="linear", max_grad_norm=None, **QUICK))
    before = flat(trainer.critic)
    trainer.update(epoch=0, progress=0.5)
    assert np.abs(flat(trainer.critic) - before).max() == pytest.approx(0.005, rel=1e-2)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("critic_lr", "expected"), [(None, 0.005), (0.04, 0.02)])
def test_the_critic_has_a_step_size_of_its_own_by_the_schedule_of_all(config, critic_lr, expected):
    """Adam's first step is as long as the step size, half of it where half of the run is done."""
    once = {"n_optimization_epochs": 1} if config is PPOAlgorithmConfig else {}
    trainer = trainer_of(
        config(critic_lr=critic_lr, lr_schedule="linear", max_grad_norm=None, **once, **QUICK)
    )
    before = flat(trainer.policy), flat(trainer.critic)
    trainer.update(epoch=0, progress=0.5)
    moved = [np.abs(flat(x) - y).max() for x, y in zip((trainer.policy, trainer.critic), before, strict=True)]
    assert moved == pytest.approx([0.005, expected], rel=1e-2)


def test_a_linear_weight_of_the_entropy_reaches_the_gradient():
    """At the end of the run nothing is left of it, and it is all that would move the policy."""
    settings = {"policy_loss_coef": 0, "entropy_coef": 1.0, "entropy_coef_schedule": "linear"}
    trainer = trainer_of(A2CAlgorithmConfig(**settings, lr_schedule="constant", **QUICK))
    steps = [
        lambda: trainer.gradient_step({0: two_actions([1.0])}, loss_of, epoch=0),  # no update yet: the start
        lambda: trainer.update(epoch=0, progress=0.0),
        lambda: trainer.update(epoch=0, progress=1.0),
    ]
    moved = []
    for step in steps:
        before = flat(trainer.policy)
        trainer.optimizer.load_state_dict({})
        step()
        moved.append(bool((flat(trainer.policy) != before).any()))
    assert moved == [True, True, False]


def test_the_loss_is_the_weighted_sum_over_all_rows_whatever_their_step_key():
    config = A2CAlgorithmConfig(
        policy_loss_coef=0.7, value_loss_coef=0.3, entropy_coef=0.2, max_grad_norm=None, **QUICK
    )
    trainer, seen = trainer_of(config, make_boxes), []
    gradient_step = trainer.gradient_step

    def look(batch, policy_loss, *, epoch):
        rows, leaf = ([], [], [], [], []), Leaves()
        for key, samples in batch.items():
            given = samples.observations, samples.actions, samples.agent_id
            log_probs, entropies = log_probs_and_entropy(trainer.policy, key, *given, leaf)
            row = (
                log_probs,
                torch.from_numpy(samples.advantages),
                values(trainer.critic, key, samples.observations, leaf),
                torch.from_numpy(samples.returns),
                entropies,
            )
            for column, part in zip(rows, row, strict=True):
                column.append(part)
        log_probs, advantages, worth, returns, entropies = (torch.cat(column).double() for column in rows)
        losses = (
            -(log_probs * advantages).mean(),
            ((worth - returns) ** 2).mean() / 2,
            entropies.mean(),
        )
        (0.7 * losses[0] + 0.3 * losses[1] - 0.2 * losses[2]).backward()
        step, optimizer = trainer.optimizer.step, trainer.optimizer

        def compare():
            for name, ours in optimizer.gradients.items():
                theirs = leaf(optimizer.parameters[name]).grad
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-6)
            return step()

        trainer.optimizer.step = compare
        seen.append([loss.item() for loss in losses])
        return gradient_step(batch, policy_loss, epoch=epoch)

    trainer.gradient_step = look
    report = trainer.update(epoch=0, progress=0.0)
    ((policy_loss, value_loss, entropy),) = seen
    assert report.metrics["train/policy_loss"] == pytest.approx(policy_loss, rel=1e-4, abs=1e-6)
    assert report.metrics["train/value_loss"] == pytest.approx(value_loss, rel=1e-4)
    assert report.metrics["train/entropy"] == pytest.approx(entropy, rel=1e-4)


@pytest.mark.parametrize(
    ("coefs", "learns_policy", "learns_critic"),
    [((1, 0, 0), True, False), ((0, 1, 0), False, True), ((0, 0, 1), True, False), ((0, 0, 0), False, False)],
)
def test_each_coefficient_moves_its_own_network_and_no_other(coefs, learns_policy, learns_critic):
    names = ("policy_loss_coef", "value_loss_coef", "entropy_coef")
    trainer = trainer_of(A2CAlgorithmConfig(**dict(zip(names, coefs, strict=True)), **QUICK))
    policy, critic = flat(trainer.policy), flat(trainer.critic)
    trainer.gradient_step({0: two_actions([1.0, -1.0], [0, 1])}, loss_of, epoch=0)
    assert (flat(trainer.policy) != policy).any() == learns_policy
    assert (flat(trainer.critic) != critic).any() == learns_critic


def test_the_entropy_bonus_makes_the_policy_less_decided():
    trainer = trainer_of(A2CAlgorithmConfig(policy_loss_coef=1, entropy_coef=0, **QUICK))
    for _ in range(20):
        trainer.gradient_step({0: two_actions([1.0])}, loss_of, epoch=0)
    trainer.config = A2CAlgorithmConfig(policy_loss_coef=0, entropy_coef=1, **QUICK)
    before = entropy(trainer)
    trainer.optimizer.load_state_dict({})
    for _ in range(5):
        trainer.gradient_step({0: two_actions([1.0])}, loss_of, epoch=0)
    assert entropy(trainer) > before + 1e-3


def test_the_critic_goes_towards_the_returns():
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK))
    errors = []
    for _ in range(15):
        report = trainer.gradient_step({0: two_actions([0.0], returns=3.0)}, loss_of, epoch=0)
        errors.append(report["train/value_loss"])
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2


@pytest.mark.parametrize("config", CONFIGS)
def test_during_the_burn_in_the_critic_learns_alone_and_the_policy_then_starts_with_a_fresh_adam(config):
    trainer = trainer_of(config(critic_burn_in_epochs=2, entropy_coef=0.1, **QUICK))
    policy, critic = flat(trainer.policy), flat(trainer.critic)
    for epoch in (0, 0, 1):
        trainer.update(epoch=epoch, progress=0.0)
    assert np.array_equal(flat(trainer.policy), policy)
    assert not np.array_equal(flat(trainer.critic), critic)
    per_update = int(trainer.optimizer.state_dict()["step"]) // 3
    trainer.update(epoch=2, progress=0.0)
    assert int(trainer.optimizer.state_dict()["step"]) == per_update
    assert not np.array_equal(flat(trainer.policy), policy)
    trainer.update(epoch=2, progress=0.0)
    assert int(trainer.optimizer.state_dict()["step"]) == 2 * per_update, (
        "Adam starts anew once, not each time"
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_during_the_burn_in_what_policy_and_critic_share_stays_as_it_is(config):
    """Of one module for both, the layer of the value alone learns; weight decay moves nothing else either."""
    module = Pictures()
    model = CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(networks=[module]),
        critic=StepStateCriticConfig(networks=[module]),
    )
    settings = config(critic_burn_in_epochs=2, optimizer=OptimizerConfig(weight_decay=0.1), **QUICK)
    trainer = trainer_of(settings, PictureEnv, model=model)
    moved = []
    for epoch in (0, 1, 2):
        before = {name: x.copy() for name, x in trainer.policy.parameters.items()}
        trainer.update(epoch=epoch, progress=0.0)
        after = trainer.policy.parameters
        moved.append({name for name, x in before.items() if not np.array_equal(x, after[name])})
    assert moved[2] == {*before}
    assert moved[0] == moved[1] == {name for name in before if ".value." in name}
    assert 0 < len(moved[0]) < len(before)


def test_without_a_burn_in_adam_goes_on_from_the_first_update():
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK))
    for updates in (1, 2, 3):
        trainer.update(epoch=0, progress=0.0)
        assert int(trainer.optimizer.state_dict()["step"]) == updates


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_state_that_is_loaded_goes_on_as_the_trainer_that_wrote_it(config, at):
    """Weights, moments, streams of action noise and minibatch order, and whether the policy learns already."""
    settings = config(critic_burn_in_epochs=1, **QUICK)
    first, second = trainer_of(settings), trainer_of(settings, seed=8)
    for epoch in range(at):
        first.update(epoch=epoch, progress=0.0)
    second.load_state_dict(*first.state_dict())
    for trainer in (first, second):
        trainer.reset_envs([5, 6])
    ends = [trainer.update(epoch=at, progress=0.0).metrics for trainer in (first, second)]
    assert ends[0] == ends[1]
    assert np.array_equal(flat(first.policy), flat(second.policy))
    assert np.array_equal(flat(first.critic), flat(second.critic))
    assert first.state_dict()[0] == second.state_dict()[0]


def test_a_state_is_a_copy():
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK))
    trainer.update(epoch=0, progress=0.0)
    _, arrays = trainer.state_dict()
    kept = {name: array.copy() for name, array in arrays.items()}
    trainer.update(epoch=0, progress=0.0)
    assert all(np.array_equal(arrays[name], kept[name]) for name in arrays)


@pytest.mark.parametrize("name", MUST_BE_FINITE)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_ends_the_run_by_name(name, value):
    steps = [dict.fromkeys(MUST_BE_FINITE, 1.0) for _ in range(2)]
    steps[1][name] = value
    with pytest.raises(DivergedError, match=name):
        mean_metrics(steps)


def test_a_divergence_estimate_may_overflow():
    steps = [{**dict.fromkeys(MUST_BE_FINITE, 1.0), "train/approx_kl": np.inf}]
    assert mean_metrics(steps)["train/approx_kl"] == np.inf


def test_metrics_are_means_over_the_gradient_steps():
    assert mean_metrics([{"a": 1.0}, {"a": 4.0}]) == {"a": 2.5}


def test_a_weight_that_is_not_finite_ends_the_run():
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK))
    step = trainer.optimizer.step

    def spoil():
        norm = step()
        next(iter(trainer.policy.parameters.values()))[...] = np.nan
        return norm

    trainer.optimizer.step = spoil
    with pytest.raises(DivergedError, match="weights"):
        trainer.update(epoch=0, progress=0.0)


def test_a_model_without_a_critic_is_refused_with_the_way_out():
    with pytest.raises(InvalidSpecificationError, match="critic=template_state"):
        A2CAlgorithmConfig().build(parts(model=CustomModelConfig(critic=None)))


class QuietEnv(SignEnv):
    """Never pays and never ends."""

    def reward(self, action):
        return 0.0

    def ends(self):
        return False, False


def test_the_explained_variance_is_told_where_there_is_some():
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK))
    assert trainer.update(epoch=0, progress=0.0).metrics["train/explained_variance"] <= 1
    quiet = trainer_of(A2CAlgorithmConfig(**QUICK), QuietEnv)
    for parameter in quiet.critic.parameters.values():
        parameter[...] = 0
    assert "train/explained_variance" not in quiet.update(epoch=0, progress=0.0).metrics


def test_an_update_says_what_it_took_and_which_episodes_ended():
    report = trainer_of(A2CAlgorithmConfig(n_rollout_steps=10), n_envs=3).update(epoch=0, progress=0.0)
    assert report.env_steps == 30
    assert list(report.episode_lengths) == [5] * 6
    assert all(0 <= value <= 5 for value in report.episode_returns)


@pytest.mark.parametrize("config", CONFIGS)
def test_what_an_environment_does_to_torch_does_not_reach_the_update(config):
    """Gradients off, another default type, gradients taken away: a module of the user's learns as without."""
    network = lambda **_: Dropped()  # noqa: E731
    model = CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(networks=[network]),
        critic=StepStateCriticConfig(networks=[network]),
    )

    class Meddler(SignEnv):
        def reward(self, action):
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
            return super().reward(action)

    ends = []
    for world in (SignEnv, Meddler):
        trainer = trainer_of(config(**QUICK), world, model=model)
        try:
            trainer.update(epoch=0, progress=0.0)
            if world is Meddler:
                trainer.policy.steps[0].networks[0].logits.module.zero_grad(set_to_none=True)
            trainer.update(epoch=0, progress=0.0)
            assert torch.is_grad_enabled() == (world is SignEnv), "the setting belongs to the environment"
        finally:
            torch.set_grad_enabled(True)
            torch.set_default_dtype(torch.float32)
        ends.append(np.concatenate([flat(trainer.policy), flat(trainer.critic)]))
    assert ends[0].dtype == ends[1].dtype == np.float32
    assert np.array_equal(*ends)


class Dropped(torch.nn.Module):
    """Gives logits and a value, with dropout in between."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 3))

    def forward(self, observations):
        logits, value = self.body(observations["observation"]).split([2, 1], dim=1)
        return {"action": logits, "value": value}


def test_networks_with_dropout_learn_as_they_acted():
    policy = ProbabilisticPolicyComposerConfig(networks=[Dropped()])
    model = CustomModelConfig(policy=policy, critic=StepStateCriticConfig(networks=[Dropped()]))
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK), model=model)
    for _ in range(2):
        networks = trainer.policy.steps[0].networks[0].logits, trainer.critic.by_key[0]
        assert not any(part.training for network in networks for part in network.module.modules())
        trainer.update(epoch=0, progress=0.0)


class Noting(torch.nn.Module):
    """A value, and whether torch keeps what a gradient needs."""

    def __init__(self):
        super().__init__()
        self.body, self.notes = torch.nn.Linear(2, 1), []

    def forward(self, observations):
        self.notes.append(torch.is_grad_enabled())
        return {"value": self.body(observations["observation"])}


def test_only_gradient_steps_keep_what_a_gradient_needs():
    policy = ProbabilisticPolicyComposerConfig(networks=[Dropped()])
    model = CustomModelConfig(policy=policy, critic=StepStateCriticConfig(networks=[Noting()]))
    trainer = trainer_of(A2CAlgorithmConfig(**QUICK), model=model)
    notes = trainer.critic.by_key[0].module.notes
    notes.clear()
    trainer.update(epoch=0, progress=0.0)
    assert notes[-1]
    assert not any(notes[:-1])
    assert len(notes) > 1


def test_closing_closes_the_environments():
    closed = []

    class Closing(SignEnv):
        def close(self):
            closed.append(self)

    trainer_of(A2CAlgorithmConfig(**QUICK), Closing).close()
    assert len(closed) == 2
