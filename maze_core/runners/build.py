"""From a configuration to the live objects of a training run: environments, wrappers, networks, seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maze_core.config.schema import RunConfig
from maze_core.envs.config import EnvConfig
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv, Wrapper, bind_wrappers, estimate_statistics
from maze_core.models.random_policy import RandomPolicy
from maze_core.runners.config import TrainingRunnerConfig
from maze_core.seeding import Stream, derived_seed, env_seeds, generator
from maze_core.trainers.config import FitConfig
from maze_core.trainers.trainer import Parts, Trainer
from maze_core.types import Observation, StepKey

RECORDED_ROWS = 16
"""Raw observations kept in every checkpoint, per step key, for the check at load."""


@dataclass(kw_only=True)
class World:
    """The live objects of one training run."""

    config: RunConfig
    env_config: EnvConfig
    runner: TrainingRunnerConfig
    algorithm: FitConfig
    wrappers: Sequence[Wrapper]
    raw: VectorEnv
    """The training environments without their wrappers."""
    parts: Parts
    trainer: Trainer
    env_seed: int
    agent_seed: int
    recorded: dict[StepKey, Observation]
    """Raw observations for the check at load."""


def build_world(config: RunConfig) -> World:
    """Build everything a training run needs; on an error nothing stays open.

    Raises:
        InvalidSpecificationError: parts of the configuration do not fit each other.
        EnvError: the environment cannot be made.
    """
    env_config: EnvConfig = config.build("env")
    runner: TrainingRunnerConfig = config.build("runner")
    algorithm: Any = config.build("algorithm")
    wrappers = config.build("wrappers")
    env_seed, agent_seed = seeds_of(config)
    raw = env_config.vector(
        runner.n_envs, execution=runner.execution, n_processes=runner.n_processes, seed=env_seed
    )
    try:
        recorded = _prepare_wrappers(env_config, wrappers, runner.normalization_samples, env_seed)
        env = WrappedVectorEnv(raw, wrappers)
        model = config.build("model").build(
            env.observation_spaces,
            env.action_spaces,
            env.agent_counts,
            generator_seed=derived_seed(agent_seed, Stream.WEIGHTS),
        )
        parts = Parts(env=env, policy=model.policy, critic=model.critic, agent_seed=agent_seed)
        trainer = algorithm.build(parts)
    except BaseException:
        raw.close()
        raise
    return World(
        config=config,
        env_config=env_config,
        runner=runner,
        algorithm=algorithm,
        wrappers=wrappers,
        raw=raw,
        parts=parts,
        trainer=trainer,
        env_seed=env_seed,
        agent_seed=agent_seed,
        recorded=recorded,
    )


def seeds_of(config: RunConfig) -> tuple[int, int]:
    """Base seeds of the environments and of the agent."""
    seeding = config.tree["seeding"]
    return int(seeding["env_base_seed"]), int(seeding["agent_base_seed"])


def sample_observations(env_config: EnvConfig, n_samples: int, env_seed: int) -> dict[StepKey, Observation]:
    """At least ``n_samples`` raw observations of a random policy, per step key ``name → [n, …]``.

    Eight environments, seeded by a stream of their own, so that sampling shifts no other number of the run.
    """
    n_envs = 8
    rng = generator(env_seed, Stream.NORMALIZATION)
    env = env_config.vector(n_envs, vectorization="per_env")
    try:
        tick = env.reset(env_seeds(env_seed, Stream.NORMALIZATION, n_envs, 0))
        policy = RandomPolicy(env.action_spaces)
        seen: dict[StepKey, list[Observation]] = {key: [] for key in env.observation_spaces}
        for _ in range(-(-n_samples // n_envs)):
            actions = {}
            for key, active in tick.active.items():
                rows = {name: array[active].copy() for name, array in tick.observations[key].items()}
                if active.any():
                    seen[key].append(rows)
                noise = policy.noise(key, rng, n_envs)
                actions[key] = policy.act(key, tick.observations[key], deterministic=False, noise=noise)
            tick = env.step(actions)
    finally:
        env.close()
    return {
        key: {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        for key, batches in seen.items()
        if batches
    }


def _prepare_wrappers(
    env_config: EnvConfig, wrappers: Sequence[Wrapper], n_samples: int, env_seed: int
) -> dict[StepKey, Observation]:
    """Estimate the statistics that wrappers need; returns raw observations for the check at load."""
    samples = sample_observations(env_config, max(n_samples, 8 * RECORDED_ROWS), env_seed)
    probe = env_config.make()
    try:
        bind_wrappers(wrappers, probe.observation_spaces, probe.action_spaces)
    finally:
        probe.close()
    estimate_statistics(wrappers, samples)
    return {
        key: {name: array[-RECORDED_ROWS:].copy() for name, array in batch.items()}
        for key, batch in samples.items()
    }
