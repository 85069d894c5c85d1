"""Playing episodes with a policy that does not learn: evaluation with a confidence interval, rollouts with records."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypedDict

from maze_core.agent import Agent
from maze_core.config.schema import RunConfig
from maze_core.envs.config import EnvConfig, Execution
from maze_core.envs.env_spaces import refuse_other_spaces
from maze_core.envs.vector import VectorEnv
from maze_core.envs.video import remove_video
from maze_core.envs.wrappers.wrapper import (
    WrappedVectorEnv,
    Wrapper,
    acting_wrappers,
    bind_wrappers,
)
from maze_core.errors import InvalidSpecificationError
from maze_core.evaluation.evaluate import EvalReport, RolloutReport
from maze_core.events.epoch import EpochStatistics
from maze_core.metrics import Reporter, SilentReporter
from maze_core.rollout.episodes import EpisodeRecord, run_episodes
from maze_core.rollout.user_policy import as_policy
from maze_core.runners.build import seeds_of
from maze_core.runners.config import RolloutRunnerConfig
from maze_core.seeding import EpisodeSeeds, Stream, derived_seed

_EXECUTION: Mapping[str, Execution] = {"sequential": "dev", "parallel": "local", "isolated": "isolated"}


def run_rollout(
    config: RunConfig,
    *,
    agent: Agent | None,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    videos: Sequence[Path] = (),
    video_steps: int | None = None,
) -> RolloutReport:
    """Play ``runner.n_episodes`` episodes.

    Args:
        config: environment, wrappers and runner; the policy too where ``agent`` is None.
        agent: whose policy and wrappers act.
        reporter: takes each episode as it ends.
        cancelled: asked between steps; True ends with the episodes that are complete.
        videos: where the videos of the first episodes go, as MP4; filming changes no number. Of an episode that
            is not complete none is left.
        video_steps: flat steps after which a video ends, while its episode may go on; None films whole episodes.

    Raises:
        InvalidSpecificationError: no agent was given and the configured policy needs one; or the environment has
            other spaces than the one that the agent was trained in.
        EnvError: an environment broke its contract, or gives no pictures where it is to be filmed.
    """
    reporter = reporter or SilentReporter()
    runner: RolloutRunnerConfig = config.build("runner")
    env_seed, agent_seed = seeds_of(config)
    reporter.phase("rollout")
    seeds = EpisodeSeeds(env_seed, Stream.ROLLOUT, runner.n_episodes)
    videos = videos[: runner.n_episodes]
    limits = [limit for limit in (runner.max_episode_steps, video_steps) if limit is not None]
    films = _Films(videos=dict(zip(seeds, videos, strict=False)), video_steps=min(limits, default=None))
    env, policy = _env_and_policy(config, runner, agent, films, env_seed)
    done: set[int] = set()

    def ended(record: EpisodeRecord) -> None:
        done.add(record.index)
        reporter.episode(record)
        fraction = len(done) / runner.n_episodes
        reporter.progress(epoch=None, n_epochs=None, env_steps=None, fraction=fraction, eta_s=None)

    with _only_complete(videos, done), contextlib.closing(env):
        episodes = run_episodes(
            env,
            policy,
            seeds,
            max_episode_steps=runner.max_episode_steps,
            deterministic=runner.deterministic,
            record=runner.record_trajectory,
            action_seed=derived_seed(agent_seed, Stream.ROLLOUT),
            on_episode=ended,
            cancelled=cancelled,
        )
    complete = len(episodes) == runner.n_episodes
    return RolloutReport(
        summary=EvalReport.from_episodes(episodes, EpochStatistics(env.event_interfaces)),
        episodes=episodes,
        stop_reason="completed" if complete else "cancelled",
        videos=tuple(videos[episode.index] for episode in episodes if episode.index < len(videos)),
    )


@contextlib.contextmanager
def _only_complete(videos: Sequence[Path], done: Set[int]) -> Iterator[None]:
    """Afterwards, only the videos of the episodes in ``done`` are there."""
    try:
        yield
    finally:
        for index, path in enumerate(videos):
            if index not in done:
                remove_video(path)


class _Films(TypedDict):
    """What is filmed of which episode, as :meth:`EnvConfig.vector` takes it."""

    videos: Mapping[int, Path]
    video_steps: int | None


def _env_and_policy(
    config: RunConfig,
    runner: RolloutRunnerConfig,
    agent: Agent | None,
    films: "_Films",
    env_seed: int,
) -> tuple[VectorEnv, Any]:
    env_config: EnvConfig = config.build("env")
    raw = env_config.vector(
        min(runner.n_envs, runner.n_episodes),
        execution=_EXECUTION[runner.execution],
        n_processes=runner.n_processes,
        has_own_episodes=True,
        **films,
        seed=env_seed,
    )
    try:
        if agent is None:
            wrappers, policy = _configured(config, raw)
        else:
            refuse_other_spaces(agent, raw, "env")
            wrappers, policy = agent.wrappers, agent.policy
        return WrappedVectorEnv(raw, acting_wrappers(wrappers)), policy
    except BaseException:
        raw.close()
        raise


def policy_agent(config: RunConfig) -> Agent:
    """The agent of a rollout policy that needs no training, such as a random one.

    Raises:
        InvalidSpecificationError: the configured policy is that of a run, or cannot act.
        EnvError: the environment cannot be made.
    """
    runner: RolloutRunnerConfig = config.build("runner")
    raw = config.build("env").vector(1, execution=_EXECUTION[runner.execution], has_own_episodes=True)
    try:
        wrappers, policy = _configured(config, raw)
        _, policy_action_spaces = bind_wrappers(wrappers, raw.observation_spaces, raw.action_spaces)
        return Agent.of(raw, wrappers, policy, policy_action_spaces)
    finally:
        raw.close()


def _configured(config: RunConfig, raw: VectorEnv) -> tuple[Sequence[Wrapper], Any]:
    """The wrappers and the policy of a configuration that only plays.

    Raises:
        InvalidSpecificationError: the policy cannot act by itself, or acts on what a wrapper without statistics shows.
    """
    wrappers = config.build("wrappers")
    # only a wrapper that knows its observations knows whether it lacks statistics of one
    bind_wrappers(wrappers, raw.observation_spaces, raw.action_spaces)
    lacking = [type(wrapper).__name__ for wrapper in wrappers if wrapper.needs_statistics()]
    ready = [wrapper for wrapper in wrappers if not wrapper.needs_statistics()]
    seen, done = bind_wrappers(ready, raw.observation_spaces, raw.action_spaces)
    policy = config.build("policy")
    if not hasattr(policy, "act"):
        if not hasattr(policy, "build"):
            message = "this policy cannot act by itself: name a run whose policy acts."
            raise InvalidSpecificationError(message, path="policy")
        policy = policy.build(seen, done)
    if lacking and not getattr(policy, "ignores_observations", False):
        message = (
            f"{', '.join(lacking)} has no statistics, which training estimates, and this policy acts on what it shows; "
            "leave the wrapper out, give a wrapper that has its statistics, or play the policy of a run."
        )
        raise InvalidSpecificationError(message, path="wrappers", code="contradiction")
    return ready, as_policy(policy, done)
