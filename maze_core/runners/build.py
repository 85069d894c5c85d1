"""From a configuration to the live objects of a training run: environments, wrappers, networks, seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maze_core.checkpoint import Checkpoint, copied, prefixed, section
from maze_core.config.schema import RunConfig
from maze_core.envs.config import EnvConfig
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.wrapper import (
    LEARN_EVERY,
    WrappedVectorEnv,
    Wrapper,
    bind_wrappers,
    estimate_statistics,
)
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.acting import ActingPolicy
from maze_core.models.placement import place
from maze_core.rollout.demonstrations import (
    Episodes,
    demonstrations,
    raw_observations,
    refuse_other_episodes,
)
from maze_core.rollout.sampling import sample_observations
from maze_core.runners.config import TrainingRunnerConfig
from maze_core.runners.sources import begin_with
from maze_core.seeding import Stream, derived_seed
from maze_core.threads import plain_torch
from maze_core.trainers.config import FitConfig
from maze_core.trainers.fit import Parts, Trainer
from maze_core.types import Array, Observation, StepKey

RECORDED_ROWS = 16
"""Raw observations kept in every checkpoint, per step key, for the check at load."""


@dataclass(kw_only=True)
class World:
    """The live objects of one training run."""

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
    begun: dict[str, Array]
    """What the wrappers of a run with ``initial`` began with: a resumed one sees recorded episodes by it again."""


def build_world(config: RunConfig, *, resume: Checkpoint | None = None) -> World:
    """Build everything a training run needs; on an error nothing stays open.

    Args:
        config: what to train.
        resume: a checkpoint of this run that will be loaded; None begins, with the policy that ``initial`` names.

    Raises:
        InvalidSpecificationError: parts of the configuration do not fit each other.
        EnvError: the environment cannot be made.
    """
    env_config: EnvConfig = config.build("env")
    runner: TrainingRunnerConfig = config.build("runner")
    algorithm: Any = config.build("algorithm")
    wrappers = config.build("wrappers")
    if algorithm.acts_asynchronously and runner.shares_envs:
        message = (
            "asynchronous acts while it evaluates: take more environments or runner.evaluation_envs=own."
        )
        raise InvalidSpecificationError([Problem(path="algorithm.mode", message=message)])
    env_seed, agent_seed = seeds_of(config)
    episodes: Episodes = config.build("dataset").load() if "dataset" in config.tree else {}
    raw = env_config.vector(
        runner.n_envs,
        execution=runner.execution,
        n_processes=runner.n_processes,
        has_own_episodes=algorithm.PLAYS_WHOLE_EPISODES,
        seed=env_seed,
    )
    try:
        if episodes:
            refuse_other_episodes(episodes, raw)
        recorded = _prepare_wrappers(raw, wrappers, runner.normalization_samples, env_seed, episodes)
        learn_every = math.inf if algorithm.PLAYS_WHOLE_EPISODES else LEARN_EVERY
        env = WrappedVectorEnv(raw, wrappers, is_training=True, learn_every=learn_every)
        model = config.build("model").build(
            env.observation_spaces,
            env.action_spaces,
            env.agent_counts,
            generator_seed=derived_seed(agent_seed, Stream.WEIGHTS),
            needs=algorithm.model_needs,
        )
        place((model.policy, model.critic), algorithm.device)
        begun = _begun(config, wrappers, model.policy, resume) if "initial" in config.tree else {}
        parts = Parts(
            env=env,
            policy=model.policy,
            critic=model.critic,
            agent_seed=agent_seed,
            demonstrations=demonstrations(episodes, raw, wrappers, model.policy) if episodes else None,
        )
        with plain_torch():
            trainer = algorithm.build(parts)
    except BaseException:
        raw.close()
        raise
    return World(
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
        begun=begun,
    )


def _begun(
    config: RunConfig, wrappers: Sequence[Wrapper], policy: ActingPolicy, resume: Checkpoint | None
) -> dict[str, Array]:
    """Begin with what ``initial`` names, or give the wrappers back what they began with; see :class:`World`."""
    if resume is None:
        begin_with(config.build("initial").load(), config.tree["wrappers"], wrappers, policy)
        states = [copied(wrapper.state_dict(), f"begun/{i}") for i, wrapper in enumerate(wrappers)]
        return {name: array for state in states for name, array in state.items()}
    for i, wrapper in enumerate(wrappers):
        wrapper.load_state_dict(section(resume.tensors, f"begun/{i}"))
    return prefixed(section(resume.tensors, "begun"), "begun")


def seeds_of(config: RunConfig) -> tuple[int, int]:
    """Base seeds of the environments and of the agent."""
    seeding = config.tree["seeding"]
    return int(seeding["env_base_seed"]), int(seeding["agent_base_seed"])


def _prepare_wrappers(
    raw: VectorEnv, wrappers: Sequence[Wrapper], n_samples: int, env_seed: int, episodes: Episodes
) -> dict[StepKey, Observation]:
    """Estimate the statistics that wrappers need, from recorded episodes where there are any.

    Returns:
        Raw observations for the check at load.
    """
    bind_wrappers(wrappers, raw.observation_spaces, raw.action_spaces)
    least = 8 * RECORDED_ROWS
    needed = any(wrapper.needs_statistics() for wrapper in wrappers)
    if episodes:
        samples = raw_observations(episodes, list(raw.observation_spaces))
    else:
        samples = sample_observations(raw, least, n_samples if needed else least, env_seed)
    estimate_statistics(wrappers, samples)
    return {
        key: {name: array[-RECORDED_ROWS:].copy() for name, array in batch.items()}
        for key, batch in samples.items()
    }
