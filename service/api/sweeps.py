"""Sweeps: many trainings from one specification, submitted, followed, steered, and asked for values by clients."""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import Field, WithJsonSchema

from maze_core.config.arguments import recorded_arguments
from maze_core.config.grid import values_of
from maze_core.config.presets import MULTIRUN_PARTS
from maze_core.config.schema import Mode, RunConfig
from maze_core.config.trust import TrustPolicy, check_arguments, check_names
from maze_core.errors import InvalidSpecificationError
from maze_core.seeding import draw_seed
from service.api.answers import Listing, Number, Object, Out, Time
from service.api.bodies import In, Labelled, Seed, StrictRoute, Word
from service.api.dependencies import (
    SWEEP_ID,
    CallerDep,
    PageDep,
    PageQuery,
    Services,
    ServicesDep,
    page_of,
    require_scope,
)
from service.api.submit import TRAIN_ARGUMENTS, KeyDep, compose, idempotent, sets_seeds
from service.domain.errors import IdempotencyConflictError, NotFoundError, StateConflictError
from service.domain.ports import RegistryStore
from service.domain.run import Page
from service.domain.sharing import Scope
from service.domain.sweep import (
    MOST_JOBS,
    JobState,
    NewJob,
    NewSweep,
    Sweep,
    SweepJob,
    SweepSpec,
    SweepState,
    SweepTrial,
    SweepVerb,
    Wanted,
)
from service.domain.use_cases import new_sweep_id
from service.problems import Problem
from service.proposals import composer, importances, jobs_of_trial, planned, proposed, search_of
from service.trust import client_policy

router = APIRouter(
    prefix="/v1/sweeps",
    tags=["sweeps"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_READ, changing=Scope.RUNS_WRITE)],
)

PREVIEWED = 200
"""Jobs that a preview shows at most."""
ASKED_AT_ONCE = 100
_TRIES = 5
"""How often values are asked for anew, when others have told meanwhile, or asked another process."""
_ASKING = tuple(threading.Lock() for _ in range(64))
"""What is asked of one sweep is answered one after the other: each proposal follows from those before."""
_PATIENCE_S = 20.0
"""How long one who asks waits for others."""
_VARIED = {"anyOf": [{"type": kind} for kind in ("string", "object", "array", "null")]}
Varied = Annotated[Any, WithJsonSchema(_VARIED)]
"""As in ``/v1/train``, or a list of such: every one is tried."""
Value = TypeVar("Value")
Several: TypeAlias = Value | list[Value] | None
SweepId: TypeAlias = Annotated[
    str,
    Path(
        pattern=f"^{SWEEP_ID}$", description="Id of a sweep.", examples=["sweep_06b1c9k2m4n6p8q0r2s4t6v8w0"]
    ),
]


class ParameterIn(In):
    """Where one parameter is searched: between ``low`` and ``high``, or among ``choices``."""

    low: float | None = None
    high: float | None = None
    log: bool | None = None
    """Draw the range's logarithm."""
    step: float | None = None
    type: Literal["float", "int"] | None = None
    choices: list[Any] | None = Field(default=None, min_length=1, max_length=1000)


class SearchIn(In):
    """Let a search choose the values; an experiment's own where it has one, changed by what is given."""

    space: dict[str, ParameterIn] | None = Field(default=None, min_length=1, max_length=64)
    """Dotted key or argument → where it is searched."""
    n_trials: Annotated[int, Field(ge=1)] | None = None
    """Sets of values to try; 20 when left out."""
    sampler: Literal["tpe", "random"] | None = None
    """Who proposes: Optuna's tree-structured Parzen estimator (the default), or chance alone."""
    pruner: Literal["none", "median", "successive_halving", "hyperband"] | None = None
    """When a run is given up: where it is below the median of the others, or not among the best third that has come
    as far; never when left out."""
    min_epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs after which a run may be given up; 1 when left out."""
    n_startup_trials: Annotated[int, Field(ge=1)] | None = None
    """Trials of ``tpe`` that are drawn at random; 8 when left out."""
    seed: Seed | None = None
    """Of the sampler; that of the runs when left out."""


class SweepRequest(Labelled):
    """The arguments of a training; a list is several values, and every combination of them a run."""

    env: Varied = None
    """As in ``/v1/train``, or a list."""
    wrappers: Varied = None
    model: Varied = None
    policy: Varied = None
    runner: Varied = None
    algorithm: Varied = None
    critic: Varied = None
    experiment: Word | None = None
    """May hold a sweep of its own."""
    configuration: Word | None = None
    overrides: dict[str, Any] = Field(default_factory=dict, max_length=256)
    """Values by dotted key, or lists of them; of a key that takes a list, a list of lists."""
    seed: Seed | Annotated[list[Seed], Field(min_length=1, max_length=100)] | None = None
    """One for all runs, or several, with which every set of values is tried: its value is their mean."""
    n_epochs: Several[Annotated[int, Field(ge=0)]] = None
    max_env_steps: Several[Annotated[int, Field(ge=1)]] = None
    max_wall_s: Several[Annotated[float, Field(gt=0)]] = None
    patience: Several[Annotated[int, Field(ge=1)]] = None
    target_return: Several[float] = None
    config: dict[str, Any] | None = None
    """A resolved configuration, as `GET /v1/runs/{id}/config` gives it; fields beside it replace its parts."""
    search: SearchIn | None = None
    parallel: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many of its runs may wait or be at work at once; a search 1, others all when left out."""
    metric: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """A run is as good as the best value of this metric; its best evaluation when left out."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which values of ``metric`` are the better ones."""
    ask_tell: bool = False
    """Make no runs: clients ask for values and tell how good they were."""


