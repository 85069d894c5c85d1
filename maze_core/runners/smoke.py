"""A first look at a training, before it is paid for: it builds, it learns, how large it is, how long it takes."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil
from statistics import fmean

from maze_core.config.schema import RunConfig
from maze_core.envs.env_spaces import describe_spaces
from maze_core.metrics import Reporter, SilentReporter
from maze_core.runners.training import Training
from maze_core.subprocesses import peak_memory_bytes
from maze_core.threads import one_thread
from maze_core.trainers.config import FitConfig
from maze_core.trainers.fit import MUST_BE_FINITE
from maze_core.types import Tree

LEARNT_UPDATES = 2
"""That are timed; those of a warm-up, in which nothing is learnt, come before."""
_LEARNT = frozenset(MUST_BE_FINITE)
"""Metrics of updates that learn."""
LONGEST_S = 5.0
"""No further update is begun after this time, and the evaluation is cut after as long."""


@dataclass(frozen=True, kw_only=True)
class SmokeReport:
    """What a training is made of, and what it costs, as measured on this machine; the seconds are estimates."""

    stop_reason: str
    """``completed`` or ``cancelled``."""
    config_sha256: str
    """Of the training."""
    spaces: list[Tree]
    """Observation and action space per sub-step, as the policy meets them behind the wrappers."""
    n_parameters: int
    """Numbers that policy and critic have; what they share counts once."""
    servable: bool
    """Whether the trained policy can act on raw observations."""
    max_rss_bytes: int
    """Peak memory of this process so far."""
    n_updates: int
    """Updates that were made."""
    has_learnt: bool
    """Whether the time was enough for the algorithm to begin to learn."""
    update_s: float
    evaluation_s: float
    is_cut: bool
    """The evaluation took longer than one is given here, and longer than ``evaluation_s``."""
    epoch_s: float
    """Seconds of an epoch with its evaluation."""
    env_steps_per_epoch: int
    n_epochs: int | None
    """Epochs after which the run ends at the latest; None where no budget says so."""
    total_s: float | None
    """Seconds of the whole run. Evaluations take longer when episodes do."""

    def to_dict(self) -> Tree:
        """As a JSON object."""
        return asdict(self)


@one_thread()
def run_smoke(
    config: RunConfig, *, reporter: Reporter | None = None, cancelled: Callable[[], bool] = lambda: False
) -> SmokeReport:
    """Build a training, make a few updates and an evaluation, and forget it.

    Args:
        config: what would be trained.
        reporter: is told the phases.
        cancelled: asked between updates.

    Raises:
        InvalidSpecificationError: the configuration's parts do not fit each other.
        EnvError: the environment cannot be made, or broke its contract.
        DivergedError: a loss or weight is not finite.
    """
    reporter = reporter or SilentReporter()
    reporter.phase("building")
    with Training(config) as training:
        training.heed(cancelled)
        reporter.phase("training")
        times, has_learnt, env_steps = _updates(training)
        reporter.phase("evaluating")
        began = time.monotonic()
        training.heed(lambda: cancelled() or time.monotonic() - began > LONGEST_S)
        found = training.evaluate(1)
        evaluation_s = time.monotonic() - began
        world = training.world
        algorithm = world.algorithm
        epoch_s = fmean(times) * algorithm.epoch_length + evaluation_s if times else 0.0
        steps = env_steps * algorithm.epoch_length
        n_epochs = _epochs(algorithm, steps, epoch_s)
        sizes = {
            array.__array_interface__["data"][0]: array.size
            for part in (world.parts.policy, world.parts.critic)
            if part is not None
            for array in part.parameters.values()
        }
        return SmokeReport(
            stop_reason="cancelled" if cancelled() else "completed",
            config_sha256=config.config_sha256,
            spaces=describe_spaces(world.parts.env),
            n_parameters=sum(sizes.values()),
            servable=bool(training.checkpoint("continued").identity["servable"]),
            max_rss_bytes=peak_memory_bytes(),
            n_updates=len(times),
            has_learnt=has_learnt,
            update_s=fmean(times) if times else 0.0,
            evaluation_s=evaluation_s,
            is_cut=found is None,
            epoch_s=epoch_s,
            env_steps_per_epoch=steps,
            n_epochs=n_epochs,
            total_s=None if n_epochs is None else n_epochs * epoch_s,
        )


def _updates(training: Training) -> tuple[list[float], bool, int]:
    """Seconds of the updates that tell most, whether they learnt, and the environment steps of one."""
    times: dict[bool, list[float]] = {True: [], False: []}
    began, env_steps = time.monotonic(), 0
    while len(times[True]) < LEARNT_UPDATES and not training.cancelled():
        now = time.monotonic()
        if now - began > LONGEST_S:
            break
        report = training.world.trainer.update(epoch=0, progress=0.0)
        if report is None:
            break
        times[bool(_LEARNT.intersection(report.metrics))].append(time.monotonic() - now)
        env_steps = report.env_steps
    return times[True] or times[False], bool(times[True]), env_steps


def _epochs(algorithm: FitConfig, env_steps: int, epoch_s: float) -> int | None:
    """Epochs until the first budget that is sure to end the run; None where there is none."""
    budgets = (
        (algorithm.n_epochs, 1.0),
        (algorithm.max_env_steps, float(env_steps)),
        (algorithm.max_wall_s, epoch_s),
    )
    known = [ceil(most / each) for most, each in budgets if most is not None and each > 0]
    return min(known, default=None)
