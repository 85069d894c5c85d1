"""A stack of wrappers from configuration: built in order, and asked what it can be used for."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from maze_core.config.instantiate import instantiate
from maze_core.envs.wrappers.wrapper import Wrapper
from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.types import Tree


def build_wrappers(nodes: Sequence[Tree], objects: Mapping[str, object] | None = None) -> list[Wrapper]:
    """Wrappers in order, the first next to the environment.

    Args:
        nodes: ``{"_target_": dotted class name, …keyword arguments}`` each, as in a resolved configuration.
        objects: live objects by path, such as ``wrappers.0``; wrappers among them are copied, so that statistics
            are the result's own.

    Raises:
        InvalidSpecificationError: something in it is not a wrapper, or a live object is not there.
    """
    given = {
        path: copy.deepcopy(value) if isinstance(value, Wrapper) else value
        for path, value in (objects or {}).items()
    }
    paths = [f"wrappers.{i}" for i in range(len(nodes))]
    return [_checked(instantiate(node, path, given), path) for path, node in zip(paths, nodes, strict=True)]


def why_not_servable(wrappers: Sequence[Wrapper]) -> str | None:
    """Why the stack cannot act on single raw observations; None when it can."""
    names = [type(wrapper).__name__ for wrapper in wrappers if not wrapper.servable or wrapper.is_stateful]
    if not names:
        return None
    return (
        f"{', '.join(names)} needs more than the observation of now (it overrides step() or carries a state), "
        "so single observations cannot pass it."
    )


def acting_wrappers(wrappers: Sequence[Wrapper]) -> list[Wrapper]:
    """Those that change what a policy sees or does; rewards and statistics are training's own."""
    return [w for w in wrappers if w.overrides("observation") or w.overrides("action")]


def _checked(value: Any, path: str) -> Wrapper:
    if isinstance(value, Wrapper):
        return value
    message = f"{type(value).__name__} is not a Wrapper of maze_core.envs.wrappers."
    raise InvalidSpecificationError([Problem(path=path, message=message)])
