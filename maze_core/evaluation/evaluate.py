"""The score of a policy: mean return over seeded episodes, with its 95 % confidence interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from maze_core.envs.vector import VectorEnv
from maze_core.evaluation.student_t import t_quantile
from maze_core.rollout.episodes import EpisodeRecord, Policy, run_episodes
from maze_core.types import Tree


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """Returns of episodes, one by one and summarised."""

    mean_return: float
    """Mean of the raw episode returns; NaN without episodes."""
    std_return: float
    """Sample standard deviation (n - 1); 0 with one episode, NaN without."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean by Student's t; None with fewer than two episodes."""
    returns: list[float]
    lengths: list[int]
    """Flat steps of each episode."""
    seeds: list[int]
    """What each episode was reset with."""
    truncated_by_limit: int = 0
    """Episodes that were cut by ``max_episode_steps``, and not by the environment."""

    @classmethod
    def from_episodes(cls, episodes: Sequence[EpisodeRecord]) -> "EvalReport":
        """Summarise episodes, in their order."""
        returns = [episode.episode_return for episode in episodes]
        mean = fmean(returns) if returns else math.nan
        deviation = stdev(returns) if len(returns) > 1 else 0.0 if returns else math.nan
        return cls(
            mean_return=mean,
            std_return=deviation,
            ci95=_interval(mean, deviation, len(returns)),
            returns=returns,
            lengths=[episode.length for episode in episodes],
            seeds=[episode.seed for episode in episodes],
            truncated_by_limit=sum(episode.truncated_by_limit for episode in episodes),
        )

    def to_dict(self) -> Tree:
        """As a JSON object; null where there is no number."""
        return {
            "mean_return": self.mean_return if self.returns else None,
            "std_return": self.std_return if self.returns else None,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "seeds": list(self.seeds),
            "truncated_by_limit": self.truncated_by_limit,
        }


def evaluate(
    policy: Policy,
    env: VectorEnv,
    seeds: Sequence[int],
    *,
    deterministic: bool = True,
    action_seed: int = 0,
    max_episode_steps: int | None = None,
    on_episode: Callable[[EpisodeRecord], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> EvalReport:
    """Play one episode per seed and summarise; see :func:`~maze_core.rollout.episodes.run_episodes`.

    Raises:
        EnvError: an environment broke its contract.
    """
    episodes = run_episodes(
        env,
        policy,
        seeds,
        max_episode_steps=max_episode_steps,
        deterministic=deterministic,
        action_seed=action_seed,
        on_episode=on_episode,
        cancelled=cancelled,
    )
    return EvalReport.from_episodes(episodes)


def _interval(mean: float, deviation: float, n_episodes: int) -> tuple[float, float] | None:
    if n_episodes < 2:
        return None
    half = t_quantile(0.975, n_episodes - 1) * deviation / math.sqrt(n_episodes)
    return (mean - half, mean + half)
