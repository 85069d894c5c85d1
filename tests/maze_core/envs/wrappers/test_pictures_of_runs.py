"""Wrappers that draw: pictures of observations by epoch, and episodes as animated pictures."""

import io

import numpy as np
import pytest

from maze_core import RunContext
from maze_core.config.trust import check_arguments, trust_policy
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.png import png_of
from maze_core.envs.wrappers import (
    ExportGifWrapper,
    ObservationVisualizationWrapper,
    StepSkipWrapper,
    WrappedVectorEnv,
)
from maze_core.errors import EnvError, InvalidSpecificationError
from tests.maze_core.envs.pictures import PictureEnv


def mean_picture(name, values):
    """A module's function, as a configuration may name one."""
    return values.mean(0).astype(np.uint8)


def no_picture(name, values):
    return None


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_a_png_holds_the_pixels(shape):
    image = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(png_of(picture)))), picture)


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 3)), np.zeros((3, 3, 4), np.uint8), np.zeros(3, np.uint8), "a"]
)
def test_what_is_no_picture_is_refused(wrong):
    with pytest.raises(EnvError, match=r"a picture is uint8 \[h, w, 3\]"):
        png_of(wrong)


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 4), (4, 0)])
def test_an_empty_picture_is_refused_with_the_way_out(shape):
    with pytest.raises(EnvError, match=r"one pixel at least.*give None for none"):
        png_of(np.zeros(shape, np.uint8))


def test_a_figure_is_saved():
    class Figure:
        def savefig(self, stream, format):
            stream.write(f"as {format}".encode())

    assert png_of(Figure()) == b"as png"


def test_pictures_of_an_epoch_are_drawn_once_of_so_many_observations():
    asked = []

    def plot(name, values):
        asked.append((name, values.copy()))
        return None if len(asked) == 2 else values[0]

    wrapper = ObservationVisualizationWrapper(plot_function=plot, n_samples=5)
    env = WrappedVectorEnv(PerEnvVectorEnv([lambda: GymEnv(PictureEnv())] * 2), [wrapper])
    env.reset([1, 2])
    shown = []
    for _ in range(4):
        tick = env.step({0: {"action": np.array([0, 1])}})
        shown.append(tick.observations[0]["observation"].copy())
    assert wrapper.metrics() == {}
    told = wrapper.distributions()
    assert set(told) == {"observation/0/observation"}
    ((name, values),) = asked
    assert name == "observation"
    np.testing.assert_array_equal(values, np.concatenate(shown)[:5])
    assert told["observation/0/observation"] == png_of(values[0])
    assert wrapper.metrics() == wrapper.distributions() == {}
    env.step({0: {"action": np.array([0, 1])}})
    wrapper.metrics()
    assert len(asked) == 2
    assert wrapper.distributions() == {}


def test_a_plot_that_fails_says_of_what_and_why():
    wrapper = ObservationVisualizationWrapper(plot_function=lambda name, values: 1 / 0)
    env = WrappedVectorEnv(GymEnvConfig().vector(1), [wrapper])
    env.reset([1])
    env.step({0: {"action": np.array([0])}})
    with pytest.raises(EnvError, match="could not draw observation 0/observation: ZeroDivisionError"):
        wrapper.metrics()
    with pytest.raises(EnvError, match=r"draws \['x'\], and \['observation'\] are observed"):
        WrappedVectorEnv(
            GymEnvConfig().vector(1),
            [ObservationVisualizationWrapper(plot_function=print, observations=["x"])],
        )


def test_a_run_keeps_the_pictures_by_epoch(tmp_path):
    wrappers = [ObservationVisualizationWrapper(plot_function=mean_picture)]
    overrides = {"algorithm.n_epochs": 2, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 4}
    overrides |= {"runner.n_envs": 2, "algorithm.rollout_evaluator.n_episodes": 1}
    with RunContext(
        env=PictureEnv, wrappers=wrappers, overrides=overrides, run_dir=tmp_path, silent=True
    ) as rc:
        rc.train()
        assert rc.compute_action(PictureEnv().reset(seed=1)[0])["action"] in (0, 1), (
            "it leaves the agent servable"
        )
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("figures/*/*"))
    assert found == [f"figures/epoch-0000{n}/observation.0.observation.png" for n in (1, 2)]


@pytest.mark.parametrize(
    "function", [lambda name, values: None, {"_target_": f"{__name__}.no_picture"}], ids=["live", "named"]
)
def test_a_checkpoint_acts_without_the_function_that_drew(tmp_path, function):
    overrides = {"algorithm.n_epochs": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 4}
    wrappers = {
        "maze_core.ObservationVisualizationWrapper": {"plot_function": function},
        "maze_core.ObservationNormalizationWrapper": {},
    }
    overrides |= {"runner.n_envs": 2, "algorithm.rollout_evaluator.n_episodes": 1, "env.name": "CartPole-v1"}
    seen = {"observation": np.float32([0.1, 0.2, 0.3, 0.4])}
    with RunContext(
        env="gym_env", wrappers=wrappers, overrides=overrides, run_dir=tmp_path, silent=True, seed=1
    ) as rc:
        rc.train()
        acted = rc.compute_action(seen, deterministic=True)
    with RunContext.load(tmp_path) as rc:
        assert rc.compute_action(seen, deterministic=True) == acted


@pytest.mark.parametrize("skip", [1, 3])
def test_each_episode_of_the_first_environment_is_a_gif(tmp_path, skip):
    image = pytest.importorskip("PIL.Image")
    raw = PerEnvVectorEnv([lambda: GymEnv(PictureEnv(render_mode="rgb_array"))] * 2)
    stack = [StepSkipWrapper(n_steps=skip), ExportGifWrapper(export=tmp_path / "gifs", duration=0.25)]
    env = WrappedVectorEnv(raw, stack)
    env.reset([1, 2])
    for _ in range(20):
        env.step({0: {"action": np.array([0, 1])}})
    files = sorted((tmp_path / "gifs").iterdir())
    decisions = -(-8 // skip)
    assert [file.name for file in files] == [f"episode-{n:05d}.gif" for n in range(20 // decisions)]
    with image.open(files[1]) as gif:
        assert (gif.size, gif.n_frames, gif.info["duration"]) == ((10, 12), decisions + 1, 250)


def test_environments_without_pictures_are_refused_with_the_way_out():
    for raw in (GymEnvConfig().vector(1), PerEnvVectorEnv([lambda: GymEnv(PictureEnv())])):
        with pytest.raises(EnvError, match="render_mode: rgb_array"):
            WrappedVectorEnv(raw, [ExportGifWrapper()])


@pytest.mark.parametrize("name", ["ExportGifWrapper", "ObservationVisualizationWrapper"])
def test_clients_name_neither_files_nor_functions(name):
    with pytest.raises(InvalidSpecificationError, match="not on the list"):
        check_arguments({"wrappers": {f"maze_core.{name}": {}}}, trust_policy())
