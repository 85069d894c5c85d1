"""From rollout to samples: bootstraps by definition, passes that use every row once, one normalisation for all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_core.data.trajectory import Rollout, StepRecord
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.models.config import CustomModelConfig
from maze_core.rollout.collector import Collector
from maze_core.trainers.learner import Evaluation
from maze_core.trainers.on_policy import Samples, minibatches, normalize_advantages, prepare
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.models.autograd import log_probs_and_entropy, values
from tests.maze_core.trainers.small_worlds import learner_of


def samples(n, start=0):
    column = np.arange(start, start + n, dtype=np.float32)
    row = {"x": column[:, None]}, {"a": column}, column.astype(int), column, column.copy(), column, column
    return Samples(*row)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 30), st.integers(0, 5))
def test_one_pass_uses_every_row_once_whatever_the_step_keys(lengths, size, seed):
    batch = {key: samples(n, 100 * key) for key, n in enumerate(lengths)}
    parts = list(minibatches(batch, size, np.random.default_rng(seed)))
    for key, whole in batch.items():
        seen = np.concatenate([part[key].returns for part in parts if key in part])
        assert sorted(seen.tolist()) == whole.returns.tolist()
    sizes = [sum(len(rows) for rows in part.values()) for part in parts]
    assert all(size / 2 <= n < 1.5 * size for n in sizes) or len(sizes) == 1


def test_rows_of_a_minibatch_stay_together():
    (part,) = minibatches({0: samples(7)}, 100, np.random.default_rng(0))
    for rows in (part[0],):
        assert rows.observations["x"][:, 0].tolist() == rows.actions["a"].tolist() == rows.returns.tolist()
        assert rows.values.tolist() == rows.returns.tolist()


def test_advantages_of_all_step_keys_are_normalised_together():
    batch = normalize_advantages({0: samples(3), 1: samples(5, 10)})
    everything = np.concatenate([rows.advantages for rows in batch.values()])
    assert everything.mean() == pytest.approx(0.0, abs=1e-6)
    assert everything.std(ddof=1) == pytest.approx(1.0, abs=1e-6)
    assert batch[0].advantages.max() < batch[1].advantages.min()


def prepared(env, n_steps, *, gamma=0.9, lam=0.8):
    model = CustomModelConfig().build(
        env.observation_spaces, env.action_spaces, env.agent_counts, generator_seed=1
    )
    collector = Collector(env, n_steps, np.random.default_rng(0))
    collector.reset(list(range(env.n_envs)))
    rollout = collector.collect(model.policy)
    learner, _ = learner_of(model.policy, model.critic)
    batch, _ = prepare(rollout, learner, gamma=gamma, lam=lam)
    return model, rollout, batch


def value(model, observation):
    return values(model.critic, 0, {name: np.asarray(x)[None] for name, x in observation.items()}).item()


def test_the_last_step_before_a_time_limit_bootstraps_from_the_observation_that_was_cut_off():
    env = GymEnvConfig(name="CartPole-v1", max_episode_steps=4).vector(1)
    model, rollout, batch = prepared(env, 4)
    env.close()
    cut = {name: x[0] for name, x in rollout.final[0].observations.items()}
    assert batch[0].returns[-1].item() == pytest.approx(1.0 + 0.9 * value(model, cut), rel=1e-5)


def test_the_last_step_of_a_rollout_bootstraps_from_what_comes_next():
    env = GymEnvConfig(name="CartPole-v1").vector(1)
    model, rollout, batch = prepared(env, 3)
    following = {name: x[0] for name, x in rollout.last_observations[0].items()}
    env.close()
    assert batch[0].returns[-1].item() == pytest.approx(1.0 + 0.9 * value(model, following), rel=1e-5)


def test_old_log_probs_are_those_of_the_policy_that_acted():
    env = PerEnvVectorEnv([make_boxes] * 3)
    model, _, batch = prepared(env, 20)
    env.close()
    for key, rows in batch.items():
        log_probs, _ = log_probs_and_entropy(
            model.policy, key, rows.observations, rows.actions, rows.agent_id
        )
        np.testing.assert_allclose(rows.log_probs, log_probs.detach().numpy(), rtol=1e-5, atol=1e-6)
        assert (rows.log_probs < 1e-6).all()
        assert (rows.log_probs > -100).all(), "a masked action was sampled"


def scripted(active, flat_step, reward, *, terminated=None, truncated=None, agents=None):
    """A rollout of one environment; sub-step 0 acts where ``active`` is 0, sub-step 1 where it is 1."""
    T = len(active)
    active = np.array(active)[:, None]
    column = np.arange(T, dtype=np.float32)[:, None, None]
    no = np.zeros((T, 1), bool)
    steps = {
        key: StepRecord({"x": column.copy()}, {"a": np.zeros((T, 1), np.int64)}, active == key)
        for key in (0, 1)
    }
    return Rollout(
        steps=steps,
        agent_id=np.zeros((T, 1), np.int64) if agents is None else np.array(agents)[:, None],
        reward=np.array(reward, np.float32)[:, None],
        terminated=no if terminated is None else np.array(terminated)[:, None],
        truncated=no if truncated is None else np.array(truncated)[:, None],
        flat_step=np.array(flat_step)[:, None],
        last_observations={key: {"x": np.full((1, 1), T, np.float32)} for key in (0, 1)},
        last_active={0: np.array([True]), 1: np.array([False])},
        last_agent_id=np.zeros(1, np.int64),
        final={},
        episode_returns=[],
        episode_lengths=[],
    )


class TickValue:
    """V is ten times the tick that an observation shows, and 1000 more for agent 1; log π is minus the sub-step."""

    has_memory = False

    def values(self, key, observations, agent_id):
        return observations["x"][:, 0] * 10 + 1000 * agent_id

    def evaluate(self, key, observations, actions, agent_id, sequences):
        zero = observations["x"][:, 0] * 0
        return Evaluation(zero - key, zero, self.values(key, observations, agent_id), lambda *_: None)


def targets(rollout, gamma=0.5, lam=0.0):
    batch, explained = prepare(rollout, TickValue(), gamma=gamma, lam=lam)
    by_tick = {
        int(x): (a, r)
        for samples in batch.values()
        for x, a, r in zip(
            samples.observations["x"][:, 0],
            samples.advantages.tolist(),
            samples.returns.tolist(),
            strict=True,
        )
    }
    return batch, [by_tick[t] for t in range(len(rollout.reward))], explained


def test_the_discount_counts_steps_of_environment_time_and_not_sub_steps():
    """Ticks 0 and 1 are one flat step, tick 2 the next: γ = ½ applies after tick 1 and after tick 2."""
    _, rows, _ = targets(scripted([0, 1, 0], [0, 0, 1, 2], [0.0, 2.0, 1.0]))
    assert [r for _, r in rows] == [2 + 0.5 * 20, 2 + 0.5 * 20, 1 + 0.5 * 30]
    assert [a for a, _ in rows] == [12.0 - 0, 12.0 - 10, 16.0 - 20]


def test_the_trace_runs_through_sub_steps_whole_and_decays_between_flat_steps():
    """λ = ½ as well: an error reaches the tick before it whole within a flat step, by γλ = ¼ across two."""
    _, rows, _ = targets(scripted([0, 1, 0], [0, 0, 1, 2], [0.0, 2.0, 1.0]), lam=0.5)
    third = -4.0
    second = 2.0 + 0.25 * third
    assert [a for a, _ in rows] == [10.0 + second, second, third]


def test_without_sub_steps_every_tick_is_discounted():
    _, rows, _ = targets(scripted([0, 0], [0, 1, 2], [1.0, 1.0]), lam=0.5)
    second = 1 + 0.5 * 20 - 10
    assert [a for a, _ in rows] == [1 + 0.5 * 10 + 0.25 * second, second]


def test_an_episode_that_ends_between_two_flat_steps_of_one_number_ends():
    """After an end the next episode begins at flat step 0 again, which is no sub-step of the last one."""
    _, rows, _ = targets(scripted([0, 0], [0, 0, 1], [1.0, 1.0], terminated=[True, False]))
    assert [r for _, r in rows] == [1.0, 1 + 0.5 * 20]


def test_each_row_keeps_its_agent_and_the_value_of_its_agent():
    batch, rows, _ = targets(scripted([0, 1], [0, 0, 1], [0.0, 0.0], agents=[1, 0]))
    assert batch[0].agent_id.tolist() == [1]
    assert batch[1].agent_id.tolist() == [0]
    assert rows[0][0] == 10.0 - 1000


def test_a_sub_step_that_did_not_act_has_no_samples():
    batch, _, _ = targets(scripted([0, 0], [0, 1, 2], [0.0, 0.0]))
    assert list(batch) == [0]


def test_samples_outlive_the_buffers_they_came_from():
    rollout = scripted([0, 0], [0, 1, 2], [1.0, 1.0])
    batch, _, _ = targets(rollout)
    kept = {name: rows.copy() for name, rows in batch[0].observations.items()}
    for record in rollout.steps.values():
        record.observations["x"][...] = -1
        record.actions["a"][...] = -1
    assert np.array_equal(batch[0].observations["x"], kept["x"])
    assert batch[0].actions["a"].tolist() == [0, 0]


def test_the_explained_variance_is_that_of_the_critic_before_the_update():
    rollout = scripted([0, 0, 0], [0, 1, 2, 3], [1.0, 5.0, 9.0])
    _, rows, explained = targets(rollout)
    returns, values = np.array([r for _, r in rows]), np.array([0.0, 10.0, 20.0])
    assert explained == pytest.approx(1 - np.var(returns - values) / np.var(returns), rel=1e-5)


@given(st.integers(1, 40), st.integers(1, 30))
def test_a_short_rest_joins_the_minibatch_before_it(n, size):
    parts = list(minibatches({0: samples(n)}, size, np.random.default_rng(0)))
    sizes = [len(part[0]) for part in parts]
    whole, rest = divmod(n, size)
    expected = [size] * whole
    if rest and (not whole or rest >= size / 2):
        expected.append(rest)
    elif rest:
        expected[-1] += rest
    assert sizes == expected


def test_minibatches_of_several_step_keys_keep_rows_together_too():
    batch = {0: samples(5), 1: samples(7, 100)}
    for part in minibatches(batch, 4, np.random.default_rng(0)):
        for rows in part.values():
            assert (
                rows.observations["x"][:, 0].tolist() == rows.actions["a"].tolist() == rows.returns.tolist()
            )
            assert rows.agent_id.tolist() == rows.log_probs.tolist() == rows.advantages.tolist()
