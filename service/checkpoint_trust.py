"""A stored checkpoint is input too: what its configuration names is checked before any of it is imported.

A row edited by hand, or a database that was restored from elsewhere, must not become code execution where its policy is
loaded: in the API, in a serving child, or in the child of a rollout.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from maze_core.checkpoint import Checkpoint
from maze_core.errors import CheckpointError, InvalidSpecificationError

if TYPE_CHECKING:
    from maze_core.config.trust import TrustPolicy


@lru_cache(maxsize=1)
def trust_policy(extra_targets: tuple[str, ...] = (), config_dirs: tuple[str, ...] = ()) -> "TrustPolicy":
    """What a stored tree may name: the library's list, the operator's additions, any registered environment."""
    from maze_core.config.trust import default_policy

    return default_policy(extra=extra_targets, config_dirs=config_dirs)


class CheckpointTrust:
    """The allow list of HTTP, applied to checkpoints. Safe from any thread."""

    def __init__(self, extra_targets: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> None:
        """Take what the operator adds to the library's own list."""
        self._extra_targets = tuple(extra_targets)
        self._config_dirs = tuple(config_dirs)

    def check(self, checkpoint: Checkpoint) -> None:
        """Raise :class:`CheckpointError` when the configuration names something that is not on the list."""
        from maze_core.config.trust import check_names

        config = checkpoint.identity.get("config")
        if not isinstance(config, dict):
            raise CheckpointError("The checkpoint has no configuration.")
        try:
            check_names(config, trust_policy(self._extra_targets, self._config_dirs))
        except InvalidSpecificationError as error:
            raise CheckpointError(f"The checkpoint's configuration is not allowed here: {error}") from error
