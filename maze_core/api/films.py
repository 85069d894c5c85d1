"""Videos of a policy while it learns: some episodes at every scheduled checkpoint, and of the best one at the end."""

from typing import Any

from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint
from maze_core.config.schema import RunConfig
from maze_core.metrics import Reporter, SilentReporter
from maze_core.rundir import RunDir
from maze_core.runners.config import rollout_tree
from maze_core.runners.evaluation import run_rollout


class TrainingFilms(SilentReporter):
    """Plays the same seeded episodes with every policy, in environments of its own, so that no number changes."""

    def __init__(self, config: RunConfig, run_dir: RunDir, n_videos: int, told: Reporter) -> None:
        """Film ``n_videos`` episodes of each policy into ``run_dir``; ``told`` hears that it is done."""
        self._run_dir, self._n_videos, self._told = run_dir, n_videos, told
        evaluator = config.build("algorithm").evaluator
        tree = rollout_tree(
            config.tree,
            n_episodes=n_videos,
            max_episode_steps=evaluator.max_episode_steps,
            deterministic=True,
            record_trajectory=False,
        )
        self._playing = RunConfig(mode="rollout", tree=tree, objects=config.objects)

    def checkpoint(self, checkpoint: Checkpoint, **details: Any) -> None:
        """Film a scheduled one."""
        if details["kind"] == "scheduled":
            self.film(checkpoint, f"epoch-{details['epoch']:05d}")

    def film(self, checkpoint: Checkpoint, name: str) -> None:
        """Film the policy of a checkpoint."""
        self._told.phase("filming")
        agent = load_agent(checkpoint, objects=self._playing.objects)
        run_rollout(self._playing, agent=agent, videos=self._run_dir.video_paths(name, self._n_videos))
