"""Data sets of Minari: what goes out comes back, what comes in is checked, and nothing half is left."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from maze_core import EpisodeSet, RunContext, load_episodes, save_episodes
from maze_core.rollout.recording import RecordingError
from tests.maze_core.envs.structured_env import make_boxes
from tests.maze_core.sb3.toy_spaces import register_toys

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    register_toys()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    return tmp_path / "sets"


def recorded(env="CartPole-v1", **given):
    overrides = {"env.name": env} if isinstance(env, str) else {}
    more = {} if isinstance(env, str) else {"env": env}
    with RunContext(configuration="test", seed=1, silent=True, overrides=overrides, **more) as rc:
        return rc.recorded(rc.rollout(3, 12, **given))


@pytest.mark.parametrize("env", ["CartPole-v1", "ToyParts-v0", "ToyPixels-v0", "ToyOrdered-v0"])
def test_a_rollout_comes_back_as_it_went_out(env):
    given = recorded(env)
    save_episodes("minari:our-sets/pole-v0", given)
    back = load_episodes("minari:our-sets/pole-v0")
    assert [x.content_sha256 for x in back.trajectories] == [x.content_sha256 for x in given.trajectories]
    assert [x.seed for x in back.episodes] == [x.seed for x in given.episodes]
    assert back.spaces == given.spaces
    if env == "CartPole-v1":
        assert back.env["name"] == env
        theirs = minari.load_dataset("our-sets/pole-v0").recover_environment()
        assert theirs.spec.id == env


def test_spaces_that_a_set_says_beside_minaris_own_hold_only_where_they_are_the_same(place):
    given = recorded("ToyOrdered-v0")
    save_episodes("minari:our-sets/pole-v0", given)
    (path,) = place.rglob("metadata.json")
    told = json.loads(path.read_text())
    assert [*load_episodes("minari:our-sets/pole-v0").env_spaces.observation_spaces[0]] == [
        "z",
        "a.y",
        "a.c",
        "b",
    ]
    for other in (None, [], "x", [{}], recorded("CartPole-v1").spaces):
        path.write_text(json.dumps({**told, "maze_spaces": other}))
        back = load_episodes("minari:our-sets/pole-v0")
        assert [*back.env_spaces.observation_spaces[0]] == ["a.c", "a.y", "b", "z"]
        for here, there in zip(back.trajectories, given.trajectories, strict=True):
            np.testing.assert_array_equal(here.observations[0]["z"], there.observations[0]["z"])


def files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def test_what_cannot_be_said_leaves_nothing_and_the_name_free(place, monkeypatch):
    given = recorded()
    with pytest.raises(RecordingError, match="sub-steps"):
        save_episodes("minari:our-sets/boxes-v0", recorded(make_boxes))
    with pytest.raises(RecordingError, match="not known"):
        save_episodes("minari:our-sets/pole-v0", EpisodeSet(episodes=given.episodes))
    for name, reason in (("pole", "no name"), ("x/pole-v0", "two characters")):
        with pytest.raises(RecordingError, match=reason):
            save_episodes(f"minari:{name}", given)
    (first, *_), short = given.episodes, np.zeros(1)
    odd = dataclasses.replace(first, trajectory=dataclasses.replace(first.trajectory, rewards=short))
    with pytest.raises(RecordingError, match="Episode 0: rewards has 1 where"):
        save_episodes("minari:our-sets/pole-v0", dataclasses.replace(given, episodes=[odd]))
    storage = minari.dataset.minari_storage.MinariStorage
    monkeypatch.setattr(storage, "update_metadata", lambda *_: 1 / 0)
    with pytest.raises(RecordingError, match="ZeroDivisionError"):
        save_episodes("minari:our-sets/pole-v0", given)
    assert files(place) == []
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place))
    save_episodes("minari:our-sets/pole-v0", given)
    before = files(place)
    with pytest.raises(RecordingError, match="there already"):
        save_episodes("minari:our-sets/pole-v0", given)
    assert files(place) == before


def made(name="odd/pole-v0", **changed):
    """A data set of one episode of three steps, by Minari itself, which checks nothing."""
    import warnings

    import gymnasium
    from minari.data_collector import EpisodeBuffer

    fields = {
        "observations": np.zeros((4, 4), "f4"),
        "actions": np.array([0, 1, 0]),
        "rewards": np.array([1, 2, 3]),
        "terminations": np.array([False, False, True]),
        "truncations": np.zeros(3, bool),
        "infos": {},
        "seed": 7,
    }
    env = gymnasium.make("CartPole-v1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name,
            [EpisodeBuffer(id=0, **{**fields, **changed})],
            observation_space=env.observation_space,
            action_space=env.action_space,
        )
    env.close()
    return load_episodes(f"minari:{name}")


def test_whole_rewards_become_floats_and_a_reset_in_the_middle_is_a_truncation():
    (episode,) = made().episodes
    assert (episode.seed, episode.trajectory.rewards.dtype) == (7, np.float64)
    assert episode.trajectory.rewards.tolist() == [1.0, 2.0, 3.0]
    (cut,) = made("odd/cut-v0", terminations=np.zeros(3, bool), truncations=np.arange(3) == 2).trajectories
    assert (cut.terminated, cut.truncated) == (False, True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"observations": np.zeros((3, 4), "f4")}, "'observation' does not fit"),
        ({"observations": np.full((4, 4), np.nan, "f4")}, "not finite"),
        ({"actions": np.array([0, 2, 0])}, "outside"),
        ({"rewards": np.array([1.0, np.inf, 0.0])}, "rewards"),
        ({"terminations": np.array([True, False, True])}, "ends at step 0"),
        ({"terminations": np.zeros(3, bool)}, "none of its steps"),
        ({"truncations": np.zeros(2, bool)}, "other ends"),
    ],
)
def test_an_episode_that_is_not_what_its_set_says_is_named(changed, reason):
    with pytest.raises(RecordingError, match=rf"odd/pole-v0, episode 0.*{reason}"):
        made(**changed)


def test_a_set_that_is_not_there_is_refused_with_the_way_out():
    with pytest.raises(RecordingError, match="minari download D4RL/door/human-v2"):
        load_episodes("minari:D4RL/door/human-v2")


def test_a_relative_place_of_all_sets_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", "sets")
    with pytest.raises(RecordingError, match="absolute path"):
        save_episodes("minari:our-sets/pole-v0", recorded())
    assert [*tmp_path.iterdir()] == []
