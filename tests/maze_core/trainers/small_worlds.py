"""Small environments that ask nothing of the rest of the library, and trainers of them."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.models.config import (
    CustomModelConfig,
    FlattenConcatPolicyNetConfig,
    FlattenConcatStateValueNetConfig,
    GaussianArgs,
    ModelNeeds,
    ProbabilisticPolicyComposerConfig,
    StepStateCriticConfig,
)
from maze_core.models.graph import GraphNetwork
from maze_core.models.module_network import ModuleNetwork
from maze_core.models.networks import Networks
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.episodes import run_episodes
from maze_core.rollout.recording import Trajectory
from maze_core.trainers.fit import Parts
from maze_core.trainers.learner import Learner
from maze_core.trainers.on_policy import Samples
from maze_core.trainers.optim import GradientStep
from maze_core.types import Action, ActorID, Array, Observation
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.models.autograd import log_probs_and_entropy

NUMBERS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
PICTURES = spaces.Box(0, 255, (8, 8, 3), np.uint8)


class SignEnv(StructuredEnv):
    """Shows two numbers; choosing the sign of the first pays 1. An episode of 5 steps terminates."""

    def __init__(self, action: "spaces.Space[Any] | None" = None) -> None:
        self.observation_spaces = {0: spaces.Dict({"observation": NUMBERS})}
        self.action_spaces = {0: spaces.Dict({"action": action or spaces.Discrete(2)})}
        self.agent_counts = {0: 1}
        self._rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None) -> Observation:
        self._rng = self._rng if seed is None else np.random.default_rng(seed)
        self._time = 0
        return self._see()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        reward = self.reward(action["action"])
        self._time += 1
        return self._see(), reward, *self.ends(), {}

    def reward(self, action: Any) -> float:
        return float(action == (self._shown[0] > 0))

    def ends(self) -> tuple[bool, bool]:
        return self._time >= 5, False

    def actor_id(self) -> ActorID:
        return ActorID(0, 0)

    def close(self) -> None:
        pass

    def _see(self) -> Observation:
        self._shown = self._rng.standard_normal(2).astype(np.float32)
        return {"observation": self._shown}


class ReachEnv(SignEnv):
    """Pays the closer the action is to what is shown; a limit of 3 steps cuts the episode."""

    def __init__(self) -> None:
        super().__init__(NUMBERS)

    def reward(self, action: Any) -> float:
        return -float(np.abs(action - self._shown).sum())

    def ends(self) -> tuple[bool, bool]:
        return False, self._time >= 3


class BoundedEnv(ReachEnv):
    """The same with actions within bounds, of two heads."""

    def __init__(self) -> None:
        super().__init__()
        bounds = {"first": spaces.Box(-1, 3, (1,), np.float32), "second": spaces.Box(-1, 1, (1,), np.float32)}
        self.action_spaces = {0: spaces.Dict(bounds)}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        return super().step({"action": np.concatenate((action["first"], action["second"]))})


class OneNumberEnv(ReachEnv):
    """The same with one head within bounds, which reaches for the first number."""

    def __init__(self) -> None:
        super().__init__()
        self.action_spaces = {0: spaces.Dict({"action": spaces.Box(-2, 2, (1,), np.float32)})}

    def reward(self, action: Any) -> float:
        return -float(np.abs(action[0] - self._shown[0]))


class MaskedEnv(SignEnv):
    """The same with a third action that pays 5 and that the mask forbids."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(3))
        mask = spaces.Box(0, 1, (3,), np.int8)
        self.observation_spaces = {0: spaces.Dict({"observation": NUMBERS, "action_mask": mask})}

    def reward(self, action: Any) -> float:
        assert action != 2
        return super().reward(action)

    def _see(self) -> Observation:
        return super()._see() | {"action_mask": np.array([1, 1, 0], np.int8)}


class TwoAgentsEnv(SignEnv):
    """The same with two agents, who take turns."""

    def __init__(self) -> None:
        super().__init__()
        self.agent_counts = {0: 2}


class LimitedTwoAgentsEnv(TwoAgentsEnv):
    """Two agents that take turns within a step; a limit of 5 turns cuts the episode."""

    def ends(self) -> tuple[bool, bool]:
        return False, self._time >= 5

    def actor_id(self) -> ActorID:
        return ActorID(0, self._time % 2)


