"""What may stand among the networks of a policy or critic, and what may not. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from maze_core.config.nodes import is_node, join, shown
from maze_core.errors import InvalidSpecificationError, Problem


def networks_of(settings: type[Any]) -> Callable[[Any], Any]:
    """The check of networks that are described by ``settings``, or by a class, function or module of the user's."""

    def check(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, (str, bytes)) or not isinstance(value, (Mapping, list, tuple)):
            raise ValueError("give a list of networks, one per sub-step, or a dict sub-step → network")
        if is_node(value) or not value:
            raise ValueError("give a list of networks, such as [{'_target_': …}]; it must not be empty")
        found = [
            Problem(path=str(key), message=_no_network(entry, settings), code="wrong_kind")
            for key, entry in _entries(value)
            if not (entry is None or callable(entry) or is_node(entry) or isinstance(entry, settings))
        ]
        if found:
            raise InvalidSpecificationError(found)
        return dict(value) if isinstance(value, Mapping) else tuple(value)

    return check


def left_to_a_template(networks: Any, path: str) -> list[Problem]:
    """The problem of each network that only a template could make.

    Args:
        networks: a list, or a dict sub-step → network; None is all of them.
        path: ``policy.networks`` or ``critic.networks``.
    """
    nulls = [join(path, key) for key, entry in _entries(networks) if entry is None]
    message = (
        "is null, which leaves the network to a template, and this model has none: give "
        f"{_WAYS_OUT[path]}, or take model='vector_obs'."
    )
    where = [path] if networks is None else nulls
    return [Problem(path=place, message=message, code="no_template") for place in where]


_WAYS_OUT = {
    "policy.networks": "[{'_target_': 'FlattenConcatPolicyNetConfig'}]",
    "critic.networks": "[{'_target_': 'FlattenConcatStateValueNetConfig'}], or critic='flatten_concat_shared'",
}


def _entries(networks: Any) -> Iterable[tuple[Any, Any]]:
    """Key or number → network."""
    if networks is None:
        return ()
    return networks.items() if isinstance(networks, Mapping) else enumerate(networks)


def _no_network(entry: object, settings: type[Any]) -> str:
    return (
        f"{shown(entry)} is no network: give {{'_target_': '{settings.__name__}', 'hidden_units': […]}}, a class or "
        "function that makes one, or a torch.nn.Module."
    )
