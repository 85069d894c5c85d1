"""Runs that follow from another one: continued, tried again, or forked with changes. Each is a run of its own."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path

from maze_core.config.schema import BUDGETS
from maze_core.errors import InvalidSpecificationError
from maze_core.runners.config import with_limits
from service.api.answers import RunOut
from service.api.bodies import (
    ContinueRequest,
    Filmed,
    ForkPolicyRequest,
    ForkRequest,
    RetryRequest,
    StrictRoute,
    TrainRequest,
)
from service.api.dependencies import RunDep, Services, require_scope
from service.api.submit import (
    ENDED,
    Chosen,
    Mode,
    SubmissionDep,
    films,
    source_of,
    stored_config,
    train_choice,
)
from service.domain.errors import NotFoundError, StateConflictError
from service.domain.run import FILMED, KINDS_WITH_POLICY, CheckpointInfo, Continuation, Run, RunKind, RunState
from service.domain.sharing import Scope
from service.domain.use_cases import named_checkpoint, named_version

router = APIRouter(
    prefix="/v1/runs/{run_id}",
    tags=["submit"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_WRITE)],
)

of_policy = APIRouter(
    prefix="/v1/policies/{policy}",
    tags=["policies"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_WRITE)],
)
"""Of the run that made a policy that is named."""

_FURTHER, _AGAIN, _ANEW, _ANEW_BY_NAME = ContinueRequest(), RetryRequest(), ForkRequest(), ForkPolicyRequest()
"""Without a body."""


def _continued(services: Services, parent: Run, body: ContinueRequest) -> Chosen:
    """A training from a checkpoint of an ended one, as ``RunContext.load(run, "last").train(n_epochs)``."""
    _require_training(parent, "continued")
    if not parent.state.is_terminal:
        message = (
            f"Run {parent.id} is {parent.state} and goes on by itself; a run is continued when it has ended."
        )
        raise StateConflictError(message, state=parent.state.value)
    checkpoint = named_checkpoint(services, parent.id, body.checkpoint)
    if checkpoint.kind == FILMED:
        message = f"Checkpoint {checkpoint.id} keeps what acts, and no training goes on from it: fork the run from it."
        raise StateConflictError(message, state=parent.state.value)
    config = stored_config(services, parent.config, "train")
    limits = body.given(*BUDGETS[1:])
    algorithm = with_limits(config.build("algorithm"), limits)
    n_epochs = body.n_epochs or algorithm.epochs_left(checkpoint.epoch)
    arguments = _filmed(services, parent, body)
    return _from(
        checkpoint,
        n_epochs and checkpoint.epoch + n_epochs,
        limits,
        config=config,
        parent=parent,
        arguments=arguments,
    )


def _filmed(services: Services, parent: Run, body: Filmed) -> dict[str, Any]:
    """What is filmed: as the parent was, unless it is said."""
    return films(services, parent.arguments.get("videos") if body.videos is None else body.videos)


def _retried(services: Services, parent: Run) -> Chosen:
    """The same run once more, a training from the last scheduled checkpoint that it left."""
    if parent.state not in (RunState.FAILED, RunState.CANCELLED):
        further = "continue it" if parent.kind in KINDS_WITH_POLICY else "submit it anew"
        way_out = further if parent.state.is_terminal else "wait for its end"
        message = f"Run {parent.id} is {parent.state}; only one that failed or was cancelled is tried again: {way_out}."
        raise StateConflictError(message, state=parent.state.value)
    if parent.kind is RunKind.RECORD:
        raise StateConflictError(f"Run {parent.id} recorded a session; begin another one: POST /v1/sessions.")
    if parent.kind is RunKind.IMPORT:
        message = f"Run {parent.id} was an import, and what was sent is gone: send the checkpoint again."
        raise StateConflictError(message, state=parent.state.value)
    if parent.kind is not RunKind.TRAIN:
        source = source_of(services, parent, "submit it anew, with another policy")
        mode: Mode = "train" if parent.kind is RunKind.SMOKE else "rollout"
        config = stored_config(services, parent.config, mode)
        return Chosen(config=config, source=source, parent=parent, arguments=parent.arguments)
    config = stored_config(services, parent.config, "train")
    until = parent.continues.until_epoch if parent.continues else config.build("algorithm").n_epochs
    limits = dict(parent.continues.limits) if parent.continues else {}
    try:
        checkpoint = services.checkpoints.resolve(parent.id, "scheduled")
    except NotFoundError:
        if parent.continues is None:
            source = source_of(services, parent, "fork it, with another initial.run")
            return Chosen(config=config, source=source, parent=parent, arguments=parent.arguments)
        checkpoint = services.checkpoints.get(parent.continues.checkpoint)
    return _from(checkpoint, until, limits, config=config, parent=parent, arguments=parent.arguments)


def _again(services: Services, parent: Run) -> Chosen:
    """As :func:`_retried`, where what the run films can still be filmed."""
    chosen = _retried(services, parent)
    return replace(chosen, arguments={**chosen.arguments, **films(services, parent.arguments.get("videos"))})


def _from(
    checkpoint: CheckpointInfo, until_epoch: int | None, limits: dict[str, Any], **facts: Any
) -> Chosen:
    continues = Continuation(
        checkpoint=checkpoint.id, first_epoch=checkpoint.epoch, until_epoch=until_epoch, limits=limits
    )
    return Chosen(continues=continues, **facts)


def _forked(services: Services, parent: Run, body: ForkPolicyRequest, checkpoint: str | None) -> Chosen:
    """A training with the run's configuration, as ``POST /v1/train {"config": …}`` with changes beside it."""
    _require_training(parent, "forked")
    overrides = dict(body.overrides)
    if checkpoint is not None:
        if named := [key for key in overrides if key.partition(".")[0] == "initial"]:
            message = (
                "This says where the run begins, and so does the checkpoint that is named; give one of them."
            )
            raise InvalidSpecificationError(message, path=named[0], code="contradiction")
        overrides |= {"initial.run": parent.id, "initial.checkpoint": checkpoint}
    given = body.given(*TrainRequest.model_fields) | {"overrides": overrides, "config": dict(parent.config)}
    chosen = train_choice(services, TrainRequest.model_construct(**given))
    arguments = _filmed(services, parent, body)
    return Chosen(config=chosen.config, source=chosen.source, parent=parent, arguments=arguments)


