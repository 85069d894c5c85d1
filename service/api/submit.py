"""Submitting runs: train, rollout, evaluate. All three answer alike."""

import re
import time
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from service.api.dependencies import Services, ServicesDep
from service.api.models import RunOut, run_path
from service.api.requests import EvaluateRequest, RolloutRequest, TrainRequest
from service.api.strict_body import StrictRoute
from service.api.submission import Client, submit_evaluate, submit_rollout, submit_train
from service.domain.run import Run
from service.problems import Problem

router = APIRouter(prefix="/v1", tags=["submit"], route_class=StrictRoute)

LONGEST_WAIT_S = 300
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Terms:
    """How the client wants its submission taken."""

    client: Client
    wait_s: int | None
    """How long to wait for the run's end; None answers at once."""
    request: Request


async def _terms(
    request: Request,
    prefer: Annotated[
        str, Header(description="`wait=SECONDS` waits for the end of the run, 300 s at most.")
    ] = "",
    idempotency_key: Annotated[
        str | None, Header(description="Any text of the client's: the same key submits the run once.")
    ] = None,
) -> Terms:
    key = idempotency_key
    if key is not None and not _KEY.fullmatch(key := key.strip().strip('"')):
        message = "Idempotency-Key takes 1 to 255 printable ASCII characters without spaces."
        raise Problem("bad_request", message)
    wait = _WAIT.search(prefer)
    return Terms(
        client=Client(token_id=request.scope.get("state", {}).get("token_id"), key=key),
        wait_s=min(int(wait[1]), LONGEST_WAIT_S) if wait else None,
        request=request,
    )


TermsDep: TypeAlias = Annotated[Terms, Depends(_terms)]
_ENDED: dict[int | str, dict[str, Any]] = {
    200: {"model": RunOut, "description": "The run has ended within the time of `Prefer: wait`."}
}


@router.post("/train", status_code=202, responses=_ENDED)
async def train(body: TrainRequest, terms: TermsDep, services: ServicesDep, response: Response) -> RunOut:
    """Train a policy. The arguments are RunContext's own; everything has a default."""
    run, is_new = await run_in_threadpool(submit_train, services, body, terms.client)
    return await _answer(run, is_new, terms, services, response)


@router.post("/rollout", status_code=202, responses=_ENDED)
async def rollout(body: RolloutRequest, terms: TermsDep, services: ServicesDep, response: Response) -> RunOut:
    """Play episodes, with the policy of a trained `run` or with one that needs no training."""
    run, is_new = await run_in_threadpool(submit_rollout, services, body, terms.client)
    return await _answer(run, is_new, terms, services, response)


@router.post("/evaluate", status_code=202, responses=_ENDED)
async def evaluate(
    body: EvaluateRequest, terms: TermsDep, services: ServicesDep, response: Response
) -> RunOut:
    """Measure a trained policy: mean return with its 95 % confidence interval over seeded episodes."""
    run, is_new = await run_in_threadpool(submit_evaluate, services, body, terms.client)
    return await _answer(run, is_new, terms, services, response)


async def _answer(run: Run, is_new: bool, terms: Terms, services: Services, response: Response) -> RunOut:
    """202 with the run as it is; 200 with the ended run where the client chose to wait and it ended."""
    response.headers["Location"] = run_path(run.id)
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    if terms.wait_s is not None:
        response.headers["Preference-Applied"] = f"wait={terms.wait_s}"
        run = await wait_for_end(run, services, terms)
    if run.state.is_terminal and terms.wait_s is not None:
        response.status_code = 200
    else:
        response.headers["Retry-After"] = "1"
    return RunOut.of(run)


async def wait_for_end(run: Run, services: Services, terms: Terms) -> Run:
    """The run when it has ended, the time is up, or nobody waits any more."""
    changes = services.changes
    deadline = time.monotonic() + (terms.wait_s or 0)
    while not run.state.is_terminal and (left_s := deadline - time.monotonic()) > 0:
        version = changes.version
        run = await run_in_threadpool(services.runs.get, run.id)
        if run.state.is_terminal or changes.is_stopping or await terms.request.is_disconnected():
            break
        await changes.wait(version, min(left_s, 5.0))
    return run