class AskRequest(In):
    """Which values are wanted."""

    n: Annotated[int, Field(ge=1, le=ASKED_AT_ONCE)] = 1
    """So many sets of values, as the search proposes them."""
    values: dict[str, Any] | None = None
    """Try these, of your own, instead: a value for every parameter of the space."""
    run: bool = False
    """Have the service run what was asked for, and tell itself."""


class TellRequest(In):
    """How a trial ended."""

    trial: Annotated[int, Field(ge=0, lt=2**31)]
    value: float | None = None
    """How good it was."""
    state: Literal["succeeded", "failed"] | None = None
    """``failed`` is a trial without a value."""


class TrialOut(Out):
    """A set of values that was tried."""

    trial: int
    choices: Object
    value: Number | None
    """Mean over the seeds; null until all of its runs have succeeded."""
    runs: list[str]


class SweepJobOut(Out):
    """One run of a sweep."""

    job: int
    """Its number, from 0, as in a multirun."""
    trial: int
    """Runs with one number differ in their seeds alone."""
    choices: Object
    state: str
    """That of the run; ``planned`` before it is made, ``asked`` where a client runs it, ``pruned`` when given up."""
    value: Number | None
    run: str | None
    reason: str | None
    pruned_at: int | None
    """The epoch at which the run was given up; ``value`` is what it had there."""


def _links(sweep: dict[str, Any]) -> dict[str, str]:
    path = f"/v1/sweeps/{sweep['id']}"
    return {"self": path} | {name: f"{path}/{name}" for name in ("runs", "best", "importance")}


class SweepOut(Out):
    """A sweep."""

    id: str
    state: SweepState
    reason: str | None
    """Why it is in this state: ``completed``, ``all_failed``, ``user_stop``, …"""
    error: Object | None
    name: str | None
    labels: dict[str, str]
    priority: int
    parallel: int | None
    n_jobs: int
    """Runs that there will be."""
    counts: dict[str, int]
    """State → runs that are in it."""
    best: TrialOut | None
    """The best set of values so far."""
    search: Object | None
    """What is searched, and how; null of a grid."""
    metric: str
    """A run is as good as the best value of this metric."""
    direction: Literal["maximize", "minimize"]
    """Which values of it are the better ones."""
    created_at: Time
    finished_at: Time | None
    links: dict[str, str] = Field(default_factory=_links)


class PreviewJobOut(Out):
    """A run that would be made."""

    job: int
    trial: int
    choices: Object
    config_sha256: str | None
    error: str | None
    """Why these values of a search are no valid configuration."""


class PreviewOut(Out):
    """What a sweep would run."""

    n_jobs: int
    jobs: list[PreviewJobOut]
    """The first ones, and only these are composed and checked together; of a search those that do not depend on how
    good others are."""
    search: Object | None


class ImportanceOut(Out):
    """How much each parameter decides; the shares sum to 1."""

    evaluator: str
    n_trials: int
    """Trials with a value, which it is judged by."""
    importance: dict[str, float]


class AskedOut(Out):
    """What to try."""

    data: list[TrialOut]


def _out(sweep: Sweep) -> dict[str, Any]:
    facts = {name: getattr(sweep, name) for name in SweepOut.model_fields if hasattr(sweep, name)}
    spec = sweep.spec
    direction = "minimize" if spec.minimize else "maximize"
    return {**facts, "search": spec.search, "metric": spec.metric_name, "direction": direction}


