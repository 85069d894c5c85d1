"""What training is timed on: environments, sizes and settings, the same for every contender."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training loop; contenders take the same settings under their own names."""

    name: str
    algorithm: Literal["ppo", "a2c"] = "ppo"
    env: str = "CartPole-v1"
    n_envs: int = 8
    n_steps: int = 128
    """Steps of each environment per update."""
    hidden: int = 64
    """Width of the two hidden layers, tanh, of policy and critic each."""
    batch_size: int = 256
    """Rows of a minibatch, of PPO."""
    n_passes: int = 4
    """Passes over an update's rows, of PPO."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Settings that only we have."""

    @property
    def is_ppo(self) -> bool:
        """PPO, not A2C."""
        return self.algorithm == "ppo"

    @property
    def lr(self) -> float:
        """Adam's step size, constant."""
        return 2.5e-4 if self.is_ppo else 7e-4

    @property
    def gae_lambda(self) -> float:
        """λ; with 1, A2C's returns are those of n steps."""
        return 0.95 if self.is_ppo else 1.0

    @property
    def rows(self) -> int:
        """Environment steps per update."""
        return self.n_envs * self.n_steps


_BASE = Case(name="ppo-8x128")

CASES: Final = (
    _BASE,
    replace(_BASE, name="ppo-per-env", overrides={"env.vectorization": "per_env"}),
    replace(_BASE, name="ppo-64x16", n_envs=64, n_steps=16),
    replace(_BASE, name="a2c-8x5", algorithm="a2c", n_steps=5),
    replace(_BASE, name="ppo-wide", hidden=256),
    replace(_BASE, name="ppo-gaussian", env="Pendulum-v1"),
    replace(_BASE, name="ppo-multi-discrete", env="benchmarks.point_grid:PointGrid-v0"),
)
