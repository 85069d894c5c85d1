#!/usr/bin/env bash
# gymnasium 1.4.0: AsyncVectorEnv(shared_memory=False) keeps its own pending reset over an explicit one.
# Guess: shared_memory says how arrays travel, so both forms step alike. Seen: after all episodes ended and
# reset(options={"reset_mask": all}) was called, the next step() of the form without shared memory resets once more
# instead of stepping: observation 0 and reward 0 where the other form gives 1 and 1. A training loop that resets at
# chosen times counts one step per episode that never happened.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import gymnasium
import numpy as np
from gymnasium import spaces


class ThreeSteps(gymnasium.Env):
    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 3, False, {}


def after_reset(shared_memory):
    env = gymnasium.vector.AsyncVectorEnv([ThreeSteps] * 2, shared_memory=shared_memory)
    env.reset(seed=1)
    for _ in range(3):
        env.step(np.zeros(2, int))
    env.reset(options={"reset_mask": np.array([True, True])})
    observation, reward, *_ = env.step(np.zeros(2, int))
    env.close()
    return observation.ravel().tolist(), reward.tolist()


if __name__ == "__main__":
    with_shared, without = after_reset(True), after_reset(False)
    print("shared memory:", with_shared, "without:", without)
    assert with_shared == ([1.0, 1.0], [1.0, 1.0])
    assert without == ([0.0, 0.0], [0.0, 0.0])
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
