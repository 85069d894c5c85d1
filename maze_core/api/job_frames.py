"""What goes between a multirun and the processes of its jobs: a job as plain values, and its report.

multirun ── job_request ──► process ── packed_report ──► report_of
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.api.job_runs import Job, Verb
from maze_core.api.sweep_report import is_played, is_trained
from maze_core.evaluation.evaluate import EvalReport
from maze_core.rollout.episodes import EpisodeRecord
from maze_core.rollout.recording import trajectory_from_bytes, trajectory_to_bytes
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.evaluation.evaluate import RolloutReport
    from maze_core.trainers.fit import TrainReport


def job_request(job: Job, verb: Verb, options: Mapping[str, Any]) -> Tree:
    """What the process of a job is told; see :func:`maze_core.api.job.run`."""
    context = job.context
    assert context is not None
    return {
        "config": context._config.tree,
        "mode": context._config.mode,
        "run_dir": None if context.run_dir is None else str(context.run_dir),
        "base": str(context._base.resolve()),
        "checkpoints": context._kept_checkpoints(),
        "is_live": job.is_live,
        "verb": verb,
        "options": dict(options),
    }


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
