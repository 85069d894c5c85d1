"""Films of chosen episodes: one picture after the reset and one per flat step, as MP4.

An episode is chosen by the seed that it is reset with, so the same episodes are filmed however many environments
play them, in whatever order and process. Filming only looks: it changes no number.
"""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maze_core.envs.contract import close_all, five_values, flag, warn_of_failed_closes
from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.video_file import VideoFile, find_encoder
from maze_core.errors import EnvError, InvalidSpecificationError, Problem
from maze_core.types import Action, ActorID, Observation

_WAY_OUT = 'make it with render_mode="rgb_array"'


class FilmedEnv(StructuredEnv):
    """An environment that films the episodes begun with certain seeds; the last step of one finishes its film."""

    bare = None

    def __init__(
        self, env: StructuredEnv, films: Mapping[int, Path], *, max_steps: int | None = None
    ) -> None:
        """Take ownership of ``env``.

        Args:
            env: one made with ``render_mode="rgb_array"``.
            films: seed → where the film of the episode goes that is reset with it.
            max_steps: flat steps after which a film ends, while its episode may go on; None films it whole.

        Raises:
            EnvError: ``env`` gives no pictures.
        """
        if env.render_mode != "rgb_array":
            raise EnvError(
                f"The environment gives no pictures (its render_mode is {env.render_mode!r}); {_WAY_OUT}."
            )
        self._env = env
        self._films = films
        self._max_steps = max_steps
        self._film: VideoFile | None = None
        self._n_steps = 0
        self.observation_spaces = env.observation_spaces
        self.action_spaces = env.action_spaces
        self.agent_counts = env.agent_counts
        self.render_mode = env.render_mode
        self.render_fps = env.render_fps

    def reset(self, *, seed: int | None = None) -> Observation:
        """Start an episode, and its film if its seed is one of those."""
        self._finish()
        observation = self._env.reset(seed=seed)
        if seed is not None and seed in self._films:
            self._film = VideoFile(self._films[seed], self.render_fps)
            self._n_steps = 0
            self._shoot(self._film)
        return observation

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one sub-step; with the last of a flat step, film it."""
        result = five_values(self._env.step(action))
        if self._film is not None:
            is_over = flag(result[2], "terminated") or flag(result[3], "truncated")
            if is_over or self._env.is_flat_step_done():
                self._n_steps += 1
                self._shoot(self._film)
                if is_over or self._n_steps == self._max_steps:
                    self._finish()
        return result

    def actor_id(self) -> ActorID:
        """Who acts on the last observation."""
        return self._env.actor_id()

    def is_flat_step_done(self) -> bool:
        """As the environment says."""
        return self._env.is_flat_step_done()

    def render(self) -> Any:
        """The current picture."""
        return self._env.render()

    def close(self) -> None:
        """Finish the film that runs, and close the environment."""
        try:
            self._finish()
        finally:
            self._env.close()

    def _shoot(self, film: VideoFile) -> None:
        try:
            film.add(self._env.render())
        except BaseException:
            self._film = None
            film.discard()
            raise

    def _finish(self) -> None:
        film, self._film = self._film, None
        if film is not None:
            film.close()


@dataclass(frozen=True, kw_only=True)
class FilmedEnvFactory:
    """Makes a filmed environment, in whichever process it is called."""

    make: Callable[[], StructuredEnv]
    """Makes one that gives pictures."""
    films: Mapping[int, Path]
    max_steps: int | None = None

    def __call__(self) -> FilmedEnv:
        """One filmed environment.

        Raises:
            EnvError: it cannot be made, or gives no pictures.
        """
        made = self.make()
        try:
            return FilmedEnv(made, self.films, max_steps=self.max_steps)
        except BaseException:
            warn_of_failed_closes(close_all([made]))
            raise


def check_encoder() -> None:
    """Look for the encoder.

    Raises:
        InvalidSpecificationError: it is not installed; the path of the problem is ``videos``.
    """
    try:
        find_encoder()
    except EnvError as error:
        raise _refusal(str(error), "missing_extra") from error


def check_can_be_filmed(make: Callable[[], StructuredEnv]) -> None:
    """Film one picture of one environment, which is thrown away.

    Args:
        make: makes one that gives pictures.

    Raises:
        InvalidSpecificationError: that does not work; the path of the problem is ``videos``.
    """
    check_encoder()
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gymnasium's, about the mode that is tried here
            film = Path(folder) / "one_picture.mp4"
            with contextlib.closing(FilmedEnvFactory(make=make, films={0: film})()) as env:
                env.reset(seed=0)
    except EnvError as error:
        raise _refusal(str(error)) from error
    except Exception as error:
        raise _refusal(f"{type(error).__name__}: {error}") from error


def _refusal(reason: str, code: str = "cannot_be_filmed") -> InvalidSpecificationError:
    message = f"episodes cannot be filmed: {reason}"
    if code == "cannot_be_filmed" and _WAY_OUT not in reason:
        message = f"{message} Take an environment that can show itself, and {_WAY_OUT}."
    return InvalidSpecificationError([Problem(path="videos", message=message, code=code)])
