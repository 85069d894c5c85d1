"""From rollout to samples: bootstraps by definition, passes that use every row once, one normalisation for all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.models.config import CustomModelConfig
from maze_core.rollout.collector import Collector
from maze_core.trainers.on_policy import Samples, minibatches, normalize_advantages, prepare
from tests.maze_core.envs.structured_env import make_boxes


def samples(n, start=0):
    column = torch.arange(start, start + n, dtype=torch.float32)
    return Samples({"x": column[:, None]}, {"a": column}, column.long(), column, column.clone(), column)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 30), st.integers(0, 5))
def test_one_pass_uses_every_row_once_whatever_the_step_keys(lengths, size, seed):
    batch = {key: samples(n, 100 * key) for key, n in enumerate(lengths)}
    parts = list(minibatches(batch, size, np.random.default_rng(seed)))
    for key, whole in batch.items():
        seen = torch.cat([part[key].returns for part in parts if key in part])
        assert sorted(seen.tolist()) == whole.returns.tolist()
    sizes = [sum(len(rows) for rows in part.values()) for part in parts]
    assert all(size / 2 <= n < 1.5 * size for n in sizes) or len(sizes) == 1


def test_rows_of_a_minibatch_stay_together():
    (part,) = minibatches({0: samples(7)}, 100, np.random.default_rng(0))
    for rows in (part[0],):
        assert rows.observations["x"][:, 0].tolist() == rows.actions["a"].tolist() == rows.returns.tolist()


def test_advantages_of_all_step_keys_are_normalised_together():
    batch = normalize_advantages({0: samples(3), 1: samples(5, 10)})
    everything = torch.cat([rows.advantages for rows in batch.values()])
    assert everything.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert everything.std().item() == pytest.approx(1.0, abs=1e-6)
    assert batch[0].advantages.max() < batch[1].advantages.min()


def prepared(env, n_steps, *, gamma=0.9, lam=0.8):
    model = CustomModelConfig().build(
        env.observation_spaces, env.action_spaces, env.agent_counts, generator_seed=1
    )
    collector = Collector(env, n_steps, np.random.default_rng(0))
    collector.reset(list(range(env.n_envs)))
    rollout = collector.collect(model.policy.acting())
    batch, _ = prepare(rollout, model.policy, model.critic, gamma=gamma, lam=lam)
    return model, rollout, batch


def value(model, observation):
    tensors = {name: torch.from_numpy(np.asarray(x)[None]) for name, x in observation.items()}
    with torch.no_grad():
        return model.critic.values(0, tensors, torch.zeros(1, dtype=torch.int64)).item()


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
        with torch.no_grad():
            log_probs, _ = model.policy.log_probs_and_entropy(
                key, rows.observations, rows.actions, rows.agent_id
            )
        torch.testing.assert_close(rows.log_probs, log_probs)
        assert (log_probs < 1e-6).all()
        assert torch.isfinite(log_probs).all(), "a masked action was sampled"
