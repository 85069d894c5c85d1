"""The training loop, once for every algorithm, and what it asks of one (``Trainer``).

    epoch = epoch_length updates → evaluation → best and budgets → scheduled checkpoint → reset of the envs

The evaluation follows the last update. At every scheduled checkpoint, in every run, the environments are reset with
seeds that depend only on (run seed, env index, checkpoint index): a run killed and resumed there is then the run that
was never killed, bit by bit. Wall-clock budgets are the one thing that is not reproducible.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite, isnan
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from maze_core.checkpoint import Checkpoint
from maze_core.errors import DivergedError, InvalidSpecificationError, Problem
from maze_core.metrics import Reporter, mean_of
from maze_core.threads import one_thread
from maze_core.trainers.config import FitConfig
from maze_core.trainers.pace import Pace
from maze_core.types import ActorID, Array, FloatArray, Tree

if TYPE_CHECKING:
    from maze_core.envs.vector import VectorEnv
    from maze_core.models.acting import ActingPolicy
    from maze_core.models.networks import ActionCritic, Critic
    from maze_core.rollout.demonstrations import Demonstrations

BEST_METRIC = "eval/mean_return"
VALIDATION_LOSS = "validation/loss"
MUST_BE_FINITE = (
    "train/policy_loss",
    "train/value_loss",
    "train/entropy",
    "train/grad_norm",
    VALIDATION_LOSS,
)
"""What a healthy update keeps finite; a divergence estimate may overflow in one."""
_LIMIT_BEHIND = {
    "target_reached": "target_return",
    "patience": "patience",
    "budget_env_steps": "max_env_steps",
    "budget_wall_clock": "max_wall_s",
}
"""Reason to stop → the setting that gave it."""


@dataclass(kw_only=True)
class Parts:
    """The live objects of one training run."""

    env: "VectorEnv"
    """The training environments, behind their wrappers."""
    policy: "ActingPolicy"
    critic: "Critic | ActionCritic | None"
    agent_seed: int
    """Base of the streams of action noise and minibatch order."""
    cancelled: Callable[[], bool] = lambda: False
    """Whether the run is to end; an update that takes long asks, and gives up."""
    demonstrations: "Demonstrations | None" = None
    """Recorded episodes to learn from; None where the run names none."""

    @property
    def learner(self) -> str:
        """What computes gradients: ``numpy`` where all networks are dense, ``torch`` where one is a module."""
        critic_needs_torch = self.critic is not None and self.critic.needs_torch
        return "torch" if self.policy.needs_torch or critic_needs_torch else "numpy"


@dataclass(kw_only=True)
class UpdateReport:
    """What one update did."""

    env_steps: int
    """Steps of environment time it took, over all envs."""
    metrics: Mapping[str, float]
    """Means over the update, such as ``train/policy_loss``."""
    episode_returns: Sequence[float] = field(default_factory=list)
    """Raw returns of the episodes that ended while it collected."""
    episode_lengths: Sequence[int] = field(default_factory=list)
    actor_returns: Mapping[ActorID, Sequence[float]] = field(default_factory=dict)
    """Raw returns of each actor in these episodes, where each is paid its own."""


Kind = TypeVar("Kind")


def critic_of(parts: Parts, kind: type[Kind]) -> Kind:
    """The critic, of the kind that the algorithm asked the model for.

    Raises:
        InvalidSpecificationError: the model has none.
    """
    if not isinstance(parts.critic, kind):
        message = "this algorithm needs a critic and the model has none: add critic=template_state."
        raise InvalidSpecificationError([Problem(path="model.critic", message=message)])
    return parts.critic


def demonstrations_of(parts: Parts) -> "Demonstrations":
    """The recorded episodes.

    Raises:
        InvalidSpecificationError: the run names none.
    """
    if parts.demonstrations is None:
        message = "this algorithm learns from recorded episodes: name the rollout that recorded them."
        raise InvalidSpecificationError([Problem(path="dataset.run", message=message)])
    return parts.demonstrations


def mean(values: FloatArray) -> float:
    """Of all numbers, for a metric: ``ndarray.mean`` takes several times as long."""
    return float(np.add.reduce(values, None)) / values.size


def mean_metrics(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over gradient steps, of each value over those that report it.

    Raises:
        DivergedError: a loss, the entropy or the gradient is not finite; the message names it.
    """
    found: dict[str, list[float]] = {}
    for step in steps:
        for name, value in step.items():
            found.setdefault(name, []).append(value)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    bad = [name for name in MUST_BE_FINITE if name in means and not isfinite(means[name])]
    if bad:
        raise DivergedError(
            f"{', '.join(bad)} became NaN or infinite. Try a smaller algorithm.lr or algorithm.max_grad_norm."
        )
    return means


