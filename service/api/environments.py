"""The environments that workers offer: what each takes, sees and does, and what is missing where it cannot be made."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ConfigDict

from maze_core.config.environments import env_kwargs_of_modules, extra_of
from maze_core.config.plain_values import is_reserved
from maze_core.config.words import closest
from service.api.answers import Listing, Object, Out
from service.api.dependencies import ServicesDep, require_scope
from service.domain.errors import NotFoundError

router = APIRouter(prefix="/v1/environments", tags=["config"], dependencies=[require_scope(None)])

PUBLISHED = "published"


class EnvironmentSummaryOut(Out):
    """An environment that some worker knows."""

    id: str
    """What `env.name` takes."""
    source: str
    """`gymnasium`, `pettingzoo` for one with several agents (`env=pettingzoo`), or `gym` for one of the old package
    (`env=legacy_gym_env`)."""
    is_available: bool
    """Whether a worker can make it."""
    is_trainable: bool | None = None
    """Whether a policy can be trained in its spaces; null until a worker has looked."""
    reason: str | None
    """Why it is not available, or not trainable."""
    install: str | None
    """The command by which the operator installs what is missing, where that is known."""
    links: dict[str, str]


class EnvironmentOut(EnvironmentSummaryOut):
    """All that is known of an environment."""

    model_config = ConfigDict(extra="forbid")

    workers: list[str]
    """Live workers that offer it."""
    max_episode_steps: int | None = None
    """Steps after which an episode is truncated, unless `env.max_episode_steps` says otherwise."""
    reward_threshold: float | None = None
    """The mean return from which it counts as solved."""
    kwargs: Object
    """Its constructor's arguments with their defaults."""
    open_kwargs: list[str]
    """Those that a client may give as `env.kwargs`."""
    observation_space: Object | None = None
    action_space: Object | None = None
    sub_steps: list[Object] | None = None
    """Of one with several agents, the spaces of each sub-step, and how many agents act in it."""


@router.get("")
def list_environments(
    services: ServicesDep,
    available: Annotated[
        bool | None, Query(description="Only those that can be made, or that cannot.")
    ] = None,
) -> Listing[EnvironmentSummaryOut]:
    """Every environment that a worker knows, by id."""
    rows = services.registry.environments()
    return Listing(
        data=[
            EnvironmentSummaryOut(**_fields(row, EnvironmentSummaryOut))
            for row in rows
            if available in (None, row["is_available"])
        ]
    )


@router.get("/{env_id:path}")
def get_environment(env_id: str, services: ServicesDep) -> EnvironmentOut:
    """One environment: spaces, arguments, limits, and which workers offer it."""
    row = next(iter(services.registry.environments(env_id)), None)
    if row is None:
        known_ids = [known["id"] for known in services.registry.environments()]
        near, extra = closest(env_id, known_ids), extra_of(env_id)
        hint = f" Did you mean {near!r}?" if near else ""
        hint += f" It comes with the extra {extra.name!r}: {extra.install}" if extra else ""
        known = {"did_you_mean": near} if near else {}
        raise NotFoundError(f"No worker knows such an environment.{hint}", **known)
    live = {worker["worker"] for worker in services.registry.live_workers(services.settings.lease_s)}
    workers = [worker for worker in row["workers"] if worker in live]
    named = env_kwargs_of_modules(services.settings.config_dirs).get(env_id, ())
    open_kwargs = sorted({*row["open_kwargs"], *(key for key in named if not is_reserved(key))})
    return EnvironmentOut(**_fields(row, EnvironmentOut) | {"workers": workers, "open_kwargs": open_kwargs})


def _fields(row: Any, model: type[Out]) -> dict[str, Any]:
    known = {name: row[name] for name in model.model_fields if name in row}
    return known | {"links": {"self": f"/v1/environments/{row['id']}"}}
