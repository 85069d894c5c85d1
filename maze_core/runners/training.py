"""Training, from configuration to report: build the world, fit, keep best and last, close.

A :class:`Training` outlives one call of ``run``: the next call goes on where the last one stopped. It can be started
from a checkpoint, in this process or another.
"""

import functools
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import fmean
from typing import Any

import numpy as np

from maze_core.agent import Agent, load_agent, record_actions
from maze_core.checkpoint import Checkpoint, copied, prefixed, section, storable
from maze_core.config.schema import RunConfig
from maze_core.envs.env_spaces import describe_spaces, described_spaces, refuse_other_spaces
from maze_core.envs.shared_envs import MAKE_A_NEW_ONE, shared_env
from maze_core.envs.vector import VectorEnv
from maze_core.envs.wrappers.wrapper import WrappedVectorEnv, acting_wrappers
from maze_core.errors import CheckpointError, EnvError, InvalidSpecificationError
from maze_core.evaluation.evaluate import EvalReport, evaluate
from maze_core.events.declared import EpisodeValues
from maze_core.events.epoch import EpochStatistics
from maze_core.files import json_safe
from maze_core.metrics import Reporter, Reporters, SilentReporter
from maze_core.models.acting import PolicyDescription
from maze_core.notices import Notices
from maze_core.runners.build import World, build_world
from maze_core.runners.config import with_limits
from maze_core.runners.films import ACTS, Films
from maze_core.seeding import EpisodeSeeds, Stream, derived_seed, env_seeds
from maze_core.trainers.fit import Counters, Loop, TrainReport, fit
from maze_core.types import Tree


