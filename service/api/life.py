"""The life of a run, as clients steer it: cancelled, paused, resumed, renamed, deleted, one by one or many at once."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Response
from pydantic import Field

from service.api.answers import BulkOut, RunOut
from service.api.bodies import In, Labels, LabelValue, Priority, StrictRoute, Title, check_labels
from service.api.dependencies import (
    SWEEP_ID,
    CallerDep,
    PageQuery,
    RunId,
    Services,
    ServicesDep,
    page_of,
    require_scope,
)
from service.domain.errors import CapacityError, NotFoundError, StateConflictError
from service.domain.ports import RunStore
from service.domain.run import Run, RunKind, RunState, StopReason
from service.domain.sharing import Caller, Scope
from service.domain.use_cases import TERMINAL_STATES
from service.problems import Problem

router = APIRouter(
    prefix="/v1/runs", tags=["runs"], route_class=StrictRoute, dependencies=[require_scope(Scope.RUNS_WRITE)]
)

Action = Literal["cancel", "pause", "resume", "delete", "label"]
LIVE_STATES = frozenset(RunState) - TERMINAL_STATES
STATES: Mapping[Action, Collection[RunState]] = {
    "cancel": LIVE_STATES,
    "pause": LIVE_STATES,
    "resume": {RunState.PAUSED},
    "delete": TERMINAL_STATES,
    "label": frozenset(RunState),
}
"""Action → the states of runs to which it may apply."""
AT_ONCE = 200
"""Runs that one request changes at most."""
_AT_ONCE: dict[int | str, dict[str, Any]] = {
    200: {"model": RunOut, "description": "No worker held the run, and it is so now."}
}


@router.post("/{run_id}/cancel", status_code=202, response_model=RunOut, responses=_AT_ONCE)
def cancel_run(run_id: RunId, services: ServicesDep, response: Response, caller: CallerDep) -> Run:
    """Cancel a run: a waiting one ends at once (200), a working one after storing a last checkpoint (202)."""
    run = services.runs.request_stop(run_id, StopReason.CANCEL, by=caller.token_id)
    response.status_code = 200 if run.state.is_terminal else 202
    return run


@router.post("/{run_id}/pause", status_code=202, response_model=RunOut, responses=_AT_ONCE)
def pause_run(run_id: RunId, services: ServicesDep, response: Response, caller: CallerDep) -> Run:
    """Pause a run: a waiting one at once (200), a working one after storing a checkpoint (202).

    Resumed, a training goes on from its last scheduled checkpoint and ends as one that was not paused.
    """
    run = services.runs.request_stop(run_id, StopReason.PAUSE, by=caller.token_id)
    response.status_code = 200 if run.state is RunState.PAUSED else 202
    return run


@router.post("/{run_id}/resume", status_code=202, response_model=RunOut)
def resume_run(run_id: RunId, services: ServicesDep, caller: CallerDep) -> Run:
    """Give a paused run back to the queue."""
    return services.runs.resume(run_id, max_queued=services.settings.max_queued_runs, by=caller.token_id)


class ChangeRequest(In):
    """What may be changed of a run at any time; null takes it away."""

    name: Title | None = None
    """For people; need not be unique."""
    labels: Annotated[dict[str, LabelValue | None], Field(max_length=32)] | None = None
    """Those that are named here are set, and taken away with null; the others stay. Null takes all away."""
    notes: Annotated[str, Field(max_length=10_000)] | None = None
    priority: Priority | None = 0
    """Of two waiting runs, the one with the higher number starts first."""


@router.patch("/{run_id}", response_model=RunOut)
def change_run(
    run_id: RunId,
    body: ChangeRequest,
    services: ServicesDep,
    if_match: Annotated[
        str | None,
        Header(
            description="The run's `revision`: 412 when it has changed.",
            json_schema_extra={"pattern": r'^(\*|"[0-9]{1,9}"|[0-9]{1,9})$'},
        ),
    ] = None,
) -> Run:
    """Change name, labels, notes or priority (a JSON merge patch, RFC 7396); what is not named stays."""
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    if "priority" in changes:
        changes["priority"] = body.priority or 0
    check_labels(body.labels or {})
    return services.runs.edit(run_id, changes, revision=_revision(if_match))


@router.delete("/{run_id}", status_code=204)
def delete_run(run_id: RunId, services: ServicesDep) -> Response:
    """Delete a run that has ended, with all it left; refused while another run needs its checkpoints."""
    services.runs.delete(run_id)
    return Response(status_code=204)


class RunFilter(In):
    """Which runs: those to which all of it applies."""

    ids: list[str] | None = Field(default=None, max_length=AT_ONCE)
    state: Annotated[RunState, Field(strict=False)] | None = None
    kind: Annotated[RunKind, Field(strict=False)] | None = None
    sweep: str | None = Field(default=None, pattern=f"^{SWEEP_ID}$")
    labels: Labels = Field(default_factory=dict, max_length=32)


class BulkRequest(In):
    """One action for many runs."""

    action: Action
    filter: RunFilter
    """At least one member; the newest runs come first."""
    labels: Annotated[dict[str, LabelValue | None], Field(min_length=1, max_length=32)] | None = None
    """With ``label``: those that are set, or taken away with null, as when one run is changed."""
    cursor: str | None = Field(default=None, max_length=512)
    """``next_cursor`` of the answer before."""


@router.post("/bulk", response_model=BulkOut)
def change_runs(body: BulkRequest, services: ServicesDep, caller: CallerDep) -> dict[str, Any]:
    """Cancel, pause, resume, delete or label many runs, each as by its own request; `next_cursor` goes on.

    Without `ids`, runs to which the action does not apply are passed over.
    """
    if not any(body.filter.given().values()):
        raise Problem.at(
            "/filter",
            "missing_field",
            "Name what the runs have in common: ids, state, kind, sweep or labels.",
        )
    if (body.action == "label") != (body.labels is not None):
        raise Problem.at("/labels", "missing_field", "The action label, and no other, takes labels to set.")
    check_labels(body.labels or {})
    chosen, cursor = _chosen(services.runs, body)
    data = [_changed(services, body, run_id, caller) for run_id in chosen]
    return {"data": data, "next_cursor": cursor, "has_more": cursor is not None}


def _chosen(runs: RunStore, body: BulkRequest) -> tuple[list[str], str | None]:
    wanted = body.filter
    if wanted.ids is None:
        filters = {"state": wanted.state, "kind": wanted.kind, "sweep": wanted.sweep, "labels": wanted.labels}
        page = page_of(runs.list, query=PageQuery(limit=AT_ONCE, cursor=body.cursor), **filters)
        return [run.id for run in page.data if run.state in STATES[body.action]], page.next_cursor
    known = {run.id: run for run in runs.shown(wanted.ids)}
    fitting = [
        run_id
        for run_id in dict.fromkeys(wanted.ids)
        if run_id not in known or _fits(known[run_id], wanted)  # of one that there is not, it is told
    ]
    return fitting, None


def _fits(run: Run, wanted: RunFilter) -> bool:
    is_kind = wanted.kind in (None, run.kind) and wanted.state in (None, run.state)
    return is_kind and wanted.sweep in (None, run.sweep) and wanted.labels.items() <= run.labels.items()


def _changed(services: Services, body: BulkRequest, run_id: str, caller: Caller) -> dict[str, Any]:
    runs, run = services.runs, None
    try:
        match body.action:
            case "delete":
                runs.delete(run_id)
            case "resume":
                run = runs.resume(run_id, max_queued=services.settings.max_queued_runs, by=caller.token_id)
            case "label":
                run = runs.edit(run_id, {"labels": body.labels})
            case "cancel":
                run = runs.request_stop(run_id, StopReason.CANCEL, by=caller.token_id)
            case "pause":
                run = runs.request_stop(run_id, StopReason.PAUSE, by=caller.token_id)
    except (CapacityError, NotFoundError, StateConflictError) as error:
        return {
            "id": run_id,
            "state": error.details.get("state"),
            "error": {"code": error.code, "message": str(error)},
        }
    return {"id": run_id, "state": run and run.state, "error": None}


def _revision(if_match: str | None) -> int | None:
    """The revision in an If-Match header; `*` asks for nothing."""
    if if_match is None or if_match.strip() == "*":
        return None
    if (match := re.fullmatch(r'("?)(\d{1,9})\1', if_match.strip())) is None:
        raise Problem("bad_request", 'If-Match takes the revision of the run, as in If-Match: "3".')
    return int(match[2])
