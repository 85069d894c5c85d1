"""An operator's module: importing it registers an environment."""

import gymnasium

gymnasium.register("Operator-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
