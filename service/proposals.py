"""What a sweep runs: its specification resolved, the jobs of a grid, and what a search proposes.

The API plans a grid when it is submitted, and a worker the trials of a search, each from all that is known of those
before it; so the same specification makes the jobs of ``RunContext(multirun=True)``, in the same order. Optuna is
imported where a search needs it and not before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from maze_core.config import RunConfig, compose_run
from maze_core.config.grid import SEED, Grid, JobSpec, compose_jobs
from maze_core.config.multirun import OptunaSearchConfig, ParameterConfig, lowest, plan_multirun
from maze_core.config.nodes import TARGET
from maze_core.config.schema import SOURCES
from maze_core.config.trust import TrustPolicy, check_arguments, check_tree
from maze_core.errors import InvalidSpecificationError
from maze_core.runners.pruning import pruned_at
from maze_core.runners.search import Trial, open_search
from maze_core.types import Tree
from service.domain.sweep import MOST_JOBS, Curves, NewJob, SweepSpec, SweepTrial, Wanted

Compose = Callable[..., RunConfig]
"""Called as ``compose_run`` is."""


def planned(
    arguments: Mapping[str, Any],
    compose: Compose,
    config_dirs: Sequence[str],
    *,
    most: int = MOST_JOBS,
    **facts: Any,
) -> tuple[SweepSpec, int, list[NewJob]]:
    """The resolved specification of a sweep, how many jobs it has, and the first of them where they are known.

    Args:
        arguments: of RunContext, with lists where a key varies, and seeds; checked.
        compose: resolves and checks the arguments of one job.
        config_dirs: directories with modules of the operator's.
        most: jobs that are composed at most.
        facts: further members of the specification.

    Raises:
        InvalidSpecificationError: with the problems of all composed jobs; there are too many; or it is no sweep.
    """
    plan = plan_multirun("train", {**arguments, "config_dirs": config_dirs})
    grid, search = plan.grid, plan.search
    grid.fixed.pop("config_dirs", None)
    specs = grid.jobs() if search is None else grid.trial(0, lowest(search))
    n_jobs, specs = len(specs), specs[:most]
    configs = compose_jobs(specs, "train", compose)
    sources = {config.tree[part]["run"] for config in configs for part in SOURCES if config.tree.get(part)}
    seeds = [*grid.dimensions[SEED]] if search is not None and SEED in grid.dimensions else None
    settings = None
    if search is not None:
        n_jobs = search.n_trials * len(seeds or (None,))
        if n_jobs > MOST_JOBS:
            message = f"{n_jobs} jobs; at most {MOST_JOBS} are run."
            raise InvalidSpecificationError(message, path="search.n_trials", code="too_large")
        own = configs[0].tree["seeding"]["agent_base_seed"]
        settings = {**asdict(search), "seed": own if search.seed is None else search.seed}
    fixed = {**grid.fixed, "overrides": {**grid.fixed.get("overrides", {}), **_pinned(configs[0].tree)}}
    spec = SweepSpec(fixed=fixed, seeds=seeds, search=settings, sources=sorted(sources), **facts)
    return spec, n_jobs, [] if search is not None else _grid_jobs(specs, configs)


def proposed(wanted: Wanted, compose: Compose | None) -> list[NewJob]:
    """The jobs of the trials that a search proposes now; without ``compose`` somebody else runs them.

    Raises:
        InvalidSpecificationError: Optuna is needed and not installed.
    """
    spec = wanted.spec
    known = [_trial_of(trial, minimize=spec.minimize) for trial in wanted.trials]
    search = open_search(search_of(spec), 0, known)
    first = len(known)
    values = [search.ask(number) for number in range(first, first + wanted.n)]
    return [
        job
        for number, chosen in enumerate(values, start=first)
        for job in jobs_of_trial(spec, number, chosen, compose)
    ]


def pruned(known: Curves) -> dict[int, tuple[int, float]]:
    """Jobs that are given up now: number → epoch, and what was reached there."""
    search, curves = search_of(known.spec), {job: dict(curve) for job, curve in known.curves.items()}
    found = {}
    for job in known.at_work:
        if (epoch := pruned_at(search, job, curves)) is not None:
            found[job] = epoch, curves[job][epoch]
            curves[job] = {at: value for at, value in curves[job].items() if at <= epoch}
    return found


def jobs_of_trial(spec: SweepSpec, number: int, values: Tree, compose: Compose | None) -> list[NewJob]:
    """The jobs that try these values; without ``compose`` somebody else runs them."""
    seeds = {} if spec.seeds is None else {SEED: tuple(spec.seeds)}
    grid = Grid(mode="train", fixed=dict(spec.fixed), dimensions=seeds)
    jobs = []
    for one in grid.trial(number, values):
        plan, error = None, None
        if compose is not None:
            try:
                plan = _plan(compose("train", **one.arguments, within_multirun=True))
            except InvalidSpecificationError as problem:  # values that do not fit each other are a bad trial
                error = str(problem)
        jobs.append(NewJob(job=one.number, trial=number, choices=one.choices, plan=plan, error=error))
    return jobs


def composer(policy: TrustPolicy, config_dirs: Sequence[str]) -> Compose:
    """Composes the jobs of a stored specification, whose names were looked up when it was submitted."""

    def compose(mode: Any, *, within_multirun: bool, **arguments: Any) -> RunConfig:
        check_arguments(arguments, policy)
        make = partial(compose_run, mode, config_dirs=config_dirs, locate=lambda _, node: node)
        config = make(**arguments, within_multirun=within_multirun)
        check_tree(config.tree, policy)
        return config

    return compose


def search_of(spec: SweepSpec) -> OptunaSearchConfig:
    """The search of a stored specification."""
    settings = dict(spec.search or {})
    space = {key: ParameterConfig(**parameter) for key, parameter in settings.pop("space").items()}
    return OptunaSearchConfig(space=space, **settings)


def importances(spec: SweepSpec, trials: Sequence[SweepTrial]) -> tuple[str, dict[str, float]]:
    """Who judges, and how much each parameter decides how good these trials are; the shares sum to 1.

    Raises:
        InvalidSpecificationError: Optuna is not installed.
    """
    from maze_core.runners.optuna_search import importance

    space = search_of(spec).space if spec.search else _choices_of(trials)
    known = [_trial_of(trial, minimize=spec.minimize) for trial in trials]
    return importance(space, known)


def _choices_of(trials: Sequence[SweepTrial]) -> dict[str, ParameterConfig]:
    """The space of a grid: what its trials chose."""
    found: dict[str, dict[str, Any]] = {}
    for trial in trials:
        for key, value in trial.choices.items():
            found.setdefault(key, {})[repr(value)] = value
    return {key: ParameterConfig(choices=[*values.values()]) for key, values in found.items()}


def _trial_of(trial: SweepTrial, *, minimize: bool) -> Trial:
    value = -trial.value if minimize and trial.value is not None else trial.value
    values = dict(trial.choices)
    if not trial.has_ended:
        return Trial(values=values)
    return Trial(values=values, is_told=True, value=value, pruned_at=trial.pruned_at)


def _grid_jobs(specs: Sequence[JobSpec], configs: Sequence[RunConfig]) -> list[NewJob]:
    trials: dict[str, int] = {}
    jobs = []
    for spec, config in zip(specs, configs, strict=True):
        trial = trials.setdefault(repr({**spec.choices, SEED: None}), len(trials))
        jobs.append(NewJob(job=spec.number, trial=trial, choices=spec.choices, plan=_plan(config)))
    return jobs


def _plan(config: RunConfig) -> dict[str, Any]:
    initial = config.tree.get("initial") or {}
    return {
        "config": config.tree,
        "config_sha256": config.config_sha256,
        "seed": int(config.tree["seeding"]["env_base_seed"]),
        "source_run": initial.get("run"),
        "source_checkpoint": initial.get("checkpoint"),
    }


def _pinned(tree: Tree) -> Tree:
    """What other runs left, as overrides that need no look-up: a name may mean another one later."""
    nodes = {part: tree[part] for part in SOURCES if tree.get(part)}
    return {
        f"{part}.{key}": value for part, node in nodes.items() for key, value in node.items() if key != TARGET
    }