def _forked_by_name(services: Services, policy: str, body: ForkPolicyRequest) -> Chosen:
    version = named_version(services.policies, policy)
    return _forked(services, services.runs.get(version.run_id), body, version.checkpoint)


def _require_training(run: Run, verb: str) -> None:
    if run.kind not in KINDS_WITH_POLICY:
        message = (
            f"Run {run.id} is of kind {run.kind}; only a training can be {verb}. Submit it again instead."
        )
        raise StateConflictError(message, state=run.state.value)


@router.post("/continue", status_code=202, response_model=RunOut, responses=ENDED)
async def continue_run(parent: RunDep, submission: SubmissionDep, body: ContinueRequest = _FURTHER) -> Run:
    """Train on from a checkpoint of a run that has ended, in a new run with its best and its last checkpoint."""
    choose = partial(_continued, submission.services, parent, body)
    return await submission.answer(RunKind.TRAIN, body, choose, of=f"continue {parent.id}")


@router.post("/retry", status_code=202, response_model=RunOut, responses=ENDED)
async def retry_run(parent: RunDep, submission: SubmissionDep, body: RetryRequest = _AGAIN) -> Run:
    """Try a failed or cancelled run again, in a new run: a training goes on from its last scheduled checkpoint."""
    choose = partial(_again, submission.services, parent)
    return await submission.answer(parent.kind, body, choose, of=f"retry {parent.id}")


@router.post("/fork", status_code=202, response_model=RunOut, responses=ENDED)
async def fork_run(parent: RunDep, submission: SubmissionDep, body: ForkRequest = _ANEW) -> Run:
    """Train anew with a run's configuration and changes to it, from fresh weights or from a checkpoint's policy."""
    choose = partial(_forked, submission.services, parent, body, body.checkpoint)
    return await submission.answer(RunKind.TRAIN, body, choose, of=f"fork {parent.id}")


@of_policy.post("/fork", status_code=202, response_model=RunOut, responses=ENDED)
async def fork_policy(
    policy: Annotated[
        str, Path(max_length=140, description="A policy by its name: `name@alias` or `name:3`.")
    ],
    submission: SubmissionDep,
    body: ForkPolicyRequest = _ANEW_BY_NAME,
) -> Run:
    """Train anew with the configuration of the run that made a policy and changes to it, beginning with that policy."""
    choose = partial(_forked_by_name, submission.services, policy, body)
    return await submission.answer(RunKind.TRAIN, body, choose, of=f"fork {policy}")
