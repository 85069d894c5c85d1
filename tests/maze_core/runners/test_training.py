"""A run is its configuration: the same bits again, after a resume, in parts, and whatever the runner."""

import itertools
from functools import cache, partial

import numpy as np
import psutil
import pytest
import torch

from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint, tensors_digest
from maze_core.config import compose_run
from maze_core.envs.gym_env import GymMazeEnv
from maze_core.envs.wrappers.wrapper import Wrapper
from maze_core.errors import CheckpointError, EnvError, InvalidSpecificationError
from maze_core.metrics import SilentReporter
from maze_core.runners.training import Training, run_training
from tests.maze_core.envs.small_envs import EpisodeNumberEnv

SMALL = {
    "env.name": "CartPole-v1",
    "algorithm.n_epochs": 4,
    "algorithm.checkpoint_every": 2,
    "algorithm.epoch_length": 2,
    "algorithm.n_rollout_steps": 16,
    "algorithm.rollout_evaluator.n_episodes": 2,
    "runner.n_envs": 3,
    "runner.normalization_samples": 64,
}


class Kept(SilentReporter):
    """Keeps checkpoints by (kind, epoch), and metrics by epoch."""

    def __init__(self):
        self.checkpoints = {}
        self.by_epoch = {}

    def checkpoint(self, checkpoint, *, epoch, kind, **_details):
        self.checkpoints[kind, epoch] = Checkpoint.from_bytes(checkpoint.to_bytes())

    def metrics(self, epoch, step, values):
        self.by_epoch[epoch] = {name: v for name, v in values.items() if not name.startswith("time/")}


def config_of(algorithm="ppo", seed=1, wrappers="vector_obs", **more):
    overrides = {**SMALL, **{key.replace("__", "."): value for key, value in more.items()}}
    overrides |= {"algorithm.batch_size": 24} if algorithm == "ppo" else {}
    if algorithm == "es":
        del overrides["algorithm.n_rollout_steps"]
        overrides.setdefault("algorithm.n_rollouts_per_update", 4)
    return compose_run(
        "train",
        algorithm=algorithm,
        model="vector_obs",
        critic="template_state",
        wrappers=wrappers,
        overrides=overrides,
        seed=seed,
    )


def train(config, **kwargs):
    kept = Kept()
    report = run_training(config, reporter=kept, **kwargs)
    return report, kept


@pytest.mark.parametrize(
    ("algorithm", "wrappers"),
    [
        *((name, "vector_obs") for name in ("a2c", "impala", "ppo", "dqn", "qrdqn", "sac", "es")),
        ("ppo", "running_normalization"),
    ],
)
def test_a_run_resumed_from_its_scheduled_checkpoint_ends_with_the_same_content(algorithm, wrappers):
    config = config_of(algorithm, wrappers=wrappers)
    whole, kept = train(config)
    resumed, again = train(config, resume=kept.checkpoints["scheduled", 2])
    assert resumed.content_sha256 == whole.content_sha256
    assert again.by_epoch == {epoch: kept.by_epoch[epoch] for epoch in (3, 4)}


@pytest.mark.parametrize("algorithm", ["ppo", "es"])
def test_training_in_two_parts_equals_training_at_once(algorithm):
    config = config_of(algorithm)
    whole, _ = train(config)
    with Training(config) as training:
        training.run(2)
        in_parts = training.run(2)
    assert in_parts.content_sha256 == whole.content_sha256


def test_another_seed_gives_other_weights():
    first, _ = train(config_of(seed=1))
    second, _ = train(config_of(seed=2))
    assert first.weights_sha256 != second.weights_sha256


@pytest.mark.parametrize("algorithm", ["ppo", "es"])
def test_spreading_the_environments_over_processes_changes_no_weight(algorithm):
    (_, here), (_, spread) = (
        train(config_of(algorithm, runner__execution=execution, runner__n_processes=2))
        for execution in ("dev", "local")
    )
    one, other = (kept.checkpoints["scheduled", 4] for kept in (here, spread))
    assert tensors_digest(one.tensors).hexdigest() == tensors_digest(other.tensors).hexdigest()
    assert one.identity | {"config": None} == other.identity | {"config": None}


ASYNCHRONOUS = {"algorithm__mode": "asynchronous", "runner__execution": "local", "runner__n_processes": 2}


