"""A run that goes back to an earlier checkpoint leaves nothing behind that a later process could take for its own."""

from maze_core import Checkpoint, RunContext
from maze_core.metrics import SilentReporter
from tests.maze_core.api.test_forms import QUICK

OF_SIX = {**QUICK, "algorithm.n_epochs": 6, "algorithm.checkpoint_every": 2}


class EndsAfter(SilentReporter):
    """Counts epochs, and asks to end after so many."""

    def __init__(self, n_epochs: int) -> None:
        self.left = n_epochs

    def metrics(self, epoch, step, values) -> None:
        self.left -= 1

    def is_over(self) -> bool:
        return self.left <= 0


def epochs_of(run_dir) -> dict[str, int]:
    files = (run_dir / "checkpoints").glob("*.ckpt")
    return {path.stem: Checkpoint.read(path).identity["counters"]["epoch"] for path in files}


def test_checkpoints_after_the_point_of_going_back_are_gone_when_training_goes_on(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=OF_SIX, seed=1) as context:
        whole = context.train()
        end = EndsAfter(1)
        context.resume("epoch:2").train(reporter=end, cancelled=end.is_over)
    epochs = epochs_of(tmp_path)
    assert set(epochs) == {"best", "last", "epoch-00002"}
    assert max(epochs.values()) <= 3
    with RunContext(run_dir=tmp_path, overrides=OF_SIX) as again:
        assert again.report is None
        assert again.train().content_sha256 == whole.content_sha256


def test_going_back_alone_takes_nothing_away(tmp_path) -> None:
    with RunContext(run_dir=tmp_path, overrides=OF_SIX, seed=1) as context:
        context.train()
        before = epochs_of(tmp_path)
        context.resume("epoch:2").rollout(1)
    assert epochs_of(tmp_path) == before


def test_films_of_epochs_that_are_made_again_are_gone_too(tmp_path) -> None:
    overrides = {**OF_SIX, "algorithm.rollout_evaluator.max_episode_steps": 3}
    with RunContext(run_dir=tmp_path, overrides=overrides, seed=1) as context:
        context.train(4, videos=1)
        context.resume("epoch:2").train(1)
    assert [path.name for path in sorted((tmp_path / "videos").glob("epoch-*"))] == [
        "epoch-00000.mp4",
        "epoch-00002.mp4",
    ]


def test_what_is_saved_is_what_acts_and_saving_changes_nothing(tmp_path) -> None:
    overrides = {**OF_SIX, "algorithm.checkpoint_every": 4}
    with RunContext(run_dir=tmp_path, overrides=overrides, seed=1) as context:
        end = EndsAfter(5)
        context.train(reporter=end, cancelled=end.is_over)
    again = RunContext(run_dir=tmp_path, overrides=overrides)
    acting = again.policy.checkpoint_sha256
    assert Checkpoint.read(again.save("best.ckpt")).content_sha256 == acting
    assert again.policy.checkpoint_sha256 == acting
    assert again._held._training is None  # no environment was made for it
