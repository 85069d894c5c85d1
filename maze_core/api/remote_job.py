"""A job of a multirun in a process of its own: what it is sent, what it does there, and what it sends back.

    multirun ── request ──► process: run ── events ──► relay
                                         ── report ──► report_of

All of it is plain values.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from maze_core.api.multirun_report import is_played
from maze_core.api.run import Run
from maze_core.checkpoint import Checkpoint
from maze_core.config.schema import RunConfig
from maze_core.evaluation.evaluate import RolloutReport
from maze_core.metrics import Reporter, SilentReporter
from maze_core.rollout.episodes import EpisodeRecord
from maze_core.rollout.recording import trajectory_from_bytes, trajectory_to_bytes
from maze_core.rundir import RunDir
from maze_core.runners.job_process import JobChannel
from maze_core.types import Tree

if TYPE_CHECKING:
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


def run(argument: Tree, channel: JobChannel) -> Any:
    """Do what :func:`request` says; the report as plain values.

    Args:
        argument: the request.
        channel: takes what the job reports, and says when it is to end.
    """
    directory = None if argument["run_dir"] is None else RunDir(Path(argument["run_dir"]))
    specification = RunConfig.from_tree(argument["config"], argument["mode"])
    with closing(Run(specification, directory)) as job:
        job.base = Path(argument["base"])
        job.go_on_with(argument["checkpoints"], is_live=argument["is_live"])
        verb = job.train if argument["verb"] == "train" else job.rollout
        report = verb(reporter=_ChannelReporter(channel), cancelled=channel.cancelled, **argument["options"])
    return _plain_report(report)


def relay(event: Any, reporter: Reporter) -> None:
    """Report what a process said of its job."""
    name, args, kwargs = event
    getattr(reporter, name)(*(map(_episode_of, args) if name == "episode" else args), **kwargs)


def report_of(plain: Tree) -> "TrainReport | RolloutReport":
    """The report that :func:`run` gave."""
    if "counters" in plain:
        from maze_core.trainers.fit import TrainReport

        return msgspec.convert(plain, TrainReport)
    episodes = [_episode_of(episode) for episode in plain["episodes"]]
    report = msgspec.convert({**plain, "episodes": []}, RolloutReport, dec_hook=lambda kind, text: kind(text))
    return replace(report, episodes=episodes)


def _plain_report(report: "TrainReport | RolloutReport") -> Any:
    fields = dict(vars(report))
    if is_played(report):
        fields["episodes"] = [_plain_episode(episode) for episode in report.episodes]
    return msgspec.to_builtins(
        fields,
        builtin_types=(bytes,),
        enc_hook=lambda value: str(value) if isinstance(value, Path) else value.item(),
    )


def _plain_episode(record: EpisodeRecord) -> Tree:
    trajectory = record.trajectory
    return {**vars(record), "trajectory": trajectory and trajectory_to_bytes(trajectory)}


def _episode_of(plain: Tree) -> EpisodeRecord:
    packed = plain["trajectory"]
    return EpisodeRecord(**{**plain, "trajectory": packed and trajectory_from_bytes(packed)})


class _ChannelReporter(SilentReporter):
    """Tells the pool what the job reports; checkpoints and trajectories come otherwise."""

    def __init__(self, channel: JobChannel) -> None:
        self._channel = channel

    def episode(self, record: EpisodeRecord) -> None:
        """Send it; the trajectory comes with the report."""
        self.tell("episode", _plain_episode(replace(record, trajectory=None)))

    def checkpoint(self, checkpoint: Checkpoint, **details: Any) -> None:
        """It is in the run directory."""

    def tell(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Send it."""
        self._channel.event([method, args, kwargs])
