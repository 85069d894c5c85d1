"""Statistics of episodes: how much they returned and how long they took."""

from maze_core.config.settings import dataclass
from maze_core.envs.vector import Tick
from maze_core.envs.wrappers.moments import Moments
from maze_core.envs.wrappers.wrapper import STRICT, Actions, Wrapper


@dataclass(kw_only=True, eq=False, config=STRICT)
class LogStatsWrapper(Wrapper):
    """Report raw episode returns and lengths of the episodes that ended since the last report.

    Metrics are ``<prefix>/episode_return/<count|mean|std|min|max>`` and ``<prefix>/episode_length/…``.
    """

    logging_prefix: str = "stats"
    """First part of the metrics' names."""

    def __post_init__(self) -> None:
        self._returns, self._lengths = Moments(), Moments()

    def on_tick(self, tick: Tick, actions: Actions) -> None:
        """Gather the episodes that ended."""
        ended = tick.ended
        if ended.any():
            self._returns.add(tick.episode_return[ended])
            self._lengths.add(tick.episode_length[ended])

    def metrics(self) -> dict[str, float]:
        """Statistics of the episodes that ended since the last call; empty when none did."""
        gathered = {"episode_return": self._returns, "episode_length": self._lengths}
        self._returns, self._lengths = Moments(), Moments()
        return {
            f"{self.logging_prefix}/{name}/{kind}": value
            for name, moments in gathered.items()
            for kind, value in moments.items()
        }
