"""What HTTP clients may name, as the configuration's trust checks want it: targets, environments, ceilings.

Environment ids are those that workers published: the API never imports an operator's code. Before the first
worker has spoken, the ids that gymnasium itself registers stand in.
"""

from functools import lru_cache

from maze_core.config.environments import OpenKwargs, operator_kwargs
from maze_core.config.index import module_index
from maze_core.config.trust import TrustPolicy, allowed_targets
from service.api.dependencies import Services
from service.api.environments import PENDING, states

Names = tuple[str, ...]


def trust_policy(services: Services) -> TrustPolicy:
    """The policy in force now."""
    extra, directories = tuple(services.settings.extra_targets), tuple(services.settings.config_dirs)
    targets = _targets(extra, directories, module_index(directories).fingerprint)
    published = services.registry.env_ids()
    return TrustPolicy(
        targets=targets,
        env_ids=published or _gymnasium_ids(),
        env_ids_are_complete=bool(published) and PENDING not in states(services),
        env_kwargs=OpenKwargs(operator_kwargs(directories)),
    )


@lru_cache(maxsize=4)
def _targets(extra: Names, directories: Names, _fingerprint: object) -> frozenset[str]:
    """The allow list; read again when a module's file changes."""
    return frozenset(entry["target"] for entry in allowed_targets(extra, directories))


@lru_cache(maxsize=1)
def _gymnasium_ids() -> frozenset[str]:
    import gymnasium

    return frozenset(gymnasium.registry)
