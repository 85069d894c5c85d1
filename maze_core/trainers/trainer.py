"""What the loop needs of an algorithm (``Trainer``), and what an algorithm is built from (``Parts``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from maze_core.envs.vector import VectorEnv
from maze_core.models.critics import TorchCritic
from maze_core.models.policies import TorchPolicy
from maze_core.types import Array, Tree


@dataclass(kw_only=True)
class Parts:
    """The live objects of one training run."""

    env: VectorEnv
    """The training environments, behind their wrappers."""
    policy: TorchPolicy
    critic: TorchCritic | None
    agent_seed: int
    """Base of the streams of action noise and minibatch order."""


@dataclass(kw_only=True)
class UpdateReport:
    """What one update did."""

    env_steps: int
    """Steps of environment time it took, over all envs."""
    metrics: Mapping[str, float]
    """Means over the update, such as ``train/policy_loss``."""
    episode_returns: Sequence[float] = field(default_factory=list)
    """Raw returns of the episodes that ended while it collected."""
    episode_lengths: Sequence[int] = field(default_factory=list)


class Trainer(Protocol):
    """One algorithm at work on one run. ``fit`` drives it; nobody else calls ``update``."""

    def reset_envs(self, seeds: Sequence[int]) -> None:
        """Start new episodes everywhere; comes before the first update and at every scheduled checkpoint."""

    def update(self, *, epoch: int, progress: float) -> UpdateReport:
        """Collect experience and learn from it once.

        Args:
            epoch: number of the epoch, from 0.
            progress: done part of the run in [0, 1), for schedules.

        Raises:
            DivergedError: a loss or weight is not finite.
        """

    def state_dict(self) -> tuple[Tree, dict[str, Array]]:
        """JSON-able state (RNG streams) and named arrays (weights, moments); copies, never views."""

    def load_state_dict(self, tree: Tree, arrays: Mapping[str, Array]) -> None:
        """Go back to a state written by :meth:`state_dict`."""

    def close(self) -> None:
        """Release what the trainer holds, the environments included."""
