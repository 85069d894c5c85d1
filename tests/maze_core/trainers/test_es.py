"""ES: whose episodes count, where the weights go, what neither processes nor their number change, how it learns."""

import numpy as np
import pytest
from torch import nn

from maze_core.envs.core_env import Outcome
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.subproc import SubprocVectorEnv
from maze_core.envs.wrappers.reward_clipping import RewardClippingWrapper
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv
from maze_core.errors import DivergedError, EnvError
from maze_core.models.config import (
    CustomModelConfig,
    FlattenConcatPolicyNetConfig,
    ProbabilisticPolicyComposerConfig,
)
from maze_core.objectives.evolution import centred_ranks
from maze_core.rollout.episodes import run_episodes
from maze_core.seeding import Stream, derived_seed, generator
from maze_core.trainers.config import OptimizerConfig
from maze_core.trainers.es_config import ESAlgorithmConfig
from maze_core.trainers.fit import Parts
from maze_core.trainers.optim import GradientStep
from maze_core.types import ActorID
from tests.maze_core import recurrent
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.recurrent import CueEnv
from tests.maze_core.rollout.test_memory import LivesEnv
from tests.maze_core.trainers.small_worlds import (
    BoundedEnv,
    MaskedEnv,
    PaidEnv,
    ReachEnv,
    SignEnv,
    TwoAgentsEnv,
    flat,
    parts,
    twin_of,
)


class TurnsEnv(TwoAgentsEnv):
    def actor_id(self):
        return ActorID(0, self._time % 2)


WORLDS = {
    "choice": SignEnv,
    "numbers": ReachEnv,
    "two heads": BoundedEnv,
    "mask": MaskedEnv,
    "two agents": TurnsEnv,
    "sub-steps": make_boxes,
}
SGD = OptimizerConfig(kind="sgd")


class Endless(PaidEnv):
    def ends(self):
        return False, False


def separate_networks() -> CustomModelConfig:
    net = FlattenConcatPolicyNetConfig(hidden_units=[4])
    policy = ProbabilisticPolicyComposerConfig(networks=[net], substeps_with_separate_agent_nets=[0])
    return CustomModelConfig(policy=policy)


def es(world=SignEnv, *, n_envs=3, env=None, model=None, seed=7, **settings):
    config = ESAlgorithmConfig(**{"n_rollouts_per_update": 8, "noise_stddev": 0.1, "lr": 0.05, **settings})
    made = parts(world, n_envs=n_envs, seed=seed, model=model, needs=config.model_needs)
    given = Parts(env=env or made.env, policy=made.policy, critic=None, agent_seed=seed)
    trainer = config.build(given)
    trainer.reset_envs(list(range(given.env.n_envs)))
    return trainer


def updated(trainer, n=3):
    reports = [trainer.update(epoch=0, progress=i / n) for i in range(n)]
    return reports, {name: array.tobytes() for name, array in trainer.state_dict()[1].items()}


@pytest.mark.parametrize("world", WORLDS)
def test_how_many_environments_play_changes_nothing(world):
    one, other = (updated(es(WORLDS[world], n_envs=n)) for n in (1, 5))
    assert one == other


def test_processes_change_nothing_and_one_that_dies_is_told_of():
    env = SubprocVectorEnv([make_boxes] * 4, n_processes=3)
    trainer = es(make_boxes, env=env)
    try:
        assert updated(trainer) == updated(es(make_boxes, n_envs=4))
        env._children[1].process.kill()
        with pytest.raises(EnvError, match="environments 2 to 2 died"):
            trainer.update(epoch=0, progress=0.0)
    finally:
        trainer.close()
    assert all(child.process.poll() is not None for child in env._children)


class PaidLives(LivesEnv):
    """What is seen is always the same, and what is done pays: so it shows what was carried."""

    def _see(self):
        return {"number": np.full(1, 0.5, np.float32)}

    def step(self, action):
        actor = self.actor_id()
        told = super().step(action)
        died = LivesEnv.outcomes(self)
        self._outcomes = [Outcome(actor, float(np.sum(next(iter(action.values())))), terminated=bool(died))]
        return told[0], self._outcomes[0].reward, *told[2:]

    def outcomes(self):
        return self._outcomes


APART = {
    "agents apart": (TurnsEnv, separate_networks()),
    "a state": (CueEnv, recurrent.model()),
    "who comes back": (PaidLives, recurrent.model()),
}


