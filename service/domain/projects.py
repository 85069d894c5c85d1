"""The stores as one project has them: what belongs to another one is not there.

An endpoint is given these, so that it cannot forget to ask whose something is. A method that neither names what it
is about nor takes the project is none of a project's, and cannot be called here.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import signature
from typing import Any, TypeVar, cast

from service.domain.audit import about
from service.domain.errors import NotFoundError
from service.domain.ports import ProjectStore, Stores

S = TypeVar("S")

OWNED = {
    "run_id": "run",
    "checkpoint_id": "checkpoint",
    "checkpoint": "checkpoint",
    "sweep_id": "sweep",
    "upload_id": "upload",
    "webhook_id": "webhook",
}
"""Parameter → kind of what it names, which has to be the project's."""
OF_ALL = frozenset({"change_marker", "sweep", "submitted"})
"""Methods that tell nothing of other projects: keys of idempotency have the project in them."""
BOUND = ("runs", "checkpoints", "episodes", "uploads", "policies", "sweeps", "webhooks")
"""The stores whose content belongs to projects."""


class Bound:
    """A store for one project."""

    def __init__(self, store: object, projects: ProjectStore, project: str) -> None:
        """Take the store of all, who knows what belongs to whom, and the project."""
        self._store, self._projects, self._project = store, projects, project

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._store, name)
        if name in OF_ALL:
            return method
        parameters = _parameters(getattr(type(self._store), name))
        owned = [(each, OWNED[each]) for each in parameters if each in OWNED]
        if not owned and not {"new", "project"} & {*parameters}:
            raise AttributeError(f"{name} is of all projects, and cannot be asked for one")

        def call(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(parameters, args, strict=False)) | kwargs
            if "new" in parameters:
                given["new"] = replace(given["new"], project=self._project)
            if "project" in parameters:
                given["project"] = self._project
            for parameter, kind in owned:
                if not self._projects.owns(self._project, kind, given[parameter]):
                    raise none_such(kind, given[parameter])
            with _about(given):
                return method(**given)

        return call


def _about(given: Mapping[str, Any]) -> AbstractContextManager[None]:
    """For the audit log: of many runs that one request changes, and of what is made, each by itself."""
    id_ = getattr(given.get("new"), "id", None) or given.get("run_id") or ""
    kind = id_.partition("_")[0]
    return about(f"/v1/{kind}s/{id_}") if kind in ("run", "sweep") else nullcontext()


@lru_cache(maxsize=256)
def _parameters(method: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(signature(method).parameters)[1:]


def none_such(kind: str, id_: str) -> NotFoundError:
    """The error of what is not there, or another project's: in the same words, so that nobody learns which."""
    hint = ", or its time is up; begin anew: POST /v1/checkpoints" if kind == "upload" else ""
    return NotFoundError(f"there is no {kind} {id_}{hint}", **{f"{kind}_id": id_})


def bound(store: S, projects: ProjectStore, project: str) -> S:
    """The store for one project."""
    return cast(S, Bound(store, projects, project))


@dataclass(frozen=True)
class _ProjectStores:
    runs: Any
    checkpoints: Any
    episodes: Any
    uploads: Any
    policies: Any
    sweeps: Any
    webhooks: Any
    sessions: Any
    registry: Any
    projects: Any
    audit: Any


def stores_of(stores: Stores, project: str) -> Stores:
    """The stores as a project has them; environments and workers are everybody's, and sessions ask themselves."""
    own = {name: bound(getattr(stores, name), stores.projects, project) for name in BOUND}
    everybodys = {name: getattr(stores, name) for name in ("sessions", "registry", "projects", "audit")}
    return _ProjectStores(**own, **everybodys)
