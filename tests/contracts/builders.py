"""Runs and checkpoints for the contract suites, with everything that a test does not speak of filled in."""

from itertools import count
from typing import Any

from service.domain.run import EpisodeInfo, Lease, NewCheckpoint, NewRun, Run, RunKind
from service.domain.sweep import NewJob, NewSweep, SweepSpec
from service.domain.use_cases import new_run_id, new_sweep_id
from service.store import Stores

_numbers = count(1)


def new_run(**facts: Any) -> NewRun:
    """A training run to be submitted."""
    return NewRun(
        **{
            "id": new_run_id(),
            "kind": RunKind.TRAIN,
            "request": {"algorithm": "ppo", "overrides": {"env.name": "CartPole-v1"}},
            "config": {"wrappers": {"second": {}, "first": {}}},
            "config_sha256": "a" * 64,
            "seed": 7,
            **facts,
        }
    )


def submit(stores: Stores, **facts: Any) -> Run:
    """A queued run."""
    return stores.runs.create(new_run(**facts))[0]


def start(stores: Stores, worker: str = "worker-1", lease_s: float = 30.0, **facts: Any) -> tuple[Run, Lease]:
    """A run that a worker has just claimed; a negative ``lease_s`` is a lease that has lapsed."""
    submit(stores, **facts)
    claimed = stores.runs.claim(worker, kinds=list(RunKind), lease_s=lease_s)
    assert claimed is not None
    return claimed


def new_checkpoint(epoch: int, kind: str = "scheduled", **facts: Any) -> NewCheckpoint:
    """A checkpoint whose content is like no other's."""
    return NewCheckpoint(
        **{
            "epoch": epoch,
            "step": epoch * 1000,
            "kind": kind,
            "metrics": {"eval/mean_return": float(epoch)},
            "content_sha256": f"{next(_numbers):064x}",
            "weights_sha256": "b" * 64,
            "servable": True,
            "not_servable_reason": None,
            "is_best": False,
            "is_last": False,
            **facts,
        }
    )


def new_episode(index: int, **facts: Any) -> EpisodeInfo:
    """An episode that ended by itself."""
    return EpisodeInfo(
        **{
            "index": index,
            "seed": 100 + index,
            "episode_return": 10.0 * index,
            "length": 10,
            "terminated": True,
            "truncated": False,
            "has_trajectory": False,
            **facts,
        }
    )


def new_job(number: int, **facts: Any) -> NewJob:
    """A job of a sweep that is a trial by itself."""
    plan = {"config": {"lr": number}, "config_sha256": f"{number:064x}", "seed": 1}
    return NewJob(**{"job": number, "trial": number, "choices": {"lr": number}, "plan": plan, **facts})


def new_sweep(n_jobs: int = 2, spec: dict[str, Any] | None = None, **facts: Any) -> NewSweep:
    """A grid of so many jobs."""
    return NewSweep(
        **{
            "id": new_sweep_id(),
            "request": {"overrides": {"lr": [0, 1]}},
            "spec": SweepSpec(fixed={}, **(spec or {})),
            "jobs": [new_job(number) for number in range(n_jobs)],
            **facts,
        }
    )
