"""Environments that show what time it is, and videos of them read back."""

import warnings
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.maze_core.envs.structured_env import BoxesEnv

BRIGHTER = 20
"""How much brighter a picture is than the one of the flat step before."""


def read_video(path: Path) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """What a video says of itself, and its pictures ``[T, H, W, 3]``."""
    import imageio_ffmpeg

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # this reader leaves its pipes to the garbage collector
        frames = imageio_ffmpeg.read_frames(path)
        about = next(frames)
        width, height = about["size"]
        pictures = [np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3) for frame in frames]
        del frames
    return about, np.stack(pictures)


def times_in(path: Path) -> list[int]:
    """The flat step that each picture of a video shows."""
    _, pictures = read_video(path)
    return [round(picture.mean() / BRIGHTER) for picture in pictures]


def picture_of(time: int, height: int = 16, width: int = 24) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), BRIGHTER * time, dtype=np.uint8)


class ClockEnv(gymnasium.Env[Any, Any]):
    """Shows and observes the time; an episode lasts from 2 to 6 steps, as its random stream says."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}  # type: ignore[misc]

    def __init__(self, render_mode: str | None = None, fault: str | None = None) -> None:
        self.render_mode = render_mode
        self.fault = fault
        self.observation_space = spaces.Box(0.0, 1e6, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.is_closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        self.length = int(self.np_random.integers(2, 7))
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        if self.fault == "step" and self.time == 2:
            raise RuntimeError("the spring broke")
        return self._see(), float(self.np_random.random()), self.time >= self.length, False, {}

    def render(self) -> Any:
        if self.fault == "picture" and self.time == 1:
            return np.zeros((16, 24), dtype=np.float32)
        if self.fault == "render" and self.time == 1:
            raise RuntimeError("the lamp is out")
        return picture_of(self.time)

    def close(self) -> None:
        self.is_closed = True

    def _see(self) -> Any:
        return np.array([self.time, self.length], dtype=np.float32)


class ShownBoxesEnv(BoxesEnv):
    """The environment with sub-steps, seen: the round, however many sub-steps it takes."""

    render_mode = "rgb_array"

    def render(self) -> Any:
        return picture_of(self._round)


def make_shown_clock() -> ClockEnv:
    return ClockEnv(render_mode="rgb_array")


def make_shown_boxes() -> ShownBoxesEnv:
    return ShownBoxesEnv()


def make_failing_clock() -> ClockEnv:
    return ClockEnv(render_mode="rgb_array", fault="step")
