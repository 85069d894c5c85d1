"""Policies side by side on the same episode seeds: what each scores, and what each pair differs by.

Episodes of two policies that begin from the same seed have their luck in common, so the differences of their returns
vary less than the returns do: the interval is one over these differences, by Student's t (paired comparison, Cohen
1995, *Empirical Methods for Artificial Intelligence*, §4.3; on seeds in common, Law & Kelton 2000, §11.2).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

from maze_core.evaluation.evaluate import EvalReport, mean_interval
from maze_core.metrics import mean_of
from maze_core.types import Tree


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """What a policy has over another one, episode by episode."""

    first: int
    """Place of the one that is measured against."""
    second: int
    """Place of the other one."""
    n_episodes: int
    """Seeds that both have played to the end."""
    mean_difference: float | None
    """Mean of the second one's returns less the first one's; None without episodes."""
    ci95: tuple[float, float] | None
    """95 % confidence interval of that mean by Student's t; None with fewer than two episodes."""
    wins: int
    """Seeds on which the second one's return is the larger one."""
    ties: int
    losses: int

    @classmethod
    def between(cls, reports: Sequence[EvalReport], first: int, second: int) -> "PairedDifference":
        """Of two evaluations, by the seeds that both have."""
        theirs = dict(zip(reports[first].seeds, reports[first].returns, strict=True))
        differences = [
            episode_return - theirs[seed]
            for seed, episode_return in zip(reports[second].seeds, reports[second].returns, strict=True)
            if seed in theirs
        ]
        return cls(
            first=first,
            second=second,
            n_episodes=len(differences),
            mean_difference=mean_of(differences) if differences else None,
            ci95=mean_interval(differences),
            wins=sum(difference > 0 for difference in differences),
            ties=sum(difference == 0 for difference in differences),
            losses=sum(difference < 0 for difference in differences),
        )


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """How policies did on the same episodes, each by itself and each pair of them."""

    policies: Sequence[EvalReport]
    """One per policy, in their order."""
    stop_reason: str
    """``completed`` or ``cancelled``."""
    config_sha256: str
    """Digest of what was compared on what; the same in Python and over HTTP."""

    @property
    def pairs(self) -> list[PairedDifference]:
        """Every pair once: the later one less the earlier one."""
        places = combinations(range(len(self.policies)), 2)
        return [PairedDifference.between(self.policies, first, second) for first, second in places]

    def to_dict(self) -> Tree:
        """As a JSON object; null where there is no number."""
        pairs = [asdict(pair) | {"ci95": pair.ci95 and list(pair.ci95)} for pair in self.pairs]
        return {
            "policies": [policy.to_dict() for policy in self.policies],
            "pairs": pairs,
            "stop_reason": self.stop_reason,
        }
