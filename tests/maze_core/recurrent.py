"""Networks with a state, and worlds in which what was shown once decides what pays later."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from maze_core.envs.core_env import StructuredEnv
from maze_core.models.config import (
    CustomModelConfig,
    ProbabilisticPolicyComposerConfig,
    StepStateCriticConfig,
)
from maze_core.types import Action, ActorID, Observation

WIDTH = 8


class Gru(nn.Module):
    """A cell behind all that is shown, and a layer on it; a step at a time."""

    def __init__(self, obs_shapes, action_logits_shapes=None, width=WIDTH):
        super().__init__()
        n_in = sum(int(np.prod(shape)) for shape in obs_shapes.values())
        self.outputs = {name: shape[0] for name, shape in (action_logits_shapes or {"value": (1,)}).items()}
        self.cell = nn.GRUCell(n_in, width)
        self.last = nn.Linear(width, sum(self.outputs.values()))
        self.state_width = width

    def forward(self, seen):
        state = seen["state"]
        shown = [x.reshape(len(state), -1) for name, x in seen.items() if name != "state"]
        state = self.cell(torch.cat(shown, 1), state)
        outputs = self.last(state).split(list(self.outputs.values()), 1)
        return {**dict(zip(self.outputs, outputs, strict=True)), "state": state}


class WholeGru(Gru):
    """The same weights, given whole sequences where it learns."""

    reads_sequences = True

    def forward(self, seen):
        if "begins" not in seen:
            return super().forward(seen)
        now, steps = {"state": seen["state"]}, []
        for t, begins in enumerate(seen["begins"]):
            shown = {name: x[t] for name, x in seen.items() if name not in ("state", "begins")}
            now = super().forward({**shown, "state": now["state"] * (1 - begins[:, None])})
            steps.append(now)
        outputs = {name: torch.stack([step[name] for step in steps]) for name in self.outputs}
        return {**outputs, "state": now["state"]}


class Lstm(Gru):
    """The same with h and c side by side."""

    def __init__(self, obs_shapes, action_logits_shapes=None):
        super().__init__(obs_shapes, action_logits_shapes)
        self.cell = nn.LSTMCell(self.cell.input_size, WIDTH)
        self.state_width = 2 * WIDTH

    def forward(self, seen):
        h, c = seen["state"].split(WIDTH, 1)
        h, c = self.cell(torch.cat([x for name, x in seen.items() if name != "state"], 1), (h, c))
        outputs = self.last(h).split(list(self.outputs.values()), 1)
        return {**dict(zip(self.outputs, outputs, strict=True)), "state": torch.cat((h, c), 1)}


def model(policy: Any = Gru, critic: Any = Gru) -> CustomModelConfig:
    """A model of these networks."""
    return CustomModelConfig(
        policy=ProbabilisticPolicyComposerConfig(networks=[policy]),
        critic=StepStateCriticConfig(networks=[critic]),
    )


class CueEnv(StructuredEnv):
    """Shows a sign, 1 or -1, in the first of ``length`` steps and 0 later; at the end the action that names it pays.

    What is shown at the end is the same whatever the sign was: without memory nothing is better than chance.
    """

    def __init__(self, length: int = 3, limit: int | None = None) -> None:
        self.observation_spaces = {0: spaces.Dict({"observation": spaces.Box(-1, 1, (2,), np.float32)})}
        self.action_spaces = {0: spaces.Dict({"action": spaces.Discrete(2)})}
        self.agent_counts = {0: 1}
        self._length, self._limit = length, limit
        self._rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None) -> Observation:
        self._rng = self._rng if seed is None else np.random.default_rng(seed)
        self._cue, self._time = int(self._rng.integers(2)), 0
        return self._see()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._time += 1
        is_over = self._time >= self._length
        reward = (1.0 if int(action["action"]) == self._cue else -1.0) if is_over else 0.0
        return self._see(), reward, is_over, self._limit is not None and self._time >= self._limit, {}

    def actor_id(self) -> ActorID:
        return ActorID(0, 0)

    def close(self) -> None:
        pass

    def _see(self) -> Observation:
        sign = float(2 * self._cue - 1) if self._time == 0 else 0.0
        return {"observation": np.array([sign, self._time / self._length], np.float32)}
