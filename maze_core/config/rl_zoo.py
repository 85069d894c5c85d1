"""What an entry of RL-Zoo3's files of hyper-parameters says, in our words.

An entry counts as it does there: over the defaults of Stable-Baselines3 2.9 (and sb3-contrib), which become settings
too. Every key has one rule, which gives settings or says why there are
none; a key without a rule is refused. What stands in an entry as Python, such as ``"dict(net_arch=[64, 64])"``, is
parsed and never run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maze_core.config.nodes import shown
from maze_core.config.rl_zoo_rules import RULES, Settings, settings_of_environment, unknown_key

_LEARNS: Settings = {
    "policy": "MlpPolicy",
    "n_envs": 1,
    "n_timesteps": 1e6,
    "gamma": 0.99,
    "policy_kwargs": {},
}
_ON_POLICY: Settings = {
    **_LEARNS,
    "learning_rate": 3e-4,
    "n_steps": 2048,
    "gae_lambda": 0.95,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "use_sde": False,
    "normalize_advantage": True,
}
_OFF_POLICY: Settings = {
    **_LEARNS,
    "learning_rate": 3e-4,
    "buffer_size": 1_000_000,
    "learning_starts": 100,
    "batch_size": 256,
    "tau": 0.005,
    "train_freq": 1,
    "gradient_steps": 1,
}
_DQN: Settings = {
    **_OFF_POLICY,
    "learning_rate": 1e-4,
    "batch_size": 32,
    "tau": 1.0,
    "train_freq": 4,
    "target_update_interval": 10_000,
    "exploration_fraction": 0.1,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.05,
    "max_grad_norm": 10.0,
}
_QUANTILES: Settings = {
    "learning_rate": 5e-5,
    "exploration_fraction": 0.005,
    "exploration_final_eps": 0.01,
    "max_grad_norm": None,
}
_RMS_PROP: Settings = {"learning_rate": 7e-4, "n_steps": 5, "gae_lambda": 1.0, "normalize_advantage": False}
_TARGETS: Settings = {"policy_delay": 2, "target_policy_noise": 0.2, "target_noise_clip": 0.5}
DEFAULTS: Mapping[str, Settings] = {
    "ppo": {**_ON_POLICY, "n_epochs": 10, "batch_size": 64, "clip_range": 0.2},
    "a2c": {**_ON_POLICY, **_RMS_PROP, "use_rms_prop": True},
    "dqn": _DQN,
    "qrdqn": {**_DQN, **_QUANTILES},
    "sac": {**_OFF_POLICY, "ent_coef": "auto", "use_sde": False},
    "td3": {**_OFF_POLICY, "learning_rate": 1e-3, "noise_std": 0.0, **_TARGETS},
}
"""Algorithm → what counts where an entry says nothing."""

NOTES: Mapping[str, str] = {
    "algorithm.double": "the target network alone chooses and judges the next action",
    "algorithm.epoch_length": "about twenty epochs, each with an evaluation, of whole updates",
    "algorithm.n_optimization_epochs": "n_epochs here is the length of a run",
    "algorithm.n_warmup_steps": "rounded up to whole updates",
    "algorithm.target_kl": "1.5 times the number, as there; of the mean of a pass, not of each minibatch",
    "algorithm.value_loss_coef": "twice the number: the loss here has a ½",
    "env.wrappers": "their packages must be installed",
    "model.gaussian.rescale": "actions are clipped to their bounds, not scaled",
    "runner.evaluation_envs": "environments beside the one that trains",
    "runner.normalization_samples": "statistics begin with 128 random steps and follow every 128 ticks",
}
"""Our key → what is otherwise here, or why it is there."""


@dataclass(kw_only=True)
class Translation:
    """An entry in our words."""

    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Key of the entry → dotted key → value."""
    assumed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The same of keys that only the defaults have."""
    refused: dict[str, str] = field(default_factory=dict)
    """Key of the entry → why it cannot be said."""

    def tree(self) -> dict[str, Any]:
        """All settings, nested."""
        found: dict[str, Any] = {part: {} for part in ("env", "runner", "wrappers", "algorithm", "model")}
        for values in (*self.assumed.values(), *self.said.values()):
            for key, value in values.items():
                node = found
                *parents, last = key.split(".", 1 if key.startswith("wrappers.") else -1)
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[last] = value
        return {part: node for part, node in found.items() if node}


def translate(entry: Settings, algorithm: str, env: str) -> Translation:
    """An entry for an environment, of one of the algorithms of ``DEFAULTS``."""
    given = {**DEFAULTS[algorithm], **entry, "algorithm": algorithm}
    found = Translation(assumed={"": settings_of_environment(env)})
    for key in sorted(given, key=lambda key: key == "frame_stack"):  # what stacks comes last
        if key == "algorithm":
            continue
        try:
            settings = RULES.get(key, unknown_key)(given[key], given)
        except ValueError as error:
            found.refused[key] = str(error)
        except (TypeError, KeyError, AttributeError, ArithmeticError):
            found.refused[key] = f"{shown(given[key])} cannot be read"
        else:
            (found.said if key in entry else found.assumed)[key] = settings
    return found