class Trainer(Protocol):
    """One algorithm at work on one run. ``fit`` drives it; nobody else calls ``update``."""

    def reset_envs(self, seeds: Sequence[int]) -> None:
        """Start new episodes everywhere; comes before the first update and at every scheduled checkpoint."""

    def update(self, *, epoch: int, progress: float) -> UpdateReport | None:
        """Collect experience and learn from it once; None where a cancel came in between, and nothing was learnt.

        Args:
            epoch: number of the epoch, from 0.
            progress: done part of the run in [0, 1), for schedules.

        Raises:
            DivergedError: a loss or weight is not finite.
        """

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """JSON-able state (RNG streams) and named arrays (weights, moments); copies, never views."""

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """Go back to a state written by :meth:`state_dict`."""

    def close(self) -> None:
        """Release what the trainer holds, the environments included."""


@dataclass
class Counters:
    """How far a run is; part of every checkpoint's identity."""

    epoch: int = 0
    """Epochs completed."""
    env_steps: int = 0
    """Steps of environment time, over all envs."""
    updates: int = 0
    episodes: int = 0
    """Training episodes that ended."""
    checkpoint_index: int = 0
    """Scheduled checkpoints made; seeds the next reset of the envs."""
    best_value: float | None = None
    """Best evaluation so far."""
    best_epoch: int | None = None
    epochs_without_improvement: int = 0
    stop_reason: str | None = None
    """Why training ended, in the checkpoint made then; a run that died after it does not train on."""

    def is_complete(self, config: FitConfig) -> bool:
        """Whether a run with these settings is over: all epochs done, or ended by a limit of the settings.

        A limit that was given to one call of ``train`` ends that call, not the run.
        """
        limit = _LIMIT_BEHIND.get(self.stop_reason or "")
        is_done = config.n_epochs is not None and self.epoch >= config.n_epochs
        return is_done or (limit is not None and getattr(config, limit) is not None)


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """How a call of ``train`` ended."""

    stop_reason: str
    """``completed, target_reached, patience, budget_env_steps, budget_wall_clock`` or ``cancelled``."""
    counters: Counters
    metrics: dict[str, float]
    """Of the last epoch."""
    duration_s: float
    content_sha256: str = ""
    """Of the last checkpoint."""
    weights_sha256: str = ""
    """Of the last checkpoint's policy."""

    @classmethod
    def of(cls, last: Checkpoint) -> "TrainReport":
        """How a run ended, as far as its last checkpoint tells; the duration is unknown, 0."""
        counters = Counters(**last.identity["counters"])
        return cls(
            stop_reason=counters.stop_reason or "completed",
            counters=counters,
            metrics=dict(last.provenance.get("metrics", {})),
            duration_s=0.0,
            content_sha256=last.content_sha256,
            weights_sha256=last.weights_sha256,
        )

    def to_dict(self) -> Tree:
        """As a JSON object."""
        report = asdict(self)
        return {**report.pop("counters"), **report}


class Save(Protocol):
    """Makes a checkpoint of now and hands it to the reporter."""

    def __call__(self, kind: str, metrics: dict[str, float], *, is_best: bool, is_last: bool) -> None:
        """``kind`` is ``scheduled``, ``best``, ``last`` or ``continued``."""


@dataclass(kw_only=True)
class Loop:
    """What ``fit`` works with; everything that outlives one call of it is in ``counters`` and ``trainer``."""

    trainer: Trainer
    config: FitConfig
    counters: Counters
    evaluate: Callable[[int], dict[str, float] | None]
    """Epoch (from 1) → ``eval/…`` metrics of the policy as it is now; None when a cancel came in between."""
    reset_envs: Callable[[int], None]
    """Checkpoint index → the training envs start anew."""
    save: Save
    reporter: Reporter
    cancelled: Callable[[], bool]
    spent_s: float = 0.0
    """Seconds that earlier attempts at the same call took, which count for ``max_wall_s``."""


@one_thread()
def fit(loop: Loop, n_epochs: int | None) -> TrainReport:
    """Train for up to ``n_epochs`` further epochs (None: no limit); budgets, patience, target or a cancel end it."""
    counters, pace = loop.counters, Pace(time.monotonic, loop.spent_s)
    last = None if n_epochs is None else counters.epoch + n_epochs
    metrics: dict[str, float] = {}
    counters.stop_reason = None
    while counters.stop_reason is None:
        loop.reporter.phase("training")
        updates = _run_epoch(loop)
        if updates is not None:
            loop.reporter.phase("evaluating")
        evaluation = None if updates is None else loop.evaluate(counters.epoch + 1)
        if updates is None or evaluation is None:
            counters.stop_reason = "cancelled"
            loop.save("continued", metrics, is_best=counters.best_value is None, is_last=True)
            break
        counters.epoch += 1
        metrics = {**_training_metrics(updates), **evaluation}
        is_best = _note_evaluation(counters, _judged(metrics, otherwise=_validated(metrics)))
        pace.note(sum(update.env_steps for update in updates))
        reason = counters.stop_reason = _reason_to_stop(loop, metrics, last, pace.elapsed_s)
        # before the checkpoint: a run that dies in between repeats the epoch and writes the same metrics again
        _report(loop, metrics, last, pace)
        if counters.epoch % loop.config.checkpoint_every == 0:
            counters.checkpoint_index += 1
            loop.reset_envs(counters.checkpoint_index)
            loop.save("scheduled", metrics, is_best=is_best, is_last=reason is not None)
        elif is_best or reason:
            loop.save("last" if reason else "best", metrics, is_best=is_best, is_last=reason is not None)
    return TrainReport(
        stop_reason=counters.stop_reason,
        counters=replace(counters),
        metrics=metrics,
        duration_s=pace.duration_s,
    )


