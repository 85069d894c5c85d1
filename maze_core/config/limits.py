"""How much a client may ask for: sizes of a request and ceilings of settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

CEILINGS: Mapping[str, float] = MappingProxyType(
    {
        "n_epochs": 1_000_000,
        "epoch_length": 10_000,
        "patience": 1_000_000,
        "critic_burn_in_epochs": 1_000_000,
        "checkpoint_every": 1_000_000,
        "max_env_steps": 1_000_000_000_000,
        "total_env_steps": 1_000_000_000_000,
        "max_wall_s": 31_536_000,
        "n_rollout_steps": 65_536,
        "n_optimization_epochs": 1_000,
        "batch_size": 1_048_576,
        "n_envs": 64,
        "n_processes": 64,
        "normalization_samples": 1_000_000,
        "n_episodes": 10_000,
        "eval_repeats": 10_000,
        "max_episode_steps": 1_000_000,
    }
)
"""Setting → largest value a client may give, wherever the setting stands."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes of what a client sends and of what comes out of it."""

    override_keys: int = 256
    """Keys of ``overrides``."""
    depth: int = 16
    """Levels of nesting."""
    text: int = 512
    """Characters of one text."""
    values: int = 4096
    """Values and keys in total."""
    total_text: int = 65_536
    """Characters of all texts and keys together."""
    hidden_layers: int = 8
    """Entries of ``hidden_units``."""
    hidden_width: int = 4096
    """Largest entry of ``hidden_units``."""
    ceilings: Mapping[str, float] = field(default_factory=lambda: CEILINGS)
    """Setting → largest value."""
