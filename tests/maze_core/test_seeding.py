"""Streams are named, independent and restorable; environment b has the same seed whatever the batch."""

import json
import random

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from maze_core.envs.config import CallableEnvConfig, GymEnvConfig
from maze_core.envs.native import NativeVectorEnv
from maze_core.seeding import (
    SEED_LIMIT,
    Stream,
    draw_seed,
    env_seeds,
    generator,
    generator_state,
    own_process,
    restore_generator,
)
from tests.maze_core.envs.small_envs import DrawsFromTheProcess


def test_an_environment_keeps_its_seed_when_more_are_added():
    assert env_seeds(1, Stream.TRAIN_ENV, 8, 3)[:2] == env_seeds(1, Stream.TRAIN_ENV, 2, 3)


def test_streams_indices_and_base_seeds_give_different_numbers():
    seeds = {
        tuple(env_seeds(base, stream, 2, index))
        for base in (0, 1)
        for stream in (Stream.TRAIN_ENV, Stream.EVAL_ENV)
        for index in (0, 1)
    }
    assert len(seeds) == 8


def test_a_restored_generator_goes_on_with_the_same_numbers():
    rng = generator(5, Stream.ACTIONS)
    rng.random(3)
    rng.integers(0, 10, dtype=np.int32)
    state = json.loads(json.dumps(generator_state(rng)))
    expected = rng.random(4).tolist()
    other = generator(9, Stream.WEIGHTS)
    restore_generator(other, state)
    assert other.random(4).tolist() == expected


def test_drawn_seeds_are_below_two_to_the_32():
    assert all(0 <= draw_seed() < SEED_LIMIT for _ in range(100))


def state_of_the_process():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def native_batch(config, n_envs):
    makers = [lambda: gymnasium.make("CartPole-v1")] * n_envs
    return NativeVectorEnv(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP), n_envs)


@pytest.mark.parametrize("vectorization", ["per_env", "builtin", "native"])
def test_the_generators_of_the_process_are_seeded_where_it_is_ours_and_nowhere_else(
    vectorization, monkeypatch
):
    monkeypatch.setattr(GymEnvConfig, "_native", native_batch)

    def make():
        return GymEnvConfig(name="CartPole-v1", vectorization=vectorization).vector(2, seed=3)

    before = state_of_the_process()
    make().reset([5, 6])
    assert state_of_the_process() == before

    with own_process():
        make().reset([5, 6])
        seeded = state_of_the_process()
        random.random(), np.random.random(), torch.rand(1)
        make().reset([5, 6])
        assert state_of_the_process() == seeded
        make().reset([5, 7])
        assert state_of_the_process() != seeded
    after = state_of_the_process()
    make().reset([5, 6])
    assert state_of_the_process() == after


@pytest.mark.parametrize("execution", ["local", "isolated"])
def test_processes_of_environments_are_seeded_from_the_run_and_from_each_episode(execution):
    def first_steps(seed):
        """What is shown and paid in the episodes of two pairs of seeds."""
        env = CallableEnvConfig(factory=DrawsFromTheProcess).vector(
            2, execution=execution, n_processes=2, seed=seed
        )
        try:
            for seeds in ([5, 6], [7, 8]):
                yield env.reset(seeds).observations[0]["observation"].tolist()
                yield env.step({0: {"action": np.zeros(2, np.int64)}}).reward.tolist()
        finally:
            env.close()

    shown, paid, _, paid_later = first = list(first_steps(1))
    assert list(first_steps(1)) == first
    assert shown[0] != shown[1], "each process has its own"
    assert paid_later != paid
    assert next(iter(first_steps(2))) != shown