class PictureEnv(SignEnv):
    """The same, the sign shown by a bright half of a noisy picture."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_spaces = {0: spaces.Dict({"observation": PICTURES})}

    def _see(self) -> Observation:
        super()._see()
        picture = self._rng.integers(0, 100, PICTURES.shape, np.uint8)
        picture[:, 4 * (self._shown[0] > 0) :][:, :4] += 100
        return {"observation": picture}


class PaidEnv(SignEnv):
    """Pays 1 whatever is done and shows the same; a limit of 4 steps cuts the episode."""

    def reward(self, action: Any) -> float:
        return 1.0

    def ends(self) -> tuple[bool, bool]:
        return False, self._time >= 4

    def _see(self) -> Observation:
        return {"observation": np.ones(2, np.float32)}


class PaidByNumbersEnv(PaidEnv):
    def __init__(self) -> None:
        super().__init__(spaces.Box(-2, 2, (1,), np.float32))


WORLDS = {"sign": SignEnv, "reach": ReachEnv, "boxes": make_boxes}


def parts(
    world: Any = SignEnv,
    n_envs: int = 2,
    seed: int = 7,
    model: Any = None,
    needs: ModelNeeds | None = None,
    gaussian: GaussianArgs | None = None,
) -> Parts:
    env = PerEnvVectorEnv([world] * n_envs)
    if model is None:
        policy = ProbabilisticPolicyComposerConfig(networks=[FlattenConcatPolicyNetConfig(hidden_units=[8])])
        critic = StepStateCriticConfig(networks=[FlattenConcatStateValueNetConfig(hidden_units=[8])])
        model = CustomModelConfig(policy=policy, critic=critic, gaussian=gaussian or GaussianArgs())
    made = model.build(
        env.observation_spaces, env.action_spaces, env.agent_counts, generator_seed=seed, needs=needs
    )
    return Parts(env=env, policy=made.policy, critic=made.critic, agent_seed=seed)


def trainer_of(config: Any, world: Any = SignEnv, **given: Any) -> Any:
    """A trainer whose environments were reset."""
    made = parts(world, needs=config.model_needs, **given)
    trainer = config.build(made)
    trainer.reset_envs(list(range(made.env.n_envs)))
    return trainer


def learner_of(policy: Any, critic: Any, lr: float = 0.01) -> tuple[Learner, GradientStep]:
    step = GradientStep({"policy": policy, "critic": critic}, lr=lr, max_grad_norm=None)
    return Learner(policy, critic, step), step


class Pictures(nn.Module):
    """Policy and critic of pictures on one trunk; their first weights do not depend on torch's generator."""

    def __init__(self, n_values: int = 1) -> None:
        super().__init__()
        layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), nn.Tanh())
        self.trunk, self.policy, self.value = nn.Sequential(*layers), nn.Linear(5, 2), nn.Linear(5, n_values)
        rng = np.random.default_rng(5)
        with torch.no_grad():
            for parameter in self.parameters():
                values = 0.3 * rng.standard_normal(parameter.shape, np.float32)
                parameter.copy_(torch.from_numpy(values))

    def forward(self, observations: Any) -> dict[str, torch.Tensor]:
        features = self.trunk(observations["observation"].permute(0, 3, 1, 2) / 255)
        return {"action": self.policy(features), "value": self.value(features)}


class Twin(nn.Module):
    """A dense net as a torch module that reads what it is shown in the order in which it is shown."""

    def __init__(self, network: GraphNetwork) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for op in network.program.dense:
            layer = nn.Linear(op.n_in, op.n_out)
            for name, parameter in ((op.weight, layer.weight), (op.bias, layer.bias)):
                parameter.data = torch.from_numpy(network.parameters[name].copy())
            layers += [layer, nn.Tanh()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.net(torch.cat([x for name, x in seen.items() if name != "action_mask"], 1))


def twin_of(network: GraphNetwork) -> ModuleNetwork:
    return ModuleNetwork(Twin(network), {"output": network.program.dense[-1].n_out})


def two_actions(advantages: list[float], actions: list[int] | None = None, returns: float = 1.0) -> Samples:
    """Samples of :class:`SignEnv` that show (1, 1), log-probabilities of the uniform policy."""
    n = len(advantages)
    return Samples(
        {"observation": np.ones((n, 2), np.float32)},
        {"action": np.array(actions or [1] * n)},
        np.zeros(n, np.int64),
        np.full(n, -np.log(2.0), np.float32),
        np.array(advantages, np.float32),
        np.full(n, returns, np.float32),
        np.zeros(n, np.float32),
    )


def flat(networks: Networks) -> Array:
    """A copy of all parameters, one after the other."""
    return np.concatenate([array.reshape(-1) for array in networks.parameters.values()])


def probability(trainer: Any, action: int = 1) -> float:
    """π(action | (1, 1)) in :class:`SignEnv`."""
    log_probs, _ = log_probs_and_entropy(trainer.policy, 0, *_one(action))
    return log_probs.exp().item()


def entropy(trainer: Any) -> float:
    return log_probs_and_entropy(trainer.policy, 0, *_one(0))[1].item()


def _one(action: int) -> tuple[Observation, Action]:
    return {"observation": np.ones((1, 2), np.float32)}, {"action": np.array([action])}


def recorded(world: Any = SignEnv, n: int = 5) -> dict[str, Trajectory]:
    """Episodes of a random policy, by name."""
    env = PerEnvVectorEnv([world])
    played = run_episodes(env, RandomPolicy(env.action_spaces), range(n), record=True)
    return {f"episode {i}": episode.trajectory for i, episode in enumerate(played)}
