"""One job of a multirun, in its own process."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.api.job_frames import packed_episode, packed_report
from maze_core.api.run_context import RunContext
from maze_core.config.schema import RunConfig
from maze_core.metrics import SilentReporter
from maze_core.rundir import RunDir
from maze_core.runners.job_process import JobChannel
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.rollout.episodes import EpisodeRecord


def run(argument: Tree, channel: JobChannel) -> Tree:
    """Train the job, or play with it.

    Args:
        argument: of :func:`~maze_core.api.job_frames.job_request`.
        channel: takes what the job reports, and says when it is to end.

    Returns:
        The report as plain values.
    """
    run_dir = None if argument["run_dir"] is None else RunDir(Path(argument["run_dir"]))
    config = RunConfig.from_tree(argument["config"], argument["mode"])
    with RunContext._of(config, run_dir) as context:
        context._base = Path(argument["base"])
        context._go_on_with(argument["checkpoints"], is_live=argument["is_live"])
        call = getattr(context, argument["verb"])
        report = call(reporter=_ChannelReporter(channel), cancelled=channel.cancelled, **argument["options"])
    return packed_report(report)


class _ChannelReporter(SilentReporter):
    """Tells the pool what the job reports; checkpoints and trajectories come otherwise."""

    def __init__(self, channel: JobChannel) -> None:
        self._channel = channel

    def phase(self, name: str) -> None:
        """See :class:`~maze_core.metrics.Reporter`."""
        self._channel.event(["phase", [name], {}])

    def progress(self, **values: Any) -> None:
        """See :class:`~maze_core.metrics.Reporter`."""
        self._channel.event(["progress", [], values])

    def metrics(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """See :class:`~maze_core.metrics.Reporter`."""
        self._channel.event(["metrics", [epoch, step, dict(values)], {}])

    def episode(self, record: "EpisodeRecord") -> None:
        """See :class:`~maze_core.metrics.Reporter`; the trajectory comes with the report."""
        self._channel.event(["episode", [packed_episode(replace(record, trajectory=None))], {}])

    def log(self, level: str, message: str) -> None:
        """See :class:`~maze_core.metrics.Reporter`."""
        self._channel.event(["log", [level, message], {}])
