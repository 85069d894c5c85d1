"""How runs are carried out; the YAML twins are in ``conf/runner`` and ``conf/launcher``."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from maze_core.config.components import canonical_target, target_name
from maze_core.config.instantiate import Describer, instantiate
from maze_core.config.nodes import shown
from maze_core.config.schema import BUDGETS, SEEDS, check_seed
from maze_core.config.settings import (
    OPERATOR_ONLY,
    STRICT,
    Components,
    EnvCount,
    NonNegativeInt,
    OptionalPositiveInt,
    PositiveInt,
    dataclass,
)
from maze_core.config.validation import argument_problems
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, ProblemList
from maze_core.runners.sinks import sink_problem
from maze_core.runners.trackers import TRACKERS
from maze_core.subprocesses import usable_cores
from maze_core.trainers.config import FitConfig
from maze_core.types import Tree


def _sinks(value: Any) -> Any:
    """Words as their settings."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"takes a list of {', '.join(TRACKERS)} or their settings, not {shown(value)}")
    unknown = [item for item in value if isinstance(item, str) and item not in TRACKERS]
    if unknown:
        raise ValueError(f"{shown(unknown[0])} is no sink; there are {', '.join(TRACKERS)}")
    for item in value:
        if not isinstance(item, str | Mapping) and (problem := sink_problem(item)) is not None:
            raise ValueError(problem)
    return [TRACKERS[item]() if isinstance(item, str) else item for item in value]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingRunnerConfig:
    """Training in one process (``dev``) or with the environments in others (``local``, ``isolated``)."""

    execution: Literal["dev", "local", "isolated"] = "dev"
    """``local`` spreads the environments over processes, ``isolated`` gives each a process of its own; neither
    changes a number."""
    n_envs: EnvCount = 8
    """Environments stepped together; never the core count, so that runs are the same everywhere."""
    evaluation_envs: Literal["own", "shared"] | None = None
    """Where training evaluates: in as many environments of its ``own``, at most 8, or in those of training
    (``shared``), which begin new episodes afterwards, so that never more than ``n_envs`` are alive. null is
    ``shared`` with one environment and ``own`` with more."""
    n_processes: OptionalPositiveInt = None
    """Processes of ``local``; null is one per usable core."""
    normalization_samples: NonNegativeInt = 10000
    """Flat steps of a random policy, at most, with which wrappers begin their statistics before training; fewer where
    the statistics stand still sooner."""

    sinks: (
        Annotated[
            list[Annotated[Any, Components(*TRACKERS.values())]], BeforeValidator(_sinks), OPERATOR_ONLY
        ]
        | None
    ) = None
    """Where metrics go beside the run's directory: ``mlflow``, ``wandb`` or ``trackio``, their settings, or what makes
    a sink (:mod:`maze_core.runners.sinks`). Changes no number; over HTTP the operator's setting ``MAZE_SINKS``."""

    @property
    def shares_envs(self) -> bool:
        """Whether no environment may live beside those of training."""
        return self.evaluation_envs == "shared" or (self.evaluation_envs is None and self.n_envs == 1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RolloutRunnerConfig:
    """Playing episodes with a policy that does not learn."""

    execution: Literal["sequential", "parallel", "isolated"] = "sequential"
    """``parallel`` spreads the environments over processes, ``isolated`` gives each a process of its own; neither
    changes a number."""
    n_envs: EnvCount = 8
    """Episodes played at the same time; changes no number."""
    n_processes: OptionalPositiveInt = None
    """Processes of ``parallel``; null is one per usable core."""
    n_episodes: PositiveInt = 50
    """Episodes to play."""
    max_episode_steps: OptionalPositiveInt = 10_000
    """Flat steps after which an episode is cut, for environments without a limit of their own; null never cuts."""
    deterministic: bool = True
    """Take the most likely action instead of a sample."""
    record_trajectory: bool = True
    """Keep observations, actions and rewards of every step."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LocalLauncherConfig:
    """Jobs in processes of this machine, each with one OpenMP thread."""

    n_jobs: OptionalPositiveInt = None
    """Jobs that run at the same time; null is one per usable core. Changes no number of any job."""

    @property
    def limit(self) -> int:
        """How many processes to start at most."""
        return self.n_jobs or usable_cores()


def with_limits(algorithm: FitConfig, limits: Mapping[str, Any]) -> FitConfig:
    """The same settings with other limits.

    Raises:
        InvalidSpecificationError: with every problem of ``limits``.
    """
    if not limits:
        return algorithm
    known = tuple(name for name in BUDGETS[1:] if hasattr(algorithm, name))
    found = ProblemList()
    for name in limits:
        if name not in known:
            message = (
                f"train() does not take {name!r}; set what the run learns with when the context is made."
            )
            found.problems.append(unknown_word(name, message, name, ("n_epochs", *known)))
    found.raise_if_any()
    try:
        return replace(algorithm, **limits)
    except ValueError as error:
        raise InvalidSpecificationError(argument_problems(error, type(algorithm), limits, "")) from error


_PLAYED_AS = {"dev": "sequential", "local": "parallel", "isolated": "isolated"}
"""How a training is carried out → how its episodes are played."""


def rollout_tree(tree: Tree, *, seed: int | None = None, **fields: Any) -> Tree:
    """The configuration that plays what another one trained, or plays otherwise.

    What a training says of itself holds for its episodes too: number and place of environments, and the step limit
    of its evaluation.

    Args:
        tree: a resolved configuration, of either kind; not changed.
        seed: base seed of episodes and action noise; None keeps the seeds of ``tree``.
        **fields: fields of :class:`RolloutRunnerConfig`; None keeps what ``tree`` or the default says.

    Returns:
        Environment, wrappers, policy where there is one, seeds, and a runner that plays.

    Raises:
        InvalidSpecificationError: a field or the seed is not valid.
    """
    target = target_name(RolloutRunnerConfig)
    plays = canonical_target(tree["runner"].get("_target_", "")) == target
    runner = tree["runner"] if plays else _as_in_training(tree)
    given = {name: Describer().tree(value, name) for name, value in fields.items() if value is not None}
    played = instantiate({**runner, **given, "_target_": target}, "runner")
    described = {"_target_": target, **asdict(played)}
    seeding = tree["seeding"] if seed is None else _seeding(seed)
    kept = {group: tree[group] for group in ("env", "wrappers", "policy", "model") if group in tree}
    return copy.deepcopy({**kept, "runner": described, "seeding": seeding})


def _as_in_training(tree: Tree) -> Tree:
    """The fields of :class:`RolloutRunnerConfig` that a training settles."""
    runner = {name: tree["runner"][name] for name in ("n_envs", "n_processes") if name in tree["runner"]}
    execution = _PLAYED_AS.get(tree["runner"].get("execution"))
    evaluator = (tree.get("algorithm") or {}).get("rollout_evaluator")
    limit = {"max_episode_steps": evaluator.get("max_episode_steps")} if isinstance(evaluator, dict) else {}
    return {**runner, **({"execution": execution} if execution else {}), **limit}


def _seeding(seed: Any) -> Tree:
    found = ProblemList()
    seed = Describer().tree(seed, "seed")
    check_seed(seed, "seed", found)
    found.raise_if_any()
    return dict.fromkeys(SEEDS, seed)
