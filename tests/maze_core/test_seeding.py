"""Streams are named, independent and restorable; environment b has the same seed whatever the batch."""

import json

import numpy as np

from maze_core.seeding import (
    SEED_LIMIT,
    Stream,
    draw_seed,
    env_seeds,
    generator,
    generator_state,
    restore_generator,
)


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
