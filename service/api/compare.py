"""Comparing policies: a run that plays the same episodes with each, and finds what each pair differs by."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from maze_core.errors import InvalidSpecificationError
from maze_core.runners.comparison import MOST, comparison_config
from maze_core.seeding import draw_seed
from service.api.answers import RunOut
from service.api.bodies import Acting, Count, NamesPolicy, StrictRoute, Submitted
from service.api.dependencies import Services, require_scope
from service.api.submit import ENDED, RUNNER_FIELDS, Chosen, SubmissionDep, named_in, published, stored_config
from service.domain.run import CheckpointInfo, Run, RunKind
from service.domain.sharing import Scope
from service.problems import Problem

router = APIRouter(
    prefix="/v1", tags=["submit"], route_class=StrictRoute, dependencies=[require_scope(Scope.RUNS_WRITE)]
)

MIB = 2**20
MOST_MIB = 512
"""Of the checkpoints together: a worker sends them to the run's process in one message."""


class CompareRequest(Submitted, Acting):
    """Play the same episodes with several policies, in the environment of the first one's run."""

    policies: Annotated[list[NamesPolicy], Field(min_length=2, max_length=MOST)]
    """2 to 8 of them, each by its ``run`` and ``checkpoint``, or as ``policy``. Of each pair, the later one is measured
    against the earlier one."""
    n_episodes: Count = 20
    """How many episodes each of them plays, all from the same seeds."""


def compare_choice(services: Services, body: CompareRequest) -> Chosen:
    """The policies that are named, fixed now, in the environment of the first one's run."""
    found = [named_in(services, one, f"/policies/{place}") for place, one in enumerate(body.policies)]
    _refuse_large(found)
    nodes = [{"run": one.run_id, "checkpoint": one.id, "sha256": one.content_sha256} for one in found]
    fields = {field: getattr(body, name) for name, field in RUNNER_FIELDS.items() if name != "record"}
    seed = draw_seed() if body.seed is None else body.seed
    first = services.runs.get(found[0].run_id)
    for place, one in enumerate(found[1:], start=1):
        _refuse_other_spaces(services, first, services.runs.get(one.run_id), f"policies.{place}")
    config = comparison_config({**first.config}, nodes, seed=seed, **fields)
    return Chosen(config=stored_config(services, config.tree, "rollout"))


def _refuse_large(found: Sequence[CheckpointInfo]) -> None:
    n_mib = sum(one.size_bytes for one in found) / MIB
    if n_mib > MOST_MIB:
        message = f"Their checkpoints have {n_mib:.0f} MiB together, and {MOST_MIB} are compared at once: name fewer."
        raise Problem.at("/policies", "out_of_range", message)


def _refuse_other_spaces(services: Services, first: Run, other: Run, path: str) -> None:
    """Refuse what cannot be compared, as far as configurations and workers say it; else the run finds out."""
    there, here = (
        None if run.config["wrappers"] else published(services, {**run.config}) for run in (first, other)
    )
    if there is None or here is None:
        return
    for what in ("observation_space", "action_space"):
        seen = [(row["id"], _form(row[what])) for row in (there, here) if row.get(what)]
        if len(seen) == 2 and seen[0][1] != seen[1][1]:
            played, trained = (f"{env_id} {json.dumps(form)}" for env_id, form in seen)
            message = (
                f"Run {other.id} was trained in {trained}, and run {first.id}, whose environment is played, in "
                f"{played}: the {what.replace('_', ' ')}s differ. Compare policies of the same spaces."
            )
            raise InvalidSpecificationError(message, path=path, code="other_spaces")


def _form(space: Any) -> Any:
    """What two policies have to share of a described space: neither bounds nor how exact its numbers are."""
    if isinstance(space, Mapping):
        return {name: _form(part) for name, part in space.items() if name not in ("low", "high", "dtype")}
    return [_form(part) for part in space] if isinstance(space, list) else space


@router.post("/compare", status_code=202, response_model=RunOut, responses=ENDED)
async def compare(body: CompareRequest, submission: SubmissionDep) -> Run:
    """Compare policies on the same episodes: mean returns, and of each pair the difference with its 95 % interval."""
    return await submission.answer(RunKind.COMPARE, body, partial(compare_choice, submission.services, body))
