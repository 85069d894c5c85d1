"""What critics see beyond one observation, against loops that anybody would write, and what comes of it."""

from functools import partial

import numpy as np
import pytest

from maze_core.errors import InvalidSpecificationError
from maze_core.models.block_config import BlockConfig
from maze_core.models.config import (
    CustomModelConfig,
    DeltaStateCriticConfig,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
    ModelNeeds,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticConfig,
    StepStateCriticConfig,
    TemplateModelConfig,
)
from maze_core.models.template_config import ConcatModelBuilderConfig, ModalityConfig
from maze_core.rollout.collector import Collector
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.critic_context import BASE, CriticContext
from maze_core.trainers.on_policy import prepare
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.trainers.small_worlds import LimitedTwoAgentsEnv, SignEnv, learner_of, parts, trainer_of

N_ENVS = 3
VALUE = FlattenConcatStateValueNetConfig(hidden_units=[4])
DELTA = DeltaStateCriticConfig(networks=[VALUE])
STACK = SharedStateCriticConfig(networks=[VALUE], stack_observations=True)


def model(critic) -> CustomModelConfig:
    policy = ProbabilisticPolicyComposerConfig(networks=[FlattenConcatPolicyNetConfig(hidden_units=[4])])
    return CustomModelConfig(policy=policy, critic=critic)


def rollouts(world, critic, n_ticks: int = 7, n: int = 3):
    """Rollouts one behind the other, each valid until the next, with what the critic sees; and who made them."""
    made = parts(world, n_envs=N_ENVS, model=model(critic))
    collector = Collector(made.env, n_ticks, np.random.default_rng(0))
    collector.reset(range(N_ENVS))
    context = CriticContext(made.critic, N_ENVS)
    return (context.added(collector.collect(made.policy)) for _ in range(n)), made


def value(critic, key, seen, row) -> float:
    shown = {name: np.asarray(x[row])[None] for name, x in seen.items() if not name.startswith("critic:")}
    return float(critic.by_key[key](dict(critic.filled(shown)))[0, 0])


def test_the_value_of_a_later_sub_step_is_that_before_and_the_change():
    """By a loop over the ticks of each environment, across the ends of rollouts."""
    found, made = rollouts(make_boxes, DELTA)
    before = np.zeros(N_ENVS)
    goes_on = np.zeros(N_ENVS, bool)
    n_changes = 0
    for rollout in found:
        same = rollout.same_flat_step
        for t, b in np.ndindex(rollout.reward.shape):
            key = 0 if rollout.steps[0].active[t, b] else 1
            own = value(made.critic, key, rollout.steps[key].observations, (t, b))
            expected = before[b] if goes_on[b] else 0.0
            if key == 1:
                assert goes_on[b]
                n_changes += 1
                assert rollout.steps[1].observations[BASE][t, b] == pytest.approx(expected, abs=1e-5)
                own += expected
            before[b], goes_on[b] = own, same[t, b]
        for b in np.flatnonzero(rollout.last_active[1]):
            assert rollout.last_observations[1][BASE][b] == pytest.approx(before[b], abs=1e-5)
        assert BASE not in rollout.steps[0].observations
    assert n_changes > 10


def test_a_critic_of_changes_is_learnt_from_with_its_base_added():
    (rollout,), made = rollouts(make_boxes, DELTA, n=1)
    learner, step = learner_of(made.policy, made.critic)
    batch, _ = prepare(rollout, learner, gamma=0.9, lam=0.8)
    samples = batch[1]
    own = [value(made.critic, 1, samples.observations, i) for i in range(len(samples))]
    np.testing.assert_allclose(samples.values, own + samples.observations[BASE], rtol=1e-4, atol=1e-5)
    step.zero()
    found = learner.evaluate(1, samples.observations, samples.actions, samples.agent_id)
    found.backward(np.zeros(len(samples), np.float32), None, np.ones(len(samples), np.float32))
    first, second = (step.gradients_of(f"critic/networks.{i}.") for i in range(2))
    assert not any(gradient.any() for gradient in first.values())  # no gradient through the base
    assert any(gradient.any() for gradient in second.values())


