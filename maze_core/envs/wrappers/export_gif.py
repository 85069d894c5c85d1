"""Episodes as animated pictures, one file each; chosen episodes are filmed as MP4 by ``rollout(videos=…)``."""

import importlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from maze_core.config.settings import dataclass
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.vector import Tick, VectorEnv
from maze_core.envs.wrappers.stepping import StepLayer
from maze_core.envs.wrappers.wrapper import STRICT, Actions, WrappedVectorEnv, Wrapper
from maze_core.errors import EnvError

_WAY_OUT = "env.vectorization=per_env with env.kwargs={render_mode: rgb_array}, and runner=dev"


@dataclass(kw_only=True, eq=False, config=STRICT)
class ExportGifWrapper(Wrapper):
    """Write each episode of the first environment as a GIF; Pillow encodes it."""

    export: Path = Path("gifs")
    """Folder of the files, ``episode-00000.gif`` and so on; it is made where there is none."""
    duration: Annotated[float, Field(gt=0.0, le=60.0)] = 0.1
    """Seconds for which a picture is shown."""

    def stepping(self, env: VectorEnv) -> VectorEnv:
        """Look at the first environment after every step."""
        inner: Any = env
        while isinstance(inner, WrappedVectorEnv | StepLayer):
            inner = inner.env
        if not isinstance(inner, PerEnvVectorEnv) or inner.envs[0].render_mode != "rgb_array":
            raise EnvError(f"ExportGifWrapper needs environments here that give pictures: {_WAY_OUT}.")
        try:
            image = importlib.import_module("PIL.Image")
        except ImportError as error:
            raise EnvError("ExportGifWrapper needs Pillow: pip install 'maze-service[gif]'") from error
        return _Drawing(env, inner, self, image)


class _Drawing(StepLayer):
    def __init__(self, env: VectorEnv, shown: PerEnvVectorEnv, wrapper: ExportGifWrapper, image: Any) -> None:
        super().__init__(env, type(wrapper).__name__)
        self._shown, self._wrapper, self._image = shown, wrapper, image
        self._pictures: list[Any] = []

    def reset(self, seeds: Any, rows: Any = None) -> Tick:
        tick = super().reset(seeds, rows)
        if rows is None or rows[0]:
            self._pictures = [self._picture()]
        return tick

    def step(self, actions: Actions) -> Tick:
        self._begin_step()
        inner = self.env.step(actions)
        self._add(inner, np.ones(self.n_envs, np.bool_))
        self._show(inner)
        self._pictures.append(self._picture())
        if inner.ended[0]:
            self._write()
        return self._tick

    def _picture(self) -> Any:
        return self._image.fromarray(np.asarray(self._shown.render(0), np.uint8))

    def _write(self) -> None:
        """The episode that ended; the picture after it is the first one of the next."""
        pictures, self._pictures = self._pictures, []
        folder = self._wrapper.export
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("episode-*.gif")))
        first, *others = pictures
        first.save(
            folder / f"episode-{number:05d}.gif",
            save_all=True,
            append_images=others,
            duration=int(1000 * self._wrapper.duration),
            loop=0,
        )
        self._pictures = [self._picture_of_next()]

    def _picture_of_next(self) -> Any:
        return self._image.fromarray(np.asarray(self._shown.envs[0].render(), np.uint8))
