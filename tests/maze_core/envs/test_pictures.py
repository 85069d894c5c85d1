"""Games of pictures from packages that are extras, by module or id alone. Run where those are installed."""

from typing import Any

import pytest

from maze_core import RunContext
from maze_core.config import compose_run

SMALL: dict[str, Any] = {
    "runner.n_envs": 2,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 8,
    "algorithm.batch_size": 8,
    "algorithm.rollout_evaluator.n_episodes": None,
}


def test_the_module_of_atari_composes_without_its_package_and_stacks_bytes() -> None:
    tree = compose_run("train", env="atari", wrappers="atari", model="nature_cnn").tree
    assert tree["env"]["name"].startswith("ALE/")
    assert tree["env"]["kwargs"]["frameskip"] == 1
    names = [wrapper["_target_"].rpartition(".")[2] for wrapper in tree["env"]["wrappers"]]
    assert names == ["AtariPreprocessing", "FrameStackObservation"]
    assert not tree["env"]["wrappers"][0]["scale_obs"]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_atari_trains_and_acts_on_four_grey_pictures(algorithm: str) -> None:
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    small = SMALL | (
        {"algorithm.replay_capacity": 64, "algorithm.n_warmup_steps": 8} if algorithm == "dqn" else {}
    )
    with RunContext(
        env="atari", wrappers="atari", model="nature_cnn", algorithm=algorithm, overrides=small, silent=True
    ) as context:
        context.train(1)
        observation = context.env_factory().reset()
        assert observation["observation"].shape == (4, 84, 84)
        assert observation["observation"].dtype == "uint8"
        assert context.compute_action(observation)["action"] in range(4)


def test_minatar_trains_by_its_id_with_convolutions_that_fit() -> None:
    pytest.importorskip("minatar")
    fitting = {"model.model_builder.modality_config.image": None, "env.name": "MinAtar/Breakout-v1"}
    with RunContext(model="nature_cnn", overrides=SMALL | fitting, silent=True) as context:
        context.train(1)
        assert context.compute_action(context.env_factory().reset())["action"] in range(3)
