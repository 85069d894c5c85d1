"""Methods of a RunContext that answer with a list, one entry per job, where the context is a multirun."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def per_job(method: F) -> F:
    """Let a method of a RunContext answer with a list, one entry per job, where the context is a multirun."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._multirun is None:
            return method(self, *args, **kwargs)
        return self._multirun.answer(name, *args, **kwargs)

    return cast(F, call)
