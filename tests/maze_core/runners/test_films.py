"""Which policies of a training are filmed, and what of a checkpoint acts."""

import warnings

import numpy as np
import pytest

from maze_core import GymMazeEnv, RunContext
from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint
from maze_core.config.schema import RunConfig
from maze_core.errors import CheckpointError
from maze_core.notices import MazeWarning
from maze_core.runners.films import acting_part, spread
from maze_core.runners.training import Training
from tests.maze_core.api.test_forms import QUICK
from tests.maze_core.envs.videos import ClockEnv


@pytest.mark.parametrize(("number", "every"), [(1, 1), (16, 1), (17, 2), (32, 2), (33, 4), (1000, 64)])
def test_of_many_policies_a_power_of_two_apart_are_kept(number, every) -> None:
    assert spread(number, 16) == every
    assert number // spread(number, 16) <= 16


def test_what_acts_of_a_checkpoint_acts_the_same_and_no_training_goes_on_from_it(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(1)
    whole = Checkpoint.read(tmp_path / "checkpoints" / "last.ckpt")
    config = RunConfig.from_tree(whole.identity["config"], "train")
    part = acting_part(whole)
    assert len(part.to_bytes()) < len(whole.to_bytes())
    observations = {"observation": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    actions = [load_agent(each).compute_actions(observations)["action"] for each in (whole, part)]
    np.testing.assert_array_equal(*actions)
    with pytest.raises(CheckpointError, match="no training goes on from it"):
        Training(config, resume=part)


@pytest.mark.parametrize("fault", ["render", "picture"])
def test_a_film_that_fails_is_told_once_and_its_training_is_the_same_run(tmp_path, fault) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")

    def make():
        return GymMazeEnv(lambda: ClockEnv("rgb_array", fault))

    found = []
    for videos in (0, 1):
        folder = tmp_path / str(videos)
        with (
            warnings.catch_warnings(record=True) as told,
            RunContext(env=make, run_dir=folder, overrides=QUICK, seed=1) as context,
        ):
            warnings.simplefilter("always", MazeWarning)
            found.append(context.train(2, videos=videos).content_sha256)
    assert found[0] == found[1]
    assert list((tmp_path / "1").rglob("*.mp4")) == []
    assert [str(each.message).partition(":")[0] for each in told] == ["The film of epoch 0 (begin) failed"]
