"""Playing episodes with a policy that does not learn: evaluation with a confidence interval, rollouts with records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from maze_core.agent import Agent
from maze_core.config.schema import RunConfig
from maze_core.envs.config import EnvConfig, Execution
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.stack import acting_wrappers, why_not_servable
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv, Wrapper, bind_wrappers
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.evaluation.evaluate import EvalReport
from maze_core.metrics import Reporter, SilentReporter
from maze_core.models.acting import ActingPolicy
from maze_core.rollout.episodes import EpisodeRecord, run_episodes
from maze_core.runners.build import seeds_of
from maze_core.runners.config import RolloutRunnerConfig
from maze_core.seeding import Stream, derived_seed, env_seeds
from maze_core.types import Tree


@dataclass(frozen=True, kw_only=True)
class RolloutReport:
    """What a rollout played; summary and episodes."""

    summary: EvalReport
    episodes: Sequence[EpisodeRecord]
    stop_reason: str
    """``completed`` or ``cancelled``."""

    def to_dict(self) -> Tree:
        """As a JSON object, without the trajectories."""
        return {**self.summary.to_dict(), "n_episodes": len(self.episodes), "stop_reason": self.stop_reason}


def run_rollout(
    config: RunConfig,
    *,
    agent: Agent | None,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RolloutReport:
    """Play ``runner.n_episodes`` episodes.

    Args:
        config: environment, wrappers and runner; the policy too where ``agent`` is None.
        agent: whose policy and wrappers act.
        reporter: takes each episode as it ends.
        cancelled: asked between steps; True ends with the episodes that are complete.

    Raises:
        InvalidSpecificationError: no agent was given and the configured policy needs one.
        EnvError: an environment broke its contract.
    """
    reporter = reporter or SilentReporter()
    runner: RolloutRunnerConfig = config.build("runner")
    env_seed, agent_seed = seeds_of(config)
    reporter.phase("rollout")
    env, policy = _env_and_policy(config, runner, agent)
    done = 0

    def ended(record: EpisodeRecord) -> None:
        nonlocal done
        done += 1
        reporter.episode(record)
        fraction = done / runner.n_episodes
        reporter.progress(epoch=None, n_epochs=None, env_steps=None, fraction=fraction, eta_s=None)

    try:
        episodes = run_episodes(
            env,
            policy,
            env_seeds(env_seed, Stream.ROLLOUT, runner.n_episodes),
            max_episode_steps=runner.max_episode_steps,
            deterministic=runner.deterministic,
            record=runner.record_trajectory,
            action_seed=derived_seed(agent_seed, Stream.ROLLOUT),
            on_episode=ended,
            cancelled=cancelled,
        )
    finally:
        env.close()
    complete = len(episodes) == runner.n_episodes
    return RolloutReport(
        summary=EvalReport.from_episodes(episodes),
        episodes=episodes,
        stop_reason="completed" if complete else "cancelled",
    )


def run_evaluation(
    config: RunConfig,
    *,
    agent: Agent,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RolloutReport:
    """Judge an agent: a rollout of which the summary is what counts; see :func:`run_rollout`."""
    return run_rollout(config, agent=agent, reporter=reporter, cancelled=cancelled)


def _env_and_policy(
    config: RunConfig, runner: RolloutRunnerConfig, agent: Agent | None
) -> tuple[VectorEnv, Any]:
    env_config: EnvConfig = config.build("env")
    wrappers: Sequence[Wrapper]
    policy: ActingPolicy | Any
    if agent is not None:
        wrappers, policy = agent.wrappers, agent.policy
    else:
        wrappers = config.build("wrappers")
        policy = None
    execution: Execution = "local" if runner.execution == "parallel" else "dev"
    n_envs = min(runner.n_envs, runner.n_episodes)
    raw = env_config.vector(
        n_envs, execution=execution, n_processes=runner.n_processes, vectorization="per_env"
    )
    try:
        if policy is None:
            # a policy that ignores what it sees needs no statistics, only the action spaces
            wrappers = [wrapper for wrapper in wrappers if not wrapper.needs_statistics()]
            policy = _configured_policy(config, raw, wrappers)
        return WrappedVectorEnv(raw, acting_wrappers(wrappers)), policy
    except BaseException:
        raw.close()
        raise


def policy_agent(config: RunConfig) -> Agent:
    """The agent of a rollout policy that needs no training, such as a random one.

    Raises:
        InvalidSpecificationError: the configured policy is that of a run.
        EnvError: the environment cannot be made.
    """
    wrappers = [wrapper for wrapper in config.build("wrappers") if not wrapper.needs_statistics()]
    raw = config.build("env").vector(1, vectorization="per_env")
    try:
        _, policy_action_spaces = bind_wrappers(wrappers, raw.observation_spaces, raw.action_spaces)
        reason = why_not_servable(wrappers)
        return Agent(
            observation_spaces=raw.observation_spaces,
            action_spaces=raw.action_spaces,
            agent_counts=raw.agent_counts,
            wrappers=wrappers,
            policy=_configured_policy(config, raw, wrappers),
            policy_action_spaces=policy_action_spaces,
            servable=reason is None,
            not_servable_reason=reason,
        )
    finally:
        raw.close()


def _configured_policy(config: RunConfig, raw: VectorEnv, wrappers: Sequence[Wrapper]) -> Any:
    described = config.build("policy")
    seen = bind_wrappers(wrappers, raw.observation_spaces, raw.action_spaces)
    if hasattr(described, "act"):
        return described
    if not hasattr(described, "build"):
        message = "this policy cannot act by itself: name a run whose policy acts."
        raise InvalidSpecificationError([Problem(path="policy", message=message)])
    return described.build(*seen)
