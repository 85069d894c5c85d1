"""A rollout that is kept: its episodes, videos, report and configuration in a folder."""

from collections.abc import Callable
from dataclasses import replace

from maze_core.agent import Agent
from maze_core.config.schema import RunConfig
from maze_core.evaluation.evaluate import RolloutReport
from maze_core.metrics import Reporter
from maze_core.rollout.recording import trajectory_to_bytes
from maze_core.rundir import RolloutDir
from maze_core.runners.evaluation import run_rollout


def run_saved_rollout(
    config: RunConfig,
    folder: RolloutDir,
    *,
    agent: Agent | None,
    n_videos: int,
    reporter: Reporter | None,
    cancelled: Callable[[], bool],
) -> RolloutReport:
    """Play, film the first ``n_videos`` episodes, and store everything; see :func:`run_rollout`.

    Nothing is left of the folder where playing fails.
    """
    with folder.writing():
        report = run_rollout(
            config, agent=agent, reporter=reporter, cancelled=cancelled, videos=folder.video_paths(n_videos)
        )
        for episode in report.episodes:
            if episode.trajectory is not None:
                folder.write_trajectory(episode.index, trajectory_to_bytes(episode.trajectory))
        folder.write(config.tree, config.config_sha256, config.undescribed, report.to_dict())
    return replace(report, saved_to=folder.path)
