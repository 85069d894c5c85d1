"""Draws docs/learning.gif: the first epochs of a shipped experiment, the policy as it plays beside its curve.

    python -m tools.gif             needs the extras video and bench (Pillow comes with matplotlib)

Nothing is staged: one run by the library, an episode with the same seed filmed before it and after each epoch, and the
mean returns of the evaluations that the run itself made.
"""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
from PIL import Image, ImageDraw, ImageFont

from maze_core import RunContext

FILE = Path(__file__).resolve().parents[1] / "docs" / "learning.gif"
EXPERIMENT, SEED, N_EPOCHS = "cartpole_ppo", 1, 7
SIZE = (720, 270)
SCENE = (330, 220)
CHART = (410, 52, 700, 226)
INK, FAINT, LINE = "#1b1f24", "#d0d7de", "#0072b2"
N_COLOURS = 24
EVERY = 4
"""Of how many pictures of a video one is shown."""


@dataclass(frozen=True)
class Stage:
    """The policy after one epoch."""

    epoch: int
    env_steps: int
    mean_return: float
    pictures: list[Image.Image]


def trained(folder: Path) -> Iterator[Stage]:
    """Film the policy before it is trained, and after each epoch."""
    with RunContext(folder / "run", experiment=EXPERIMENT, seed=SEED) as rc:
        untrained = rc.evaluate(n_episodes=20, seed=SEED).mean_return
        yield Stage(0, 0, untrained, filmed(rc, folder / "0"))
        for epoch in range(1, N_EPOCHS + 1):
            n_steps = rc.train(1).counters.env_steps
            rc.resume("last")
            mean_return = rc.metrics[-1]["eval/mean_return"]
            yield Stage(epoch, n_steps, mean_return, filmed(rc, folder / str(epoch)))


def filmed(rc: RunContext, folder: Path) -> list[Image.Image]:
    """One episode of the newest policy."""
    return list(pictures(rc.rollout(1, deterministic=True, seed=SEED, videos=1, save=folder).videos[0]))


def pictures(video: Path) -> Iterator[Image.Image]:
    """Every so many pictures of a film, small."""
    frames = imageio_ffmpeg.read_frames(str(video))
    width, height = next(frames)["size"]
    for frame in itertools.islice(frames, 0, None, EVERY):
        yield Image.frombytes("RGB", (width, height), frame).resize(SCENE, Image.Resampling.LANCZOS)


def shown(stages: list[Stage]) -> Iterator[tuple[Image.Image, int]]:
    """Frames and their milliseconds: short for who falls soon, long for the last."""
    for number, stage in enumerate(stages, 1):
        is_last = number == len(stages)
        most = 100 if is_last else 24
        for picture in stage.pictures[:most]:
            yield frame(stages[:number], picture), 60
        yield frame(stages[:number], stage.pictures[:most][-1]), 2000 if is_last else 400


def frame(stages: list[Stage], scene: Image.Image) -> Image.Image:
    """One picture: the agent on the left, the curve so far on the right."""
    now = stages[-1]
    image = Image.new("RGB", SIZE, "white")
    image.paste(scene, (20, 38))
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 38, 20 + SCENE[0], 38 + SCENE[1]), outline=FAINT)
    draw.text(
        (20, 10),
        "before training" if now.epoch == 0 else f"after {now.env_steps:,} steps",
        INK,
        ImageFont.load_default(16),
    )
    draw.text((CHART[0], 10), f"mean return {now.mean_return:.0f} of 500", INK, ImageFont.load_default(16))
    draw_curve(draw, stages, n_steps=N_EPOCHS * stages[1].env_steps if len(stages) > 1 else 1)
    return image


def draw_curve(draw: ImageDraw.ImageDraw, stages: list[Stage], *, n_steps: int) -> None:
    """Mean returns over environment steps, on axes that stay."""
    left, top, right, bottom = CHART

    def at(stage: Stage) -> tuple[float, float]:
        x = left + (right - left) * stage.env_steps / n_steps
        return x, bottom - (bottom - top) * stage.mean_return / 500

    for value in range(0, 501, 100):
        y = bottom - (bottom - top) * value / 500
        draw.line((left, y, right, y), FAINT)
        draw.text((left - 8, y), str(value), INK, ImageFont.load_default(12), anchor="rm")
    draw.text((right, bottom + 20), "environment steps", INK, ImageFont.load_default(12), anchor="rm")
    draw.text((left, bottom + 20), "0", INK, ImageFont.load_default(12), anchor="mm")
    points = [at(stage) for stage in stages]
    draw.line(points, LINE, width=3, joint="curve")
    x, y = points[-1]
    draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=LINE)


def main() -> None:
    """Train, draw and write."""
    with tempfile.TemporaryDirectory() as folder:
        stages = list(trained(Path(folder)))
    images, times = zip(*shown(stages), strict=True)
    palette = images[-1].quantize(N_COLOURS, dither=Image.Dither.NONE)
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    first.save(FILE, save_all=True, append_images=others, duration=list(times), loop=0, optimize=True)
    print(f"{FILE.name}: {FILE.stat().st_size / 1e6:.2f} MB, {len(images)} pictures")
    print([(stage.epoch, stage.env_steps, stage.mean_return) for stage in stages])


if __name__ == "__main__":
    main()
