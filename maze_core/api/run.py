"""One run: its configuration, and from the first ``train()`` on its environments, networks and checkpoints.

Nothing is built before it is asked for. Not thread-safe.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from maze_core.agent import Agent, load_agent
from maze_core.api.checks import path_of, place_of, refuse_wrong_callbacks
from maze_core.api.stored_run import (
    StoredRun,
    acting_checkpoint,
    checkpoint_of,
    passed_again,
    plays_a_run,
    resume_point,
    run_of,
    stored_run,
)
from maze_core.checkpoint import Checkpoint
from maze_core.config.nodes import shown
from maze_core.config.provenance import Origin
from maze_core.config.schema import RunConfig
from maze_core.config.settings import whole_number
from maze_core.errors import CheckpointError, ContextClosedError, InvalidSpecificationError
from maze_core.metrics import MetricTable, Reporter, Reporters, SilentReporter
from maze_core.rundir import RolloutDir, RunDir, new_run_dir
from maze_core.runners.config import rollout_tree
from maze_core.types import JSON, ActorID, Tree

if TYPE_CHECKING:
    from maze_core.api.deployment import AgentDeployment
    from maze_core.envs.maze_env import MazeEnv
    from maze_core.evaluation.evaluate import EvalReport, RolloutReport
    from maze_core.rollout.datasets import EpisodeSet, RecordedEpisode
    from maze_core.rollout.episodes import EpisodeRecord
    from maze_core.runners.replay import DecisionReport, ReplayReport
    from maze_core.runners.smoke import SmokeReport
    from maze_core.runners.training import Training
    from maze_core.trainers.fit import TrainReport

Cancelled = Callable[[], bool]


def _never() -> bool:
    return False


class Run:
    """One run, configured.

    Args:
        specification: what is run.
        directory: where it is written; None takes a new folder below ``outputs`` at the first ``train()``.
        stored: what that holds, to go on with.

    Attributes:
        specification: as above.
        directory: as above.
        base: where relative paths of ``save`` and ``resume`` lie.
    """

    def __init__(
        self, specification: RunConfig, directory: RunDir | None, stored: StoredRun | None = None
    ) -> None:
        self.specification = specification
        self.directory = directory
        self.base = Path() if directory is None else directory.path
        self._revision = None if directory is None else directory.revision  # of what is known of it
        self._training: Training | None = None
        self._agent: Agent | None = None
        self._resume: Checkpoint | None = None
        self._best: Checkpoint | None = None
        self._acting: Checkpoint | None = None  # what acts, where another one than the best was asked for
        self._is_closed = False
        if stored is not None:
            self.take_up(stored)

    # ------------------------------------------------------------------ what it is

    @property
    def config(self) -> Tree:
        """The resolved configuration, a copy."""
        return copy.deepcopy(self.specification.tree)

    @property
    def provenance(self) -> dict[str, Origin]:
        """Dotted path → where each value of :attr:`config` comes from: its source and the name of that."""
        return self.specification.provenance

    @property
    def undescribed(self) -> dict[str, str]:
        """Path → name of each part that was given as an object which no configuration describes.

        Where it is empty, the recorded configuration alone gives the same run again.
        """
        return self.specification.undescribed

    @property
    def config_sha256(self) -> str:
        """Digest of the configuration's identity; the same in Python, on the command line and over HTTP."""
        return self.specification.config_sha256

    @property
    def run_dir(self) -> Path | None:
        """Where the run is written; None before the first ``train()`` of a context without ``run_dir``."""
        return None if self.directory is None else self.directory.path

    @property
    def metrics(self) -> MetricTable:
        """What was measured at each epoch so far; as a table by ``to_pandas()`` and ``to_polars()``."""
        rows = [] if self.directory is None else self.directory.read_metrics()
        as_numbers = [
            {name: float(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows
        ]
        return MetricTable(as_numbers)

    @property
    def distributions(self) -> list[Tree]:
        """Histograms of what ``MonitoringWrapper`` gathered, a row for each epoch.

        A row has ``epoch``, ``step``, and by name ``low``, ``high`` and the ``counts`` of equal bins between them.
        """
        return [] if self.directory is None else self.directory.read_distributions()

    @property
    def policy(self) -> Agent:
        """The agent that acts: of the best checkpoint once there is one, of the initial weights before."""
        self._refuse_if_closed()
        if self._agent is None:
            self._agent = self._made_agent()
        return self._agent

    @property
    def report(self) -> "TrainReport | None":
        """How training ended, where the run is complete: all epochs are done, or a configured limit ended it."""
        report = self.last_report()
        is_complete = report and report.counters.is_complete(self.specification.build("algorithm"))
        return report if is_complete else None

    def last_report(self) -> "TrainReport | None":
        """How training stood at the checkpoint where it goes on; None before the first one."""
        last = self._resume if self._training is None else self._training.last
        if last is None:
            return None
        from maze_core.trainers.fit import TrainReport

        return TrainReport.of(last)

    # ------------------------------------------------------------------ the verbs

    def train(
        self,
        /,
        n_epochs: int | None = None,
        *,
        reporter: Reporter | None = None,
        cancelled: Cancelled = _never,
        videos: int = 0,
        **limits: Any,
    ) -> "TrainReport":
        """Train, or train further.

        Args:
            n_epochs: epochs to train now; None trains what is left of the configured number, or that number again.
            reporter: takes progress, metrics and checkpoints beside the run directory.
            cancelled: asked between updates; True stores a checkpoint and ends.
            videos: episodes to film before anything is learnt, at every scheduled checkpoint, and of the best policy
                at the end, as ``videos/…`` in the run directory. Needs ``maze-service[video]``; changes no number of
                the run. Where evaluations share the environments of training, all is filmed after it, when those are
                closed.
            **limits: when to stop this time: ``max_env_steps``, ``max_wall_s``, ``patience``, ``target_return``.

        Returns:
            How it ended; acting, evaluation and rollouts use the best checkpoint from now on.

        Raises:
            DivergedError: a loss or weight is not finite.
            EnvError: the environment broke its contract.
            InvalidSpecificationError: this context only plays, an argument is not known or not valid, or somebody else
                writes into the run directory.
        """
        if n_epochs is not None:
            n_epochs = whole_number(n_epochs, "n_epochs")
        n_videos = whole_number(videos, "videos", least=0)
        refuse_wrong_callbacks(reporter, cancelled)
        from maze_core.api.reporters import RunDirReporter, TrainingVideos
        from maze_core.runners.sinks import RunFacts, sinks_of

        self._refuse_if_closed()
        if n_videos:
            self._check_videos()
        training = self._open_training()
        directory = self._writable_directory()
        with directory.writing(self._revision):
            try:
                directory.write_config(self.specification.tree, self.config_sha256, self.undescribed)
                directory.forget_after(training.counters.epoch)
                directory.keep(best=training.best, last=training.last)
                told = reporter or SilentReporter()
                films: list[TrainingVideos] = []
                if n_videos:
                    films.append(TrainingVideos(self.specification, directory, n_videos, told))
                facts = RunFacts.of(
                    self.specification.tree, name=directory.path.name, directory=directory.path
                )
                chosen = training.world.runner.sinks
                with RunDirReporter(directory) as writer, sinks_of(chosen, facts) as sinks:
                    everyone = Reporters([writer, told, *sinks, *films])
                    self._agent = self._acting = None
                    for videos_of in films:
                        videos_of.waits = training.world.runner.shares_envs
                        if training.counters.epoch == 0:
                            videos_of.begin(training.checkpoint("continued"))
                    report = training.run(n_epochs, reporter=everyone, cancelled=cancelled, limits=limits)
                    for videos_of in films:
                        self._make_room()
                        videos_of.end(training.best)
                directory.write_report(report.to_dict())
            finally:
                self._revision = directory.revision
        return report

    def smoke(self, *, cancelled: Cancelled = _never) -> "SmokeReport":
        """Build a training of this configuration apart from the run, make a few updates and an evaluation, forget it.

        Returns:
            Spaces, size, memory, and how long an epoch and the whole run will take.
        """
        from maze_core.runners.smoke import run_smoke

        refuse_wrong_callbacks(None, cancelled)
        self._refuse_if_closed()
        if self.specification.mode != "train":
            raise InvalidSpecificationError(
                "This context only plays, because it has a rollout policy or runner."
            )
        self._make_room()
        return run_smoke(self.specification, cancelled=cancelled)

    def rollout(
        self,
        n_episodes: int | None = None,
        max_episode_steps: int | None = None,
        *,
        deterministic: bool | None = None,
        seed: int | None = None,
        record: bool | None = None,
        reporter: Reporter | None = None,
        cancelled: Cancelled = _never,
        videos: int = 0,
        save: bool | str | PathLike[str] = False,
    ) -> "RolloutReport":
        """Play episodes with the trained policy, or with the rollout policy of a context that only plays.

        Args:
            n_episodes: episodes to play; None takes the configured number.
            max_episode_steps: flat steps after which an episode is cut; None takes the limit of training's evaluation
                (10,000 unless it was set), 0 leaves it to the environment. The report says how many episodes it cut.
            deterministic: the most likely action instead of a sample.
            seed: seeds episodes and samples; None takes the run's own seeds.
            record: keep observations, actions and rewards of every step.
            reporter: takes each episode as it ends.
            cancelled: asked between steps.
            videos: how many of the first episodes to film; the rollout is saved then. Needs ``maze-service[video]``.
            save: True stores trajectories, report and configuration in a new folder ``rollouts/001`` of the run
                directory; a path names the folder, which must be empty.

        Returns:
            Summary and episodes, and where they were saved.
        """
        from maze_core.rollout.recording import trajectory_to_bytes
        from maze_core.runners.evaluation import run_rollout

        n_videos = whole_number(videos, "videos", least=0)
        refuse_wrong_callbacks(reporter, cancelled)
        playing = self.playing(
            n_episodes=n_episodes,
            max_episode_steps=max_episode_steps,
            deterministic=deterministic,
            seed=seed,
            record=record,
        )
        if n_videos:
            self._check_videos()
        agent = self.policy if self._plays_an_agent() else None
        self._make_room()
        folder = self.rollout_folder(place_of(save, n_videos))
        if folder is None:
            return run_rollout(playing, agent=agent, reporter=reporter, cancelled=cancelled)
        with folder.writing():
            videos_at = folder.video_paths(n_videos)
            report = run_rollout(
                playing, agent=agent, reporter=reporter, cancelled=cancelled, videos=videos_at
            )
            for episode in report.episodes:
                if episode.trajectory is not None:
                    folder.write_trajectory(episode.index, trajectory_to_bytes(episode.trajectory))
            folder.write(playing.tree, playing.config_sha256, playing.undescribed, report.to_dict())
        return replace(report, saved_to=folder.path)

    def recorded(
        self,
        report: "RolloutReport",
        *,
        judge: bool = False,
        deterministic: bool | None = None,
        seed: int | None = None,
    ) -> "EpisodeSet":
        """The recorded episodes of a rollout of this context, with their seeds and spaces, for ``save_episodes``.

        Args:
            report: of the rollout.
            judge: add the log-probability of each action, and what the critic expected.
            deterministic: as it was given to the rollout, to judge by.
            seed: as it was given to the rollout, to judge by.

        Raises:
            InvalidSpecificationError: they were not recorded, or are judged by another policy than they are of.
        """
        from maze_core.envs.env_spaces import describe_spaces
        from maze_core.rollout.datasets import EpisodeSet, RecordedEpisode
        from maze_core.runners.replay import judged

        found = [(episode.trajectory, episode.seed) for episode in report.episodes]
        episodes = [RecordedEpisode(trajectory=x, seed=its_seed) for x, its_seed in found if x is not None]
        if not episodes or len(episodes) < len(found):
            message = "The episodes were not recorded: play with rollout(record=True)."
            raise InvalidSpecificationError(message, path="report", code="not_recorded")
        if judge:
            playing = self.playing(deterministic=deterministic, seed=seed)
            episodes = [judged(playing, self.policy, episode) for episode in episodes]
        env = self.specification.tree["env"]
        return EpisodeSet(episodes=episodes, spaces=describe_spaces(self.policy), env=env)

    def _plays_an_agent(self) -> bool:
        """Whether rollouts are those of a trained policy."""
        return self.specification.mode == "train" or plays_a_run(self.specification.tree["policy"])

    def deploy(self, *, deterministic: bool | None = None, seed: int | None = None) -> "AgentDeployment":
        """The trained policy for a loop of the caller's, told step by step what happened; as :meth:`rollout` acts.

        Args:
            deterministic: the most likely action instead of a sample.
            seed: seeds episodes and samples; None takes the run's own seeds.
        """
        from maze_core.api.deployment import AgentDeployment
        from maze_core.runners.build import seeds_of

        playing = self.playing(deterministic=deterministic, seed=seed)
        env_seed, agent_seed = seeds_of(playing)
        return AgentDeployment(
            agent=self.policy,
            deterministic=playing.build("runner").deterministic,
            env_seed=env_seed,
            agent_seed=agent_seed,
        )

    def replay(
        self,
        episode: "EpisodeRecord | RecordedEpisode",
        step: int | None = None,
        *,
        deterministic: bool | None = None,
        seed: int | None = None,
    ) -> "ReplayReport | DecisionReport":
        """Play a recorded episode once more with its seed and actions, or ask for one of its decisions again.

        Args:
            episode: of a rollout of this context, recorded, also as ``load_episodes`` gives it.
            step: the sub-step whose action the policy is asked for, on the recorded observation; None plays it all.
            deterministic: as it was given to the rollout.
            seed: as it was given to the rollout.

        Returns:
            Whether all bits are the same, and what differs first; :mod:`maze_core.runners.replay` says what is exact.
        """
        from maze_core.runners.replay import replay_decision, replay_episode

        if episode.trajectory is None:
            message = "The episode was not recorded: play with rollout(record=True)."
            raise InvalidSpecificationError(message, path="episode", code="not_recorded")
        if episode.seed is None:
            message = "It is not known what the episode was reset with, so it cannot be played once more."
            raise InvalidSpecificationError(message, path="episode", code="no_seed")
        playing = self.playing(deterministic=deterministic, seed=seed)
        if step is None:
            agent = self.policy if self._plays_an_agent() else None
            return replay_episode(playing, episode.trajectory, episode.seed, agent)
        return replay_decision(playing, self.policy, episode.trajectory, episode.seed, step)

    def evaluate(
        self,
        n_episodes: int = 20,
        *,
        deterministic: bool = True,
        seed: int | None = None,
        max_episode_steps: int | None = None,
        reporter: Reporter | None = None,
    ) -> "EvalReport":
        """Judge the trained policy over seeded episodes; see :meth:`rollout`.

        Returns:
            Mean, deviation, 95 % confidence interval, and the return, length and seed of each episode.
        """
        return self.rollout(
            n_episodes,
            max_episode_steps,
            deterministic=deterministic,
            seed=seed,
            record=False,
            reporter=reporter,
        ).summary

    def compute_action(
        self,
        observation: JSON,
        maze_state: Any = None,
        env: Any = None,
        actor_id: ActorID | tuple[Any, int] | None = None,
        deterministic: bool = True,
        state: str | EllipsisType | None = ...,
    ) -> Any:
        """The action for one observation, raw as the environment gives it; the trained stack processes it.

        Args:
            observation: name → array, or the bare array where there is one name. Never changed.
            maze_state: not used: a policy here acts on observations.
            env: the environment that gave the observation, to ask it who acts where ``actor_id`` is None; it is not
                stepped. Needed for environments with sub-steps or several agents.
            actor_id: who acts, sub-step and agent; None asks ``env``, and is agent 0 of the first sub-step without it.
            deterministic: the most likely action instead of a sample.
            state: what a policy with a state carries through the episode: :meth:`initial_state` or None with the first
                observation, and what came with the last action from then on.

        Returns:
            head → value, ready for ``env.step``; where a state was given, the pair of that and the next state.

        Raises:
            SpaceMismatchError: the observation does not fit its space.
            StateError: a state is needed and was not given, or is that of another checkpoint.
        """
        if actor_id is None and hasattr(env, "actor_id"):
            actor_id = env.actor_id()
        return self.policy.compute_action(
            observation, actor_id=actor_id, deterministic=deterministic, state=state
        )

    def initial_state(self) -> str | None:
        """With what a policy with a state begins an episode; None where nothing is carried. Opaque, and JSON."""
        return self.policy.initial_state()

    def explain_action(
        self,
        observation: JSON,
        env: Any = None,
        actor_id: ActorID | tuple[Any, int] | None = None,
        deterministic: bool = True,
        state: str | EllipsisType | None = ...,
    ) -> Tree:
        """As :meth:`compute_action`, with what the policy thought: see :meth:`maze_core.agent.Agent.explain`.

        Returns:
            ``action``, ``distribution``, ``value``, ``mask`` and ``log_prob``; None where the policy has no such thing.
            The next ``state`` too, where one was given.

        Raises:
            SpaceMismatchError: the observation does not fit its space.
        """
        if actor_id is None and hasattr(env, "actor_id"):
            actor_id = env.actor_id()
        return self.policy.explain(observation, actor_id=actor_id, deterministic=deterministic, state=state)

    def env_factory(self, *, processed: bool = False) -> "MazeEnv":
        """A new environment with the run's wrappers; the caller closes it.

        Args:
            processed: False leaves observations and actions raw, for :meth:`compute_action`; rewards and statistics
                are those of the wrappers. True passes observations and actions through the wrappers too, for
                :attr:`policy`, and marks the observations, so that nothing is processed twice.
        """
        from maze_core.envs.maze_env import MazeEnv
        from maze_core.envs.per_env import PerEnvVectorEnv
        from maze_core.envs.wrappers.wrapper import WrappedVectorEnv

        wrappers = self._made_agent().wrappers
        self._make_room()
        raw = PerEnvVectorEnv([self.specification.build("env").make])
        return MazeEnv(WrappedVectorEnv(raw, wrappers, processed=processed))

    # ------------------------------------------------------------------ keeping it

    def save(self, path: str | PathLike[str], checkpoint: str = "best") -> Path:
        """Write one checkpoint as a file of its own.

        Args:
            path: the file to write; a relative one lies in the ``run_dir`` that was given, else in the working
                directory.
            checkpoint: ``best``, ``last``, ``scheduled`` (the last one) or ``epoch:N``.

        Returns:
            The file's absolute path.

        Raises:
            CheckpointError: there is no such checkpoint.
            InvalidSpecificationError: the path is a folder.
        """
        target = (self.base / path_of(path, "path")).resolve()
        if target.is_dir():
            raise InvalidSpecificationError(f"path: {target} is a folder; name a file in it.")
        self._checkpoint(checkpoint).write(target)
        return target

    def draw(self, path: str | PathLike[str]) -> Path:
        """Draw the networks of policy and critic as an SVG: what follows what, shapes, numbers of parameters.

        Args:
            path: the file to write, ``….svg``; a relative one lies where :meth:`save` puts it.

        Returns:
            The file's absolute path.

        Raises:
            InvalidSpecificationError: the name ends otherwise, or the policy has no networks.
        """
        from maze_core.models.drawing import drawing

        target = (self.base / path_of(path, "path")).resolve()
        if target.suffix.lower() != ".svg":
            raise InvalidSpecificationError(f"path: draws SVG; name a file like {target.stem}.svg.")
        agent, training = self.policy, self._training
        policy, critic = (
            (agent.policy, agent.critic())
            if training is None
            else (training.world.parts.policy, training.world.parts.critic)
        )
        if not any(getattr(step, "networks", ()) for step in getattr(policy, "steps", {}).values()):
            raise InvalidSpecificationError("policy: it has no networks to draw.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(drawing(policy, critic), encoding="utf-8")
        return target

    def export(
        self,
        path: str | PathLike[str],
        format: str | None = None,
        checkpoint: str = "best",
        actor_id: ActorID | tuple[Any, int] | None = None,
    ) -> Path:
        """Write the trained stack for elsewhere: raw observation in, likeliest action out.

        Args:
            path: ``policy.onnx``, ``policy.npz``, or a new folder; as of :meth:`save`.
            format: ``onnx`` or ``numpy``; None takes what the suffix says.
            checkpoint: as of :meth:`save`.
            actor_id: who acts, where an ONNX file has to have one of several.

        Returns:
            The absolute path.

        Raises:
            NotServableError: a part of the stack cannot be expressed.
            CheckpointError: what was written does not act as the checkpoint does; nothing is left of it.
        """
        from maze_core.export.exporting import export_policy

        return export_policy(
            self._checkpoint(checkpoint),
            self.base / path_of(path, "path"),
            format=format,
            actor_id=actor_id,
            objects=self.specification.objects,
        )

    @classmethod
    def load(
        cls, path: str | PathLike[str], checkpoint: str = "best", *, env: Callable[[], Any] | None = None
    ) -> "Run":
        """The run of a run directory or checkpoint file; see :meth:`maze_core.api.run_context.RunContext.load`."""
        source = path_of(path, "path").resolve()
        directory = RunDir(source) if source.is_dir() else None
        acting = acting_checkpoint(source, checkpoint)
        sources = acting.provenance.get("sources", {})
        specification = RunConfig.from_tree({**acting.identity["config"], **sources}, "train")
        if env is not None:
            objects = passed_again("env.factory", env, specification)
            specification = replace(specification, objects=objects)
        run = cls(specification, directory)
        run._agent, run._acting = load_agent(acting, objects=specification.objects), acting
        run._resume = acting if directory is None else resume_point(directory)
        run._best = acting if directory is None else checkpoint_of(directory, "best") or acting
        return run

    def resume(self, checkpoint: str | PathLike[str] = "last") -> None:
        """Go back to a checkpoint: the next ``train()`` goes on from there, and acting uses it until then.

        Args:
            checkpoint: of the run directory: ``last``, ``best``, ``scheduled`` or ``epoch:N``; or a file.

        Raises:
            CheckpointError: there is no such checkpoint, or it belongs to another configuration.
        """
        self._refuse_if_closed()
        directory = self.directory or RunDir(self.base)
        file = self.base / path_of(checkpoint, "checkpoint")
        self._revision = None if self.directory is None else self.directory.revision
        chosen = Checkpoint.read(file if file.is_file() else directory.checkpoint_path(str(checkpoint)))
        agent = load_agent(chosen, objects=self.specification.objects)
        self._stop_training()
        best = None if self.directory is None else checkpoint_of(self.directory, "best")
        is_later = best is not None and _epoch(best) > _epoch(chosen)
        self._agent, self._acting = agent, chosen
        self._resume, self._best = chosen, chosen if best is None or is_later else best
        self._open_training()

    def close(self) -> None:
        """Close environments and forget the networks. A second call does nothing."""
        self._stop_training()
        self._agent = None
        self._is_closed = True

    # ------------------------------------------------------------------ as a job of a multirun

    def take_up(self, stored: StoredRun | None = None, *, is_live: bool = False) -> None:
        """Go on with what the run directory holds, which another process may have written.

        Args:
            stored: what it holds, where that is known.
            is_live: it is this run that was trained there, so it goes on where that stopped, also after a cancel.
        """
        self._stop_training()
        self._agent = self._acting = None
        stored = stored or (None if self.directory is None else stored_run(self.directory))
        if self.directory is not None:
            self._revision = self.directory.revision if stored is None else stored.revision
        if stored is not None:
            self._resume, self._best = stored.resume, stored.best
        if is_live and self.directory is not None:
            self._resume = checkpoint_of(self.directory, "last")

    def kept_checkpoints(self) -> Tree | None:
        """What training and acting go on from, as bytes; None where that is what the run directory holds."""
        training = self._training
        if training is None and self._acting is None:
            return None
        last, best = (self._resume, self._best) if training is None else (training.last, training.best)
        kept = {"resume": last, "best": best, "acting": self._acting}
        return {name: None if it is None else it.to_bytes() for name, it in kept.items()}

    def go_on_with(self, kept: Tree | None, *, is_live: bool) -> None:
        """Take what :meth:`kept_checkpoints` gave in another process; see :meth:`take_up`."""
        if kept is not None:
            read = {name: None if it is None else Checkpoint.from_bytes(it) for name, it in kept.items()}
            self._resume, self._best, self._acting = read["resume"], read["best"], read["acting"]
        elif self.specification.mode == "train":
            self.take_up(is_live=is_live)

    def playing(self, *, record: bool | None = None, **fields: Any) -> RunConfig:
        """What is played: this configuration with a runner that plays, and ``fields`` of it."""
        self._refuse_if_closed()
        tree = rollout_tree(self.specification.tree, record_trajectory=record, **fields)
        return RunConfig(mode="rollout", tree=tree, objects=self.specification.objects)

    def rollout_folder(self, place: bool | Path) -> RolloutDir | None:
        """The folder of a rollout, empty; True takes a new one in the run directory.

        Raises:
            InvalidSpecificationError: the folder holds something.
        """
        if isinstance(place, bool):
            return self._writable_directory().new_rollout() if place else None
        folder = RolloutDir((self.base / place).resolve())
        folder.refuse_content()
        return folder

    # ------------------------------------------------------------------

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
        if self.specification.mode == "rollout":
            raise InvalidSpecificationError(
                "This context only plays, because it was given a rollout policy; leave out policy= to train."
            )
        if self._training is None:
            resume, best = self._resume, self._best
            if best is not None and (resume is None or _epoch(best) > _epoch(resume)):
                best = resume  # what comes after the point of resuming is made again
            self._training = Training(self.specification, resume=resume, best=best)
        return self._training

    def _made_agent(self) -> Agent:
        """A new agent of the checkpoint that acts, of the initial weights, or of the rollout policy."""
        self._refuse_if_closed()
        objects = self.specification.objects
        policy = self.specification.tree.get("policy")
        if plays_a_run(policy):
            return load_agent(acting_checkpoint(run_of(policy, self.run_dir), policy["checkpoint"]))
        if self.specification.mode == "rollout":
            from maze_core.runners.evaluation import policy_agent

            return policy_agent(self.specification)
        chosen = self._acting or (self._best if self._training is None else None)
        if chosen is not None:
            return load_agent(chosen, objects=objects)
        return self._open_training().agent("best")

    def _checkpoint(self, which: str) -> Checkpoint:
        """The ``best`` or ``last`` one, or a stored one of the run directory.

        Raises:
            CheckpointError: there is no such checkpoint.
        """
        if which not in ("best", "last"):
            if self.directory is None:
                raise CheckpointError(f"There is no checkpoint {shown(which)} before the first train().")
            return Checkpoint.read(self.directory.checkpoint_path(str(which)))
        training = self._training
        best, last = (self._best, self._resume) if training is None else (training.best, training.last)
        kept = (best or last) if which == "best" else (last or best)
        return kept or self._open_training().checkpoint("continued")

    def _check_videos(self) -> None:
        from maze_core.envs.video import check_videos

        self._make_room()
        check_videos(self.specification.build("env").rendered().make)

    def _writable_directory(self) -> RunDir:
        if self.directory is None:
            stamp = datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S-%f")
            self.directory = new_run_dir(Path("outputs").resolve(), f"{stamp}-{self.config_sha256[:8]}")
        return self.directory


def _epoch(checkpoint: Checkpoint) -> int:
    return int(checkpoint.identity["counters"]["epoch"])
