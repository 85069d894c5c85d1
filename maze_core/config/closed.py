"""Fields that only the operator may fill, found by their *type*: paths, functions, classes and modules.

A text that can name a place on disk is marked in its annotation: ``run: Annotated[str | None,
OPERATOR_ONLY]``.
"""

import dataclasses
import os
import typing
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath
from types import ModuleType
from typing import Any

from maze_core.config.targets import field_types, is_description


@dataclasses.dataclass(frozen=True)
class _OperatorOnly:
    """Type of :data:`OPERATOR_ONLY`."""


OPERATOR_ONLY = _OperatorOnly()
"""Marks an annotation whose values a client may not give."""

_CLOSED_TYPES = (PurePath, os.PathLike, ModuleType, type)


@lru_cache(maxsize=256)
def closed_fields(target: Callable[..., Any]) -> dict[str, Any]:
    """Closed field of a config dataclass → its default, the one value it may have."""
    if not is_description(target):
        return {}
    types = field_types(target)
    return {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(target)  # type: ignore[arg-type]
        if field.init and is_closed(types[field.name])
    }


def is_closed(annotation: Any) -> bool:
    """Whether a type admits a path, a callable, a class or a module, or is marked."""
    if annotation is OPERATOR_ONLY or annotation is Callable or annotation is typing.Callable:
        return True
    origin = typing.get_origin(annotation)
    if origin is not None:
        return is_closed(origin) or any(is_closed(part) for part in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, _CLOSED_TYPES)
