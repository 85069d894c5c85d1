"""The score of a policy: mean return over seeded episodes, with its 95 % confidence interval.

Quantiles of Student's t distribution are found by bisection: for whole degrees of freedom the distribution function is
a finite sum (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4). For many they are the normal ones, corrected (26.7.5).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist, stdev
from typing import Any

import numpy as np

from maze_core.envs.vector import VectorEnv
from maze_core.events.epoch import EpochStatistics
from maze_core.metrics import mean_of
from maze_core.rollout.episodes import EpisodeRecord, Policy, run_episodes
from maze_core.types import ActorID, Tree

_MANY = 1000
"""Degrees of freedom beyond which the correction is exact to nine digits."""


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """Returns of episodes, one by one and summarised."""

    mean_return: float
    """Mean of the raw episode returns; NaN without episodes."""
    std_return: float
    """Sample standard deviation (n - 1); 0 with one episode; NaN without, and where a return is not finite."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of the mean by Student's t; None with fewer than two episodes, or not finite."""
    returns: list[float]
    lengths: list[int]
    """Flat steps of each episode."""
    seeds: list[int]
    """What each episode was reset with."""
    truncated_by_limit: int = 0
    """Episodes that were cut by ``max_episode_steps``, and not by the environment."""
    actor_returns: Mapping[ActorID, Sequence[float]] = field(default_factory=dict)
    """Returns of each actor, in the order of the episodes, where each is paid its own; ``returns`` adds them up."""
    statistics: dict[str, float] = field(default_factory=dict)
    """What the environment's events come to over the episodes, where it declares any: ``Interface/event/output``."""

    @property
    def actor_metrics(self) -> dict[str, float]:
        """``mean_return/<sub-step>/<agent>`` → mean return of the actor."""
        return {
            f"mean_return/{key}/{agent_id}": mean_of(returns)
            for (key, agent_id), returns in self.actor_returns.items()
        }

    @classmethod
    def from_episodes(
        cls, episodes: Sequence[EpisodeRecord], statistics: EpochStatistics | None = None
    ) -> "EvalReport":
        """Summarise episodes, in their order, and the events that ``statistics`` is of."""
        return cls.of_returns(
            [episode.episode_return for episode in episodes],
            [episode.length for episode in episodes],
            seeds=[episode.seed for episode in episodes],
            truncated_by_limit=sum(episode.truncated_by_limit for episode in episodes),
            actor_returns=_by_actor(episodes),
            statistics=statistics.of([episode.values for episode in episodes]) if statistics else {},
        )

    @classmethod
    def of_returns(cls, returns: list[float], lengths: list[int], **facts: Any) -> "EvalReport":
        """Summarise returns; ``facts`` are the other fields."""
        return cls(
            mean_return=mean_of(returns),
            std_return=_deviation(returns),
            ci95=mean_interval(returns),
            returns=returns,
            lengths=lengths,
            **facts,
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
            **self._actors(),
            **({"statistics": dict(self.statistics)} if self.statistics else {}),
        }

    def _actors(self) -> Tree:
        actors = [
            {"actor_id": list(actor), "mean_return": mean_of(returns), "returns": list(returns)}
            for actor, returns in self.actor_returns.items()
        ]
        return {"actors": actors} if actors else {}


@dataclass(frozen=True, kw_only=True)
class RolloutReport:
    """What a rollout played; summary and episodes."""

    summary: EvalReport
    episodes: Sequence[EpisodeRecord]
    stop_reason: str
    """``completed`` or ``cancelled``."""
    videos: Sequence[Path] = ()
    """Videos of the first episodes that are complete, in the order of the episodes."""
    saved_to: Path | None = None
    """The folder that holds all of this, where it was saved."""

    @property
    def truncated_by_limit(self) -> int:
        """Episodes that were cut by ``max_episode_steps``, and not by the environment."""
        return self.summary.truncated_by_limit

    def to_dict(self) -> Tree:
        """As a JSON object, without the trajectories."""
        return {**self.summary.to_dict(), "n_episodes": len(self.episodes), "stop_reason": self.stop_reason}


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
    statistics: EpochStatistics | None = None,
) -> EvalReport:
    """Play one episode per seed and summarise; see :func:`~maze_core.rollout.episodes.run_episodes`.

    ``statistics`` goes on where an earlier evaluation ended; None begins anew.

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
    return EvalReport.from_episodes(episodes, statistics or EpochStatistics(env.event_interfaces))


def _by_actor(episodes: Sequence[EpisodeRecord]) -> dict[ActorID, list[float]]:
    found: dict[ActorID, list[float]] = {}
    for episode in episodes:
        for actor, its_return in (episode.actor_returns or {}).items():
            found.setdefault(actor, []).append(its_return)
    return found


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % confidence interval of the mean by Student's t; None with fewer than two values, or if not finite."""
    if len(values) < 2:
        return None
    middle = mean_of(values)
    half = t_quantile(0.975, len(values) - 1) * _deviation(values) / math.sqrt(len(values))
    interval = (middle - half, middle + half)
    return interval if all(map(math.isfinite, interval)) else None


def _deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of one value, NaN of none and where one is not finite."""
    if not values or not all(map(math.isfinite, values)):
        return math.nan
    return stdev(values) if len(values) > 1 else 0.0


def t_quantile(probability: float, degrees: int) -> float:
    """The t with P(T ≤ t) = ``probability``.

    Args:
        probability: in [0.5, 1).
        degrees: degrees of freedom, ≥ 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise ValueError(f"probability {probability} or degrees {degrees} is out of range")
    if degrees > _MANY:
        z = NormalDist().inv_cdf(probability)
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    low, high = 0.0, 1.0
    while t_distribution(high, degrees) < probability:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_distribution(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def t_distribution(t: float, degrees: int) -> float:
    """P(T ≤ t) for t ≥ 0 and ``degrees`` of freedom."""
    angle = math.atan(t / math.sqrt(degrees))
    n = np.arange(1 + degrees % 2, degrees - 2, 2)
    # 1, then each term from the one before: times n / (n + 1) · cos² of the angle
    total = 1 + float(np.cumprod(n / (n + 1) * math.cos(angle) ** 2).sum())
    if degrees % 2 == 0:
        return 0.5 + math.sin(angle) * total / 2
    return 0.5 + (angle + (math.sin(angle) * math.cos(angle) * total if degrees > 1 else 0.0)) / math.pi
