"""Where the values of a run's configuration come from: what was asked for is composed again, and compared."""

from collections.abc import Mapping
from typing import Any

from maze_core.config import RunConfig
from maze_core.config.nodes import part_at
from maze_core.config.provenance import Origin, leaves
from maze_core.errors import InvalidSpecificationError
from service.api.bodies import RolloutRequest
from service.api.dependencies import Services
from service.api.submit import (
    ROLLOUT_ARGUMENTS,
    RUNNER_FIELDS,
    TRAIN_ARGUMENTS,
    compose,
    stored_mode,
    with_runner_values,
)
from service.domain.errors import ServiceError
from service.domain.run import Run, RunKind

CHANGED = Origin("changed")


def run_provenance(services: Services, run: Run) -> dict[str, Origin]:
    """Dotted path → origin of every value of a run's configuration.

    The request and the configuration are stored, what the modules' files said is not. So a value has the origin that
    it has today; one that would be another today, of a file or a run that has changed or is gone, is ``changed``.
    """
    if run.source_run and not run.parent_run and stored_mode(run) == "rollout":
        return {path: _of_source(path, run) for path in _paths(run.config)}
    try:
        config = _again(services, run)
        origins = config.provenance
    except (InvalidSpecificationError, ServiceError):
        return dict.fromkeys(_paths(run.config), CHANGED)
    return {
        path: _named(origins.get(path, CHANGED), run) if _is_same(config, run, path) else CHANGED
        for path in _paths(run.config)
    }


def _paths(tree: Mapping[str, Any]) -> list[str]:
    return [".".join(keys).removesuffix(".") for keys in leaves(tree)]


def _is_same(config: RunConfig, run: Run, path: str) -> bool:
    missing = object()
    return bool(part_at(config.tree, path, missing) == part_at(run.config, path, missing))


def _named(origin: Origin, run: Run) -> Origin:
    """What another run's configuration gives is named by that run."""
    return Origin("config", run.parent_run) if origin == Origin("config") else origin


def _again(services: Services, run: Run) -> RunConfig:
    """What the request of a run would run now."""
    mode, request = stored_mode(run), dict(run.request)
    if run.parent_run is not None:
        request["config"] = dict(services.runs.get(run.parent_run).config)
        if run.source_run == run.parent_run and run.continues is None:  # a fork of one of its policies
            checkpoint = request.get("checkpoint", run.source_checkpoint)
            begins = {"initial.run": run.parent_run, "initial.checkpoint": checkpoint}
            request["overrides"] = begins | request.get("overrides", {})
        if run.continues is not None:  # its epochs and limits are beside the configuration
            request = {"config": request["config"]}
    elif run.kind is RunKind.ROLLOUT:
        request |= with_runner_values(RolloutRequest.model_construct(**request))
    known = (*TRAIN_ARGUMENTS, *ROLLOUT_ARGUMENTS)
    given = {name: value for name, value in request.items() if name in known}
    return compose(services, mode, given, seed=run.seed)


def _of_source(path: str, run: Run) -> Origin:
    """Of a run that acts with the policy of another one, in that one's environment."""
    part, _, name = path.partition(".")
    fields = {setting: field for field, setting in RUNNER_FIELDS.items()}
    if part == "policy":
        return Origin("argument", "run")
    if part == "seeding":
        return Origin("argument", "seed") if "seed" in run.request else Origin("drawn")
    if part == "runner" and fields.get(name) in run.request:
        return Origin("argument", fields[name])
    return Origin("config", run.source_run)
