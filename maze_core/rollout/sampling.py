"""Raw observations of a random policy, from which wrappers estimate their statistics before training."""

from collections.abc import Mapping, Sequence

import numpy as np

from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.moments import difference, far_reference
from maze_core.models.masks import mask_checks
from maze_core.models.random_policy import RandomPolicy
from maze_core.seeding import Stream, env_seeds, generator
from maze_core.types import Array, Observation, StepKey

_FIRST_LOOK = 1000
"""Samples after which the statistics are looked at first; then at every doubling."""
_TOLERANCE = 0.2
"""How far mean and deviation of the later half may lie from those of the earlier one, in deviations."""
_MAX_BYTES = 64 * 1024 * 1024
"""Samples kept at most, where single ones are large."""


def sample_observations(env: VectorEnv, least: int, most: int, env_seed: int) -> dict[StepKey, Observation]:
    """Play at random until what is seen stands still.

    That is when every environment has ended an episode, and mean and deviation of every feature were the same in the
    first half of the samples and in the second.

    Args:
        env: is reset, with seeds of a stream of its own, and left in the middle of episodes; no others are made.
        least: flat steps to take at least.
        most: flat steps after which sampling ends all the same.
        env_seed: seeds the environments and the actions.

    Returns:
        Per step key that was met: name → ``[n, …]``.
    """
    rng = generator(env_seed, Stream.NORMALIZATION)
    tick = env.reset(env_seeds(env_seed, Stream.NORMALIZATION, env.n_envs))
    policy = RandomPolicy(env.action_spaces)
    masks = mask_checks(env.observation_spaces, env.action_spaces)
    seen: dict[StepKey, list[Observation]] = {key: [] for key in env.observation_spaces}
    has_ended = np.zeros(env.n_envs, dtype=np.bool_)
    n_samples = n_bytes = 0
    next_look = max(least, _FIRST_LOOK)
    while True:
        actions = {}
        for key, active in tick.active.items():
            rows = {name: array[active] for name, array in tick.observations[key].items()}
            if active.any():
                if key in masks:
                    masks[key].expect(tick.observations[key], np.flatnonzero(active))
                seen[key].append(rows)
                n_bytes += sum(array.nbytes for array in rows.values())
            noise = policy.noise(key, rng, env.n_envs)
            actions[key] = policy.act(key, tick.observations[key], deterministic=False, noise=noise)
        n_samples += env.n_envs
        if n_samples >= least and (n_samples >= most or n_bytes >= _MAX_BYTES):
            break
        if n_samples >= next_look:
            next_look = 2 * n_samples
            if has_ended.all() and _stand_still(seen):
                break
        tick = env.step(actions)
        has_ended |= tick.ended
    return {key: _joined(batches) for key, batches in seen.items() if batches}


def _stand_still(seen: Mapping[StepKey, Sequence[Observation]]) -> bool:
    """Whether mean and deviation of every number were the same in both halves."""
    for batches in filter(None, seen.values()):
        if len(batches) < 2:
            return False
        halves = _joined(batches[: len(batches) // 2]), _joined(batches[len(batches) // 2 :])
        for earlier, later in zip(*(half.values() for half in halves), strict=True):
            reference = far_reference(earlier)
            rows = (difference(half, reference) for half in (earlier, later))
            means, deviations = zip(*map(_moments, rows), strict=True)
            allowed = _TOLERANCE * np.maximum(*deviations)
            moved = np.maximum(np.abs(means[0] - means[1]), np.abs(deviations[0] - deviations[1]))
            if (moved > allowed).any():
                return False
    return True


def _moments(samples: Array) -> tuple[Array, Array]:
    return samples.mean(axis=0, dtype=np.float64), samples.std(axis=0, dtype=np.float64)


def _joined(batches: Sequence[Observation]) -> Observation:
    names = batches[0] if batches else {}
    return {name: np.concatenate([batch[name] for batch in batches]) for name in names}