def _sweep(sweep_id: SweepId, services: ServicesDep) -> Sweep:
    return services.sweeps.get(sweep_id)


SweepDep: TypeAlias = Annotated[Sweep, Depends(_sweep)]


class _Once:
    """A registry that is asked everything once: all jobs are checked by the same."""

    def __init__(self, registry: RegistryStore) -> None:
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        asked = cache(getattr(self._registry, name))
        setattr(self, name, asked)
        return asked


def _resolved(
    services: Services, body: SweepRequest, *, most: int = MOST_JOBS
) -> tuple[SweepSpec, int, list[NewJob]]:
    """As :func:`~service.proposals.planned`, of a submission; checked before and behind every composition."""
    services = replace(services, registry=cast(RegistryStore, _Once(services.registry)))
    policy = client_policy(services.settings, services.registry)
    arguments = body.given(*TRAIN_ARGUMENTS)
    for key in body.overrides:
        if key.partition(".")[0] in MULTIRUN_PARTS:
            message = f"{key} cannot be given here; search and parallel say how a sweep goes."
            raise Problem.at(f"/overrides/{key}", "unknown_key", message)
    if (recorded := arguments.pop("config", None)) is not None:
        check_names(recorded, policy)
        arguments = recorded_arguments(recorded, arguments)
    _check_each(arguments, policy)
    directories = services.settings.config_dirs
    if "seed" not in arguments and not sets_seeds("train", arguments, directories):
        arguments["seed"] = draw_seed()
    if body.search is not None:
        _check_space(body.search, arguments, policy)
        arguments["overrides"] = {**arguments.get("overrides", {}), "sweep": _search_node(body.search)}
    facts = {"is_asked": body.ask_tell, "metric": body.metric, "minimize": body.direction == "minimize"}

    def make(mode: Mode, *, within_multirun: bool, **given: Any) -> RunConfig:
        return compose(services, mode, given, within_multirun=within_multirun)

    spec, n_jobs, jobs = planned(arguments, make, directories, most=most, **facts)
    if body.ask_tell and (spec.search is None or spec.seeds):
        message = "Clients ask a search for values, with one seed: give search, and no list of seeds."
        raise Problem.at("/ask_tell", "contradiction", message)
    return spec, n_jobs, jobs


def _check_each(arguments: Mapping[str, Any], policy: TrustPolicy) -> None:
    """Check every value by itself, before any of them is composed."""
    overrides = arguments.get("overrides", {})
    for key, value in {**arguments, **overrides}.items():
        if isinstance(value, list) and len(value) > MOST_JOBS:
            message = f"{key} has {len(value)} values; at most {MOST_JOBS} runs are made."
            raise InvalidSpecificationError(message, path=key, code="too_large")
    single = {name: values_of(value)[0] for name, value in arguments.items() if name != "overrides"}
    single["overrides"] = {key: values_of(value)[0] for key, value in overrides.items()}
    check_arguments(single, policy)
    for name, value in arguments.items():
        for other in values_of(value)[1:] if name != "overrides" else ():
            check_arguments({**single, name: other}, policy)
    for key, value in overrides.items():
        for other in values_of(value)[1:]:
            check_arguments({**single, "overrides": {**single["overrides"], key: other}}, policy)


def _check_space(search: SearchIn, arguments: Mapping[str, Any], policy: TrustPolicy) -> None:
    for key, parameter in (search.space or {}).items():
        if key.partition(".")[0] in ("dataset", "initial", "seed", *MULTIRUN_PARTS):
            raise Problem.at(f"/search/space/{key}", "contradiction", f"{key} is nothing to search.")
        ends = [_whole(end) if parameter.type == "int" else end for end in (parameter.low, parameter.high)]
        values = ends if parameter.choices is None else parameter.choices
        for value in (value for value in values if value is not None):
            is_argument = key in TRAIN_ARGUMENTS
            check_arguments({key: value} if is_argument else {"overrides": {key: value}}, policy)


def _whole(value: float | None) -> float | None:
    """JSON has one kind of numbers: 3.0 where a whole number is meant is 3."""
    return int(value) if value is not None and value.is_integer() else value


def _search_node(search: SearchIn) -> dict[str, Any]:
    given = search.given()
    if search.space is not None:
        given["space"] = {key: one.model_dump(exclude_none=True) for key, one in search.space.items()}
    return {"_target_": "maze_core.OptunaSearchConfig", **given}


