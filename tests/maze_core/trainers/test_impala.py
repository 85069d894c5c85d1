"""IMPALA: what older weights did is weighed and learnt from; in lockstep exactly, in processes as it comes."""

from collections import deque
from dataclasses import replace
from math import inf

import numpy as np
import psutil
import pytest
import torch

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.vector import VectorEnv
from maze_core.errors import EnvError, InvalidSpecificationError
from maze_core.models.config import CustomModelConfig, ProbabilisticPolicyComposerConfig
from maze_core.objectives.vtrace import vtrace
from maze_core.subprocesses import CLOSE_TIMEOUT_S
from maze_core.trainers.fit import Parts
from maze_core.trainers.impala_config import ImpalaAlgorithmConfig
from tests.maze_core.models.autograd import log_probs_and_entropy
from tests.maze_core.trainers.small_worlds import (
    MaskedEnv,
    SignEnv,
    TwoAgentsEnv,
    flat,
    probability,
    trainer_of,
    two_actions,
)

QUICK = {"n_rollout_steps": 4, "lr": 0.01}


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_the_weights_that_act_are_as_many_updates_old_as_asked_for_and_the_newest_ones_learn(lag):
    trainer = trainer_of(ImpalaAlgorithmConfig(queue_out_of_sync_factor=lag, **QUICK))
    newest, acted, learnt = [flat(trainer.policy)], [], []
    collect, gradient_step = trainer.collector.collect, trainer.gradient_step
    trainer.collector.collect = lambda policy: (acted.append(flat(policy)), collect(policy))[1]
    trainer.gradient_step = lambda *given, **named: (
        learnt.append(flat(trainer.policy)),
        gradient_step(*given, **named),
    )[1]
    lags = []
    for _ in range(6):
        lags.append(trainer.update(epoch=0, progress=0.0).metrics["train/policy_lag"])
        newest.append(flat(trainer.policy))
    assert lags == [min(i, lag) for i in range(6)]
    for i in range(6):
        assert np.array_equal(acted[i], newest[max(i - lag, 0)])
        assert np.array_equal(learnt[i], newest[i])
        assert not np.array_equal(newest[i], newest[i + 1])


def test_a_failure_of_an_environment_leaves_the_newest_weights_and_the_lag():
    trainer = trainer_of(ImpalaAlgorithmConfig(**QUICK))
    trainer.update(epoch=0, progress=0.0)
    before, collect = flat(trainer.policy), trainer.collector.collect

    def fail(policy):
        raise EnvError("the lid fell shut")

    trainer.collector.collect = fail
    with pytest.raises(EnvError):
        trainer.update(epoch=0, progress=0.0)
    assert np.array_equal(flat(trainer.policy), before)
    trainer.collector.collect = collect
    assert trainer.update(epoch=0, progress=0.0).metrics["train/policy_lag"] == 1


def seen(trainer):
    """The rollout and the batch of an update."""
    found, collect, learn = [], trainer._collect, trainer._learn

    def note(what):
        found.append(what)
        return what

    trainer._collect = lambda: note(collect())
    trainer._learn = lambda batch, *, epoch: learn(note(batch), epoch=epoch)
    trainer.update(epoch=0, progress=0.0)
    del trainer._collect, trainer._learn
    return found


