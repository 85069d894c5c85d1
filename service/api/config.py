"""The configuration, to look around in: groups, modules, schemas, allowed components, dry runs and differences."""

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from maze_core.config import RunConfig, config_groups, config_module
from maze_core.config.difference import differences
from maze_core.config.json_schema import module_schema, run_schema
from maze_core.config.trust import allowed_targets
from maze_core.errors import InvalidSpecificationError
from maze_core.seeding import draw_seed
from service.api.answers import (
    ComposedOut,
    DifferencesOut,
    GroupDetailOut,
    GroupOut,
    Listing,
    ModuleOut,
    ModuleSummaryOut,
    TargetOut,
    origins_out,
)
from service.api.bodies import ComposeRequest, DiffRequest, DiffSide, StrictRoute
from service.api.dependencies import Services, ServicesDep, require_scope
from service.api.exception_handlers import specification_errors
from service.api.submit import TRAIN_ARGUMENTS, compose, seed_of, stored_mode
from service.domain.errors import NotFoundError
from service.domain.sharing import Scope
from service.problems import Problem, suggestion
from service.trust import client_policy

router = APIRouter(
    prefix="/v1/config", tags=["config"], route_class=StrictRoute, dependencies=[require_scope(None)]
)


@router.get("/schema")
def get_schema(services: ServicesDep, mode: Literal["train", "rollout"] = "train") -> dict[str, Any]:
    """JSON Schema (2020-12) of a whole resolved configuration, for a client of this service."""
    return run_schema(
        mode, services.settings.config_dirs, client_policy(services.settings, services.registry)
    )


@router.get("/groups")
def list_groups(services: ServicesDep) -> Listing[GroupOut]:
    """Configuration groups with the modules to choose from in a submission."""
    rows = [
        GroupOut(group=group, modules=modules, links={"self": f"/v1/config/groups/{group}"})
        for group, modules in _groups(services).items()
    ]
    return Listing(data=rows)


@router.get("/groups/{group}")
def get_group(group: str, services: ServicesDep) -> GroupDetailOut:
    """One group with a line about each module."""
    names = _modules(services, group)
    modules = [config_module(group, name, services.settings.config_dirs) for name in names]
    summaries = [
        ModuleSummaryOut(name=module["name"], description=module["description"]) for module in modules
    ]
    return GroupDetailOut(group=group, modules=summaries)


@router.get("/groups/{group}/{module}")
def get_module(group: str, module: str, services: ServicesDep) -> ModuleOut:
    """One module: its values, and its file with the comments."""
    _require_module(services, group, module)
    return ModuleOut(**config_module(group, module, services.settings.config_dirs))


@router.get("/groups/{group}/{module}/schema")
def get_module_schema(group: str, module: str, services: ServicesDep) -> dict[str, Any]:
    """JSON Schema (2020-12) of what a module describes, its values as defaults; of a preset of a whole run."""
    _require_module(services, group, module)
    policy = client_policy(services.settings, services.registry)
    return module_schema(group, module, services.settings.config_dirs, policy)


def _groups(services: Services) -> dict[str, list[str]]:
    """The groups that clients may choose from; launchers are the operator's."""
    groups = config_groups(services.settings.config_dirs)
    return {group: modules for group, modules in groups.items() if group != "launcher"}


def _modules(services: Services, group: str) -> list[str]:
    modules = _groups(services).get(group)
    if modules is None:
        raise NotFoundError("There is no such group; GET /v1/config/groups lists them.")
    return modules


def _require_module(services: Services, group: str, module: str) -> None:
    known = suggestion(module, _modules(services, group))
    if module not in known["allowed"]:
        hint = f" Did you mean {known['did_you_mean']!r}?" if "did_you_mean" in known else ""
        raise NotFoundError(f"There is no such module of {group}.{hint}", **known)


@router.get("/targets")
def list_targets(services: ServicesDep) -> Listing[TargetOut]:
    """Components that an object with `_target_` may name, exactly."""
    settings = services.settings
    entries = allowed_targets(settings.extra_targets, settings.config_dirs)
    return Listing(data=[TargetOut(**entry) for entry in entries])


@router.post("/compose")
async def compose_config(
    body: ComposeRequest, services: ServicesDep, provenance: bool = False
) -> ComposedOut:
    """Resolve a configuration without running it: the result and its SHA-256, or every error at once.

    `provenance=true` tells of every value where it comes from.
    """
    return await run_in_threadpool(_composed, body, services, provenance=provenance)


def _composed(body: ComposeRequest, services: Services, *, provenance: bool) -> ComposedOut:
    config = compose(services, body.mode, body.given(*TRAIN_ARGUMENTS))
    return ComposedOut(
        config=config.tree,
        config_sha256=config.config_sha256,
        seed=seed_of(config.tree),
        provenance=origins_out(config.provenance if provenance else None),
    )


@router.post("/diff", dependencies=[require_scope(Scope.RUNS_READ)])
async def diff_configs(body: DiffRequest, services: ServicesDep) -> DifferencesOut:
    """What two configurations differ in, each of a run or as it would be submitted, by dotted path.

    A seed that one of them leaves open is that of the other one.
    """
    return await run_in_threadpool(_different, body, services)


def _different(body: DiffRequest, services: Services) -> DifferencesOut:
    right = _resolved(services, body.right, "right", draw_seed())
    left = _resolved(services, body.left, "left", seed_of(right.tree))
    right = _resolved(services, body.right, "right", seed_of(left.tree))
    return DifferencesOut(
        data=[asdict(difference) for difference in differences(left.tree, right.tree)],
        left_sha256=left.config_sha256,
        right_sha256=right.config_sha256,
    )


def _resolved(services: Services, side: DiffSide, name: str, seed: int) -> RunConfig:
    """One of the two configurations; ``seed`` is for one that sets none."""
    try:
        given, mode = side.given(*TRAIN_ARGUMENTS), side.mode
        if side.run is not None:
            run = services.runs.get(side.run)
            mode = stored_mode(run)
            if not given:
                return RunConfig(mode=mode, tree=dict(run.config))
            given = {"config": dict(run.config), **given}
        return compose(services, mode, given, seed=seed)
    except InvalidSpecificationError as error:
        mistakes = specification_errors(error, side.given())
        for mistake in mistakes:
            mistake["pointer"] = f"/{name}{mistake['pointer']}"
        detail = f"The {name} configuration: {error.problems[0].message}"
        raise Problem("invalid_specification", detail, errors=mistakes) from error