@router.post("", status_code=202, response_model=SweepOut)
def submit_sweep(
    body: SweepRequest, services: ServicesDep, response: Response, caller: CallerDep, key: KeyDep = None
) -> dict[str, Any]:
    """Train every combination of values, or let a search choose them; the runs are those of RunContext's multirun."""
    request = body.model_dump(exclude_unset=True)
    idempotency = idempotent(caller, "sweep", key, request)
    store = services.sweeps
    try:
        made = None if idempotency is None else store.submitted(*idempotency)
        if made is not None:
            sweep, is_new = made, False
        else:
            spec, _, jobs = _resolved(services, body)
            new = NewSweep(
                id=new_sweep_id(),
                request=request,
                spec=spec,
                parallel=body.parallel or (1 if spec.search else None),
                name=body.name,
                labels=body.labels,
                priority=body.priority,
                jobs=jobs,
            )
            sweep, is_new = store.create(new, idempotency, by=caller.token_id)
    except IdempotencyConflictError as error:
        message = (
            f"Idempotency-Key {key!r} made sweep {error.details['run_id']} with another body; use a new key."
        )
        raise IdempotencyConflictError(message, **error.details) from error
    response.headers["Location"] = f"/v1/sweeps/{sweep.id}"
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return _out(sweep)


@router.post("/preview", response_model=PreviewOut)
def preview_sweep(body: SweepRequest, services: ServicesDep) -> dict[str, Any]:
    """What a sweep would run, without running it: the first runs with their digests, or a search's first proposals."""
    spec, n_jobs, jobs = _resolved(services, body, most=PREVIEWED)
    if spec.search is not None:
        search = search_of(spec)
        most = search.n_startup_trials if search.sampler == "tpe" else PREVIEWED
        n = min(spec.n_trials, most, max(1, PREVIEWED // spec.n_seeds))
        policy = client_policy(services.settings, services.registry)
        wanted = Wanted(sweep="", spec=spec, trials=(), n=n, revision=0)
        jobs = proposed(wanted, composer(policy, services.settings.config_dirs))
    shown = [
        {**asdict(job), "config_sha256": (job.plan or {}).get("config_sha256")} for job in jobs[:PREVIEWED]
    ]
    return {"n_jobs": n_jobs, "jobs": shown, "search": spec.search}


class SweepsQuery(PageQuery):
    """Which sweeps are listed."""

    state: SweepState | None = None


@router.get("", response_model=Listing[SweepOut])
def list_sweeps(query: Annotated[SweepsQuery, Query()], services: ServicesDep) -> Page:
    """Sweeps, newest first; by `state`."""
    page = page_of(services.sweeps.list, query=query, state=query.state)
    return replace(page, data=[_out(sweep) for sweep in page.data])


@router.get("/{sweep_id}", response_model=SweepOut)
def get_sweep(sweep: SweepDep) -> dict[str, Any]:
    """One sweep: how far it is, and the best set of values so far."""
    return _out(sweep)


@router.get("/{sweep_id}/runs", response_model=Listing[SweepJobOut])
def list_sweep_runs(sweep_id: SweepId, query: PageDep, services: ServicesDep) -> Page:
    """Its runs by number, with their values and how good they were; also those that are still to be made."""
    return page_of(services.sweeps.jobs, sweep_id, query=query)


@router.get("/{sweep_id}/best", response_model=TrialOut)
def get_best_trial(sweep: SweepDep) -> SweepTrial:
    """The best set of values so far, the earliest of equals; 404 while none has a value."""
    if sweep.best is None:
        raise NotFoundError(f"No run of sweep {sweep.id} has a value yet.", sweep_id=sweep.id)
    return sweep.best


@router.get("/{sweep_id}/importance", response_model=ImportanceOut)
def get_importance(sweep_id: SweepId, services: ServicesDep) -> dict[str, Any]:
    """How much each parameter decides how good a run is, as Optuna judges it; 409 with fewer than two values."""
    known = services.sweeps.trials(sweep_id)
    valued = [trial for trial in known.trials if trial.value is not None]
    if len({trial.value for trial in valued}) < 2:
        message = f"Of sweep {sweep_id} {len(valued)} trials have a value; it takes two that differ."
        raise StateConflictError(message)
    evaluator, found = importances(known.spec, valued)
    return {"evaluator": evaluator, "n_trials": len(valued), "importance": found}


@router.post("/{sweep_id}/ask", response_model=AskedOut)
def ask_sweep(
    sweep_id: SweepId, body: AskRequest, services: ServicesDep, caller: CallerDep, key: KeyDep = None
) -> dict[str, Any]:
    """Ask a sweep with `ask_tell` for values to try; each is a trial of its own, to be told of."""
    idempotency = idempotent(caller, "ask", key, body.given(), sweep_id)
    lock = _ASKING[hash(sweep_id) % len(_ASKING)]
    if not lock.acquire(timeout=_PATIENCE_S):
        raise _too_many()
    try:
        return _ask(sweep_id, body, services, idempotency)
    finally:
        lock.release()


def _too_many() -> Problem:
    return Problem("capacity", "Others ask this sweep all the time; try again.", headers={"Retry-After": "1"})


def _ask(
    sweep_id: str, body: AskRequest, services: Services, idempotency: tuple[str, str] | None
) -> dict[str, Any]:
    for number in range(_TRIES):
        if idempotency and (before := services.sweeps.asked(sweep_id, *idempotency)) is not None:
            return _asked_out(before)
        known = services.sweeps.trials(sweep_id)
        if not known.spec.is_asked:
            raise StateConflictError(f"Sweep {sweep_id} makes its own runs; one with ask_tell is asked.")
        n = 1 if body.values is not None else body.n
        if (left := known.spec.n_trials - len(known.trials)) < n:
            raise StateConflictError(f"Sweep {sweep_id} has {left} of {known.spec.n_trials} trials left.")
        jobs = _asked(services, replace(known, n=n), body)
        if services.sweeps.propose(sweep_id, known.revision, jobs, idempotency):
            return _asked_out(jobs)
        if (state := services.sweeps.get(sweep_id).state) is not SweepState.RUNNING:
            raise StateConflictError(f"Sweep {sweep_id} is {state} and proposes nothing.", state=state.value)
        time.sleep(random.uniform(0.0, 0.05 * 2**number))
    raise _too_many()


def _asked_out(jobs: Sequence[NewJob | SweepJob]) -> dict[str, Any]:
    return {"data": [{"trial": one.trial, "choices": one.choices, "value": None, "runs": []} for one in jobs]}


def _asked(services: Services, wanted: Wanted, body: AskRequest) -> list[NewJob]:
    policy = client_policy(services.settings, services.registry)
    compose_job = composer(policy, services.settings.config_dirs)
    if body.values is None:
        return proposed(wanted, compose_job if body.run else None)
    try:
        values = search_of(wanted.spec).own(body.values)
    except InvalidSpecificationError as error:
        raise Problem.at("/values", "invalid_value", str(error)) from error
    number = len(wanted.trials)
    return jobs_of_trial(wanted.spec, number, values, compose_job if body.run else None)


@router.post("/{sweep_id}/tell", response_model=SweepOut)
def tell_sweep(sweep_id: SweepId, body: TellRequest, services: ServicesDep) -> dict[str, Any]:
    """Tell how good a trial was that was asked for; the same again changes nothing."""
    state = body.state or ("succeeded" if body.value is not None else None)
    if state is None or (state == "succeeded") != (body.value is not None):
        message = 'Give the value of a trial, or "state": "failed" of one that has none.'
        raise Problem.at("/value", "contradiction", message)
    return _out(services.sweeps.tell(sweep_id, body.trial, JobState(state), body.value))


def _verb(verb: SweepVerb) -> Any:
    def steer(sweep_id: SweepId, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
        return _out(services.sweeps.change(sweep_id, verb, by=caller.token_id))

    return steer


_VERBS = {
    SweepVerb.PAUSE: "Make no more runs, and pause those there are.",
    SweepVerb.RESUME: "Go on: paused runs go back to the queue.",
    SweepVerb.STOP: "Make no more runs; those there are end by themselves.",
    SweepVerb.CANCEL: "Make no more runs, and cancel those there are.",
}
for _name, _meaning in _VERBS.items():
    router.add_api_route(
        f"/{{sweep_id}}/{_name}",
        _verb(_name),
        methods=["POST"],
        status_code=202,
        response_model=SweepOut,
        name=f"{_name}_sweep",
        description=_meaning,
    )


@router.delete("/{sweep_id}", status_code=204)
def delete_sweep(sweep_id: SweepId, services: ServicesDep) -> Response:
    """Forget a sweep that has ended; its runs stay (`POST /v1/runs/bulk` deletes them, before)."""
    services.sweeps.delete(sweep_id)
    return Response(status_code=204)
