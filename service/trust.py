"""What may be named, by clients and by what is stored: one allow list, checked before anything on it is imported.

A stored checkpoint is input too: a row edited by hand, or a database that was restored from elsewhere, must not become
code execution where its policy is loaded, in the API, in a serving child, or in the child of a rollout.
"""

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from maze_core.checkpoint import Checkpoint
from maze_core.config.trust import TrustPolicy, check_names, trust_policy
from maze_core.errors import CheckpointError, InvalidSpecificationError
from service.domain.ports import RegistryStore

if TYPE_CHECKING:
    from service.settings import Settings

PENDING = "pending"
"""What a worker says of its environments until it has published them."""


def client_policy(settings: "Settings", registry: RegistryStore) -> TrustPolicy:
    """What clients may name: what may be stored, and of environments those that workers published.

    The API never imports an operator's code. Before the first worker has spoken, the ids that gymnasium itself
    registers stand in.
    """
    published = registry.env_ids()
    return replace(
        trust_policy(settings.extra_targets, settings.config_dirs),
        env_ids=published or _gymnasium_ids(),
        env_ids_are_complete=bool(published) and PENDING not in environment_states(settings, registry),
    )


def environment_states(settings: "Settings", registry: RegistryStore) -> list[str]:
    """How publishing its environments went, of each live worker: ``pending``, ``published`` or why not."""
    workers = registry.live_workers(settings.lease_s)
    return [str(worker.get("environments", PENDING)) for worker in workers]


def check_checkpoint(checkpoint: Checkpoint, policy: TrustPolicy) -> None:
    """Raise :class:`CheckpointError` when a checkpoint's configuration names something that is not on the list."""
    config = checkpoint.identity.get("config")
    if not isinstance(config, dict):
        raise CheckpointError("The checkpoint has no configuration.")
    try:
        check_names(config, policy)
    except InvalidSpecificationError as error:
        raise CheckpointError(f"The checkpoint's configuration is not allowed here: {error}") from error


@lru_cache(maxsize=1)
def _gymnasium_ids() -> frozenset[str]:
    import gymnasium

    return frozenset(gymnasium.registry)
