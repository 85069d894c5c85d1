"""Where in a request a problem of the configuration lies: dotted key paths to JSON pointers.

The configuration speaks of ``algorithm.gamma``; the client wrote ``{"overrides": {"algorithm.gamma": 1.5}}``
or ``{"policy": {"networks": …}}``. Both are told: ``path`` is the key path, the same on every face, and
``pointer`` the place in this very request that has to change, as deep as it can be followed.
"""

from collections.abc import Mapping
from typing import Any

from maze_core.errors import InvalidSpecificationError
from service.api.json_values import pointer_to

_SHORTHANDS = {
    "algorithm.n_epochs": "n_epochs",
    "seeding.env_base_seed": "seed",
    "seeding.agent_base_seed": "seed",
    "runner.record_trajectory": "record",
}
_PROXIES = ("policy", "critic")
"""Arguments that stand for a part of ``model`` in a training run."""


def specification_errors(error: InvalidSpecificationError, body: object) -> list[dict[str, Any]]:
    """Every problem as an entry of a problem body's ``errors``."""
    request = body if isinstance(body, Mapping) else {}
    entries = []
    for problem in error.problems:
        entry: dict[str, Any] = {"pointer": locate(problem.path, request), "path": problem.path}
        entry |= {"code": problem.code, "message": problem.message}
        if problem.allowed:
            entry["allowed"] = list(problem.allowed)
        if problem.did_you_mean:
            entry["did_you_mean"] = problem.did_you_mean
        entries.append(entry)
    return entries


def locate(path: str, request: Mapping[str, Any]) -> str:
    """JSON pointer of the request's member that a key path speaks of; "" is the whole request."""
    path = path.removeprefix("overrides.") if path != "overrides" else path
    overrides = request.get("overrides")
    if isinstance(overrides, Mapping) and (found := _override(path, overrides)):
        return pointer_to("overrides", *found)
    shorthand = _SHORTHANDS.get(path)
    if shorthand in request:
        return pointer_to(shorthand)
    if path.startswith("runner.") and (name := path.removeprefix("runner.")) in request:
        return pointer_to(name)
    for proxy in _PROXIES:
        if path.startswith(f"model.{proxy}") and proxy in request:
            return pointer_to(*_follow(path.removeprefix("model."), request))
    return pointer_to(*_follow(path, request))


def _override(path: str, overrides: Mapping[str, Any]) -> list[str] | None:
    """The longest override key that the path lies under, and the way on from there."""
    keys = [key for key in overrides if path == key or path.startswith(f"{key}.")]
    if not keys:
        return None
    key = max(keys, key=len)
    return [key, *_follow(path[len(key) + 1 :], overrides[key])]


def _follow(path: str, value: Any) -> list[str]:
    """Tokens of the path as far as the value has them; a dotted name may be one key, as wrappers are."""
    tokens: list[str] = []
    while path:
        names = _prefixes(path)
        key = next((name for name in names if _has(value, name)), None)
        if key is None:
            break
        tokens.append(key)
        value = value[int(key)] if isinstance(value, list) else value[key]
        path = path[len(key) + 1 :]
    return tokens


def _prefixes(path: str) -> list[str]:
    """``a.b.c`` → ``a.b.c``, ``a.b``, ``a``."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _has(value: Any, key: str) -> bool:
    if isinstance(value, list):
        return key.isdecimal() and int(key) < len(value)
    return isinstance(value, Mapping) and key in value