def test_asynchronous_every_checkpoint_says_that_weights_alone_come_back_and_training_goes_on_from_it():
    config, before = config_of("impala", **ASYNCHRONOUS), set(psutil.Process().children())
    kept = Kept()
    with Training(config) as training:
        assert training.run(2, reporter=kept).stop_reason == "completed"
        cancelled = training.run(2, reporter=kept, cancelled=lambda: 3 in kept.by_epoch)
        assert cancelled.stop_reason == "cancelled"
    assert set(psutil.Process().children()) <= before
    assert {checkpoint.identity["fidelity"] for checkpoint in kept.checkpoints.values()} == {"weights"}
    first = kept.checkpoints["scheduled", 2]
    with Training(config, resume=first) as training:
        assert training.checkpoint("continued").weights_sha256 == first.weights_sha256
        assert training.run().counters.epoch == 4


def test_asynchronous_environments_that_evaluation_would_share_are_refused():
    with pytest.raises(InvalidSpecificationError, match=r"algorithm\.mode.*runner\.evaluation_envs=own"):
        train(config_of("impala", **ASYNCHRONOUS, runner__n_envs=1))


def test_a_cancel_stores_a_checkpoint_that_says_it_is_not_exact():
    kept = Kept()
    report = run_training(config_of(), reporter=kept, cancelled=lambda: 2 in kept.by_epoch)
    assert report.stop_reason == "cancelled"
    assert kept.checkpoints["continued", 2].identity["fidelity"] == "continued"
    assert kept.checkpoints["scheduled", 2].identity["fidelity"] == "exact"


def test_a_checkpoint_of_another_configuration_is_refused():
    _, kept = train(config_of(seed=1))
    with pytest.raises(CheckpointError, match="another configuration"):
        run_training(config_of(seed=2), resume=kept.checkpoints["scheduled", 2])


def test_a_complete_run_resumed_trains_nothing_and_keeps_its_content():
    config = config_of()
    whole, kept = train(config)
    again, more = train(config, resume=kept.checkpoints["scheduled", 4])
    assert again.content_sha256 == whole.content_sha256
    assert more.by_epoch == {}


def test_a_run_that_had_met_its_budget_does_not_train_on_when_resumed():
    config = config_of(algorithm__max_env_steps=120)
    whole, kept = train(config)
    assert (whole.stop_reason, whole.counters.epoch) == ("budget_env_steps", 2)
    again, _ = train(config, resume=kept.checkpoints["scheduled", 2])
    assert (again.stop_reason, again.content_sha256) == (whole.stop_reason, whole.content_sha256)
    assert again.metrics == whole.metrics


def test_a_cancel_is_heard_during_an_evaluation_that_would_last_for_ever():
    """In CliffWalking an untrained policy walks into a wall; the environment has no time limit of its own."""
    config = compose_run(
        "train",
        algorithm="ppo",
        overrides={
            **SMALL,
            "env.name": "CliffWalking-v1",
            "algorithm.batch_size": 24,
            "algorithm.rollout_evaluator.max_episode_steps": None,
        },
        seed=1,
    )
    asked = itertools.count()
    report, kept = train(config, cancelled=lambda: next(asked) > 50)
    assert (report.stop_reason, report.counters.epoch) == ("cancelled", 0)
    assert ("continued", 0) in kept.checkpoints


def test_a_cancel_is_heard_during_an_update_that_would_last_for_ever():
    overrides = {"env.name": "CliffWalking-v1", "algorithm.max_episode_steps": None}
    config = compose_run("train", algorithm="es", overrides=overrides, seed=1)
    asked = itertools.count()
    report, kept = train(config, cancelled=lambda: next(asked) > 50)
    assert (report.stop_reason, report.counters.updates) == ("cancelled", 0)
    assert ("continued", 0) in kept.checkpoints


def test_statistics_stand_still_while_a_population_plays():
    """Each update of ES begins with a reset of all environments, where they learn."""
    config = config_of(
        "es", runner__n_envs=1, algorithm__n_rollouts_per_update=30, runner__normalization_samples=1
    )
    learnt = []
    with Training(config) as training:
        for wrapper in training.world.wrappers:
            wrapper.learn = partial(learnt.append, 1)
        reports = [training.world.trainer.update(epoch=0, progress=0.0) for _ in range(2)]
    assert all(report.env_steps > 200 for report in reports)
    assert len(learnt) == 2


