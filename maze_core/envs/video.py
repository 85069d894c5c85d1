"""Videos of chosen episodes: one picture after the reset and one per flat step, as MP4.

An episode is chosen by the seed that it is reset with, so the same episodes are filmed however many environments
play them, in whatever order and process. Filming only looks: it changes no number.

A file is H.264 in MP4, which every browser plays. The encoder is ffmpeg, a process of its own, which the extra
``video`` brings (imageio-ffmpeg). It writes beside the place of the video, and only a video that it ended without an
error gets its name. It is started here and not by ``imageio_ffmpeg.write_frames``, which hides whether and why the
encoder failed, lets it write to the terminal and starts it with a ``preexec_fn``, which is not safe beside other
threads.
"""

import contextlib
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from maze_core.envs.contract import close_all, five_values, flag, say_failed_closes
from maze_core.envs.core_env import Outcome, StructuredEnv
from maze_core.errors import USER_CODE_ERRORS, EnvError, InvalidSpecificationError, Problem, reason_of
from maze_core.events.declared import EpisodeValues
from maze_core.notices import Notices
from maze_core.types import Action, ActorID, Array, Observation

_WAY_OUT = 'make it with render_mode="rgb_array"'
INSTALL = "pip install 'maze-service[video]'"

# one thread: videos are made beside environments that want the cores
_CODEC = ("-an", "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-pix_fmt", "yuv420p")
# yuv420p keeps one colour for four pixels, so sizes are even
_EVEN = ("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-fps_mode", "passthrough")
_CONTAINER = ("-movflags", "+faststart", "-f", "mp4")


class VideoEnv(StructuredEnv):
    """An environment that films the episodes begun with certain seeds; the last step of one finishes its video."""

    bare = None

    def __init__(
        self, env: StructuredEnv, videos: Mapping[int, Path], *, max_steps: int | None = None
    ) -> None:
        """Take ownership of ``env``, which is closed if it is refused.

        Args:
            env: one made with ``render_mode="rgb_array"``.
            videos: seed → where the video of the episode goes that is reset with it.
            max_steps: flat steps after which a video ends, while its episode may go on; None films it whole.

        Raises:
            EnvError: ``env`` gives no pictures.
        """
        if env.render_mode != "rgb_array":
            say_failed_closes(close_all([env]), Notices.current())
            raise EnvError(
                f"The environment gives no pictures (its render_mode is {env.render_mode!r}); {_WAY_OUT}."
            )
        self._env = env
        self._videos = videos
        self._max_steps = max_steps
        self._video: VideoFile | None = None
        self._n_steps = 0
        self.observation_spaces = env.observation_spaces
        self.action_spaces = env.action_spaces
        self.agent_counts, self.rewards = env.agent_counts, env.rewards
        self.event_interfaces = env.event_interfaces
        self.render_mode = env.render_mode
        self.render_fps = env.render_fps

    def reset(self, *, seed: int | None = None) -> Observation:
        """Start an episode, and its video if its seed is one of those."""
        self._finish()
        observation = self._env.reset(seed=seed)
        if seed is not None and seed in self._videos:
            self._video = VideoFile(self._videos[seed], self.render_fps)
            self._n_steps = 0
            self._shoot(self._video)
        return observation

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one sub-step; with the last of a flat step, film it."""
        result = five_values(self._env.step(action))
        if self._video is not None:
            is_over = flag(result[2], "terminated") or flag(result[3], "truncated")
            if is_over or self._env.is_flat_step_done():
                self._n_steps += 1
                self._shoot(self._video)
                if is_over or self._n_steps == self._max_steps:
                    self._finish()
        return result

    def actor_id(self) -> ActorID:
        """Who acts on the last observation."""
        return self._env.actor_id()

    def outcomes(self) -> Sequence[Outcome] | None:
        """As the environment says."""
        return self._env.outcomes()

    def is_flat_step_done(self) -> bool:
        """As the environment says."""
        return self._env.is_flat_step_done()

    def begin_statistics(self) -> None:
        """In the environment."""
        self._env.begin_statistics()

    def episode_values(self) -> EpisodeValues:
        """As the environment says."""
        return self._env.episode_values()

    def render(self) -> Any:
        """The current picture."""
        return self._env.render()

    def close(self) -> None:
        """Finish the video that runs, and close the environment."""
        try:
            self._finish()
        finally:
            self._env.close()

    def _shoot(self, video: "VideoFile") -> None:
        try:
            video.add(self._env.render())
        except BaseException:
            self._video = None
            video.discard()
            raise

    def _finish(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close()


def make_video_env(
    make: Callable[[], StructuredEnv], videos: Mapping[int, Path], max_steps: int | None = None
) -> VideoEnv:
    """One :class:`VideoEnv`, in whichever process this is called; ``make`` makes one that gives pictures."""
    return VideoEnv(make(), videos, max_steps=max_steps)


def check_encoder() -> None:
    """Look for the encoder.

    Raises:
        InvalidSpecificationError: it is not installed; the path of the problem is ``videos``.
    """
    try:
        find_encoder()
    except EnvError as error:
        raise _refusal(str(error), "missing_extra") from error


def check_videos(make: Callable[[], StructuredEnv]) -> None:
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
            video = Path(folder) / "one_picture.mp4"
            with contextlib.closing(make_video_env(make, {0: video})) as env:
                env.reset(seed=0)
    except EnvError as error:
        raise _refusal(str(error)) from error
    except USER_CODE_ERRORS as error:
        raise _refusal(reason_of(error)) from error


def _refusal(reason: str, code: str = "cannot_be_filmed") -> InvalidSpecificationError:
    message = f"episodes cannot be filmed: {reason}"
    if code == "cannot_be_filmed" and _WAY_OUT not in reason:
        message = f"{message} Take an environment that can show itself, and {_WAY_OUT}."
    return InvalidSpecificationError([Problem(path="videos", message=message, code=code)])


class VideoFile:
    """One video, written picture by picture. Not thread-safe; end it with ``close()`` or ``discard()``."""

    def __init__(self, path: Path, fps: float) -> None:
        """Describe the video; nothing is written before its first picture.

        Args:
            path: where the video will lie; folders that are missing are made.
            fps: pictures per second, > 0.
        """
        self.path = path.absolute()
        self._fps = fps
        self._size: tuple[int, int] | None = None
        self._encoder: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._is_over = False

    def add(self, frame: Array) -> None:
        """Append one picture; a video that fails is discarded.

        Args:
            frame: ``[H, W, 3]`` uint8, RGB; all of one size. An odd height or width is padded by one black line.

        Raises:
            EnvError: it is no such picture, the video is over, or the encoder is missing or failed.
        """
        if self._is_over:
            raise EnvError(f"The video {self.path} is over.")
        try:
            size = _size_of(frame)
            if self._encoder is None:
                self._encoder, self._size = self._start(size), size
            if size != self._size:
                raise EnvError(
                    f"A picture has {_shown(size)} pixels, those before it had {_shown(self._size)}."
                )
            assert self._encoder.stdin is not None
            self._encoder.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            reason = self._end(is_wanted=False) or str(error)
            raise EnvError(f"{self.path} could not be filmed: {reason}") from error
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Finish the video and give it its name; without a picture there is none. A second call does nothing.

        Raises:
            EnvError: the encoder failed; nothing is left.
        """
        if reason := self._end(is_wanted=True):
            raise EnvError(f"{self.path} could not be filmed: {reason}")

    def discard(self) -> None:
        """End the encoder and leave nothing. After ``close()`` it does nothing."""
        self._end(is_wanted=False, is_killed=True)

    def _start(self, size: tuple[int, int]) -> "subprocess.Popen[bytes]":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        source = f"-f rawvideo -pix_fmt rgb24 -s {_shown(size)} -r {self._fps} -i pipe:0".split()
        partial = str(_partial(self.path))
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 -- closed where the encoder is ended
        return subprocess.Popen(
            [find_encoder(), "-v", "error", "-y", *source, *_EVEN, *_CODEC, *_CONTAINER, partial],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            process_group=0,  # Ctrl-C is ours to handle
        )

    def _end(self, *, is_wanted: bool, is_killed: bool = False) -> str | None:
        """End the encoder, if it runs, and keep the video if it is whole and wanted; else why there is none."""
        self._is_over = True
        encoder, self._encoder = self._encoder, None
        said, self._said = self._said, None
        with said or contextlib.nullcontext():
            if encoder is None:
                return None
            try:
                code = _exit_code(encoder, is_killed=is_killed)
                if is_wanted and code == 0:
                    os.replace(_partial(self.path), self.path)
                    return None
                return _reason(said, code)
            except OSError as error:
                return str(error)
            finally:
                _partial(self.path).unlink(missing_ok=True)


