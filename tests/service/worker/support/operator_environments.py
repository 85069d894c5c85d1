"""An operator's module: importing it registers environments, one of which registers more when its code is loaded."""

import gymnasium

gymnasium.register("Operator-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
gymnasium.register("Late-v0", entry_point="tests.service.worker.support.registers_more:LateEnv")
gymnasium.register("Draws-v0", entry_point="tests.maze_core.envs.small_envs:DrawsFromTheProcess")
