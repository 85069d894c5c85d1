"""A user's own components of every kind, in a module that can be imported by name."""

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

from maze_core import (
    A2CAlgorithmConfig,
    CustomModelComposer,
    CustomModelConfig,
    EnvConfig,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
    GymMazeEnv,
    ProbabilisticPolicyComposer,
    ProbabilisticPolicyComposerConfig,
    SharedStateCriticComposer,
    StepStateCriticConfig,
    TrainingRunnerConfig,
    Wrapper,
)
from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.gym_env import GymEnv
from maze_core.models.config import RandomPolicyConfig
from maze_core.trainers.a2c import A2C

OWN_LIMIT = 7


def make_env(limit: int = OWN_LIMIT) -> gymnasium.Env:
    return gymnasium.make("CartPole-v1", max_episode_steps=limit)


def make_maze_env() -> GymMazeEnv:
    return GymMazeEnv("CartPole-v1", max_episode_steps=OWN_LIMIT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnEnvConfig(EnvConfig):
    limit: int = OWN_LIMIT

    def make(self) -> StructuredEnv:
        return GymEnv(make_env(self.limit))


@dataclasses.dataclass(kw_only=True, eq=False)
class OwnWrapper(Wrapper):
    factor: float = 2.0

    def observation(self, step_key, observations, state):
        return {name: values * np.float32(self.factor) for name, values in observations.items()}, state


class PlainWrapper(Wrapper):
    """Not a dataclass, so no configuration describes an instance."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def observation(self, step_key, observations, state):
        return {name: values * np.float32(self.factor) for name, values in observations.items()}, state


def make_wrapper(factor: float = 2.0) -> OwnWrapper:
    return OwnWrapper(factor=factor)


class OwnA2C(A2C):
    """Says that it has learnt."""

    def update(self, *, epoch: int, progress: float) -> Any:
        report = super().update(epoch=epoch, progress=progress)
        return dataclasses.replace(report, metrics={**report.metrics, "train/own_trainer": 1.0})


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnAlgorithmConfig(A2CAlgorithmConfig):
    note: str = ""

    def build(self, parts: Any) -> OwnA2C:
        return OwnA2C(self, parts)


SMALL = {"n_epochs": 1, "epoch_length": 1, "n_rollout_steps": 8, "checkpoint_every": 1, "eval_repeats": 1}


def make_algorithm(lr: float = 0.25) -> A2CAlgorithmConfig:
    return A2CAlgorithmConfig(lr=lr, **SMALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnRunnerConfig(TrainingRunnerConfig):
    n_envs: int = 3


def make_runner(n_envs: int = 3) -> TrainingRunnerConfig:
    return TrainingRunnerConfig(n_envs=n_envs)


class PolicyNet(nn.Module):
    def __init__(self, obs_shapes, action_logits_shapes, width: int = 5) -> None:
        super().__init__()
        self.body = nn.Linear(sum(int(np.prod(shape)) for shape in obs_shapes.values()), width)
        self.heads = nn.ModuleDict(
            {head: nn.Linear(width, *shape) for head, shape in action_logits_shapes.items()}
        )

    def forward(self, observations):
        hidden = torch.tanh(self.body(_flat(observations)))
        return {head: layer(hidden) for head, layer in self.heads.items()}


class ValueNet(nn.Module):
    def __init__(self, obs_shapes) -> None:
        super().__init__()
        self.out = nn.Linear(sum(int(np.prod(shape)) for shape in obs_shapes.values()), 1)

    def forward(self, observations):
        return {"value": self.out(_flat(observations))}


def _flat(observations: Any) -> torch.Tensor:
    return torch.cat([values.reshape(len(values), -1) for values in observations.values()], dim=1)


def make_policy(width: int = 9) -> ProbabilisticPolicyComposerConfig:
    return ProbabilisticPolicyComposerConfig(networks=[FlattenConcatPolicyNetConfig(hidden_units=[width])])


def make_critic(width: int = 9) -> StepStateCriticConfig:
    return StepStateCriticConfig(networks=[FlattenConcatStateValueNetConfig(hidden_units=[width])])


class OwnPolicyComposer(ProbabilisticPolicyComposer):
    """Starts with weights of its own: all 0, so that every action is equally likely."""

    def compose(self, generator_seed: int) -> Any:
        policy = super().compose(generator_seed)
        for parameter in policy.parameters.values():
            parameter[...] = 0
        return policy


class OwnCriticComposer(SharedStateCriticComposer):
    def compose(self, generator_seed: int) -> Any:
        critic = super().compose(generator_seed)
        for parameter in critic.parameters.values():
            parameter[...] = 0.5
        return critic


def make_model(width: int = 9) -> CustomModelConfig:
    return CustomModelConfig(policy=make_policy(width), critic=make_critic(width))


class OwnModelComposer(CustomModelComposer):
    """Chooses its own networks; named by ``_target_``, it is given the spaces."""

    def __init__(
        self, action_spaces_dict, observation_spaces_dict, agent_counts_dict, width: int = 9
    ) -> None:
        super().__init__(
            action_spaces_dict=action_spaces_dict,
            observation_spaces_dict=observation_spaces_dict,
            agent_counts_dict=agent_counts_dict,
            distribution_mapper_config=[],
            policy=make_policy(width),
            critic=make_critic(width),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlwaysConfig:
    """A rollout policy that does one thing."""

    choice: int = 1

    def build(self, observation_spaces, action_spaces) -> "Always":
        return Always(self.choice)


class Always:
    needs_noise = False
    needs_torch = False

    def __init__(self, choice: int = 1) -> None:
        self.choice = choice

    def act(self, step_key, observations, *, deterministic, noise, agent_id=None):
        n_rows = len(next(iter(observations.values())))
        return {"action": np.full(n_rows, self.choice, dtype=np.int64)}

    def noise(self, step_key, rng, n_rows):
        return np.zeros((n_rows, 0))


def make_rollout_policy() -> RandomPolicyConfig:
    return RandomPolicyConfig()
