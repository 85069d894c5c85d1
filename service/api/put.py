"""Submitting under an id of the client's: a run of any kind that is submitted, once however often it is sent."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter
from pydantic import Field

from service.api.answers import RunOut
from service.api.bodies import EvaluateRequest, RolloutRequest, StrictRoute, TrainRequest
from service.api.compare import CompareRequest, compare_choice
from service.api.dependencies import RunId, Services, require_scope
from service.api.submit import ENDED, Chosen, SubmissionDep, acting_choice, rollout_choice, train_choice
from service.domain.run import Run, RunKind
from service.domain.sharing import Scope
from service.problems import Problem

router = APIRouter(
    prefix="/v1", tags=["submit"], route_class=StrictRoute, dependencies=[require_scope(Scope.RUNS_WRITE)]
)


class PutTrainRequest(TrainRequest):
    """Train a policy, under an id of the client's."""

    kind: Literal["train"]


class PutRolloutRequest(RolloutRequest):
    """Play episodes, under an id of the client's."""

    kind: Literal["rollout"]


class PutEvaluateRequest(EvaluateRequest):
    """Measure a policy, under an id of the client's."""

    kind: Literal["evaluate"]


class PutCompareRequest(CompareRequest):
    """Compare policies, under an id of the client's."""

    kind: Literal["compare"]


RunPut: TypeAlias = Annotated[
    PutTrainRequest | PutRolloutRequest | PutEvaluateRequest | PutCompareRequest, Field(discriminator="kind")
]
_CHOICES: Mapping[str, Callable[[Services, Any], Chosen]] = {
    "train": train_choice,
    "rollout": rollout_choice,
    "evaluate": acting_choice,
    "compare": compare_choice,
}


@router.put("/runs/{run_id}", status_code=202, response_model=RunOut, responses=ENDED)
async def put_run(run_id: RunId, body: RunPut, submission: SubmissionDep) -> Run:
    """Submit a run under the client's own id, once however often it is sent; another body is a conflict."""
    if submission.key is not None:
        message = "The id in the path says that this is one and the same run; leave Idempotency-Key out."
        raise Problem("bad_request", message)
    named = replace(submission, run_id=run_id, key=run_id)
    choose = partial(_CHOICES[body.kind], submission.services, body)
    return await named.answer(RunKind(body.kind), body, choose, of=f"put {run_id}")
