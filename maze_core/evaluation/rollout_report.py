"""What a rollout played, as it is handed to whoever asked for it. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maze_core.evaluation.evaluate import EvalReport
from maze_core.rollout.episodes import EpisodeRecord
from maze_core.types import Tree


@dataclass(frozen=True, kw_only=True)
class RolloutReport:
    """What a rollout played; summary and episodes."""

    summary: EvalReport
    episodes: Sequence[EpisodeRecord]
    stop_reason: str
    """``completed`` or ``cancelled``."""
    videos: Sequence[Path] = ()
    """Films of the first episodes that are complete, in the order of the episodes."""
    saved_to: Path | None = None
    """The folder that holds all of this, where it was saved."""

    @property
    def truncated_by_limit(self) -> int:
        """Episodes that were cut by ``max_episode_steps``, and not by the environment."""
        return self.summary.truncated_by_limit

    def to_dict(self) -> Tree:
        """As a JSON object, without the trajectories."""
        return {**self.summary.to_dict(), "n_episodes": len(self.episodes), "stop_reason": self.stop_reason}
