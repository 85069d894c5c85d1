"""What classes and functions of the user's are handed when they are called after construction, and whether they can be.

An environment function is called with what its node says. A composer is handed the spaces it has parameters for,
a network the shapes; both calls happen when an environment is there, but a call that cannot work is found before.
"""

import inspect
import re
from collections.abc import Mapping

from maze_core.errors import Problem

COMPOSER_ARGUMENTS = (
    "observation_spaces_dict",
    "action_spaces_dict",
    "agent_counts_dict",
    "distribution_mapper",
)
"""Handed to composers and model functions, as far as they have parameters for them."""
POLICY_NETWORK_ARGUMENTS = ("obs_shapes", "action_logits_shapes")
"""Handed to the networks of a policy: name → shape, action head → shape of its logits."""
CRITIC_NETWORK_ARGUMENTS = ("obs_shapes",)
"""Handed to the networks of a critic."""

_COMPOSER = re.compile(r"model(\.policy|\.critic)?")
_NETWORK = re.compile(r"model\.(policy|critic)\.networks\.[^.]+")


def late_call_problem(target: object, given: Mapping[str, object], path: str) -> Problem | None:
    """Why calling ``target`` with ``given`` and with what belongs to ``path`` would fail; None where it would not.

    Args:
        target: a class or function.
        given: the arguments that the configuration gives.
        path: where it stands; places that are not called later have no problem.
    """
    if not (isinstance(target, type) or inspect.isroutine(target)):
        return None
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # it does not tell its parameters
        return None
    handed = _handed(signature, path)
    if handed is None:
        return None
    try:
        signature.bind(**{**dict.fromkeys(handed), **given})
    except TypeError as error:
        name = getattr(target, "__name__", "It")
        way_out = f" Give a function that calls it: env=lambda: {name}(…)." if path == "env.factory" else ""
        message = f"{name} cannot be called{_with(handed)}: {error}.{way_out}"
        return Problem(path=path, message=message, code="signature")
    return None


def _handed(signature: inspect.Signature, path: str) -> tuple[str, ...] | None:
    if path in ("env", "env.factory"):
        return ()
    if network := _NETWORK.fullmatch(path):
        return POLICY_NETWORK_ARGUMENTS if network[1] == "policy" else CRITIC_NETWORK_ARGUMENTS
    if _COMPOSER.fullmatch(path):
        takes_all = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        return tuple(name for name in COMPOSER_ARGUMENTS if takes_all or name in signature.parameters)
    return None


def _with(handed: tuple[str, ...]) -> str:
    return f" with {' and '.join(handed)}" if handed else ""
