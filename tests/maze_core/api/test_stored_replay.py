"""What checkpoints share of a replay lies in the run directory once, whoever dies when; otherwise nobody notices."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from maze_core import Checkpoint, RunContext
from maze_core import files as files_module
from maze_core.data import replay as replay_module
from maze_core.errors import CheckpointError

SETTINGS = {
    "env.name": "CartPole-v1",
    "runner.n_envs": 4,
    "algorithm.epoch_length": 25,
    "algorithm.n_rollout_steps": 10,
    "algorithm.checkpoint_every": 1,
    "algorithm.replay_capacity": 2400,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "algorithm.n_gradient_steps": 1,
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "CHUNK_ROWS", 400)


def begun(folder: Path) -> RunContext:
    return RunContext(run_dir=folder, algorithm="dqn", overrides=SETTINGS, seed=1, silent=True)


def chunks(folder: Path) -> set[Path]:
    return set((folder / "checkpoints" / "chunks").iterdir())


def test_a_chunk_that_did_not_change_is_written_once_and_goes_when_nobody_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch is 1,000 transitions, two chunks and a half; after the third the ring of six chunks comes round."""
    written: list[Path] = []
    write = files_module.write_atomically
    monkeypatch.setattr(
        files_module, "write_atomically", lambda path, data: written.append(path) or write(path, data)
    )
    with begun(tmp_path) as context:
        context.train(2)
        replays = [path for path in written if path.parent.name == "chunks"]
        assert len(replays) == len(set(replays))
        context.train(6)
        replays = [path for path in written if path.parent.name == "chunks"]
        assert len(replays) == len(set(replays))
        assert chunks(tmp_path) < set(replays)
        wholes = {name: context._held._checkpoint(name) for name in ("best", "last", "scheduled", "epoch:6")}
    for name, whole in wholes.items():
        assert len([x for x in whole.tensors if x.endswith("/reward")]) == 6, name
    stored = sum(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert stored < 0.7 * 5 * len(wholes["last"].to_bytes())


def test_a_file_of_its_own_is_whole_and_that_of_a_run_directory_says_what_it_lacks(tmp_path: Path) -> None:
    with begun(tmp_path / "run") as context:
        context.train(1)
        content = context._held._checkpoint("last").content_sha256
        saved = context.save(tmp_path / "saved", "last")
    assert Checkpoint.from_bytes(saved.read_bytes()).content_sha256 == content
    assert RunContext.load(saved).evaluate(1).returns == RunContext.load(tmp_path / "run").evaluate(1).returns
    shutil.copy(tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "torn.ckpt")
    with pytest.raises(CheckpointError, match="lacks a part of its replay"):
        Checkpoint.read(tmp_path / "torn.ckpt")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert Checkpoint.read(tmp_path / "copy" / "checkpoints" / "last.ckpt").content_sha256 == content


def test_damage_is_never_believed(tmp_path: Path) -> None:
    with begun(tmp_path) as context:
        context.train(1)
    last = tmp_path / "checkpoints" / "last.ckpt"
    chunk = max(chunks(tmp_path), key=lambda path: path.stat().st_size)
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.read(last)
    chunk.write_bytes(whole)
    recipe = last.read_bytes()
    last.write_bytes(recipe.replace(b"[", b"{", 1))
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.read(last)


@pytest.mark.parametrize("nth", [0, 3, 7, 10])
def test_a_run_that_dies_while_it_writes_goes_on_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """It dies at the n-th rename of its second epoch: of a chunk, or of a file that names some."""
    with begun(tmp_path / "whole") as context:
        expected = context.train(3).content_sha256
    rename, renamed = os.replace, []

    def dying(source: Path, target: Path) -> None:
        renamed.append(target)
        if len(renamed) > nth:
            raise KeyboardInterrupt
        rename(source, target)

    with begun(tmp_path / "killed") as context:
        context.train(1)
        monkeypatch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            context.train(1)
    monkeypatch.setattr(os, "replace", rename)
    with begun(tmp_path / "killed") as again:
        while again.train(1).counters.epoch < 3:
            pass
        assert again._held._checkpoint("last").content_sha256 == expected
    left, there = (
        {
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.is_file() and path.suffix not in (".json", ".jsonl") and "tensorboard" not in path.parts
        }
        for folder in (tmp_path / "killed", tmp_path / "whole")
    )
    assert len(left) == len(there)


def test_training_goes_on_from_the_best_with_what_it_remembered(tmp_path: Path) -> None:
    with begun(tmp_path) as context:
        context.train(3)
        best = context._held._checkpoint("best")
        context.resume("best")
        context.train(1)
        last = context._held._checkpoint("last")
    n_then, n_now = (int(np.asarray(x.tensors["replay/n_added"])) for x in (best, last))
    assert n_now == n_then + 250
