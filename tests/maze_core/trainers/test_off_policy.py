"""What all learners from replay have in common: warm-up, budgets of gradient steps, resuming, time limits."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from maze_core.errors import DivergedError, EnvError, InvalidSpecificationError
from maze_core.models.config import (
    CustomModelConfig,
    FlattenConcatPolicyNetConfig,
    ProbabilisticPolicyComposerConfig,
    StepStateCriticConfig,
)
from maze_core.models.networks import ActionCritic
from maze_core.trainers.dqn_config import DQNAlgorithmConfig, QRDQNAlgorithmConfig
from maze_core.trainers.sac_config import SACAlgorithmConfig
from maze_core.trainers.td3_config import TD3AlgorithmConfig
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.trainers.small_worlds import (
    BoundedEnv,
    MaskedEnv,
    PaidByNumbersEnv,
    PaidEnv,
    ReachEnv,
    SignEnv,
    TwoAgentsEnv,
    flat,
    parts,
    trainer_of,
    twin_of,
)

QUICK = {"n_warmup_steps": 4, "batch_size": 8, "lr": 0.003}
LEARNERS = {
    "dqn": (DQNAlgorithmConfig(**QUICK, n_gradient_steps=1, target_update_steps=4), SignEnv),
    "dqn-all": (
        DQNAlgorithmConfig(**QUICK, duelling=True, prioritized=True, n_step_returns=3, tau=0.5),
        MaskedEnv,
    ),
    "qrdqn": (QRDQNAlgorithmConfig(**QUICK, n_quantiles=3, double=False), MaskedEnv),
    "sac-numbers": (SACAlgorithmConfig(**QUICK), BoundedEnv),
    "sac-choice": (SACAlgorithmConfig(**QUICK), MaskedEnv),
    "td3": (TD3AlgorithmConfig(**QUICK), BoundedEnv),
}


@pytest.fixture(params=LEARNERS)
def make(request):
    config, world = LEARNERS[request.param]
    return lambda: trainer_of(config, world)


def updates(trainer, n: int, first: int = 0):
    return [trainer.update(epoch=0, progress=(first + i) / 20) for i in range(n)]


def everything(trainer) -> dict[str, bytes]:
    return {name: np.asarray(array).tobytes() for name, array in trainer.state_dict()[1].items()}


def test_a_restored_learner_goes_on_bit_by_bit(make):
    one, other = make(), make()
    updates(one, 6)
    one.reset_envs([5, 6])
    other.load_state_dict(*one.state_dict())
    other.reset_envs([5, 6])
    for trainer in (one, other):
        updates(trainer, 5, first=6)
    assert everything(one) == everything(other)


def test_the_same_seed_learns_the_same_and_its_state_is_a_copy(make):
    one, other = make(), make()
    updates(one, 4)
    before = everything(one)
    _, arrays = one.state_dict()
    kept = {name: array.copy() for name, array in arrays.items()}
    updates(one, 4, first=4)
    assert all(np.array_equal(arrays[name], kept[name]) for name in kept)
    updates(other, 4)
    assert everything(other) == before
    assert everything(one) != before


def test_nothing_is_learnt_before_the_warm_up_is_over(make):
    trainer = make()
    before = flat(trainer.policy)
    (report,) = updates(trainer, 1)
    assert "train/grad_norm" not in report.metrics
    assert report.env_steps == 2
    (report,) = updates(trainer, 1)
    assert "train/grad_norm" in report.metrics
    assert not np.array_equal(flat(trainer.policy), before)


@pytest.mark.parametrize(("n_gradient_steps", "expected"), [(None, 6), (5, 5)])
def test_an_update_takes_as_many_gradient_steps_as_were_asked_for(n_gradient_steps, expected, monkeypatch):
    settings = {**QUICK, "n_rollout_steps": 3, "n_warmup_steps": 0, "n_gradient_steps": n_gradient_steps}
    trainer = trainer_of(DQNAlgorithmConfig(**settings))
    taken = []
    learn = trainer._learn_from
    monkeypatch.setattr(
        trainer, "_learn_from", lambda batch: taken.append(len(batch.returns)) or learn(batch)
    )
    updates(trainer, 1)
    assert taken == [8] * expected


@pytest.mark.parametrize("name", ["dqn", "sac-numbers", "td3"])
def test_warm_up_actions_are_uniform_on_the_scale_of_the_policys_samples(name):
    config, world = LEARNERS[name]
    trainer = trainer_of(config, world, n_envs=400)
    rollout = trainer.collector.collect(trainer._uniform)
    for samples in rollout.steps[0].actions.values():
        if name == "dqn":
            assert 0.4 < samples.mean() < 0.6
        else:
            assert -1 <= samples.min() < -0.95
            assert 0.95 < samples.max() <= 1
            assert abs(samples.mean()) < 0.1


@pytest.mark.parametrize("is_uniform", [True, False])
def test_before_learning_begins_actions_are_uniform_or_the_policys_own(is_uniform):
    trainer = trainer_of(SACAlgorithmConfig(**QUICK, uniform_warmup=is_uniform), BoundedEnv)
    acted, collect = [], trainer.collector.collect
    trainer.collector.collect = lambda policy: acted.append(policy) or collect(policy)
    updates(trainer, 3)
    assert [policy is trainer.policy for policy in acted] == [not is_uniform, not is_uniform, True]
    assert trainer.actor.state_dict()["step"] == 2 + 2, "learning begins after 4 steps all the same"


@pytest.mark.parametrize("name", ["dqn", "sac-numbers", "sac-choice", "td3"])
@pytest.mark.parametrize("which", ["policy", "one critic", "critics", "all"])
def test_torch_modules_of_the_users_learn_what_dense_nets_learn(name, which):
    config, world = LEARNERS[name]
    trainers = []
    for is_own in (False, True):
        given = parts(world, needs=config.model_needs)
        (actor,) = given.policy.steps[0].networks
        if is_own and which in ("policy", "all"):
            actor.logits = twin_of(actor.logits)
        if is_own and which != "policy" and given.critic is not None:
            first, second = given.critic.networks
            second = second if which == "one critic" else twin_of(second)
            given.critic = ActionCritic([twin_of(first), second])
        trainer = config.build(given)
        trainer.reset_envs([0, 1])
        updates(trainer, 6)
        trainers.append(trainer)
    for dense, own in zip(*(trainer.optimizers.values() for trainer in trainers), strict=True):
        np.testing.assert_allclose(np.sort(own.flat), np.sort(dense.flat), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", ["dqn", "sac-numbers", "td3"])
def test_what_an_environment_does_to_torch_does_not_reach_what_learns(name):
    config, world = LEARNERS[name]

    class Meddler(world):
        def reward(self, action):
            torch.set_grad_enabled(False)
            return super().reward(action)

    ends = []
    for each in (world, Meddler):
        given = parts(each, needs=config.model_needs)
        (actor,) = given.policy.steps[0].networks
        actor.logits = twin_of(actor.logits)
        trainer = config.build(given)
        trainer.reset_envs([0, 1])
        try:
            updates(trainer, 4)
        finally:
            torch.set_grad_enabled(True)
        ends.append(everything(trainer))
    assert ends[0] == ends[1]


def test_no_return_goes_on_behind_a_reset():
    trainer = trainer_of(DQNAlgorithmConfig(**QUICK, n_step_returns=3), PaidEnv)
    for _ in range(2):
        trainer.reset_envs([5, 6])
        updates(trainer, 1)
    assert (trainer.replay.sample(50, trainer.rng).returns == 1.0).all()


def test_critics_are_shown_observations_in_the_order_of_the_space_and_then_actions():
    seen = []

    class Noted(nn.Module):
        def __init__(self, obs_shapes):
            super().__init__()
            self.layer = nn.Linear(sum(shape[0] for shape in obs_shapes.values()), 1)

        def forward(self, shown):
            seen.append(list(shown))
            return self.layer(torch.cat(list(shown.values()), 1))

    policy = ProbabilisticPolicyComposerConfig(networks=[FlattenConcatPolicyNetConfig(hidden_units=[8])])
    model = CustomModelConfig(policy=policy, critic=StepStateCriticConfig(networks=[Noted]))
    trainer = trainer_of(TD3AlgorithmConfig(**QUICK), BoundedEnv, model=model)
    updates(trainer, 4)
    assert len(seen) > 4
    assert all(names == ["observation", "action.first", "action.second"] for names in seen)


GAMMA = 0.8
VALUED = {
    "dqn": (DQNAlgorithmConfig, PaidEnv, {"target_update_steps": 20}),
    "dqn of 3 steps": (DQNAlgorithmConfig, PaidEnv, {"target_update_steps": 20, "n_step_returns": 3}),
    "qrdqn": (QRDQNAlgorithmConfig, PaidEnv, {"n_quantiles": 4, "target_update_steps": 20}),
    "sac of choices": (
        SACAlgorithmConfig,
        PaidEnv,
        {"entropy_coef": 0.0, "entropy_tuning": False, "tau": 0.1},
    ),
    "sac": (SACAlgorithmConfig, PaidByNumbersEnv, {"entropy_coef": 0.0, "entropy_tuning": False, "tau": 0.1}),
    "td3": (TD3AlgorithmConfig, PaidByNumbersEnv, {"tau": 0.1}),
}


@pytest.mark.parametrize("name", VALUED)
def test_a_time_limit_is_no_end_of_the_world(name):
    """Where every step pays 1 the value is 1 / (1 - γ), although episodes are cut after 4 steps."""
    kind, world, settings = VALUED[name]
    config = kind(gamma=GAMMA, lr=0.01, batch_size=32, n_warmup_steps=20, n_gradient_steps=4, **settings)
    trainer = trainer_of(config, world)
    assert updates(trainer, 250)[-1].metrics["train/action_value"] == pytest.approx(1 / (1 - GAMMA), rel=0.03)


def test_what_becomes_infinite_is_told_and_not_learnt_from():
    trainer = trainer_of(DQNAlgorithmConfig(**QUICK, lr_schedule="constant"), SignEnv)
    updates(trainer, 3)
    trainer.replay._arrays["reward"][:] = np.inf
    with pytest.raises(DivergedError, match="value_loss"):
        updates(trainer, 1)


def with_two_agents():
    env = BoundedEnv()
    env.agent_counts = {0: 2}
    return env


def with_a_choice_and_a_number():
    env = SignEnv()
    heads = {"choice": spaces.Discrete(2), "number": spaces.Box(-1, 1, (1,), np.float32)}
    env.action_spaces = {0: spaces.Dict(heads)}
    return env


@pytest.mark.parametrize(
    ("config", "world", "message"),
    [
        (DQNAlgorithmConfig(), ReachEnv, "is a Box"),
        (DQNAlgorithmConfig(), make_boxes, "sub-steps"),
        (SACAlgorithmConfig(), ReachEnv, "has no bounds"),
        (TD3AlgorithmConfig(), SignEnv, "is a Discrete"),
        (SACAlgorithmConfig(), TwoAgentsEnv, "several agents"),
        (SACAlgorithmConfig(), with_a_choice_and_a_number, "several action heads"),
        (TD3AlgorithmConfig(), with_two_agents, "several agents"),
    ],
)
def test_spaces_that_an_algorithm_does_not_learn_in_are_refused_by_name(config, world, message):
    with pytest.raises(InvalidSpecificationError, match=message):
        trainer_of(config, world)


@pytest.mark.parametrize("config", [SACAlgorithmConfig, TD3AlgorithmConfig])
@pytest.mark.parametrize(("critic_lr", "expected"), [(None, 0.003), (0.02, 0.02)])
def test_critics_have_a_step_size_of_their_own(config, critic_lr, expected):
    """Adam's first step is as long as the step size."""
    settings = {
        "critic_lr": critic_lr,
        "lr_schedule": "linear",
        "n_gradient_steps": 2 if config is TD3AlgorithmConfig else 1,
    }
    trainer = trainer_of(config(**QUICK, **settings), BoundedEnv)
    moments = trainer.critics.step.state_dict
    before = flat(trainer.critics.online)
    while not moments():
        before = flat(trainer.critics.online)
        report = trainer.update(epoch=0, progress=0.5)
    assert report.metrics["train/learning_rate"] == 0.0015, "that of the policy"
    n = int(moments()["step"])
    assert np.abs(flat(trainer.critics.online) - before).max() == pytest.approx(n * expected / 2, rel=0.02)


