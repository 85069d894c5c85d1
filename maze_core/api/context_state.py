"""What a RunContext holds between two calls: configuration, directory, training and agent, each made when needed."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maze_core.agent import Agent, load_agent
from maze_core.api.specification import (
    StoredRun,
    acting_checkpoint,
    checkpoint_of,
    plays_a_run,
    run_of,
    stored_run,
)
from maze_core.checkpoint import Checkpoint
from maze_core.config.nodes import shown
from maze_core.config.schema import RunConfig
from maze_core.errors import CheckpointError, ContextClosedError, InvalidSpecificationError
from maze_core.rundir import RolloutDir, RunDir, new_run_dir
from maze_core.runners.config import rollout_tree
from maze_core.types import Tree

if TYPE_CHECKING:
    from maze_core.api.multirun import Multirun
    from maze_core.runners.training import Training


class ContextState:
    """One run, configured; nothing is built before it is asked for. Not thread-safe."""

    def _start(self, config: RunConfig, run_dir: RunDir | None) -> None:
        self._multirun: Multirun | None = None
        self._config = config
        self._run_dir = run_dir
        self._revision = None if run_dir is None else run_dir.revision  # of what is known of it
        self._base = Path() if run_dir is None else run_dir.path
        self._training: Training | None = None
        self._agent: Agent | None = None
        self._resume: Checkpoint | None = None
        self._best: Checkpoint | None = None
        self._acting: Checkpoint | None = None  # what acts, where another one than the best was asked for
        self._is_closed = False

    def _take_up(self, stored: StoredRun | None = None, *, is_live: bool = False) -> None:
        """Go on with what the run directory holds, which another process may have written.

        Args:
            stored: what it holds, where that is known.
            is_live: it is this context that was trained there, so it goes on where that stopped, also after a cancel.
        """
        self._stop_training()
        self._agent = self._acting = None
        stored = stored or (None if self._run_dir is None else stored_run(self._run_dir))
        if self._run_dir is not None:
            self._revision = self._run_dir.revision if stored is None else stored.revision
        if stored is not None:
            self._resume, self._best = stored.resume, stored.best
        if is_live and self._run_dir is not None:
            self._resume = checkpoint_of(self._run_dir, "last")

    def _go_back_to(self, chosen: Checkpoint, agent: Agent) -> None:
        """Let the next training start from a checkpoint; what came after it counts no more."""
        self._stop_training()
        self._revision = None if self._run_dir is None else self._run_dir.revision
        best = None if self._run_dir is None else checkpoint_of(self._run_dir, "best")
        is_later = best is not None and _epoch(best) > _epoch(chosen)
        self._agent, self._acting = agent, chosen
        self._resume, self._best = chosen, chosen if best is None or is_later else best
        self._open_training()

    def _kept_checkpoints(self) -> Tree | None:
        """What training and acting go on from, as bytes; None where that is what the run directory holds."""
        training = self._training
        if training is None and self._acting is None:
            return None
        last, best = (self._resume, self._best) if training is None else (training.last, training.best)
        kept = {"resume": last, "best": best, "acting": self._acting}
        return {name: None if it is None else it.to_bytes() for name, it in kept.items()}

    def _go_on_with(self, kept: Tree | None, *, is_live: bool) -> None:
        """Take what :meth:`_kept_checkpoints` gave in another process; see :meth:`_take_up`."""
        if kept is not None:
            read = {name: None if it is None else Checkpoint.from_bytes(it) for name, it in kept.items()}
            self._resume, self._best, self._acting = read["resume"], read["best"], read["acting"]
        elif self._config.mode == "train":
            self._take_up(is_live=is_live)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ContextClosedError("This RunContext was closed; make a new one or RunContext.load the run.")

    def _stop_training(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None

    def _make_room(self) -> None:
        """Close training's environments where none may live beside them; it goes on from its last checkpoint."""
        training = self._training
        if training is not None and training.world.runner.shares_envs:
            self._resume, self._best = training.last, training.best
            self._stop_training()

    def _open_training(self) -> "Training":
        from maze_core.runners.training import Training

        self._refuse_if_closed()
        if self._config.mode == "rollout":
            raise InvalidSpecificationError(
                "This context only plays, because it was given a rollout policy; leave out policy= to train."
            )
        if self._training is None:
            resume, best = self._resume, self._best
            if best is not None and (resume is None or _epoch(best) > _epoch(resume)):
                best = resume  # what comes after the point of resuming is made again
            self._training = Training(self._config, resume=resume, best=best)
        return self._training

    def _acting_agent(self) -> Agent:
        self._refuse_if_closed()
        if self._agent is None:
            self._agent = self._made_agent()
        return self._agent

    def _made_agent(self) -> Agent:
        """A new agent of the checkpoint that acts, of the initial weights, or of the rollout policy."""
        self._refuse_if_closed()
        objects = self._config.objects
        policy = self._config.tree.get("policy")
        if plays_a_run(policy):
            run = run_of(policy, None if self._run_dir is None else self._run_dir.path)
            return load_agent(acting_checkpoint(run, policy["checkpoint"]))
        if self._config.mode == "rollout":
            from maze_core.runners.evaluation import policy_agent

            return policy_agent(self._config)
        chosen = self._acting or (self._best if self._training is None else None)
        if chosen is not None:
            return load_agent(chosen, objects=objects)
        return self._open_training().agent("best")

    def _playing(self, *, record: bool | None = None, **fields: Any) -> RunConfig:
        """What is played: this configuration with a runner that plays, and ``fields`` of it."""
        self._refuse_if_closed()
        tree = rollout_tree(self._config.tree, record_trajectory=record, **fields)
        return RunConfig(mode="rollout", tree=tree, objects=self._config.objects)

    def _checkpoint(self, which: str) -> Checkpoint:
        """The ``best`` or ``last`` one, or a stored one of the run directory.

        Raises:
            CheckpointError: there is no such checkpoint.
        """
        if which not in ("best", "last"):
            if self._run_dir is None:
                raise CheckpointError(f"There is no checkpoint {shown(which)} before the first train().")
            return Checkpoint.read(self._run_dir.checkpoint_path(str(which)))
        training = self._training
        best, last = (self._best, self._resume) if training is None else (training.best, training.last)
        kept = (best or last) if which == "best" else (last or best)
        return kept or self._open_training().checkpoint("continued")

    def _check_can_be_filmed(self) -> None:
        from maze_core.envs.video import check_can_be_filmed

        self._make_room()
        check_can_be_filmed(self._config.build("env").rendered().make)

    def _rollout_dir(self, place: bool | Path) -> RolloutDir | None:
        """The folder of a rollout, empty; True takes a new one in the run directory.

        Raises:
            InvalidSpecificationError: the folder holds something.
        """
        if isinstance(place, bool):
            return self._writable_run_dir().new_rollout() if place else None
        folder = RolloutDir((self._base / place).resolve())
        folder.refuse_content()
        return folder

    def _writable_run_dir(self) -> RunDir:
        if self._run_dir is None:
            stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S-%f")
            self._run_dir = new_run_dir(
                Path("outputs").resolve(), f"{stamp}-{self._config.config_sha256[:8]}"
            )
        return self._run_dir


def _epoch(checkpoint: Checkpoint) -> int:
    return int(checkpoint.identity["counters"]["epoch"])
