"""What an episode left besides its facts: its video, and what comes out when it is played once more."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from maze_core.runners.config import rollout_tree
from service.api.answers import RunOut
from service.api.bodies import Labelled, StrictRoute
from service.api.dependencies import RunDep, Services, ServicesDep, require_scope
from service.api.runs import EpisodeIndex
from service.api.stored_bytes import gives_bytes, stored_bytes
from service.api.submit import ENDED, Chosen, SubmissionDep, source_of, stored_config, trained
from service.domain.errors import StateConflictError
from service.domain.run import Run, RunKind
from service.domain.sharing import Scope
from service.domain.use_cases import acting_checkpoint

router = APIRouter(
    prefix="/v1/runs/{run_id}/episodes/{index}",
    tags=["runs"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_READ, changing=Scope.RUNS_WRITE)],
)

MP4, PNG = "video/mp4", "image/png"
SAFETENSORS = "application/octet-stream"


@router.get("/video", **gives_bytes(MP4))
def get_video(run: RunDep, index: EpisodeIndex, request: Request, services: ServicesDep) -> Response:
    """The video of a filmed episode: one picture after the reset and one per step. Takes `Range`, as players ask."""
    content = services.episodes.picture(run.id, index, "video")
    return stored_bytes(
        request, content, media_type=MP4, filename=f"{run.id}-episode-{index}.mp4", shown=True
    )


@router.get("/thumbnail", **gives_bytes(PNG))
def get_thumbnail(run: RunDep, index: EpisodeIndex, request: Request, services: ServicesDep) -> Response:
    """A picture of a filmed episode, 320 pixels wide at most."""
    content = services.episodes.picture(run.id, index, "thumbnail")
    return stored_bytes(
        request, content, media_type=PNG, filename=f"{run.id}-episode-{index}.png", shown=True
    )


@router.get("/trajectory", **gives_bytes(SAFETENSORS))
def get_trajectory(run: RunDep, index: EpisodeIndex, request: Request, services: ServicesDep) -> Response:
    """The recorded episode as arrays (safetensors), bit by bit, for `maze_core.load_trajectory`."""
    content = services.episodes.picture(run.id, index, "trajectory")
    filename = f"{run.id}-episode-{index}.safetensors"
    return stored_bytes(request, content, media_type=SAFETENSORS, filename=filename)


class ReplayRequest(Labelled):
    """Play a recorded episode once more, or ask for one of its decisions again."""

    step: Annotated[int, Field(ge=0)] | None = None
    """The sub-step whose action the policy is asked for, on the recorded observation; left out, the environment is
    reset with the recorded seed and given the recorded actions."""


_WHOLE = ReplayRequest()
"""Without a body."""


@router.post("/replay", status_code=202, response_model=RunOut, responses=ENDED)
async def replay_episode(
    run: RunDep, index: EpisodeIndex, submission: SubmissionDep, body: ReplayRequest = _WHOLE
) -> Run:
    """Play a recorded episode once more, in a run whose result says whether all bits are equal, or what is not.

    With `step` the policy is asked again for that one action.
    """
    choose = partial(_replayed, submission.services, run, index, body.step)
    return await submission.answer(RunKind.REPLAY, body, choose, of=f"replay {run.id} {index}")


def _replayed(services: Services, run: Run, index: int, step: int | None) -> Chosen:
    from maze_core.rollout.recording import trajectory_from_bytes
    from maze_core.runners.replay import check_step

    info = services.episodes.get(run.id, index)
    if run.kind is RunKind.RECORD:
        message = f"Run {run.id} recorded a session, whose environment nobody here can play again."
        raise StateConflictError(message, state=run.state.value)
    if not info.has_trajectory or info.seed is None:
        message = f"Episode {index} of run {run.id} was not recorded; submit the rollout with record: true."
        raise StateConflictError(message, state=run.state.value)
    if step is not None:
        check_step(trajectory_from_bytes(services.episodes.trajectory(run.id, index)), step)
    tree: dict[str, Any] = {**run.config}
    source = None
    if info.epoch is not None:
        source = acting_checkpoint(services, run.id, f"epoch:{info.epoch}")
        tree = rollout_tree(tree, deterministic=True) | {"policy": trained(source)}
    else:
        try:
            source = source_of(services, run, "the whole episode is still played without step")
        except StateConflictError:
            if step is not None:
                raise
    arguments = {"run": run.id, "episode": index, "seed": info.seed, "step": step}
    config = stored_config(services, tree, "rollout")
    return Chosen(config=config, source=source, parent=run, arguments=arguments)
