"""An environment that ends its program; apart, so that a process which makes it imports little else."""

import sys

import gymnasium


class LeavingEnv(gymnasium.Wrapper):
    """CartPole that leaves in the method it is told, as pygame's examples do when their window is closed."""

    def __init__(self, where: str) -> None:
        if where == "constructor":
            sys.exit("no display")
        self.where = where
        super().__init__(gymnasium.make("CartPole-v1"))

    def reset(self, **options):
        if self.where == "reset":
            sys.exit("no display")
        return super().reset(**options)

    def step(self, action):
        if self.where == "step":
            sys.exit("no display")
        return super().step(action)

    def close(self):
        if self.where == "close":
            sys.exit("no display")
