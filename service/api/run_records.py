"""What a run left behind: metrics, logs, checkpoints and episodes."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import LogDep, PageDep, RunDep, ServicesDep, invalid_cursor, page_of
from service.api.models import (
    CheckpointOut,
    EpisodeDetailOut,
    EpisodeOut,
    Listing,
    LogOut,
    MetricOut,
    listing,
)
from service.domain.cursors import decode_cursor, encode_cursor

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["runs"])

EpisodeIndex = Annotated[int, Path(ge=0, lt=1_000_000, description="Number of the episode, from 0.")]


class MetricsQuery(BaseModel):
    """Which metric points are listed."""

    model_config = ConfigDict(extra="forbid")

    names: list[str] = Field(default=[], max_length=64, description="Metric names; all when left out.")
    after_epoch: int | None = Field(default=None, ge=-1, lt=2**31, description="Only later epochs.")
    cursor: str | None = Field(default=None, max_length=65_536, description="next_cursor of the page before.")
    limit: int = Field(default=10_000, ge=1, le=10_000, description="Points per page.")

    def after(self) -> tuple[int, str] | None:
        """Epoch and name of the point that the page begins behind."""
        if self.cursor is None:
            return None
        try:
            epoch, name = decode_cursor(self.cursor, "metrics", int, str)
        except ValueError as error:
            raise invalid_cursor() from error
        return epoch, name

    def wanted_names(self) -> list[str] | None:
        """The names, which may also be given as one text with commas; None is all."""
        names = [name.strip() for text in self.names for name in text.split(",")]
        return [name for name in names if name] or None


@router.get("/metrics")
def list_metrics(
    run: RunDep, query: Annotated[MetricsQuery, Query()], services: ServicesDep
) -> Listing[MetricOut]:
    """Metric points by epoch: `?names=train/episode_return&names=eval/mean_return`."""
    points = services.runs.metrics(
        run.id,
        names=query.wanted_names(),
        after_epoch=query.after_epoch,
        after=query.after(),
        limit=query.limit + 1,
    )
    shown = points[: query.limit]
    cursor = None
    if len(points) > query.limit:
        cursor = encode_cursor("metrics", shown[-1].epoch, shown[-1].name)
    return Listing(
        data=[MetricOut.of(point) for point in shown], next_cursor=cursor, has_more=cursor is not None
    )


@router.get("/logs")
def list_logs(run: RunDep, query: LogDep, services: ServicesDep) -> Listing[LogOut]:
    """Log lines in order; a failed run's traceback is among them."""
    lines = services.runs.logs(run.id, after=query.start, limit=query.limit + 1)
    return log_page([LogOut.of(line) for line in lines], query.limit)


@router.get("/checkpoints")
def list_checkpoints(run: RunDep, query: PageDep, services: ServicesDep) -> Listing[CheckpointOut]:
    """Checkpoints, newest epoch first; `best` and `last` are marked."""
    page = page_of(services.checkpoints.list, run.id, query=query)
    return listing(page, [CheckpointOut.of(info) for info in page.data])


@router.get("/episodes")
def list_episodes(run: RunDep, query: PageDep, services: ServicesDep) -> Listing[EpisodeOut]:
    """Episodes of a rollout, by index."""
    page = page_of(services.episodes.list, run.id, query=query)
    return listing(page, [EpisodeOut.of(info) for info in page.data])


@router.get("/episodes/{index}")
def get_episode(run: RunDep, index: EpisodeIndex, services: ServicesDep) -> EpisodeDetailOut:
    """One episode with its trajectory, where it was recorded."""
    info = services.episodes.get(run.id, index)
    trajectory = decoded(services.episodes.trajectory(run.id, index)) if info.has_trajectory else None
    return EpisodeDetailOut(**EpisodeOut.of(info).model_dump(), trajectory=trajectory)


def decoded(trajectory: bytes) -> dict[str, Any]:
    """A recorded trajectory as plain JSON."""
    from maze_core.rollout.recording import trajectory_from_bytes

    return dict(trajectory_from_bytes(trajectory).to_json())


def log_page(items: list[Any], limit: int) -> Listing[Any]:
    """A page of a log from one entry more than it shows."""
    shown = items[:limit]
    cursor = str(shown[-1].seq) if len(items) > limit else None
    return Listing(data=shown, next_cursor=cursor, has_more=cursor is not None)
