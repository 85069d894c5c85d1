"""An environment whose module registers a further one while it is imported."""

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

gymnasium.register("Later-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
LateEnv = CartPoleEnv
