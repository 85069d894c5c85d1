"""RunContext: train, roll out, evaluate and act from configuration names, dicts, objects and overrides.

The façade holds one :class:`~maze_core.api.run.Run`, or a :class:`~maze_core.api.multirun.Multirun`, which is a list of
them, and has the methods of a run; those of a multirun take the same arguments and answer with a list. Nothing global
is touched: no working directory, argv, stdout or random state of the process.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import MethodType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, cast, overload

from typing_extensions import TypeVar

from maze_core.api.checks import run_dir_of
from maze_core.api.multirun import Multirun
from maze_core.api.multirun_report import MultirunReport
from maze_core.api.run import Run
from maze_core.api.stored_run import specified
from maze_core.config.arguments import recorded_arguments
from maze_core.config.modules import searched_directories
from maze_core.config.schema import RunConfig
from maze_core.config.settings import truth
from maze_core.errors import JobFailedError
from maze_core.types import Tree

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
U = TypeVar("U")
Several = TypeVar("Several", bound=bool, default=Literal[False])
"""Whether a context is a multirun; not, where nothing else is said."""

One = Literal[False]
Many = Literal[True]


class _Verb(Generic[P, T, Q, U]):
    """A method of the run that a context holds, or of its multirun."""

    def __init__(
        self, of_run: Callable[Concatenate[Run, P], T], of_multirun: Callable[Concatenate[Multirun, Q], U]
    ) -> None:
        self._of_run, self._of_multirun = of_run, of_multirun
        self.__doc__ = of_run.__doc__

    @overload
    def __get__(self, context: None, owner: type) -> Callable[Concatenate[Run, P], T]: ...
    @overload
    def __get__(self, context: "RunContext[One]", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, context: "RunContext[Many]", owner: type) -> Callable[Q, U]: ...
    def __get__(self, context: "RunContext[Any] | None", owner: type) -> Callable[..., Any]:
        if context is None:
            return self._of_run
        held = context._held
        return MethodType(self._of_run if isinstance(held, Run) else self._of_multirun, held)


class _Fact(Generic[T]):
    """A property of the run that a context holds; of a multirun, the list of those of its jobs."""

    def __init__(self, of_run: Callable[[Run], T], *, needs_training: bool = True) -> None:
        self._of_run = cast(property, of_run)
        self._needs_training = needs_training

    @overload
    def __get__(self, context: None, owner: type) -> property: ...
    @overload
    def __get__(self, context: "RunContext[One]", owner: type) -> T: ...
    @overload
    def __get__(self, context: "RunContext[Many]", owner: type) -> list[T | JobFailedError]: ...
    def __get__(self, context: "RunContext[Any] | None", owner: type) -> Any:
        if context is None:
            return self._of_run
        held = context._held
        if isinstance(held, Run):
            return self._of_run.__get__(held)
        return held.each(self._of_run.__get__, needs_training=self._needs_training)

    def __set__(self, context: object, value: object) -> None:
        raise AttributeError("What a RunContext says of itself cannot be set.")


def _of_each(
    verb: Callable[Concatenate[Run, P], T],
) -> Callable[Concatenate[Multirun, P], list[T | JobFailedError]]:
    """The method of a multirun that asks every run."""

    def ask(multirun: Multirun, /, *args: P.args, **kwargs: P.kwargs) -> list[T | JobFailedError]:
        return multirun.each(lambda run: verb(run, *args, **kwargs))

    return ask


class RunContext(Generic[Several]):
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
            and properties answer with a list then, one entry per job in order, in which the
            :class:`~maze_core.errors.JobFailedError` of a job that failed stands in its place; see
            ``docs/command_line.md``.
        silent: no output of ours on the terminal (there is none from Python unless a reporter is given).
        seed: sets ``seeding.env_base_seed`` and ``seeding.agent_base_seed``; drawn and recorded when absent.
        config_dirs: folders with configuration modules of your own; those that the environment variable
            ``MAZE_CONFIG_DIRS`` names are searched, too.

    Raises:
        InvalidSpecificationError: with every problem found; nothing has been built then. Also where ``run_dir`` holds
            a run with another configuration.
        CheckpointError: a checkpoint in ``run_dir`` is damaged.
    """

    @overload
    def __init__(
        self: "RunContext[Many]",
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
        *,
        multirun: Literal[True],
        silent: bool = False,
        seed: Any = None,
        config_dirs: Sequence[str | PathLike[str]] = (),
    ) -> None: ...
    @overload
    def __init__(
        self: "RunContext[One]",
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
    ) -> None: ...
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
            "config_dirs": searched_directories(config_dirs),
        }
        self.silent = silent
        self._held: Run | Multirun
        if truth(multirun, "multirun"):
            self._held = Multirun(arguments, run_dir=run_dir)
        else:
            specification, stored = specified(folder, arguments)
            self._held = Run(specification, folder, stored)

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
        context = cls(run_dir, **recorded_arguments(config, arguments))
        if isinstance(context._held, Run):
            context._held.specification.beside_recorded(arguments)
        return context

    @classmethod
    def _of(cls, run: Run) -> "RunContext[One]":
        """The context of a run that there is already."""
        context = cast("RunContext[One]", cls.__new__(cls))
        context.silent, context._held = False, run
        return context

    config = _Fact(Run.config, needs_training=False)
    provenance = _Fact(Run.provenance, needs_training=False)
    undescribed = _Fact(Run.undescribed, needs_training=False)
    config_sha256 = _Fact(Run.config_sha256, needs_training=False)
    run_dir = _Fact(Run.run_dir, needs_training=False)
    metrics = _Fact(Run.metrics)
    distributions = _Fact(Run.distributions)
    policy = _Fact(Run.policy)
    report = _Fact(Run.report)

    train = _Verb(Run.train, Multirun.train)
    smoke = _Verb(Run.smoke, _of_each(Run.smoke))
    rollout = _Verb(Run.rollout, Multirun.rollout)
    deploy = _Verb(Run.deploy, _of_each(Run.deploy))
    recorded = _Verb(Run.recorded, _of_each(Run.recorded))
    replay = _Verb(Run.replay, _of_each(Run.replay))
    evaluate = _Verb(Run.evaluate, Multirun.evaluate)
    compute_action = _Verb(Run.compute_action, _of_each(Run.compute_action))
    initial_state = _Verb(Run.initial_state, _of_each(Run.initial_state))
    explain_action = _Verb(Run.explain_action, _of_each(Run.explain_action))
    env_factory = _Verb(Run.env_factory, _of_each(Run.env_factory))
    save = _Verb(Run.save, Multirun.save)
    draw = _Verb(Run.draw, _of_each(Run.draw))
    export = _Verb(Run.export, Multirun.export)

    @property
    def sweep(self) -> MultirunReport | None:
        """The jobs of a multirun or the trials of a search: choices, outcomes, and the best one; None for one run."""
        return None if isinstance(self._held, Run) else self._held.report

    @classmethod
    def load(
        cls, path: str | PathLike[str], checkpoint: str = "best", *, env: Callable[[], Any] | None = None
    ) -> "RunContext[One]":
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
        return cls._of(Run.load(path, checkpoint, env=env))

    @overload
    def resume(self: "RunContext[One]", checkpoint: str | PathLike[str] = "last") -> "RunContext[One]": ...
    @overload
    def resume(
        self: "RunContext[Many]", checkpoint: str | PathLike[str] = "last"
    ) -> "list[RunContext[One] | JobFailedError]": ...
    def resume(self, checkpoint: str | PathLike[str] = "last") -> Any:
        """Go back to a checkpoint: the next ``train()`` goes on from there, and acting uses it until then.

        Args:
            checkpoint: of the run directory: ``last``, ``best``, ``scheduled`` or ``epoch:N``; or a file.

        Returns:
            The context itself; of a multirun, the context of every job.

        Raises:
            CheckpointError: there is no such checkpoint, or it belongs to another configuration.
        """
        if isinstance(self._held, Run):
            self._held.resume(checkpoint)
            return self

        def resumed(run: Run) -> RunContext[One]:
            run.resume(checkpoint)
            return self._of(run)

        return self._held.each(resumed)

    def close(self) -> None:
        """Close environments and forget the networks. A second call does nothing."""
        self._held.close()

    def __enter__(self) -> "RunContext[Several]":
        """The context itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()