def find_encoder() -> str:
    """The ffmpeg that imageio-ffmpeg brings or finds.

    Raises:
        EnvError: imageio-ffmpeg is not installed, or there is no ffmpeg.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise EnvError(f"Videos need imageio-ffmpeg, which is not installed: {INSTALL}") from error
    try:
        path: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise EnvError(f"Videos need ffmpeg: {error}") from error
    return path


def thumbnail(video: Path) -> bytes:
    """A telling picture of a video, as PNG of at most 320 pixels' width.

    Raises:
        EnvError: the encoder is missing, or makes nothing of it.
    """
    chosen = ("-vf", "thumbnail=100,scale='min(320,iw)':-1", "-frames:v", "1")
    done = subprocess.run(
        [
            find_encoder(),
            "-v",
            "error",
            "-i",
            str(video),
            *chosen,
            "-c:v",
            "png",
            "-f",
            "image2pipe",
            "pipe:1",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode or not done.stdout:
        raise EnvError(f"No picture could be taken of {video}: {done.stderr.decode(errors='replace')[:300]}")
    return done.stdout


def remove_video(path: Path) -> None:
    """Remove a video and what a process that died may have left of it; no error where there is neither."""
    path.unlink(missing_ok=True)
    _partial(path).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _size_of(frame: Any) -> tuple[int, int]:
    """Width and height of a picture."""
    is_array = isinstance(frame, np.ndarray)
    if is_array and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and frame.size:
        return frame.shape[1], frame.shape[0]
    given = f"a {frame.dtype} array of shape {frame.shape}" if is_array else f"a {type(frame).__name__}"
    raise EnvError(f"A picture must be a uint8 array [H, W, 3] of red, green and blue, not {given}.")


def _shown(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))


def _exit_code(encoder: "subprocess.Popen[bytes]", *, is_killed: bool) -> int:
    """Let the encoder finish, or kill it; its exit code."""
    assert encoder.stdin is not None
    try:
        if is_killed:
            encoder.kill()
        with contextlib.suppress(OSError):  # it is gone already
            encoder.stdin.close()
        return encoder.wait()
    except BaseException:
        encoder.kill()
        encoder.wait()
        raise


def _reason(said: IO[bytes] | None, code: int) -> str:
    """What the encoder said first, which is nearest to the cause."""
    assert said is not None
    said.seek(0)
    lines = said.read(1000).decode(errors="replace").splitlines()
    return "; ".join(lines[:3]) or f"the encoder ended with exit code {code}."
