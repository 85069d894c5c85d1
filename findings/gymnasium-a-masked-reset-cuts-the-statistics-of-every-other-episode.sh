#!/usr/bin/env bash
# gymnasium 1.4.0: the vector wrapper RecordEpisodeStatistics, AutoresetMode.DISABLED, reset(options={"reset_mask": ...}).
# Guess: the statistics of the sub-environments in the mask begin anew, those of the others run on, as the wrapper's
# own code for "reset_mask" says.
# Seen: the vector environment inside takes "reset_mask" out of the options before the wrapper looks, so the wrapper
# takes every masked reset for a whole one. An episode of ten rewards of 1 in the other sub-environment, whose
# neighbour was reset after its third step, is reported with return 7 and length 7. SyncVectorEnv and AsyncVectorEnv.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics


class TenSteps(gymnasium.Env):
    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t == 10, False, {}


def main():
    for vectorize in (SyncVectorEnv, AsyncVectorEnv):
        vector = vectorize([TenSteps, TenSteps], autoreset_mode=AutoresetMode.DISABLED)
        env = RecordEpisodeStatistics(vector)
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.zeros(2, int))
        env.reset(options={"reset_mask": np.array([True, False])})
        for _ in range(7):
            *_, info = env.step(np.zeros(2, int))
        episode = {name: float(info["episode"][name][1]) for name in ("r", "l")}
        print(vectorize.__name__, "episode of ten steps:", episode)
        assert info["_episode"].tolist() == [False, True]
        assert episode == {"r": 7.0, "l": 7.0}
        env.close()


if __name__ == "__main__":
    main()
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