def test_the_critics_burn_in_leaves_the_policy_alone_and_resumes_exactly():
    config = config_of(algorithm__critic_burn_in_epochs=2)
    whole, kept = train(config)
    untouched, _ = train(config_of(algorithm__critic_burn_in_epochs=4))
    first = kept.checkpoints["scheduled", 2]
    assert first.weights_sha256 == untouched.weights_sha256, "the policy learnt during the burn-in"
    assert first.weights_sha256 != whole.weights_sha256
    resumed, _ = train(config, resume=first)
    assert resumed.content_sha256 == whole.content_sha256


def test_an_earlier_report_stays_as_it_was():
    with Training(config_of()) as training:
        first = training.run(1)
        training.run(1)
    assert first.counters.epoch == 1


def test_a_model_without_a_critic_says_which_argument_adds_one():
    config = compose_run("train", algorithm="ppo", model="vector_obs", overrides=SMALL, seed=1)
    with pytest.raises(InvalidSpecificationError, match="critic=template_state"):
        run_training(config)


def test_the_global_random_state_belongs_to_the_caller():
    import numpy as np
    import torch

    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()
    train(config_of())
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_a_checkpoint_is_not_resumed_from_in_an_environment_of_other_spaces():
    with pytest.raises(InvalidSpecificationError, match=r"env: .*Box\(6,\) of floats here and Box\(4,\)"):
        Training(of_function("Acrobot-v1"), resume=checkpoint_of(of_function("CartPole-v1")))


def test_a_checkpoint_is_resumed_from_in_an_environment_with_other_bounds():
    with Training(of_function("CartPole-v0"), resume=checkpoint_of(of_function("CartPole-v1"))) as training:
        assert training.run(1).counters.epoch == 3


def test_evaluation_does_not_step_the_environments_of_training():
    pool = itertools.cycle([GymMazeEnv("CartPole-v1") for _ in range(8)])
    config = compose_run(
        "train", env=lambda: next(pool), overrides={**OF_FUNCTION, "runner.n_envs": 8}, seed=1
    )
    with Training(config) as training, pytest.raises(EnvError, match="a new one with each call"):
        training.run(1)


OF_FUNCTION = {key: value for key, value in SMALL.items() if key != "env.name"}


def of_function(name):
    """The same configuration whatever the name, which only the function knows."""
    return compose_run("train", env=lambda: GymMazeEnv(name), overrides=OF_FUNCTION, seed=1)


def checkpoint_of(config):
    kept = Kept()
    with Training(config) as training:
        training.run(2, reporter=kept)
    return kept.checkpoints["scheduled", 2]


class Keeps(Wrapper):
    """Has one array to be kept."""

    def __init__(self, array):
        self.array = array

    def state_dict(self):
        return {"state": self.array}

    def load_state_dict(self, arrays):
        self.array = arrays["state"]


@pytest.mark.parametrize("array", [np.float64(3), np.array([1, 2], ">f4"), np.array(7, ">i8")])
def test_the_state_of_a_wrapper_comes_back_as_it_was(array):
    config = compose_run("train", wrappers=[Keeps(array)], seed=1, overrides=SMALL)
    kept = Kept()
    run_training(config, reporter=kept)
    resumed = Training(config, resume=kept.checkpoints["scheduled", 2])
    with resumed:
        back = resumed.world.wrappers[0].array
        assert (back.shape, back.tolist()) == (array.shape, array.tolist())


@pytest.mark.parametrize(
    "array", [np.zeros(2, complex), np.zeros(2, np.longdouble), np.array("text")], ids=str
)
def test_a_state_that_no_checkpoint_stores_is_refused_when_the_run_is_made(array):
    config = compose_run("train", wrappers=[Keeps(array)], seed=1, overrides=SMALL)
    with pytest.raises(InvalidSpecificationError, match=r"cannot store 'wrappers/0/state', which is"):
        Training(config)


class OwnPolicyNet(torch.nn.Module):
    """A network of the user's, which a checkpoint only names."""

    def __init__(self, obs_shapes, action_logits_shapes):
        super().__init__()
        self.out = torch.nn.Linear(3, 1)

    def forward(self, observations):
        return {"action": self.out(observations["observation"])}