def _run_epoch(loop: Loop) -> list[UpdateReport] | None:
    """The updates of one epoch; None when a cancel came in between."""
    counters = loop.counters
    updates = []
    for i in range(loop.config.epoch_length):
        if loop.cancelled():
            return None
        progress = _progress(loop.config, counters, i / loop.config.epoch_length)
        report = loop.trainer.update(epoch=counters.epoch, progress=progress)
        if report is None:
            return None
        counters.updates += 1
        counters.env_steps += report.env_steps
        counters.episodes += len(report.episode_returns)
        updates.append(report)
    return updates


def _progress(config: FitConfig, counters: Counters, of_epoch: float) -> float:
    """Done part of the run in [0, 1), by the budget that ends first.

    Beyond the configured epochs schedules start anew: at their end they would leave nothing to learn with.
    """
    of_epochs = (counters.epoch % config.most_epochs + of_epoch) / config.most_epochs
    of_steps = counters.env_steps / config.max_env_steps % 1.0 if config.max_env_steps else 0.0
    return max(of_epochs, of_steps)


def _training_metrics(updates: list[UpdateReport]) -> dict[str, float]:
    """Means over the epoch; episode statistics only where an episode ended."""
    names = dict.fromkeys(name for update in updates for name in update.metrics)
    metrics = {name: mean_of([u.metrics[name] for u in updates if name in u.metrics]) for name in names}
    returns = [value for update in updates for value in update.episode_returns]
    lengths = [value for update in updates for value in update.episode_lengths]
    if returns:
        metrics |= {"train/episode_return": mean_of(returns), "train/episode_length": mean_of(lengths)}
    for key, agent_id in dict.fromkeys(actor for update in updates for actor in update.actor_returns):
        own = [value for update in updates for value in update.actor_returns.get(ActorID(key, agent_id), ())]
        metrics[f"train/episode_return/{key}/{agent_id}"] = mean_of(own)
    return metrics


def _judged(metrics: dict[str, float], otherwise: float | None = None) -> float | None:
    """What a policy is judged by; without an evaluation the episodes of training, where any ended."""
    return metrics.get(BEST_METRIC, metrics.get("train/episode_return", otherwise))


def _validated(metrics: dict[str, float]) -> float | None:
    """What a policy is judged by where no episode is played: the less it loses on data it has not seen."""
    return -metrics[VALIDATION_LOSS] if VALIDATION_LOSS in metrics else None


def _note_evaluation(counters: Counters, value: float | None) -> bool:
    """Whether this is the best so far; of equals the later counts, since it has learnt for longer. NaN never is."""
    if value is None or isnan(value):
        counters.epochs_without_improvement += value is not None
        return counters.best_value is None
    if counters.best_value is None or value > counters.best_value:
        counters.epochs_without_improvement = 0
    else:
        counters.epochs_without_improvement += 1
    if counters.best_value is not None and value < counters.best_value:
        return False
    counters.best_value, counters.best_epoch = value, counters.epoch
    return True


def _reason_to_stop(loop: Loop, metrics: dict[str, float], last: int | None, elapsed_s: float) -> str | None:
    config, counters = loop.config, loop.counters
    judged = _judged(metrics)
    if config.target_return is not None and judged is not None and judged >= config.target_return:
        return "target_reached"
    if config.patience is not None and counters.epochs_without_improvement >= config.patience:
        return "patience"
    if config.max_env_steps is not None and counters.env_steps >= config.max_env_steps:
        return "budget_env_steps"
    if config.max_wall_s is not None and elapsed_s >= config.max_wall_s:
        return "budget_wall_clock"
    return "completed" if last is not None and counters.epoch >= last else None


def _report(loop: Loop, metrics: dict[str, float], last: int | None, pace: Pace) -> None:
    counters = loop.counters
    loop.reporter.metrics(counters.epoch, counters.env_steps, metrics | {"time/env_steps_per_s": pace.speed})
    fraction, eta_s = pace.outlook(loop.config, counters.epoch, last, counters.env_steps)
    loop.reporter.progress(
        epoch=counters.epoch, n_epochs=last, env_steps=counters.env_steps, fraction=fraction, eta_s=eta_s
    )
