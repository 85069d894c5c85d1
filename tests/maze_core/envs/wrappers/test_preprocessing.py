"""Pre-processing as a wrapper and as modules: names, order, what is kept, and that all of it trains and acts."""

import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext, compose_run
from maze_core.config.trust import check_arguments, trust_policy
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.preprocessors import PreProcessor, Rgb2GrayPreProcessor, UnSqueezePreProcessor
from maze_core.envs.wrappers import PreProcessingWrapper
from maze_core.errors import EnvError, InvalidSpecificationError
from tests.maze_core.envs.pictures import PictureEnv
from tests.maze_core.envs.structured_env import BoxesEnv

KEY = "observation-rgb2gray-resize_img-unsqueeze"
PUBLISHED = {
    "maze.core.wrappers.observation_preprocessing.preprocessing_wrapper.PreProcessingWrapper": {
        "pre_processor_mapping": [
            {
                "observation": "observation",
                "_target_": "maze.preprocessors.Rgb2GrayPreProcessor",
                "keep_original": False,
                "config": {"rgb_dim": -1},
            },
            {
                "observation": "observation-rgb2gray",
                "_target_": "maze.preprocessors.ResizeImgPreProcessor",
                "keep_original": False,
                "config": {"target_size": [96, 96], "transpose": False},
            },
            {
                "observation": "observation-rgb2gray-resize_img",
                "_target_": "maze.preprocessors.UnSqueezePreProcessor",
                "keep_original": False,
                "config": {"dim": -3},
            },
        ]
    }
}
SMALL = {
    "algorithm.n_epochs": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 8,
    "runner.n_envs": 2,
    "runner.normalization_samples": 16,
    "algorithm.rollout_evaluator.n_episodes": 1,
}
TINY = {"wrappers.PreProcessingWrapper.pre_processor_mapping.1.target_size": [8, 8]}


def pictures(n_envs=2):
    return PerEnvVectorEnv([lambda: GymEnv(PictureEnv())] * n_envs)


def test_steps_follow_each_other_by_name():
    steps = [Rgb2GrayPreProcessor(observation="observation", keep_original=True)]
    steps += [UnSqueezePreProcessor(observation="observation-rgb2gray")]
    env = PreProcessingWrapper.wrap(pictures(), pre_processor_mapping=steps)
    assert {name: space.shape for name, space in env.observation_spaces[0].items()} == {
        "observation": (12, 10, 3),
        "observation-rgb2gray-unsqueeze": (1, 12, 10),
    }
    shown = env.reset([1, 2]).observations[0]
    grey = steps[0].process(shown["observation"])
    np.testing.assert_array_equal(shown["observation-rgb2gray-unsqueeze"], grey[:, None])
    assert all(env.observation_spaces[0][name].contains(values[0]) for name, values in shown.items())


def test_every_sub_step_that_shows_the_observation_is_processed():
    class Twice(PreProcessor):
        tag = "twice"

        def processed_space(self, space):
            return spaces.Box(space.low * 2, space.high * 2, dtype=space.dtype.type)

        def process(self, values):
            return values * 2

    raw = PerEnvVectorEnv([BoxesEnv])
    env = PreProcessingWrapper.wrap(raw, pre_processor_mapping=[Twice(observation="wanted")])
    assert list(env.observation_spaces[0]) == ["right_box", "rounds_left"]
    assert list(env.observation_spaces[1]) == ["action_mask", "wanted-twice"]
    env.reset([0])
    tick = env.step({0: {"action": np.array([0])}, 1: {"action": np.array([0])}})
    assert sorted(tick.observations[1]["wanted-twice"][0]) == [0, 0, 0, 2]


def test_an_unknown_observation_is_named_with_those_there_are():
    with pytest.raises(EnvError, match=r"reads 'picture', which is not observed here: \['observation'\]"):
        PreProcessingWrapper.wrap(
            pictures(), pre_processor_mapping=[Rgb2GrayPreProcessor(observation="picture")]
        )


def test_what_is_no_processor_is_refused():
    with pytest.raises(InvalidSpecificationError, match="no pre-processor"):
        compose_run(wrappers={"maze_core.PreProcessingWrapper": {"pre_processor_mapping": [{"a": 1}]}})


def test_the_published_form_is_ours():
    ours = compose_run(wrappers="pixel_obs", seed=1).tree["wrappers"][0]
    assert compose_run(wrappers=PUBLISHED, seed=1).tree["wrappers"] == [ours]


def test_clients_may_name_processors_and_nothing_else_in_their_place():
    policy = trust_policy()
    check_arguments({"wrappers": PUBLISHED}, policy)
    other = [{"_target_": "os.system", "observation": "observation"}]
    with pytest.raises(InvalidSpecificationError, match="not on the list"):
        check_arguments(
            {"wrappers": {"maze_core.PreProcessingWrapper": {"pre_processor_mapping": other}}}, policy
        )


@pytest.mark.parametrize(("module", "shape"), [("pixel_obs", (1, 8, 8)), ("pixel_obs_rnn", (4, 1, 8, 8))])
def test_modules_for_pictures_train(module, shape):
    with RunContext(env=PictureEnv, wrappers=module, overrides=SMALL | TINY, seed=1, silent=True) as rc:
        rc.train()
        env = rc.env_factory(processed=True)
        assert {name: space.shape for name, space in env.observation_space.items()} == {KEY: shape}
        assert rc.evaluate(n_episodes=1).lengths == [8]
        if module == "pixel_obs":
            assert rc.compute_action(PictureEnv().reset(seed=1)[0])["action"] in (0, 1)


def test_the_module_for_vectors_with_memory_trains():
    with RunContext(wrappers="vector_obs_rnn", overrides=SMALL, seed=1, silent=True) as rc:
        rc.train()
        assert rc.env_factory(processed=True).observation_space["observation"].shape == (4, 4)


@pytest.mark.parametrize("module", ["pixel_obs", "pixel_obs_rnn"])
def test_a_module_for_pictures_refuses_vectors_and_names_the_way_out(module):
    with (
        pytest.raises(EnvError, match="wrappers=vector_obs"),
        RunContext(wrappers=module, overrides=SMALL, silent=True) as rc,
    ):
        rc.train()