@pytest.mark.parametrize("networks", [None, [OwnPolicyNet]])
def test_a_checkpoint_whose_actions_have_the_scale_of_0_1_0_acts_as_it_did_and_is_not_trained_on(networks):
    more = {"model.policy.networks": networks} if networks else {}
    overrides = {**SMALL, "env.name": "Pendulum-v1", "algorithm.batch_size": 24, **more}
    config = compose_run("train", algorithm="ppo", model="flatten_concat", overrides=overrides, seed=1)
    with Training(config) as training:
        checkpoint = training.checkpoint("scheduled")
    scaled = load_agent(checkpoint)
    (head,) = checkpoint.identity["acting"]["steps"][0]["heads"]
    assert head.pop("half_range") == (2.0,)
    assert head.pop("center") == (0.0,)
    observation = np.float32([1, 0, 1])
    old = load_agent(checkpoint, check=False).compute_action(observation)["action"]
    np.testing.assert_array_equal(2 * old, scaled.compute_action(observation)["action"])
    with pytest.raises(CheckpointError, match=r"another scale.*start anew"):
        Training(config, resume=checkpoint)


@pytest.mark.parametrize("n_episodes", [2, 0])
def test_what_training_clips_is_among_its_metrics_with_and_without_evaluation(n_episodes):
    _, kept = train(config_of(env__name="Pendulum-v1", algorithm__rollout_evaluator__n_episodes=n_episodes))
    assert kept.by_epoch
    for metrics in kept.by_epoch.values():
        assert metrics["train/observations_clipped"] == 0.0
        assert 0.0 < metrics["train/actions_clipped"] < 0.5


def test_statistics_go_on_in_training_and_are_those_of_each_checkpoint():
    _, kept = train(config_of(algorithm__n_epochs=12, algorithm__n_rollout_steps=64))
    counts = [c.tensors["wrappers/0/observation/running_count"].item() for c in kept.checkpoints.values()]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_rewards_are_counted_in_training_alone_and_returns_stay_the_environments():
    _, kept = train(config_of(wrappers="running_normalization", algorithm__gamma=0.5))
    for checkpoint in kept.checkpoints.values():
        count = checkpoint.tensors["wrappers/1/count"].item()
        assert count == pytest.approx(checkpoint.identity["counters"]["env_steps"] + 1e-4, abs=1e-9)
        assert checkpoint.tensors["wrappers/1/mean"] == pytest.approx(2.0, abs=0.3), "1 + ½ + ¼ + …"
    for metrics in kept.by_epoch.values():
        assert metrics["eval/mean_return"] == metrics["eval/mean_length"]
        assert metrics["train/episode_return"] == metrics["train/episode_length"]


class RudeEnv(EpisodeNumberEnv):
    """Sets what torch has for the whole process or thread, where it is made, reset or stepped."""

    def __init__(self, setting=lambda: None, where=""):
        super().__init__()
        self.setting, self.where = setting, where
        self.act_at("__init__")

    def act_at(self, place):
        if place == self.where:
            self.setting()

    def reset(self, **given):
        self.act_at("reset")
        return super().reset(**given)

    def step(self, action):
        self.act_at("step")
        return super().step(action)


def outcome_in(make):
    config = compose_run("train", env=make, seed=1, overrides=OF_FUNCTION)
    kept = Kept()
    report = run_training(config, reporter=kept)
    acted = load_agent(kept.checkpoints["scheduled", 4]).compute_action(np.zeros(3, np.float32))
    return report.weights_sha256, report.metrics["eval/mean_return"], acted["action"]


@cache
def outcome_in_a_polite_one():
    return outcome_in(RudeEnv)


@pytest.fixture
def torch_as_it_was():
    yield
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize("where", ["__init__", "reset", "step"])
@pytest.mark.parametrize(
    "setting",
    [
        partial(torch.set_grad_enabled, False),
        partial(torch.set_default_dtype, torch.float64),
        partial(torch.set_default_device, "meta"),
    ],
    ids=["gradients", "dtype", "device"],
)
@pytest.mark.usefixtures("torch_as_it_was")
def test_what_an_environment_sets_in_torch_changes_no_weight(setting, where):
    polite = outcome_in_a_polite_one()  # first, before anything is set
    assert outcome_in(partial(RudeEnv, setting, where)) == polite