class Training(AbstractContextManager["Training"]):
    """One training run, alive: use as a context manager or call :meth:`close`.

    Args:
        config: what to train.
        resume: a checkpoint of the same configuration to go on from.
        best: the best checkpoint before ``resume``; it acts until a better one is made.

    Raises:
        InvalidSpecificationError: the configuration's parts do not fit each other, or the environment has other
            spaces than the one that ``resume`` was made in.
        CheckpointError: ``resume`` belongs to another configuration.
    """

    def __init__(
        self, config: RunConfig, *, resume: Checkpoint | None = None, best: Checkpoint | None = None
    ) -> None:
        if resume is not None and resume.identity["config"] != config.identity():
            raise CheckpointError(
                "The checkpoint was made with another configuration; resume with the same one, or start anew."
            )
        self.config = config
        self._notices = Notices()
        with self._notices.active():
            self.world: World = build_world(config, resume=resume)
        self.counters = Counters()
        self.best = best
        self.last: Checkpoint | None = None
        self._reporter: Reporter = SilentReporter()
        self.cancelled: Callable[[], bool] = lambda: False
        self._eval_env: WrappedVectorEnv | None = None
        interfaces = self.world.raw.event_interfaces
        self._statistics = {prefix: EpochStatistics(interfaces) for prefix in ("train", "eval")}
        try:
            if resume is not None:
                self._load(resume)
            self._refuse_what_no_checkpoint_stores()
            self._reset_envs(self.counters.checkpoint_index)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        n_epochs: int | None = None,
        *,
        reporter: Reporter | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        limits: Mapping[str, Any] | None = None,
        spent_s: float = 0.0,
    ) -> TrainReport:
        """Train further.

        Args:
            n_epochs: epochs to train now; None trains what is left of the configured number, at least one
                configured run's worth if nothing is left.
            reporter: takes progress, metrics and checkpoints.
            cancelled: asked between updates; True stores a checkpoint and ends.
            limits: when to stop, for this call alone; see :func:`~maze_core.runners.config.with_limits`.
            spent_s: seconds that earlier attempts at this call took, which ``max_wall_s`` counts.

        Raises:
            InvalidSpecificationError: there is no such limit, or its value is not valid.
            DivergedError: a loss or weight is not finite.
            EnvError: an environment broke its contract.
        """
        self._reporter = reporter or SilentReporter()
        self.heed(cancelled)
        algorithm = with_limits(self.world.algorithm, limits or {})
        loop = Loop(
            trainer=self.world.trainer,
            config=algorithm,
            counters=self.counters,
            evaluate=self.evaluate,
            reset_envs=self._reset_envs,
            save=self._save,
            reporter=self._reporter,
            cancelled=cancelled,
            spent_s=spent_s,
        )
        try:
            report = fit(loop, n_epochs or algorithm.epochs_left(self.counters.epoch))
        finally:
            self._close_evaluation()
        last = self.last or self.checkpoint("continued")
        return replace(report, content_sha256=last.content_sha256, weights_sha256=last.weights_sha256)

    def heed(self, cancelled: Callable[[], bool]) -> None:
        """Ask this from now on whether to end."""
        self.cancelled = self.world.parts.cancelled = cancelled

    def checkpoint(self, kind: str, metrics: Mapping[str, float] | None = None) -> Checkpoint:
        """The run as it is now; ``scheduled`` ones resume exactly, others go on from reset environments."""
        world = self.world
        streams, tensors = world.trainer.state_dict()
        tensors |= world.begun
        for prefix, statistics in self._statistics.items():
            tensors |= prefixed(statistics.state_dict(), f"statistics/{prefix}")
        for i, wrapper in enumerate(world.wrappers):
            tensors |= copied(wrapper.state_dict(), f"wrappers/{i}")
        agent = Agent.of(world.raw, world.wrappers, world.parts.policy, world.parts.env.action_spaces)
        tensors |= prefixed(record_actions(agent, world.recorded), "recorded")
        identity: Tree = {
            "config": self.config.identity(),
            "counters": asdict(self.counters),
            "streams": streams,
            "spaces": describe_spaces(world.raw),
            "acting": world.parts.policy.describe(),
            "fidelity": self._fidelity(kind),
            "servable": agent.servable,
            "not_servable_reason": agent.not_servable_reason,
            "needs_torch": agent.needs_torch,
        }
        provenance = _provenance(kind, metrics or {}, world.parts.learner)
        if self.config.sources:
            provenance["sources"] = self.config.sources
        return Checkpoint(identity=identity, tensors=tensors, provenance=provenance)

    def agent(self, which: str = "best") -> Agent:
        """The agent of the ``best`` or ``last`` checkpoint; of the weights as they are when there is none."""
        checkpoint = self.best if which == "best" else self.last
        return load_agent(checkpoint or self.checkpoint("continued"), objects=self.config.objects)

    def close(self) -> None:
        """Close all environments. A second call does nothing."""
        self.world.trainer.close()
        self._close_evaluation()

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()

    def _fidelity(self, kind: str) -> str:
        """What of the run comes back with a checkpoint: all bits, or weights, or a run with fresh episodes."""
        if self.world.algorithm.acts_asynchronously:
            return "weights"
        return "exact" if kind == "scheduled" else "continued"

    def _save(self, kind: str, metrics: dict[str, float], *, is_best: bool, is_last: bool) -> None:
        self._reporter.phase("checkpointing")
        checkpoint = self.checkpoint(kind, metrics)
        if is_best:
            self.best = checkpoint
        self.last = checkpoint
        self._reporter.checkpoint(
            checkpoint,
            epoch=self.counters.epoch,
            step=self.counters.env_steps,
            kind=kind,
            metrics=metrics,
            is_best=is_best,
            is_last=is_last,
        )

    def evaluate(self, epoch: int) -> dict[str, float] | None:
        """Judge the policy as it is now, for the metrics of this epoch (from 1); None when a cancel came in between."""
        evaluator = self.world.algorithm.evaluator
        metrics = self._event_metrics("train", [values for _, values in self.world.parts.env.take_ended()])
        if evaluator.n_episodes is None:
            return metrics | self._wrapper_metrics(epoch)
        if self._eval_env is None:
            raw = self.world.raw if self.world.runner.shares_envs else self._own_evaluation_envs()
            self._eval_env = WrappedVectorEnv(raw, acting_wrappers(self.world.wrappers))
        report: EvalReport = evaluate(
            self.world.parts.policy,
            self._eval_env,
            EpisodeSeeds(self.world.env_seed, Stream.EVAL_ENV, evaluator.n_episodes, epoch),
            deterministic=evaluator.deterministic,
            action_seed=derived_seed(self.world.agent_seed, Stream.ACTIONS, epoch),
            max_episode_steps=evaluator.max_episode_steps,
            cancelled=self.cancelled,
            statistics=self._statistics["eval"],
        )
        if self.world.runner.shares_envs:  # its episodes were cut; their rows show those of the evaluation
            self._reset_envs(self.counters.checkpoint_index, epoch)
        if len(report.returns) < evaluator.n_episodes:
            return None
        metrics |= {
            "eval/mean_return": report.mean_return,
            "eval/std_return": report.std_return,
            "eval/mean_length": fmean(report.lengths),
        }
        metrics |= {f"eval/{name}": value for name, value in report.actor_metrics.items()}
        metrics |= {f"eval/{name}": value for name, value in report.statistics.items()}
        return metrics | self._wrapper_metrics(epoch)

    def _event_metrics(self, prefix: str, episodes: list[EpisodeValues]) -> dict[str, float]:
        found = self._statistics[prefix].of(episodes)
        return {f"{prefix}/{name}": value for name, value in found.items()}

    def _wrapper_metrics(self, epoch: int) -> dict[str, float]:
        wrappers = self.world.wrappers
        metrics = {k: value for wrapper in wrappers for k, value in wrapper.metrics().items()}
        shown = {k: value for wrapper in wrappers for k, value in wrapper.distributions().items()}
        if shown and hasattr(self._reporter, "distributions"):
            self._reporter.distributions(epoch, self.counters.env_steps, shown)
        return metrics

    def _refuse_what_no_checkpoint_stores(self) -> None:
        """Find out now, and not when the first checkpoint is due."""
        try:
            for name, array in self.checkpoint("continued").tensors.items():
                storable(name, array)
        except CheckpointError as error:
            raise InvalidSpecificationError(str(error)) from error

    def _own_evaluation_envs(self) -> VectorEnv:
        """Environments beside those of training, as long as this call of :meth:`run` lasts."""
        world = self.world
        n_envs = min(world.algorithm.evaluator.n_episodes or 1, world.runner.n_envs, 8)
        runner = world.runner
        try:
            with self._notices.active():
                raw = world.env_config.vector(
                    n_envs,
                    execution=runner.execution,
                    n_processes=runner.n_processes,
                    has_own_episodes=True,
                    seed=world.env_seed,
                )
        except EnvError as error:
            way_out = "runner.evaluation_envs=shared evaluates in the environments of training."
            raise EnvError(f"Evaluation has no environments of its own: {error}; {way_out}") from error
        if shared_env(raw, [world.raw]) is not None:
            raise EnvError(f"Evaluation would step the environments of training. {MAKE_A_NEW_ONE}")
        return raw

    def _close_evaluation(self) -> None:
        if self._eval_env is not None and not self.world.runner.shares_envs:
            self._eval_env.close()
        self._eval_env = None

    def _reset_envs(self, checkpoint_index: int, *epoch: int) -> None:
        world = self.world
        seeds = env_seeds(world.env_seed, Stream.TRAIN_ENV, world.runner.n_envs, checkpoint_index, *epoch)
        world.trainer.reset_envs(seeds)
        world.parts.env.take_ended()  # what nobody counts: samples of a random policy, and evaluations

    def _load(self, checkpoint: Checkpoint) -> None:
        if checkpoint.identity.get("fidelity") == ACTS:
            raise CheckpointError("The checkpoint keeps what acts and no more: no training goes on from it.")
        refuse_other_spaces(described_spaces(checkpoint.identity["spaces"]), self.world.raw, "env")
        then = PolicyDescription.read(checkpoint.identity["acting"])
        if [step.heads for step in then.steps] != [
            step.heads for step in self.world.parts.policy.steps.values()
        ]:
            raise CheckpointError(
                "The checkpoint's actions have another scale: version 0.1.0 did not map -1 and 1 to the bounds of a "
                "Box. It acts as it did, but training cannot go on from it: start anew."
            )
        self.counters = Counters(**checkpoint.identity["counters"])
        self.world.trainer.load_state_dict(checkpoint.identity["streams"], checkpoint.tensors)
        for i, wrapper in enumerate(self.world.wrappers):
            wrapper.load_state_dict(section(checkpoint.tensors, f"wrappers/{i}"))
        for prefix, statistics in self._statistics.items():
            statistics.load_state_dict(section(checkpoint.tensors, f"statistics/{prefix}"))
        self.last = checkpoint


