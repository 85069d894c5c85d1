"""A job of a multirun in a process of its own: what it is sent, what it does there, and what it sends back.

    multirun ── request ──► process: run ── events ──► relay
                                         ── packed_report ──► report_of

All of it is plain values.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maze_core.api.multirun_report import is_played, is_trained
from maze_core.api.run import Run
from maze_core.config.schema import RunConfig
from maze_core.evaluation.evaluate import EvalReport
from maze_core.metrics import Reporter, SilentReporter
from maze_core.rollout.episodes import EpisodeRecord
from maze_core.rollout.recording import trajectory_from_bytes, trajectory_to_bytes
from maze_core.rundir import RunDir
from maze_core.runners.job_process import JobChannel
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.trainers.fit import TrainReport


RUN = f"{__name__}:run"
"""What a process is asked to call."""
Verb = Literal["train", "rollout"]
"""What a job is asked to do."""


def request(run: Run, verb: Verb, options: Mapping[str, Any], *, is_live: bool) -> Tree:
    """What the process of a job is sent.

    Args:
        run: the job.
        verb: what it does.
        options: its keyword arguments.
        is_live: see :meth:`Run.take_up`.
    """
    return {
        "config": run.specification.tree,
        "mode": run.specification.mode,
        "run_dir": None if run.run_dir is None else str(run.run_dir),
        "base": str(run.base.resolve()),
        "checkpoints": run.kept_checkpoints(),
        "is_live": is_live,
        "verb": verb,
        "options": dict(options),
    }


def run(argument: Tree, channel: JobChannel) -> Tree:
    """Do what :func:`request` says; the report, packed.

    Args:
        argument: the request.
        channel: takes what the job reports, and says when it is to end.
    """
    directory = None if argument["run_dir"] is None else RunDir(Path(argument["run_dir"]))
    specification = RunConfig.from_tree(argument["config"], argument["mode"])
    with Run(specification, directory) as job:
        job.base = Path(argument["base"])
        job.go_on_with(argument["checkpoints"], is_live=argument["is_live"])
        verb = job.train if argument["verb"] == "train" else job.rollout
        report = verb(reporter=_ChannelReporter(channel), cancelled=channel.cancelled, **argument["options"])
    return packed_report(report)


def relay(event: Any, reporter: Reporter) -> None:
    """Report what a process said of its job."""
    name, args, kwargs = event
    if name == "episode":
        args = [episode_of(*args)]
    getattr(reporter, name)(*args, **kwargs)


def packed_report(report: "TrainReport | RolloutReport") -> Tree:
    """A report as plain values."""
    if is_trained(report):
        return asdict(report)
    assert is_played(report)
    return {
        "summary": asdict(report.summary),
        "episodes": [packed_episode(record) for record in report.episodes],
        "stop_reason": report.stop_reason,
        "videos": [str(path) for path in report.videos],
        "saved_to": None if report.saved_to is None else str(report.saved_to),
    }


def report_of(plain: Tree) -> "TrainReport | RolloutReport":
    """The report of :func:`packed_report`."""
    if "counters" in plain:
        from maze_core.trainers.fit import Counters, TrainReport

        return TrainReport(**{**plain, "counters": Counters(**plain["counters"])})
    from maze_core.evaluation.evaluate import RolloutReport

    summary, saved_to = plain["summary"], plain["saved_to"]
    interval = summary["ci95"]
    return RolloutReport(
        summary=EvalReport(**{**summary, "ci95": None if interval is None else tuple(interval)}),
        episodes=[episode_of(record) for record in plain["episodes"]],
        stop_reason=plain["stop_reason"],
        videos=tuple(Path(path) for path in plain["videos"]),
        saved_to=None if saved_to is None else Path(saved_to),
    )


def packed_episode(record: EpisodeRecord) -> Tree:
    """An episode as plain values."""
    trajectory = record.trajectory
    packed = None if trajectory is None else trajectory_to_bytes(trajectory)
    return {**vars(record), "trajectory": packed}


def episode_of(plain: Tree) -> EpisodeRecord:
    """The episode of :func:`packed_episode`."""
    packed = plain["trajectory"]
    return EpisodeRecord(**{**plain, "trajectory": None if packed is None else trajectory_from_bytes(packed)})


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
