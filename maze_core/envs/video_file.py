"""A film of pictures: H.264 in an MP4 file, which every browser plays.

The encoder is ffmpeg, a process of its own, which the extra ``video`` brings (imageio-ffmpeg). It writes beside
the place of the film, and only a film that it ended without an error gets its name. It is started here and not
by ``imageio_ffmpeg.write_frames``, which hides whether and why the encoder failed, lets it write to the terminal
and starts it with a ``preexec_fn``, which is not safe beside other threads.
"""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from maze_core.errors import EnvError
from maze_core.types import Array

INSTALL = "pip install 'maze-service[video]'"

# one thread: films are made beside environments that want the cores
_CODEC = ("-an", "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-pix_fmt", "yuv420p")
# yuv420p keeps one colour for four pixels, so sizes are even
_EVEN = ("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-fps_mode", "passthrough")
_CONTAINER = ("-movflags", "+faststart", "-f", "mp4")


class VideoFile:
    """One film, written picture by picture. Not thread-safe; end it with ``close()`` or ``discard()``."""

    def __init__(self, path: Path, fps: float) -> None:
        """Describe the film; nothing is written before its first picture.

        Args:
            path: where the film will lie; folders that are missing are made.
            fps: pictures per second, > 0.
        """
        self.path = path.absolute()
        self._fps = fps
        self._size: tuple[int, int] | None = None
        self._encoder: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._is_over = False

    def add(self, frame: Array) -> None:
        """Append one picture; a film that fails is discarded.

        Args:
            frame: ``[H, W, 3]`` uint8, RGB; all of one size. An odd height or width is padded by one black line.

        Raises:
            EnvError: it is no such picture, the film is over, or the encoder is missing or failed.
        """
        if self._is_over:
            raise EnvError(f"The film {self.path} is over.")
        try:
            stdin = self._stdin(_size_of(frame))
            stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            reason = self._end(is_wanted=False) or str(error)
            raise EnvError(f"{self.path} could not be filmed: {reason}") from error
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Finish the film and give it its name; without a picture there is none. A second call does nothing.

        Raises:
            EnvError: the encoder failed; nothing is left.
        """
        if reason := self._end(is_wanted=True):
            raise EnvError(f"{self.path} could not be filmed: {reason}")

    def discard(self) -> None:
        """End the encoder and leave nothing. After ``close()`` it does nothing."""
        self._end(is_wanted=False, is_killed=True)

    def _stdin(self, size: tuple[int, int]) -> IO[bytes]:
        """Where the encoder takes pictures of this size."""
        if self._encoder is None:
            self._encoder, self._size = self._start(size), size
        if size != self._size:
            raise EnvError(f"A picture has {_shown(size)} pixels, those before it had {_shown(self._size)}.")
        assert self._encoder.stdin is not None
        return self._encoder.stdin

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
        """End the encoder, if it runs, and keep the film if it is whole and wanted; else why there is none."""
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
        raise EnvError(f"Films need imageio-ffmpeg, which is not installed: {INSTALL}") from error
    try:
        path: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise EnvError(f"Films need ffmpeg: {error}") from error
    return path


def remove_film(path: Path) -> None:
    """Remove a film and what a process that died may have left of it; no error where there is neither."""
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
