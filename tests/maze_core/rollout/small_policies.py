"""Small policies for tests: pure functions of the observation's row and the noise's row."""

from typing import Any

import numpy as np

from maze_core.types import Action, FloatArray, IntArray, Observation, StepKey


class SwingPolicy:
    """Balances CartPole for a while: pushes towards where the pole falls, and sometimes not."""

    needs_noise = False

    def act(
        self,
        step_key: StepKey,
        observations: Observation,
        *,
        deterministic: bool,
        noise: FloatArray | None,
        agent_id: IntArray | None = None,
    ) -> Action:
        falling = observations["observation"][:, 2] + 0.5 * observations["observation"][:, 3] > 0
        if not deterministic:
            assert noise is not None
            falling = falling ^ (noise[:, 0] < 0.3)
        return {"action": falling.astype(np.int64)}

    def noise(self, step_key: StepKey, rng: np.random.Generator, n_rows: int) -> FloatArray:
        return rng.random((n_rows, 1))


class BoxesPolicy:
    """Plays BoxesEnv: the right box and the wanted item, or with noise any allowed one."""

    needs_noise = False

    def __init__(self) -> None:
        self.batches: list[tuple[Any, int]] = []

    def act(
        self,
        step_key: StepKey,
        observations: Observation,
        *,
        deterministic: bool,
        noise: FloatArray | None,
        agent_id: IntArray | None = None,
    ) -> Action:
        scores = observations["right_box" if step_key == 0 else "wanted"]
        self.batches.append((step_key, len(scores)))
        mask = observations.get("action_mask", np.ones_like(scores))
        if not deterministic:
            assert noise is not None
            scores = scores * 0.5 + noise[:, : scores.shape[1]]
        return {"action": np.where(mask > 0, scores + 0.01, 0).argmax(axis=1)}

    def noise(self, step_key: StepKey, rng: np.random.Generator, n_rows: int) -> FloatArray:
        return rng.random((n_rows, 4))