@dataclass(frozen=True, kw_only=True)
class Further:
    """A call of ``train`` that goes on where another one ended, and may itself be cut and taken up again."""

    first_epoch: int
    """Where the other one ended."""
    until_epoch: int | None
    """None without a limit."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """When to stop sooner, as :meth:`Training.run` takes it."""


def run_training(
    config: RunConfig,
    *,
    reporter: Reporter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    resume: Checkpoint | None = None,
    further: Further | None = None,
    spent_s: float = 0.0,
    films: Films | None = None,
) -> TrainReport:
    """Train a configuration to its end in one call; see :class:`Training`.

    Args:
        config: what to train.
        reporter: takes progress, metrics and checkpoints.
        cancelled: asked between updates; True stores a checkpoint and ends.
        resume: a checkpoint of the same configuration to go on from.
        further: how far beyond it, where it ended a run of its own.
        spent_s: seconds that earlier attempts at the same training took, which ``max_wall_s`` counts.
        films: plays episodes with the policies on the way, which changes no number.
    """
    reporter = reporter or SilentReporter()
    reporter.phase("building")
    with Training(config, resume=resume) as training:
        counters = training.counters
        if further is None:
            is_over, n_epochs, limits = counters.is_complete(training.world.algorithm), None, None
        else:
            limits, until = further.limits, further.until_epoch
            n_epochs = None if until is None else until - counters.epoch
            is_over = (n_epochs is not None and n_epochs <= 0) or (
                counters.epoch > further.first_epoch and counters.stop_reason is not None
            )
        if films is not None:
            films.waits = training.world.runner.shares_envs
            first_epoch = 0 if further is None else further.first_epoch
            films.begin(
                resume or training.checkpoint("continued"),
                "begin" if counters.epoch == first_epoch else "scheduled",
            )
            reporter = Reporters([reporter, films])
        if resume is not None and is_over:
            report = TrainReport.of(resume)
        else:
            report = training.run(
                n_epochs, reporter=reporter, cancelled=cancelled, limits=limits, spent_s=spent_s
            )
    if films is not None and not cancelled():
        films.end(training.best, training.last)
    return report


def _provenance(kind: str, metrics: Mapping[str, float], learner: str) -> Tree:
    """When, where and with what; outside every digest."""
    return {
        "kind": kind,
        "metrics": json_safe(metrics),
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "host": platform.node(),
        "learner": learner,
        "versions": versions() | ({"torch": sys.modules["torch"].__version__} if learner == "torch" else {}),
    }


@functools.cache
def versions() -> dict[str, str]:
    """What a run computes with."""
    try:
        package = version("maze-service")
    except PackageNotFoundError:
        package = "unknown"
    return {"maze-service": package, "numpy": np.__version__, "python": platform.python_version()}
