"""One job of a multirun, in its own process: train a configuration into its run directory."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maze_core.api.run_context import RunContext
from maze_core.config.schema import RunConfig
from maze_core.metrics import SilentReporter
from maze_core.rundir import RunDir
from maze_core.runners.job_process import JobChannel
from maze_core.types import Tree


def train(argument: Tree, channel: JobChannel) -> Tree:
    """Train ``config`` for ``n_epochs`` into ``run_dir``; on from what is there where ``resumes``.

    Returns:
        The fields of the :class:`~maze_core.trainers.fit.TrainReport`.
    """
    run_dir = RunDir(Path(argument["run_dir"]))
    with RunContext._of(RunConfig.from_tree(argument["config"]), run_dir) as context:
        if argument["resumes"]:
            context._take_up()
        report = context.train(
            argument["n_epochs"],
            reporter=_ChannelReporter(channel),
            cancelled=channel.cancelled,
            **argument["options"],
        )
    return asdict(report)


class _ChannelReporter(SilentReporter):
    """Tells the pool what the job reports; checkpoints and episodes stay in the job's directory."""

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

    def log(self, level: str, message: str) -> None:
        """See :class:`~maze_core.metrics.Reporter`."""
        self._channel.event(["log", [level, message], {}])
