#!/usr/bin/env bash
# gymnasium 1.4.0: the vector wrapper NormalizeReward, discounted return with gamma=1, episodes of three rewards of 1.
# Guess: the running return starts anew with each episode, however the last one ended and whichever autoreset mode.
# Seen: with NEXT_STEP it is never ended by a truncation (3, 3, 4, 5, 6, 6, 7 ...: it grows for ever, so the scale
# does too), only by a termination; with SAME_STEP the last reward of every episode is wiped before it is counted.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NormalizeReward


class ThreeSteps(gymnasium.Env):
    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, is_time_limit):
        self.is_time_limit = is_time_limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        ends = self.t == 3
        return np.zeros(1, np.float32), 1.0, ends and not self.is_time_limit, ends and self.is_time_limit, {}


def returns(mode, is_time_limit):
    vector = SyncVectorEnv([lambda: ThreeSteps(is_time_limit)], autoreset_mode=mode)
    env = NormalizeReward(vector, gamma=1.0)
    env.reset(seed=0)
    seen = []
    for _ in range(9):
        env.step(np.zeros(1, int))
        seen.append(float(env.accumulated_reward[0]))
    return seen


time_limit = returns(AutoresetMode.NEXT_STEP, is_time_limit=True)
same_step = returns(AutoresetMode.SAME_STEP, is_time_limit=False)
print("NEXT_STEP, truncated:", time_limit)
print("SAME_STEP, terminated:", same_step)
assert time_limit == [1, 2, 3, 3, 4, 5, 6, 6, 7]
assert same_step == [1, 2, 0, 1, 2, 0, 1, 2, 0]
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