def test_what_is_learnt_from_is_v_trace_between_the_policy_that_acted_and_the_one_that_learns():
    """Values that are known make the targets those of the objective, whose own tests hold it."""
    settings = {"queue_out_of_sync_factor": 2, "gae_lambda": 0.7, "normalize_advantages": False}
    clips = {"rho": 1.01, "c": 1.002}
    thresholds = {f"vtrace_clip_{name}_threshold": value for name, value in clips.items()}
    config = ImpalaAlgorithmConfig(gamma=0.9, value_loss_coef=0.0, **QUICK, **settings, **thresholds)
    trainer = trainer_of(config)
    for array in trainer.critic.parameters.values():
        array[...] = 0
    old = [array.copy() for array in trainer.policy.parameters.values()]
    for _ in range(2):
        trainer.update(epoch=0, progress=0.0)
    rollout, batch = seen(trainer)
    samples, zeros = batch[0], np.zeros_like(rollout.reward)
    log_ratios = samples.found.log_probs.reshape(zeros.shape) - rollout.log_probs
    assert log_ratios.max() > np.log(1.01), "a clip must be reached for the test to mean something"
    advantages, targets = vtrace(
        log_ratios,
        rollout.reward,
        zeros,
        zeros,
        rollout.terminated,
        rollout.truncated,
        gamma=0.9,
        lam=0.7,
        **{f"clip_{name}": value for name, value in clips.items()},
    )
    np.testing.assert_allclose(samples.returns, targets.reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(samples.advantages, advantages.reshape(-1), rtol=1e-5)
    for array, value in zip(trainer.policy.parameters.values(), old, strict=True):
        array[...] = value
    acted, _ = log_probs_and_entropy(trainer.policy, 0, samples.observations, samples.actions)
    np.testing.assert_allclose(samples.log_probs, acted.detach().numpy(), rtol=1e-5)
    np.testing.assert_array_equal(samples.log_probs, rollout.log_probs.reshape(-1))


@pytest.mark.parametrize(("given", "used"), [(0.7, 0.7), (None, inf), (0, inf)])
@pytest.mark.parametrize("name", ["rho", "pg_rho", "c"])
def test_a_threshold_that_is_off_clips_nothing(name, given, used):
    trainer = trainer_of(ImpalaAlgorithmConfig(**{f"vtrace_clip_{name}_threshold": given}))
    found = {f"vtrace {name}": clip for name, clip in trainer._off_policy.keywords.items()}
    found |= trainer._policy_loss.keywords
    wanted = {"rho": "vtrace clip_rho", "pg_rho": "clip_rho", "c": "vtrace clip_c"}
    assert found == {**dict.fromkeys(wanted.values(), 1.0), wanted[name]: used}


@pytest.mark.parametrize(("advantages", "direction"), [([1.0, -1.0], 1), ([-1.0, 1.0], -1)])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_better_action_becomes_likelier(advantages, direction, normalize):
    trainer = trainer_of(ImpalaAlgorithmConfig(normalize_advantages=normalize, entropy_coef=0.0, **QUICK))
    before = probability(trainer)
    trainer._learn({0: two_actions(advantages, [1, 0])}, epoch=0)
    assert (probability(trainer) - before) * direction > 0


@pytest.mark.parametrize(("normalize", "scale"), [(True, 1 / 2.0**0.5), (False, None)])
def test_the_report_is_of_the_loss_with_advantages_normalised_or_not_and_of_the_divergence(normalize, scale):
    """Advantages 100 and 700: centred and scaled they are ∓1/√2, and then weighed by min(1, π/μ) (section 4.2).

    Normalised after they were weighed, they would be ∓1/√2 again. KL(μ ‖ π) is by k3, from its definition.
    """
    trainer = trainer_of(ImpalaAlgorithmConfig(normalize_advantages=normalize, **QUICK))
    likely = np.array([probability(trainer, 0), probability(trainer, 1)])
    used = np.array([-scale, scale]) if normalize else np.array([100.0, 700.0])
    samples, acted = two_actions([100.0, 700.0], [0, 1]), np.array([0.25, 0.75], np.float32)
    samples.log_probs, ratios = np.log(acted), likely / acted
    (report,) = trainer._learn({0: samples}, epoch=0)
    weighed = np.minimum(ratios, 1) * used
    assert report["train/policy_loss"] == pytest.approx(-(np.log(likely) * weighed).mean(), rel=1e-4)
    assert report["train/policy_lag"] == 0.0, "nothing was collected yet"
    assert report["train/approx_kl"] == pytest.approx((ratios - 1 - np.log(ratios)).mean(), abs=1e-6)


def test_the_weights_that_will_act_are_part_of_the_state_as_copies():
    config = ImpalaAlgorithmConfig(queue_out_of_sync_factor=3, **QUICK)
    first, second = trainer_of(config), trainer_of(config, seed=8)
    second.update(epoch=0, progress=0.0)
    for updates in range(5):
        tree, arrays = first.state_dict()
        assert tree["acting"] == min(updates, 3)
        first.update(epoch=0, progress=0.0)
    second.load_state_dict(tree, arrays)
    for trainer in (first, second):
        trainer.load_state_dict(tree, {name: array.copy() for name, array in arrays.items()})
        trainer.reset_envs([5, 6])
        for _ in range(5):
            trainer.update(epoch=0, progress=0.0)
    assert np.array_equal(flat(first.policy), flat(second.policy))


@pytest.mark.parametrize("world", [MaskedEnv, TwoAgentsEnv])
def test_masks_and_agents_are_learnt(world):
    trainer = trainer_of(ImpalaAlgorithmConfig(lr=0.05, n_rollout_steps=32), world, n_envs=4)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(120)]
    assert np.mean(reports[-1].episode_returns) > 4.5 > 3.5 > np.mean(reports[0].episode_returns)


def test_without_a_queue_nothing_is_asynchronous():
    assert ImpalaAlgorithmConfig(queue_out_of_sync_factor=0).queue_out_of_sync_factor == 0
    with pytest.raises(InvalidSpecificationError, match="queue_out_of_sync_factor must be at least 1"):
        ImpalaAlgorithmConfig(mode="asynchronous", queue_out_of_sync_factor=0)


ASYNCHRONOUS = ImpalaAlgorithmConfig(mode="asynchronous", n_rollout_steps=5, lr=0.01)


def asynchronous(env: VectorEnv, model=None, **changes):
    """A trainer whose environments were reset."""
    model = (model or CustomModelConfig()).build(
        env.observation_spaces, env.action_spaces, env.agent_counts, generator_seed=1
    )
    parts = Parts(env=env, policy=model.policy, critic=model.critic, agent_seed=3)
    trainer = replace(ASYNCHRONOUS, **changes).build(parts)
    trainer.reset_envs(list(range(env.n_envs)))
    return trainer


