"""Environment steps per second of the whole training loop, against other libraries at the same settings.

Every case is run by all contenders in turn, in one process on one thread, round by round, so that other load on the
machine meets all; no evaluation in between. What counts is the ratio of medians; rates are for orientation. With
pictures, each contender has one thread, and then as many as torch takes by itself, and the wall clock counts too. The
last case is one action of a trained agent, against the bare arithmetic of its network.

    python -m benchmarks.train_throughput [--case ppo-8x128 …] [--peers cleanrl-style …] [--rounds 5] [--seconds 2]
    python -m benchmarks.train_throughput --growth         steps per second over n_envs and width, ours alone
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.cases import CASES, Case
from benchmarks.peers import PEERS, Advance
from benchmarks.report import write_report
from maze_core.threads import one_thread

T = TypeVar("T")
OURS, REFERENCE, ACTION = "maze_core", "stable-baselines3", "compute-action"
N_ENVS, WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), (64, 128, 256, 512, 1024)
_GROWTH_ROWS = 1024


def ours(case: Case) -> Advance:
    """The trainer as ``RunContext`` builds it."""
    from maze_core.config import compose_run
    from maze_core.runners.build import build_world

    settings: dict[str, Any] = {
        "env.name": case.env,
        "runner.n_envs": case.n_envs,
        "algorithm.n_rollout_steps": case.n_steps,
        "algorithm.lr": case.lr,
        "algorithm.lr_schedule": "constant",
    }
    if not case.has_pictures:
        settings["model.policy.networks"] = [_network("PolicyNet", case)]
    if case.algorithm == "dqn":
        settings |= {"algorithm.initial_epsilon": 0.05, "algorithm.double": False}
    elif not case.has_pictures:
        settings["model.critic.networks"] = [_network("StateValueNet", case)]
    if case.has_replay:
        settings |= {"algorithm.batch_size": case.batch_size, "algorithm.n_gradient_steps": 1}
    else:
        settings |= {
            "algorithm.gae_lambda": case.gae_lambda,
            "algorithm.value_loss_coef": 1.0,
            "algorithm.entropy_coef": 0.0,
            "algorithm.normalize_advantages": case.is_ppo,
        }
    if case.is_ppo:
        settings |= {
            "algorithm.batch_size": case.batch_size,
            "algorithm.n_optimization_epochs": case.n_passes,
        }
    overrides = settings | case.overrides
    model = "nature_cnn" if case.has_pictures else "flatten_concat"
    config = compose_run("train", algorithm=case.algorithm, model=model, overrides=overrides, seed=1)
    world = build_world(config)
    world.trainer.reset_envs(range(case.n_envs))

    def advance(n_updates: int) -> int:
        each = range(n_updates * case.updates)
        reports = [world.trainer.update(epoch=0, progress=0.0) for _ in each]
        return sum(report.env_steps for report in reports if report is not None)

    return advance


def _network(kind: str, case: Case) -> dict[str, object]:
    target = f"maze_core.models.config.FlattenConcat{kind}Config"
    non_lin = "relu" if case.has_replay else "tanh"
    return {"_target_": target, "hidden_units": [case.hidden] * 2, "non_lin": non_lin}


def our_action() -> Advance:
    """``RunContext.compute_action`` for one observation, behind ``wrappers=vector_obs``."""
    from maze_core import RunContext

    settings = {"env.name": "CartPole-v1", "algorithm.epoch_length": 1}
    context = RunContext(wrappers="vector_obs", overrides=settings, seed=1, silent=True)
    context.train(n_epochs=1)
    return _calls(context.compute_action, np.array([0.01, 0.02, 0.03, 0.04], np.float32))


def bare_action() -> Advance:
    """The arithmetic of the same network in numpy, for one row: two layers of 64 tanh units, then the best of two."""
    rng = np.random.default_rng(0)
    (w1, w2, w3), (b1, b2, b3) = (
        [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        for shapes in (((4, 64), (64, 64), (64, 2)), (64, 64, 2))
    )

    def act(observation: Any) -> int:
        h = np.tanh(observation @ w1 + b1)
        return int((np.tanh(h @ w2 + b2) @ w3 + b3).argmax())

    return _calls(act, np.array([0.01, 0.02, 0.03, 0.04], np.float32))


def _calls(act: Callable[[Any], Any], observation: Any) -> Advance:
    def advance(n_times: int) -> int:
        for _ in range(n_times):
            act(observation)
        return n_times

    return advance


@dataclass(frozen=True)
class Rates:
    """Steps per second of a contender, round by round."""

    cpu: list[float] = field(default_factory=list)
    """Of CPU time, of all threads."""
    wall: list[float] = field(default_factory=list)


def compare(makers: Mapping[str, Callable[[], Advance]], rounds: int, seconds: float) -> dict[str, Rates]:
    """Rates of each contender, in turn, after a warm-up."""
    contenders, n_updates = {name: make() for name, make in makers.items()}, {}
    for name, advance in contenders.items():
        advance(2)
        n_updates[name] = max(round(seconds / max(_timed(advance, 3)[1] / 3, 1e-6)), 1)
    rates = {name: Rates() for name in contenders}
    for _ in range(rounds):
        for name, advance in contenders.items():
            steps, cpu_s, wall_s = _timed(advance, n_updates[name])
            rates[name].cpu.append(steps / cpu_s)
            rates[name].wall.append(steps / wall_s)
    return rates


def _timed(advance: Advance, n_updates: int) -> tuple[int, float, float]:
    """Environment steps, and the seconds of CPU time and of the clock that they took."""
    begun, began_at = time.process_time(), time.perf_counter()
    steps = advance(n_updates)
    return steps, time.process_time() - begun, time.perf_counter() - began_at


def on_threads(make: Callable[[], Advance], n_threads: int, *, alone: bool) -> Advance:
    """A contender that has this many threads; ``alone``: each part of its work takes one of them."""
    import torch

    def with_them(call: Callable[[], T]) -> T:
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            with one_thread() if alone else threadpool_limits(n_threads, user_api="blas"):
                return call()
        finally:
            torch.set_num_threads(before)

    advance = with_them(make)
    return lambda n_updates: with_them(partial(advance, n_updates))


def rows_of(case: str, rates: Mapping[str, Rates], reference: str) -> list[dict[str, object]]:
    """A row per contender; ``ratio`` is over the reference, ``rounds`` are ratios round by round."""
    rows: list[dict[str, object]] = []
    for name, measured in rates.items():
        base = rates[reference]
        ratios = [mine / other for mine, other in zip(measured.cpu, base.cpu, strict=True)]
        rows.append(
            {
                "case": case,
                "contender": name,
                "per_cpu_s": round(median(measured.cpu)),
                "ratio": round(median(measured.cpu) / median(base.cpu), 2),
                "rounds": [round(ratio, 2) for ratio in ratios],
                "per_s": round(median(measured.wall)),
                "wall_ratio": round(median(measured.wall) / median(base.wall), 2),
            }
        )
    return rows


def growth(rounds: int, seconds: float) -> list[dict[str, object]]:
    """Ours over the number of environments (2×64) and over the width (8 environments), 1024 rows an update."""
    base = CASES[0]
    cases = [replace(base, n_envs=n, n_steps=_GROWTH_ROWS // n) for n in N_ENVS]
    cases += [replace(base, hidden=width) for width in WIDTHS[1:]]
    rows: list[dict[str, object]] = []
    for case in cases:
        rates = compare({OURS: partial(ours, case)}, rounds, seconds)[OURS].cpu
        rows.append({"n_envs": case.n_envs, "width": case.hidden, "per_cpu_s": round(median(rates))})
    return rows


def main() -> None:
    """Measure, print the table, write the JSON."""
    names = [*(case.name for case in CASES), ACTION]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--case", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[REFERENCE], help="besides ours")
    parser.add_argument(
        "--rounds", type=int, default=5, help="alternating rounds, after a few updates to warm up"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time of each in a round")
    parser.add_argument("--growth", action="store_true", help="over n_envs and width, ours alone")
    chosen = parser.parse_args()
    settings = {"rounds": chosen.rounds, "seconds": chosen.seconds}
    with one_thread():  # as training does
        if chosen.growth:
            write_report("train_growth", growth(chosen.rounds, chosen.seconds), settings=settings)
            return
    contenders = {OURS: ours} | {name: PEERS[name] for name in chosen.peers}
    rows: list[dict[str, object]] = []
    for case in (case for case in CASES if case.name in chosen.case):
        makers = {name: partial(contender, case) for name, contender in contenders.items()}
        if case.has_pictures:
            rows += of_pictures(case, makers, chosen.rounds, chosen.seconds)
            continue
        with one_thread():
            rates = compare(makers, chosen.rounds, chosen.seconds)
        rows += rows_of(case.name, rates, REFERENCE if REFERENCE in rates else OURS)
    if ACTION in chosen.case:
        with one_thread():
            rates = compare({OURS: our_action, "bare numpy": bare_action}, chosen.rounds, chosen.seconds / 10)
        rows += rows_of(ACTION, rates, OURS)
    columns = ["case", "contender", "per_cpu_s", "ratio", "per_s", "wall_ratio"]
    write_report("train_throughput", rows, columns=columns, settings=settings)


def of_pictures(
    case: Case, makers: Mapping[str, Callable[[], Advance]], rounds: int, seconds: float
) -> list[dict[str, object]]:
    """Rows of every contender by the number of its threads; ratios are over the same number."""
    import torch

    counts = sorted({1, torch.get_num_threads()})
    each = {
        f"{name}, {n} thread{'s' * (n > 1)}": partial(on_threads, make, n, alone=name == OURS)
        for n in counts
        for name, make in makers.items()
    }
    rates = compare(each, rounds, seconds)
    rows: list[dict[str, object]] = []
    for n in counts:
        of_count = {name: x for name, x in rates.items() if f", {n} thread" in name}
        reference = next((name for name in of_count if name.startswith(REFERENCE)), next(iter(of_count)))
        rows += rows_of(case.name, of_count, reference)
    return rows


if __name__ == "__main__":
    main()
