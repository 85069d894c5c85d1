"""Environments that count those that live; apart, so that a process which makes one imports little else."""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from maze_core.envs.gym_env import GymMazeEnv
from tests.maze_core.envs.small_envs import EpisodeNumberEnv


class Counted(EpisodeNumberEnv):
    """Notes in a folder that it lives, and refuses to live beside too many others, in whatever process."""

    def __init__(self):
        super().__init__()
        folder, most = Path(os.environ["COUNTED_FOLDER"]), int(os.environ["COUNTED_MOST"])
        if len(alive := list(folder.glob("*.alive"))) >= most:
            raise RuntimeError(f"{len(alive)} live already")
        if os.environ.get("COUNTED_APART") and any(path.name.startswith(f"{os.getpid()}-") for path in alive):
            raise RuntimeError("one lives in this process already")
        self.mark = folder / f"{os.getpid()}-{id(self)}.alive"
        self.mark.touch()
        with (folder / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")

    def close(self):
        self.mark.unlink(missing_ok=True)


def make():
    return GymMazeEnv(Counted())


class Seen(Counted):
    """Can be filmed."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    render_mode = "rgb_array"

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


def make_seen():
    return GymMazeEnv(Seen())