@pytest.fixture
def cartpoles():
    env = GymEnvConfig(name="CartPole-v1").vector(3, execution="local", n_processes=2)
    yield env
    env.close()


def test_asynchronous_an_update_learns_from_a_rollout_of_every_process_by_the_weights_that_acted(cartpoles):
    trainer = asynchronous(cartpoles)
    rollout, batch = seen(trainer)
    assert rollout.reward.shape[0] == 5
    assert rollout.reward.shape[1] in (2, 3, 4), "whichever process came first, also twice"
    samples = batch[0]
    np.testing.assert_allclose(
        samples.log_probs, samples.found.log_probs, atol=1e-6, err_msg="the first weights acted"
    )
    before = flat(trainer.policy)
    reports = [trainer.update(epoch=0, progress=0.0) for _ in range(10)]
    assert not np.array_equal(flat(trainer.policy), before)
    assert all(report.env_steps in (10, 15, 20) for report in reports)
    assert sum(report.metrics["train/policy_lag"] for report in reports) > 0
    assert sum(len(report.episode_returns) for report in reports) > 0
    trainer.close()


def test_asynchronous_weights_are_weighed_as_those_that_acted(cartpoles):
    """What old weights did is told from what new ones would have done: the ratios are those of a large step."""
    trainer = asynchronous(cartpoles, queue_out_of_sync_factor=3, lr=0.5, lr_schedule="constant")
    trainer.update(epoch=0, progress=0.0)
    kl = [trainer.update(epoch=0, progress=0.0).metrics["train/approx_kl"] for _ in range(5)]
    assert max(kl) > 0.01
    newest = flat(trainer.policy)
    trainer._collect()
    assert np.array_equal(flat(trainer.policy), newest)
    trainer.close()


def test_asynchronous_a_reset_begins_new_episodes_everywhere(cartpoles):
    trainer = asynchronous(cartpoles)
    for _ in range(2):
        trainer.reset_envs([7, 8, 9])
        rollout, _ = seen(trainer)
        assert rollout.flat_step[0].min() == 0
    trainer.close()


def test_asynchronous_a_closed_run_leaves_no_process_and_no_thread(cartpoles):
    trainer = asynchronous(cartpoles)
    trainer.update(epoch=0, progress=0.0)
    processes, threads = psutil.Process().children(), trainer._actors._threads
    assert len(processes) >= len(threads) == 2
    trainer.close()
    assert not any(thread.is_alive() for thread in threads)
    assert not set(processes) & set(psutil.Process().children())


def test_asynchronous_actors_come_to_rest_before_their_environments_are_closed(cartpoles):
    trainer, order = asynchronous(cartpoles), []
    trainer._actors.stop = order.append
    trainer.collector.env.close = lambda: order.append("closed")
    trainer.close()
    assert order == [CLOSE_TIMEOUT_S, "closed"]
    del trainer.collector.env.close


def test_asynchronous_a_process_that_dies_ends_the_run_by_name(cartpoles):
    trainer = asynchronous(cartpoles)
    trainer.update(epoch=0, progress=0.0)
    cartpoles._children[1].process.kill()
    with pytest.raises(EnvError, match=r"environments 2 to 2 died \(exit code -9\)"):
        deque((trainer.update(epoch=0, progress=0.0) for _ in range(100)), maxlen=0)
    trainer.close()


class Net(torch.nn.Module):
    """A network of the user's, which notes whether torch keeps what a gradient needs."""

    def __init__(self, n_in=4):
        super().__init__()
        self.out, self.notes = torch.nn.Linear(n_in, 2), []

    def forward(self, observations):
        self.notes.append(torch.is_grad_enabled())
        return {"action": self.out(observations["observation"])}


def test_only_the_gradient_step_keeps_what_a_gradient_needs():
    policy = ProbabilisticPolicyComposerConfig(networks=[Net(2)])
    trainer = trainer_of(ImpalaAlgorithmConfig(**QUICK), model=CustomModelConfig(policy=policy))
    notes = trainer.policy.steps[0].networks[0].logits.module.notes
    notes.clear()
    trainer.update(epoch=0, progress=0.0)
    assert notes[-1]
    assert not any(notes[:-1])


def test_asynchronous_networks_of_the_user_go_along(cartpoles):
    model = CustomModelConfig(policy=ProbabilisticPolicyComposerConfig(networks=[Net()]))
    trainer = asynchronous(cartpoles, model, lr=0.1, queue_out_of_sync_factor=2)
    kl = [trainer.update(epoch=0, progress=0.0).metrics["train/approx_kl"] for _ in range(5)]
    assert kl[0] == pytest.approx(0.0, abs=1e-6)
    assert max(kl) > 0.001
    trainer.close()


def test_asynchronous_needs_environments_in_processes():
    with pytest.raises(InvalidSpecificationError, match=r"algorithm\.mode.*runner=local"):
        trainer_of(ASYNCHRONOUS, SignEnv)