def test_a_stacked_critic_sees_what_each_agent_saw_last_in_its_episode():
    found, _ = rollouts(LimitedTwoAgentsEnv, STACK)
    latest = np.zeros((N_ENVS, 2, 2))
    for rollout in found:
        shown = rollout.steps[0].observations
        stacked = shown["critic:stacked:observation"]
        final = rollout.final.get(0)
        for t, b in np.ndindex(rollout.reward.shape):
            agent = rollout.agent_id[t, b]
            latest[b, agent] = shown["observation"][t, b]
            np.testing.assert_array_equal(stacked[t, b], [latest[b, agent], latest[b, 1 - agent]])
            if rollout.truncated[t, b]:
                i = np.flatnonzero((final.t == t) & (final.b == b)).item()
                seer = final.agent_id[i]
                assert (agent, seer) == (0, 1), "the fifth turn ended it, and the sixth would be the other's"
                np.testing.assert_array_equal(
                    final.observations["critic:stacked:observation"][i],
                    [final.observations["observation"][i], latest[b, 1 - seer]],
                )
                latest[b] = 0
        for b, agent in enumerate(rollout.last_agent_id):
            last = rollout.last_observations[0]
            np.testing.assert_array_equal(
                last["critic:stacked:observation"][b], [last["observation"][b], latest[b, 1 - agent]]
            )


def test_what_was_carried_is_forgotten_where_envs_are_reset_or_rollouts_come_in_any_order():
    for forget in (True, False):
        made = parts(LimitedTwoAgentsEnv, n_envs=N_ENVS, model=model(STACK))
        collector = Collector(made.env, 3, np.random.default_rng(0))
        collector.reset(range(N_ENVS))
        context = CriticContext(made.critic, N_ENVS)
        context.added(collector.collect(made.policy))
        if forget:
            context.forget()
        else:
            context.carries = False
        second = context.added(collector.collect(made.policy))
        assert not second.steps[0].observations["critic:stacked:observation"][0, :, 1].any()


@pytest.mark.parametrize(("world", "critic"), [(make_boxes, DELTA), (LimitedTwoAgentsEnv, STACK)])
def test_what_is_collected_next_knows_nothing_of_what_was_added(world, critic):
    trainer = trainer_of(A2CAlgorithmConfig(n_rollout_steps=7), world, model=model(critic), n_envs=N_ENVS)
    for i in range(3):
        assert np.isfinite(trainer.update(epoch=i, progress=0.0).metrics["train/value_loss"])
    seen = {
        name
        for record in trainer.collector.collect(trainer.policy).steps.values()
        for name in record.observations
    }
    assert not any(name.startswith("critic:") for name in seen)


def test_a_plain_critic_changes_no_rollout():
    made = parts(SignEnv, n_envs=N_ENVS, model=model(StepStateCriticConfig(networks=[VALUE])))
    collector = Collector(made.env, 3, np.random.default_rng(0))
    collector.reset(range(N_ENVS))
    rollout = collector.collect(made.policy)
    assert CriticContext(made.critic, N_ENVS).added(rollout) is rollout


def built(config, world=LimitedTwoAgentsEnv, counts=None):
    env = world()
    return config.build(
        env.observation_spaces,
        env.action_spaces,
        counts or env.agent_counts,
        generator_seed=0,
        needs=ModelNeeds(),
    )


def test_stacking_needs_a_fixed_number_of_agents():
    with pytest.raises(
        InvalidSpecificationError, match="stack_observations: sub-step 0 has no fixed number of agents"
    ):
        built(model(STACK), counts={0: -1})


def test_critics_of_changes_and_of_several_agents_carry_no_state():
    recurrence = BlockConfig(block_type="gru", block_params={"hidden_size": 3})
    builder = ConcatModelBuilderConfig(modality_config=ModalityConfig(recurrence=recurrence))
    for critic, world in (
        (DeltaStateCriticConfig(), make_boxes),
        (SharedStateCriticConfig(stack_observations=True), SignEnv),
    ):
        with pytest.raises(InvalidSpecificationError, match=r"carry a state, .* take critic=template_state"):
            built(TemplateModelConfig(model_builder=builder, critic=critic), partial(world))
