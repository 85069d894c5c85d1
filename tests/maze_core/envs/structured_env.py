"""A small environment with two sub-steps and a mask: choose a box, then items out of it."""

from typing import Any

import numpy as np
from gymnasium import spaces

from maze_core.envs.core_env import StructuredEnv
from maze_core.types import Action, ActorID, Observation

N_BOXES, N_ITEMS = 3, 4


class BoxesEnv(StructuredEnv):
    """Each round shows which box is right; its wanted item pays 1, everything else 0.

    Step key 0 chooses a box, step key 1 an item that ``action_mask`` allows; some rounds take a second item, so
    that environments of one batch come to stand at different sub-steps. An episode is ``n_rounds`` rounds (flat
    steps). Choosing an item that is not allowed is an error, which shows that masks are honoured.
    """

    def __init__(self, n_rounds: int = 5, *, fail_at_round: int | None = None) -> None:
        self.n_rounds = n_rounds
        self.fail_at_round = fail_at_round
        self.observation_spaces = {
            0: spaces.Dict({"right_box": _one_hot_space(N_BOXES), "rounds_left": _fraction()}),
            1: spaces.Dict({"wanted": _one_hot_space(N_ITEMS), "action_mask": _one_hot_space(N_ITEMS)}),
        }
        self.action_spaces = {
            0: spaces.Dict({"action": spaces.Discrete(N_BOXES)}),
            1: spaces.Dict({"action": spaces.Discrete(N_ITEMS)}),
        }
        self.agent_counts = {0: 1, 1: 1}
        self._rng = np.random.default_rng()
        self._is_closed = False

    def reset(self, *, seed: int | None = None) -> Observation:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._round = 0
        return self._begin_round()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        choice = int(action["action"])
        if self._step_key == 0:
            return self._open(choice), 0.0, False, False, {}
        if not self._mask[choice]:
            raise ValueError(f"item {choice} is not in the box: {self._mask}")
        if self._items_left > 1:
            self._items_left -= 1
            self._mask[choice] = 0
            self._mask[self._wanted] = self._is_right
            return self._see_items(), 0.0, False, False, {}
        reward = float(self._is_right and choice == self._wanted)
        self._round += 1
        if self._round == self.fail_at_round:
            raise RuntimeError("the lid fell shut")
        return self._begin_round(), reward, self._round >= self.n_rounds, False, {"round": self._round}

    def actor_id(self) -> ActorID:
        return ActorID(self._step_key, 0)

    def close(self) -> None:
        self._is_closed = True

    def _begin_round(self) -> Observation:
        self._step_key = 0
        self._right_box = int(self._rng.integers(N_BOXES))
        left = np.array([1 - self._round / self.n_rounds], dtype=np.float32)
        return {"right_box": _one_hot(self._right_box, N_BOXES), "rounds_left": left}

    def _open(self, box: int) -> Observation:
        self._step_key = 1
        self._is_right = box == self._right_box
        self._wanted = int(self._rng.integers(N_ITEMS))
        self._items_left = int(self._rng.integers(1, 3))
        self._mask = (self._rng.random(N_ITEMS) < 0.5).astype(np.float32)
        self._mask[self._wanted] = self._is_right
        others = [item for item in range(N_ITEMS) if item != self._wanted]
        self._mask[others[:2]] = 1
        return self._see_items()

    def _see_items(self) -> Observation:
        return {"wanted": _one_hot(self._wanted, N_ITEMS), "action_mask": self._mask.copy()}


def _one_hot(index: int, n: int) -> np.ndarray[Any, Any]:
    return np.eye(n, dtype=np.float32)[index]


def _one_hot_space(n: int) -> spaces.Box:
    return spaces.Box(0.0, 1.0, (n,), np.float32)


def _fraction() -> spaces.Box:
    return spaces.Box(0.0, 1.0, (1,), np.float32)


def make_boxes() -> BoxesEnv:
    return BoxesEnv()


def make_failing_boxes() -> BoxesEnv:
    return BoxesEnv(fail_at_round=2)
