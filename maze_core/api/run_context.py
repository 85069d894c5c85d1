"""RunContext: train, roll out, evaluate and act from configuration names, dicts, objects and overrides.

The façade holds no logic of its own: the constructor composes and validates, each verb is one runner call. Nothing
global is touched: no working directory, argv, stdout or random state of the process.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from maze_core.agent import Agent, load_agent
from maze_core.api.checks import directories_of, path_of, place_of, refuse_wrong_callbacks, run_dir_of
from maze_core.api.context_state import ContextState
from maze_core.api.multirun import Multirun
from maze_core.api.per_job import per_job
from maze_core.api.specification import (
    acting_checkpoint,
    checkpoint_of,
    passed_again,
    plays_a_run,
    resume_point,
    specified,
)
from maze_core.api.sweep_report import SweepReport
from maze_core.checkpoint import Checkpoint
from maze_core.config.arguments import recorded_arguments
from maze_core.config.checks import truth, whole_number
from maze_core.config.schema import RunConfig
from maze_core.errors import InvalidSpecificationError
from maze_core.metrics import Reporter, Reporters, SilentReporter
from maze_core.rundir import RunDir
from maze_core.types import JSON, Action, ActorID, Tree

if TYPE_CHECKING:
    from maze_core.envs.maze_env import MazeEnv
    from maze_core.evaluation.evaluate import EvalReport, RolloutReport
    from maze_core.trainers.fit import TrainReport

Cancelled = Callable[[], bool]


def _never() -> bool:
    return False


class RunContext(ContextState):
    """One run: its configuration, and from the first ``train()`` on its environments, networks and checkpoints.

    Every argument is optional; ``RunContext().train()`` trains PPO on CartPole. A group argument is a module name, a
    dict with ``_target_``, or an object; ``env`` may be a function that makes environments. Use as a context manager,
    or call :meth:`close`.

    Args:
        run_dir: where checkpoints, metrics and configuration are written; None takes a new folder below ``outputs``
            at the first ``train()``. A run that is there already is gone on with: it acts with its best checkpoint,
            and ``train()`` goes on from its last one. Relative paths of ``save``, ``resume`` and ``policy.run`` lie
            in it.
        env: environment.
        wrappers: wrapper stack.
        algorithm: training algorithm.
        model: networks of policy and critic.
        policy: ``model.policy``; or, as the name of a rollout policy such as ``"random_policy"``, a context that
            only plays, writes nothing, and takes the policy of ``run_dir`` where it is to be that of a run.
        critic: ``model.critic``.
        launcher: of a multirun: ``"local"`` runs its jobs in processes, ``launcher.n_jobs`` at a time.
        runner: ``dev`` or ``local``; with a rollout policy ``sequential`` or ``parallel``.
        overrides: dotted key → value, applied last; ``{"env.name": "CartPole-v1"}``. Never changed.
        configuration: ``"test"`` for small, quick settings.
        experiment: a named set of choices and values.
        multirun: several runs: a list, or a comma string, for a group, the seed or an override is several values; every
            combination is a job. For a key that takes a list, several values are a list of lists. All methods
            and properties answer with a list then, one entry per job in order; see ``docs/command_line.md``.
        silent: no output of ours on the terminal (there is none from Python unless a reporter is given).
        seed: sets ``seeding.env_base_seed`` and ``seeding.agent_base_seed``; drawn and recorded when absent.
        config_dirs: folders with configuration modules of your own.

    Raises:
        InvalidSpecificationError: with every problem found; nothing has been built then. Also where ``run_dir`` holds
            a run with another configuration.
        CheckpointError: a checkpoint in ``run_dir`` is damaged.
    """

    def __init__(
        self,
        run_dir: str | PathLike[str] | None = None,
        env: Any = None,
        wrappers: Any = None,
        algorithm: Any = None,
        model: Any = None,
        policy: Any = None,
        critic: Any = None,
        launcher: Any = None,
        runner: Any = None,
        overrides: Mapping[str, Any] | None = None,
        configuration: str | None = None,
        experiment: str | None = None,
        multirun: bool = False,
        silent: bool = False,
        *,
        seed: int | None = None,
        config_dirs: Sequence[str | PathLike[str]] = (),
    ) -> None:
        folder = None if run_dir is None else run_dir_of(run_dir)
        arguments = {
            "env": env,
            "wrappers": wrappers,
            "algorithm": algorithm,
            "model": model,
            "policy": policy,
            "critic": critic,
            "launcher": launcher,
            "runner": runner,
            "overrides": overrides,
            "configuration": configuration,
            "experiment": experiment,
            "seed": seed,
            "config_dirs": directories_of(config_dirs),
        }
        self.silent = silent
        if truth(multirun, "multirun"):
            self._multirun = Multirun(arguments, run_dir=run_dir)
            return
        config, stored = specified(folder, arguments)
        self._start(config, folder)
        if stored is not None:
            self._take_up(stored)

    @classmethod
    def from_config(
        cls, config: Tree | RunConfig | str | PathLike[str], run_dir: Any = None, **arguments: Any
    ) -> "RunContext":
        """The context of a configuration that was resolved before, with the same digest.

        Args:
            config: :attr:`config`, what the service answers to ``GET /v1/runs/{id}/config``, or the path of a
                ``config.yaml``.
            run_dir: as of the constructor; None takes a new folder.
            **arguments: those of the constructor; a group takes the place of the configuration's, ``overrides`` that
                of its values. What was given as a live object has to be given again.

        Raises:
            InvalidSpecificationError: it is no configuration, or does not fit the arguments.
        """
        return cls(run_dir, **recorded_arguments(config, arguments))

    @classmethod
    def _of(cls, config: RunConfig, run_dir: RunDir | None, *, silent: bool = False) -> "RunContext":
        """The context of a configuration that is resolved already."""
        context = cls.__new__(cls)
        context.silent = silent
        context._start(config, run_dir)
        return context

    # ------------------------------------------------------------------ what it is

    @property
    @per_job
    def config(self) -> Tree:
        """The resolved configuration, a copy."""
        return copy.deepcopy(self._config.tree)

    @property
    @per_job
    def undescribed(self) -> dict[str, str]:
        """Path → name of each part that was given as an object which no configuration describes.

        Where it is empty, the recorded configuration alone gives the same run again.
        """
        return self._config.undescribed

    @property
    @per_job
    def config_sha256(self) -> str:
        """Digest of the configuration's identity; the same in Python, on the command line and over HTTP."""
        return self._config.config_sha256

    @property
    @per_job
    def run_dir(self) -> Path | None:
        """Where the run is written; None before the first ``train()`` of a context without ``run_dir``."""
        return None if self._run_dir is None else self._run_dir.path

    @property
    @per_job
    def policy(self) -> Agent:
        """The agent that acts: of the best checkpoint once there is one, of the initial weights before."""
        return self._acting_agent()

    @property
    @per_job
    def report(self) -> "TrainReport | None":
        """How training ended, where the run is complete: all epochs are done, or a configured limit ended it."""
        last = self._resume if self._training is None else self._training.last
        if last is None:
            return None
        from maze_core.trainers.fit import TrainReport

        report = TrainReport.of(last)
        return report if report.counters.is_complete(self._config.build("algorithm")) else None

    @property
    def sweep(self) -> SweepReport | None:
        """The jobs of a multirun or the trials of a search: choices, outcomes, and the best one; None for one run."""
        return None if self._multirun is None else self._multirun.report

    # ------------------------------------------------------------------ the verbs

    @per_job
    def train(
        self,
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
            videos: episodes to film at every scheduled checkpoint, and of the best policy at the end, as ``videos/…``
                in the run directory. Needs ``maze-service[video]``; changes no number of the run.
            **limits: when to stop this time: ``max_env_steps``, ``max_wall_s``, ``patience``, ``target_return``.

        Returns:
            How it ended; acting, evaluation and rollouts use the best checkpoint from now on.

        Raises:
            DivergedError: a loss or weight is not finite.
            EnvError: the environment broke its contract.
            InvalidSpecificationError: this context only plays, or an argument is not known or not valid.
        """
        if n_epochs is not None:
            n_epochs = whole_number(n_epochs, "n_epochs")
        n_videos = whole_number(videos, "videos", least=0)
        refuse_wrong_callbacks(reporter, cancelled)
        from maze_core.api.films import TrainingFilms
        from maze_core.api.run_dir_reporter import RunDirReporter

        self._refuse_if_closed()
        if n_videos:
            self._check_can_be_filmed()
        training = self._open_training()
        run_dir = self._writable_run_dir()
        with run_dir.writing(self._revision):
            try:
                run_dir.write_config(self._config.tree, self.config_sha256, self.undescribed)
                run_dir.forget_after(training.counters.epoch)
                run_dir.keep(best=training.best, last=training.last)
                with RunDirReporter(run_dir) as writer:
                    reporters = [writer, reporter or SilentReporter()]
                    films = TrainingFilms(self._config, run_dir, n_videos, reporters[1]) if n_videos else None
                    told = Reporters([*reporters, films] if films else reporters)
                    self._agent = self._acting = None
                    report = training.run(n_epochs, reporter=told, cancelled=cancelled, limits=limits)
                    if films and training.best:
                        films.film(training.best, "best")
                run_dir.write_report(report.to_dict())
            finally:
                self._revision = run_dir.revision
        return report

    @per_job
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
        from maze_core.api.saved_rollout import run_saved_rollout
        from maze_core.runners.evaluation import run_rollout

        n_videos = whole_number(videos, "videos", least=0)
        refuse_wrong_callbacks(reporter, cancelled)
        playing = self._playing(
            n_episodes=n_episodes,
            max_episode_steps=max_episode_steps,
            deterministic=deterministic,
            seed=seed,
            record=record,
        )
        if n_videos:
            self._check_can_be_filmed()
        needs_agent = self._config.mode == "train" or plays_a_run(self._config.tree["policy"])
        agent = self._acting_agent() if needs_agent else None
        self._make_room()
        folder = self._rollout_dir(place_of(save, n_videos))
        if folder is None:
            return run_rollout(playing, agent=agent, reporter=reporter, cancelled=cancelled)
        return run_saved_rollout(
            playing, folder, agent=agent, n_videos=n_videos, reporter=reporter, cancelled=cancelled
        )

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
        played: Any = self.rollout(
            n_episodes,
            max_episode_steps,
            deterministic=deterministic,
            seed=seed,
            record=False,
            reporter=reporter,
        )
        if self._multirun is None:
            return played.summary  # type: ignore[no-any-return]
        return [getattr(one, "summary", one) for one in played]  # type: ignore[return-value]

    @per_job
    def compute_action(
        self,
        observation: JSON,
        maze_state: Any = None,
        env: Any = None,
        actor_id: ActorID | tuple[Any, int] | None = None,
        deterministic: bool = True,
    ) -> Action:
        """The action for one observation, raw as the environment gives it; the trained stack processes it.

        Args:
            observation: name → array, or the bare array where there is one name. Never changed.
            maze_state: not used: a policy here acts on observations.
            env: the environment that gave the observation, to ask it who acts where ``actor_id`` is None; it is not
                stepped. Needed for environments with sub-steps or several agents.
            actor_id: who acts, sub-step and agent; None asks ``env``, and is agent 0 of the first sub-step without it.
            deterministic: the most likely action instead of a sample.

        Returns:
            head → value, ready for ``env.step``.

        Raises:
            SpaceMismatchError: the observation does not fit its space.
        """
        if actor_id is None and hasattr(env, "actor_id"):
            actor_id = env.actor_id()
        return self._acting_agent().compute_action(
            observation, actor_id=actor_id, deterministic=deterministic
        )

    @per_job
    def env_factory(self, *, processed: bool = False) -> "MazeEnv":
        """A new environment with the run's wrappers; the caller closes it.

        Args:
            processed: False leaves observations and actions raw, for :meth:`compute_action`; rewards and statistics
                are those of the wrappers. True passes observations and actions through the wrappers too, for
                :attr:`policy`, and marks the observations, so that nothing is processed twice.
        """
        from maze_core.envs.maze_env import MazeEnv
        from maze_core.envs.wrappers.wrapper import WrappedVectorEnv

        wrappers = self._made_agent().wrappers
        self._make_room()
        raw = self._config.build("env").vector(1, vectorization="per_env")
        return MazeEnv(
            WrappedVectorEnv(raw, wrappers, process_observations=processed, process_actions=processed)
        )

    # ------------------------------------------------------------------ keeping it

    @per_job
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
        target = (self._base / path_of(path, "path")).resolve()
        if target.is_dir():
            raise InvalidSpecificationError(f"path: {target} is a folder; name a file in it.")
        self._checkpoint(checkpoint).write(target)
        return target

    @classmethod
    def load(
        cls, path: str | PathLike[str], checkpoint: str = "best", *, env: Callable[[], Any] | None = None
    ) -> "RunContext":
        """The context of a run directory or checkpoint file, with the configuration that it holds.

        It acts with ``checkpoint`` until it is trained further; ``train()`` goes on from the last checkpoint of a
        directory, or from the file, and starts anew in a directory that has only a ``best`` one.

        Args:
            path: run directory or checkpoint file.
            checkpoint: of a directory: ``best``, ``last``, ``scheduled`` (the last one) or ``epoch:N``.
            env: makes the environments of a run that was given such a function.

        Raises:
            CheckpointError: there is no such checkpoint, it is damaged, or its networks are not described.
        """
        source = path_of(path, "path").resolve()
        run_dir = RunDir(source) if source.is_dir() else None
        acting = acting_checkpoint(source, checkpoint)
        config = RunConfig.from_tree(acting.identity["config"], "train")
        if env is not None:
            config = replace(config, objects=passed_again("env.factory", env, config))
        context = cls._of(config, run_dir)
        context._agent, context._acting = load_agent(acting, objects=config.objects), acting
        context._resume = acting if run_dir is None else resume_point(run_dir)
        context._best = acting if run_dir is None else checkpoint_of(run_dir, "best") or acting
        return context

    @per_job
    def resume(self, checkpoint: str | PathLike[str] = "last") -> "RunContext":
        """Go back to a checkpoint: the next ``train()`` goes on from there, and acting uses it until then.

        Args:
            checkpoint: of the run directory: ``last``, ``best``, ``scheduled`` or ``epoch:N``; or a file.

        Returns:
            The context itself.

        Raises:
            CheckpointError: there is no such checkpoint, or it belongs to another configuration.
        """
        self._refuse_if_closed()
        run_dir = self._run_dir or RunDir(self._base)
        file = self._base / path_of(checkpoint, "checkpoint")
        chosen = Checkpoint.read(file if file.is_file() else run_dir.checkpoint_path(str(checkpoint)))
        agent = load_agent(chosen, objects=self._config.objects)
        self._go_back_to(chosen, agent)
        return self

    def close(self) -> None:
        """Close environments and forget the networks. A second call does nothing."""
        if self._multirun is not None:
            self._multirun.close()
            return
        self._stop_training()
        self._agent = None
        self._is_closed = True

    def __enter__(self) -> "RunContext":
        """The context itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
