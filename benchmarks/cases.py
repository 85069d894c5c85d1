"""What training is timed on: environments, sizes and settings, the same for every contender."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training loop; contenders take the same settings under their own names."""

    name: str
    algorithm: Literal["ppo", "a2c", "dqn", "sac", "td3"] = "ppo"
    env: str = "CartPole-v1"
    n_envs: int = 8
    n_steps: int = 128
    """Steps of each environment per update."""
    hidden: int = 64
    """Width of the two hidden layers of policy and critic each; tanh, but ReLU with replay."""
    batch_size: int = 256
    """Rows of a minibatch, of PPO and with replay, where an update has one."""
    n_passes: int = 4
    """Passes over an update's rows, of PPO."""
    has_pictures: bool = False
    """Policy and critic have one convolutional trunk in place of hidden layers: ``model=nature_cnn``, ``CnnPolicy``."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Settings that only we have."""

    @property
    def is_ppo(self) -> bool:
        """PPO, not A2C."""
        return self.algorithm == "ppo"

    @property
    def has_replay(self) -> bool:
        """DQN, SAC or TD3."""
        return self.algorithm in ("dqn", "sac", "td3")

    @property
    def updates(self) -> int:
        """Updates that are timed together."""
        return 200 if self.has_replay else 1

    @property
    def lr(self) -> float:
        """Adam's step size, constant."""
        return 7e-4 if self.algorithm == "a2c" else 2.5e-4

    @property
    def gae_lambda(self) -> float:
        """λ; with 1, A2C's returns are those of n steps."""
        return 0.95 if self.is_ppo else 1.0

    @property
    def rows(self) -> int:
        """Environment steps that are timed together."""
        return self.n_envs * self.n_steps * self.updates


_BASE = Case(name="ppo-8x128")
_SAC = Case(name="sac", algorithm="sac", env="Pendulum-v1", n_envs=1, n_steps=1, hidden=256)
_DQN = replace(
    _SAC, name="dqn-32-of-4", algorithm="dqn", env="CartPole-v1", n_steps=4, hidden=64, batch_size=32
)

CASES: Final = (
    _BASE,
    replace(_BASE, name="ppo-per-env", overrides={"env.vectorization": "per_env"}),
    replace(_BASE, name="ppo-64x16", n_envs=64, n_steps=16),
    replace(_BASE, name="a2c-8x5", algorithm="a2c", n_steps=5),
    replace(_BASE, name="ppo-wide", hidden=256),
    replace(_BASE, name="ppo-gaussian", env="Pendulum-v1"),
    replace(_BASE, name="ppo-multi-discrete", env="benchmarks.point_grid:PointGrid-v0"),
    _SAC,
    replace(_SAC, name="td3", algorithm="td3"),
    _DQN,
    replace(_DQN, name="dqn-128-of-1", n_steps=1, batch_size=128),
    replace(_BASE, name="ppo-pixels", env="benchmarks.pixels:Squares-v0", has_pictures=True),
)
