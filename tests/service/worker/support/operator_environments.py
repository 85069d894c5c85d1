"""An operator's module: importing it registers environments, one of which registers more when its code is loaded."""

import random

import gymnasium
import numpy as np
from gymnasium import spaces

gymnasium.register("Operator-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
gymnasium.register("Late-v0", entry_point="tests.service.worker.support.registers_more:LateEnv")


class DrawsFromTheProcess(gymnasium.Env):
    """Takes all its chance, also when it is made, from the generators of the process."""

    observation_space = spaces.Box(-1e9, 1e9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.offset = random.random()

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.array([np.random.uniform(), self.offset], np.float32), {}

    def step(self, action):
        self.time += 1
        seen = np.array([np.random.uniform(), random.random()], np.float32)
        return seen, float(np.random.uniform()), self.time == 9, False, {}


gymnasium.register("Draws-v0", entry_point=DrawsFromTheProcess)
