"""The configuration, to look around in: groups, modules, allowed components, and a dry run."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from maze_core.config import config_groups, config_module
from maze_core.config.trust import allowed_targets
from service.api.answers import (
    ComposedOut,
    GroupDetailOut,
    GroupOut,
    Listing,
    ModuleOut,
    ModuleSummaryOut,
    TargetOut,
)
from service.api.bodies import ComposeRequest, StrictRoute
from service.api.dependencies import Services, ServicesDep
from service.api.submit import ROLLOUT_ARGUMENTS, TRAIN_ARGUMENTS, compose, seed_of
from service.domain.errors import NotFoundError
from service.problems import suggestion

router = APIRouter(prefix="/v1/config", tags=["config"], route_class=StrictRoute)


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
    known = suggestion(module, _modules(services, group))
    if module not in known["allowed"]:
        hint = f" Did you mean {known['did_you_mean']!r}?" if "did_you_mean" in known else ""
        raise NotFoundError(f"There is no such module of {group}.{hint}", **known)
    return ModuleOut(**config_module(group, module, services.settings.config_dirs))


def _groups(services: Services) -> dict[str, list[str]]:
    """The groups that clients may choose from; launchers are the operator's."""
    groups = config_groups(services.settings.config_dirs)
    return {group: modules for group, modules in groups.items() if group != "launcher"}


def _modules(services: Services, group: str) -> list[str]:
    modules = _groups(services).get(group)
    if modules is None:
        raise NotFoundError("There is no such group; GET /v1/config/groups lists them.")
    return modules


@router.get("/targets")
def list_targets(services: ServicesDep) -> Listing[TargetOut]:
    """Components that an object with `_target_` may name, exactly."""
    settings = services.settings
    entries = allowed_targets(settings.extra_targets, settings.config_dirs)
    return Listing(data=[TargetOut(**entry) for entry in entries])


@router.post("/compose")
async def compose_config(body: ComposeRequest, services: ServicesDep) -> ComposedOut:
    """Resolve a configuration without running it: the result and its SHA-256, or every error at once."""
    return await run_in_threadpool(_composed, body, services)


def _composed(body: ComposeRequest, services: Services) -> ComposedOut:
    wanted = (
        TRAIN_ARGUMENTS
        if body.mode == "train"
        else (*ROLLOUT_ARGUMENTS, "algorithm", "critic", "n_epochs", "config")
    )
    config = compose(services, body.mode, body.given(*wanted))
    return ComposedOut(config=config.tree, config_sha256=config.config_sha256, seed=seed_of(config.tree))