def test_closing_closes_the_environments():
    closed = []

    class Closing(SignEnv):
        def close(self):
            closed.append(self)

    trainer_of(DQNAlgorithmConfig(**QUICK), Closing).close()
    assert len(closed) == 2


class MaskedEnd(MaskedEnv):
    """What is shown at the end of an episode allows nothing."""

    is_cut = True

    def ends(self):
        return self._time >= 3 and not self.is_cut, self._time >= 3 and self.is_cut

    def _see(self):
        seen = super()._see()
        return seen | {"action_mask": seen["action_mask"] * np.int8(self._time < 3)}


class MaskedDeath(MaskedEnd):
    is_cut = False


@pytest.mark.parametrize("config", [DQNAlgorithmConfig, QRDQNAlgorithmConfig, SACAlgorithmConfig])
def test_an_episode_that_is_cut_where_nothing_is_allowed_is_refused_and_one_that_terminates_there_is_learnt(
    config,
):
    trainer = trainer_of(config(**QUICK), MaskedEnd)
    updates = (trainer.update(epoch=0, progress=0.0) for _ in range(4))
    with pytest.raises(EnvError, match=r"Environment 0, the last .*: the mask 'action_mask' .* terminate it"):
        list(updates)
    trainer = trainer_of(config(**QUICK), MaskedDeath)
    for _ in range(8):
        report = trainer.update(epoch=0, progress=0.0)
    assert np.isfinite(report.metrics["train/value_loss"])
