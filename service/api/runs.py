"""Runs: listed, looked at, cancelled."""

from typing import Annotated, Literal

import yaml
from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from service.api.dependencies import PageQuery, RunDep, RunId, ServicesDep, first_doubled, page_of
from service.api.models import Listing, RunConfigOut, RunOut, listing
from service.domain.run import RunKind, RunState
from service.problems import Problem, suggestion

router = APIRouter(prefix="/v1/runs", tags=["runs"])

LABEL = "label."


class RunsQuery(PageQuery):
    """Which runs are listed; ``label.KEY=VALUE`` is another way to write ``label=KEY=VALUE``."""

    model_config = ConfigDict(extra="allow")

    state: RunState | None = None
    kind: RunKind | None = None
    label: list[str] = Field(
        default=[], max_length=32, description="`KEY=VALUE`, as often as wanted: only runs with all of them."
    )

    def labels(self) -> dict[str, str]:
        """The wanted labels."""
        extra = self.model_extra or {}
        if unknown := sorted(name for name in extra if not name.startswith(LABEL)):
            allowed = [*type(self).model_fields, f"{LABEL}KEY"]
            known = suggestion(unknown[0], allowed)
            raise Problem.in_query(unknown[0], "unknown_field", "There is no such parameter.", **known)
        pairs = [(name.removeprefix(LABEL), str(value)) for name, value in extra.items()]
        for text in self.label:
            key, equals, value = text.partition("=")
            if not key or not equals:
                raise Problem.in_query("label", "invalid_value", "Write a label as KEY=VALUE.")
            pairs.append((key, value))
        if doubled := first_doubled(key for key, _ in pairs):
            message = f"The label {doubled!r} is given twice, and a run has one value of each."
            raise Problem.in_query("label", "doubled", message)
        return dict(pairs)


@router.get("")
def list_runs(query: Annotated[RunsQuery, Query()], services: ServicesDep) -> Listing[RunOut]:
    """Runs, newest first. Filter by `state`, `kind` and labels: `?label=team=a`."""
    filters = {"state": query.state, "kind": query.kind, "labels": query.labels()}
    page = page_of(services.runs.list, query=query, **filters)
    return listing(page, [RunOut.of(run) for run in page.data])


@router.get("/{run_id}")
async def get_run(run: RunDep) -> RunOut:
    """One run."""
    return RunOut.of(run)


@router.post(
    "/{run_id}/cancel",
    status_code=202,
    responses={200: {"model": RunOut, "description": "The run was waiting and has ended."}},
)
def cancel_run(run_id: RunId, services: ServicesDep, response: Response) -> RunOut:
    """Cancel a run: a waiting one ends at once (200), a working one after storing a last checkpoint (202)."""
    run = services.runs.request_cancel(run_id)
    response.status_code = 200 if run.state.is_terminal else 202
    return RunOut.of(run)


@router.get("/{run_id}/config", response_model=RunConfigOut)
def get_run_config(run: RunDep, format: Literal["json", "yaml"] = "json") -> RunConfigOut | Response:
    """The resolved configuration, with every default; `format=yaml` gives it as a file to keep."""
    config = dict(run.config)
    if format == "yaml":
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        return Response(text, media_type="application/yaml")
    return RunConfigOut(config=config, config_sha256=run.config_sha256)
