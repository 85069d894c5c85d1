"""Reinforcement learning from one configuration: train, roll out, evaluate, act.

Importing this package is cheap; torch is imported when something is trained or a network needs it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maze_core.agent import Agent, load_agent
    from maze_core.api.run_context import RunContext
    from maze_core.checkpoint import Checkpoint
    from maze_core.envs.gym_env import GymMazeEnv
    from maze_core.envs.maze_env import MazeEnv
    from maze_core.errors import InvalidSpecificationError, MazeError
    from maze_core.trainers.a2c_config import A2CAlgorithmConfig
    from maze_core.trainers.ppo_config import PPOAlgorithmConfig
    from maze_core.types import ActorID

_HOMES = {
    "A2CAlgorithmConfig": "maze_core.trainers.a2c_config",
    "ActorID": "maze_core.types",
    "Agent": "maze_core.agent",
    "Checkpoint": "maze_core.checkpoint",
    "GymMazeEnv": "maze_core.envs.gym_env",
    "InvalidSpecificationError": "maze_core.errors",
    "MazeEnv": "maze_core.envs.maze_env",
    "MazeError": "maze_core.errors",
    "PPOAlgorithmConfig": "maze_core.trainers.ppo_config",
    "RunContext": "maze_core.api.run_context",
    "load_agent": "maze_core.agent",
}

__all__ = [
    "A2CAlgorithmConfig",
    "ActorID",
    "Agent",
    "Checkpoint",
    "GymMazeEnv",
    "InvalidSpecificationError",
    "MazeEnv",
    "MazeError",
    "PPOAlgorithmConfig",
    "RunContext",
    "load_agent",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'maze_core' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