@pytest.mark.parametrize("world", [*WORLDS, *APART])
def test_a_member_plays_as_a_policy_with_its_weights_plays_alone(world):
    world, model = APART[world] if world in APART else (WORLDS[world], None)
    trainer = es(world, model=model, noise_stddev=0.5, n_rollouts_per_update=4)
    played = trainer._play()
    config, policy = trainer.config, trainer.policy
    for number, episode in enumerate(played):
        noise = generator(7, Stream.PERTURBATIONS, 0, number // 2)
        sign = (0.5, -0.5)[number % 2]
        own = trainer.optimizer.flat.copy()
        trainer.optimizer.flat += np.float32(sign) * noise.standard_normal(own.size, np.float32)
        (alone,) = run_episodes(
            PerEnvVectorEnv([world]),
            policy,
            [derived_seed(0, Stream.TRAIN_ENV, 0, number // 2)],
            max_episode_steps=config.max_episode_steps,
        )
        trainer.optimizer.flat[...] = own
        assert episode == (alone.episode_return, alone.episode_return, alone.length)


def test_members_differ_and_so_do_updates_and_seeds():
    trainer = es()
    first = [trainer._member(number) for number in range(4)]
    np.testing.assert_allclose(
        first[0].parameters + first[1].parameters, 2 * trainer.optimizer.flat, atol=1e-6
    )
    assert first[0].seed == first[1].seed != first[2].seed
    assert not np.allclose(first[0].parameters, first[2].parameters, atol=1e-3)
    trainer.n_updates = 1
    assert trainer._member(0).seed != first[0].seed
    assert not np.allclose(trainer._member(0).parameters, first[0].parameters, atol=1e-3)
    assert not np.allclose(es(seed=8)._noise(0), es(seed=7)._noise(0))
    trainer.reset_envs([9, 1, 2])
    trainer.n_updates = 0
    assert trainer._member(0).seed != first[0].seed


def test_the_weights_go_along_the_perturbations_that_ranked_higher():
    trainer = es(ReachEnv, optimizer=SGD, l2_penalty=0.25)
    before, noise = trainer.optimizer.flat.copy(), [trainer._noise(pair) for pair in range(4)]
    fitness = np.array([episode.fitness for episode in trainer._play()]).reshape(4, 2)
    report = trainer.update(epoch=0, progress=0.0)
    ranks = centred_ranks(fitness)
    gradient = sum((up - down) / 8 * e for (up, down), e in zip(ranks, noise, strict=True)) - 0.25 * before
    np.testing.assert_allclose(trainer.optimizer.flat, before + 0.05 * gradient, atol=1e-6)
    assert report.metrics["train/grad_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)


def test_equal_returns_leave_only_the_penalty():
    for penalty, factor in ((0.0, 1.0), (0.5, 1 - 0.05 * 0.5)):
        trainer = es(PaidEnv, optimizer=SGD, l2_penalty=penalty)
        before = trainer.optimizer.flat.copy()
        trainer.update(epoch=0, progress=0.0)
        np.testing.assert_allclose(trainer.optimizer.flat, factor * before, rtol=1e-6)


@pytest.mark.parametrize(
    ("episodes", "steps", "expected"), [(5, 0, 6), (1, 0, 2), (2, 20, 4), (2, 21, 6), (2, 40, 8), (8, 20, 8)]
)
def test_both_episodes_and_steps_are_played(episodes, steps, expected):
    """An episode is five steps long."""
    trainer = es(n_rollouts_per_update=episodes, n_timesteps_per_update=steps)
    report = trainer.update(epoch=0, progress=0.0)
    assert report.metrics["train/n_episodes"] == len(report.episode_returns) == expected
    assert report.env_steps == sum(report.episode_lengths) == 5 * expected


def test_what_is_missing_of_the_steps_is_played_at_once():
    trainer = es(n_rollouts_per_update=2, n_timesteps_per_update=40)
    waves, play = [], trainer._population.play
    trainer._population.play = lambda members, **rest: waves.append(members) or play(members, **rest)
    trainer.update(epoch=0, progress=0.0)
    assert waves == [range(2), range(2, 8)]


def test_an_episode_is_cut_at_the_limit():
    report = es(Endless, max_episode_steps=7).update(epoch=0, progress=0.0)
    assert report.episode_lengths == [7] * 8
    assert report.episode_returns == [7.0] * 8


def test_members_are_judged_by_what_training_pays_and_reported_by_what_the_environment_does():
    env = WrappedVectorEnv(PerEnvVectorEnv([PaidEnv] * 2), [RewardClippingWrapper(min_val=-1, max_val=0.25)])
    (episode, *_) = es(PaidEnv, env=env)._play()
    assert episode == (1.0, 4.0, 4)


def test_a_cancel_is_heard_within_an_episode_and_nothing_was_learnt():
    trainer, asked = es(Endless, max_episode_steps=None), []
    before = updated(es(Endless, max_episode_steps=None), 0)
    trainer._parts.cancelled = lambda: asked.append(1) or len(asked) > 20
    assert trainer.update(epoch=0, progress=0.0) is None
    assert updated(trainer, 0) == before
    assert trainer.n_updates == 0


@pytest.mark.parametrize("n_ticks", [0, 3, 7])
def test_after_a_cancel_an_update_begins_anew(n_ticks):
    """Two members play five ticks, then six more do; none of those is left over."""
    settings = {"n_envs": 6, "n_rollouts_per_update": 2, "n_timesteps_per_update": 40}
    trainer, ticks = es(**settings), []
    trainer._parts.cancelled = lambda: ticks.append(1) or len(ticks) > n_ticks
    assert trainer.update(epoch=0, progress=0.0) is None
    trainer._parts.cancelled = lambda: False
    assert updated(trainer) == updated(es(**settings))


def test_a_restored_trainer_goes_on_bit_by_bit():
    one, other = es(), es(seed=7)
    updated(one)
    other.load_state_dict(*one.state_dict())
    for trainer in (one, other):
        trainer.reset_envs([5, 6, 7])
    assert updated(one) == updated(other)


def test_the_step_size_follows_its_schedule():
    (first, half), _ = updated(es(lr_schedule="linear"), 2)
    assert (first.metrics["train/learning_rate"], half.metrics["train/learning_rate"]) == (0.05, 0.025)
    (first, half), _ = updated(es(), 2)
    assert first.metrics["train/learning_rate"] == half.metrics["train/learning_rate"] == 0.05


def torch_trainer(*, is_frozen: bool):
    """Of networks that are the dense ones as torch modules."""
    config = ESAlgorithmConfig(n_rollouts_per_update=8, noise_stddev=0.1, lr=0.05)
    made = parts(SignEnv, n_envs=3, needs=config.model_needs)
    for _, actor in made.policy.named():
        actor.logits = twin_of(actor.logits)
        actor.logits.module.net[0].requires_grad_(not is_frozen)
    trainer = config.build(made)
    trainer.reset_envs([0, 1, 2])
    return trainer


def test_torch_modules_learn_what_dense_nets_learn():
    dense, torch = es(), torch_trainer(is_frozen=False)
    (ours, _), (theirs, _) = updated(dense), updated(torch)
    assert [report.episode_returns for report in ours] == [report.episode_returns for report in theirs]
    np.testing.assert_allclose(torch.optimizer.flat, dense.optimizer.flat, atol=1e-5)


def test_frozen_parameters_stay():
    trainer = torch_trainer(is_frozen=True)
    before = {name: array.copy() for name, array in trainer.policy.parameters.items()}
    updated(trainer)
    moved = {
        name for name, array in trainer.policy.parameters.items() if not np.array_equal(array, before[name])
    }
    assert moved == {name for name in before if ".2." in name}
    assert isinstance(trainer.policy.steps[0].networks[0].logits.module, nn.Module)
    whole = GradientStep({"policy": trainer.policy}, lr=1.0, max_grad_norm=None)
    assert {name for name, learns in whole.views(whole.learns).items() if learns.all()} == {
        f"policy/{name}" for name in moved
    }, "also where the policy is one network among others"


def test_agents_with_networks_of_their_own_learn_each():
    trainer = es(TwoAgentsEnv, model=separate_networks())
    before = {name: array.copy() for name, array in trainer.policy.parameters.items()}
    updated(trainer)
    assert len(trainer.policy.steps[0].networks) == 2
    assert all(not np.array_equal(array, before[name]) for name, array in trainer.policy.parameters.items())


@pytest.mark.parametrize("world", ["choice", "numbers", "mask"])
def test_what_it_learnt_pays(world):
    trainer = es(WORLDS[world], n_envs=8, n_rollouts_per_update=40, noise_stddev=0.2)
    reports, _ = updated(trainer, 60)
    early, late = (
        np.mean([r for x in part for r in x.episode_returns]) for part in (reports[:5], reports[-5:])
    )
    assert late > (0.6 * early if world == "numbers" else 1.4 * early)


def test_weights_that_are_not_finite_end_the_run():
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match="weights are not finite"):
        updated(es(optimizer=SGD, lr=1e45), 1)


def test_deviations_beside_the_networks_stay():
    trainer = es(ReachEnv)
    before = {name: array.copy() for name, array in trainer.policy.parameters.items()}
    updated(trainer)
    after = trainer.policy.parameters
    assert {name for name in before if np.array_equal(before[name], after[name])} == {
        name for name in before if name.endswith("log_std")
    }
    assert len(flat(trainer.policy)) > len(trainer.optimizer.flat)
