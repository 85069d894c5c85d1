"""Files of episodes give back what went in, to the bit; what is no such file, or damaged, is said with its place."""

import ast
import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maze_core import (
    EpisodeSet,
    InvalidSpecificationError,
    RecordedEpisode,
    RunContext,
    load_episodes,
    save_episodes,
)
from maze_core.envs.env_spaces import describe_spaces
from maze_core.rollout.recording import RecordingError, Trajectory, trajectory_to_bytes
from maze_core.types import ActorID
from tests.maze_core.envs.structured_env import make_boxes

FORMS = (".parquet", ".npz")
NAN = np.array([0x7FC00001, 0x80000000], np.uint32).view(np.float32)
"""A NaN with a payload, and minus zero."""


def plain(n: int = 3, seed: int = 0) -> Trajectory:
    """Every dtype, a picture, a single number, nested names and a form."""
    rng = np.random.default_rng(seed)
    seen = {
        "z.half": rng.normal(size=(n, 2)).astype(np.float16),
        "a.picture": rng.integers(0, 256, (n, 4, 3, 1), np.uint8),
        "number": rng.normal(size=n),
        "bits": rng.integers(0, 2, (n, 2)).astype(np.bool_),
        "wide": rng.integers(0, 2**63, (n, 1), np.uint64),
        "small": rng.integers(-128, 128, (n, 1), np.int8),
        "nan": np.stack([NAN] * n),
    }
    form = {"dict": [["z", {"dict": [["half", "z.half"]]}], ["rest", {"tuple": ["number", "bits"]}]]}
    return Trajectory(
        step_keys=[0] * n,
        agent_ids=np.zeros(n, np.int64),
        flat_steps=np.arange(n),
        rewards=np.array([np.nan, -0.0, *rng.normal(size=n)])[:n],
        observations={0: seen},
        actions={0: {"action": rng.integers(0, 4, n)}},
        final_step_key=0,
        final_observation={name: values[0] for name, values in seen.items()},
        terminated=seed % 2 == 0,
        truncated=seed % 2 == 1,
        forms={0: (form, "action")},
    )


def of_several() -> Trajectory:
    """Sub-steps with names of texts, several agents, each paid its own; it ends where nobody acted."""
    return Trajectory(
        step_keys=["pick", "place", "pick"],
        agent_ids=np.array([0, 1, 1]),
        flat_steps=np.array([0, 0, 1]),
        rewards=np.array([0.0, 1.0, 2.0]),
        observations={"pick": {"x": np.eye(2, dtype="f4")}, "place": {"y": np.ones((1, 3), "f4")}},
        actions={"pick": {"go": np.array([1, 0])}, "place": {"to": np.ones((1, 2), "f4")}},
        final_step_key="rest",
        final_observation={"done": np.array([7], np.int16)},
        terminated=True,
        truncated=True,
        actors=(ActorID("pick", 0), ActorID("pick", 1), ActorID("place", 1)),
        actor_rewards=np.arange(9.0).reshape(3, 3),
    )


def sets() -> dict[str, EpisodeSet]:
    judged = [
        RecordedEpisode(
            trajectory=plain(n, seed=n),
            seed=2**32 - n,
            log_probs=np.arange(n, dtype="f4"),
            values=NAN[:1].repeat(n),
        )
        for n in (1, 3, 2)
    ]
    several = [RecordedEpisode(trajectory=of_several()), RecordedEpisode(trajectory=of_several(), seed=0)]
    return {
        "judged": EpisodeSet(episodes=judged, env={"_target_": "x", "name": "y"}),
        "several": EpisodeSet(episodes=several),
    }


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("kind", ["judged", "several"])
def test_what_is_read_is_what_was_written_to_the_bit(kind, suffix, tmp_path):
    given = sets()[kind]
    save_episodes(tmp_path / f"x{suffix}", given)
    back = load_episodes(tmp_path / f"x{suffix}")
    assert [*map(trajectory_to_bytes, back.trajectories)] == [*map(trajectory_to_bytes, given.trajectories)]
    assert [x.final_observation.keys() for x in back.trajectories] == [
        x.final_observation.keys() for x in given.trajectories
    ]
    for here, there in zip(back.episodes, given.episodes, strict=True):
        assert here.seed == there.seed
        for name in ("log_probs", "values"):
            a, b = getattr(here, name), getattr(there, name)
            assert (a is None) == (b is None)
            assert a is None or (a.dtype == b.dtype and a.tobytes() == b.tobytes())
    assert back.env == given.env


@pytest.mark.parametrize("make", [None, make_boxes], ids=["one", "sub-steps"])
def test_a_rollout_is_written_with_its_spaces_and_played_once_more_from_the_file(make, tmp_path):
    with RunContext(env=make, configuration="test", seed=1, silent=True) as rc:
        recorded = rc.recorded(rc.rollout(3, 15, seed=4, deterministic=False))
        digests = [x.content_sha256 for x in recorded.trajectories]
        for suffix in FORMS:
            save_episodes(tmp_path / f"plays{suffix}", recorded)
            back = load_episodes(tmp_path / f"plays{suffix}")
            assert [x.content_sha256 for x in back.trajectories] == digests
            assert describe_spaces(back.env_spaces) == describe_spaces(rc.policy)
            assert back.env == (recorded.env if make is None else back.env)
            again = [rc.replay(episode, seed=4, deterministic=False) for episode in back.episodes]
            assert all(report.is_equal for report in again)
            decision = rc.replay(back.episodes[-1], 2, seed=4, deterministic=False)
            assert decision.is_equal


def test_log_probabilities_and_values_are_those_of_the_policy_that_played(tmp_path):
    with RunContext(overrides={"env.name": "Pendulum-v1"}, configuration="test", seed=1, silent=True) as rc:
        report = rc.rollout(2, 10, seed=3, deterministic=False)
        given = rc.recorded(report, judge=True, seed=3, deterministic=False)
        save_episodes(tmp_path / "x.parquet", given)
        episode = load_episodes(tmp_path / "x.parquet").episodes[0]
        assert episode.log_probs.dtype == episode.values.dtype == np.float32
        seen = episode.trajectory.observations[0]["observation"]
        assert episode.values[4] == np.float32(rc.explain_action(seen[4])["value"])
        likeliest = [rc.explain_action(row)["log_prob"] for row in seen]
        assert (episode.log_probs < np.float32(likeliest)).all()
        with pytest.raises(InvalidSpecificationError, match="does not act at sub-step 0"):
            rc.recorded(report, judge=True, seed=3, deterministic=True)
        with pytest.raises(InvalidSpecificationError, match="not recorded"):
            rc.recorded(rc.rollout(1, 5, record=False))


def test_saved_rollouts_are_read_with_seeds_and_environment(tmp_path):
    with RunContext(tmp_path / "run", configuration="test", seed=1, silent=True) as rc:
        report = rc.rollout(2, 10, save=True)
        back = load_episodes(report.saved_to)
        assert [episode.seed for episode in back.episodes] == [x.seed for x in report.episodes]
        assert back.env == rc.config["env"]
        assert (
            load_episodes(tmp_path / "run").trajectories[1].content_sha256
            == back.trajectories[1].content_sha256
        )


def test_parquet_is_a_table_that_others_read(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    save_episodes(tmp_path / "x.parquet", sets()["judged"])
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.num_rows == (1 + 3 + 2) + 3
    rows = table.select(["episode", "step", "is_final", "reward", "action.action"]).to_pylist()
    assert [row["is_final"] for row in rows] == [0, 1, 0, 0, 0, 1, 0, 0, 1]
    assert [row["action.action"] is None for row in rows] == [row["is_final"] for row in rows]
    assert json.loads(table.schema.metadata[b"maze_episodes"])["episodes"][0]["length"] == 1


@pytest.mark.parametrize("suffix", FORMS)
def test_a_damaged_file_is_named_and_nothing_of_it_is_taken(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    save_episodes(path, sets()["judged"])
    data = path.read_bytes()
    for cut in (data[:-1], data[: len(data) // 2], b"", b"nothing"):
        path.write_bytes(cut)
        with pytest.raises(RecordingError, match=rf"x\{suffix}"):
            load_episodes(path)
    with pytest.raises(RecordingError, match="missing"):
        load_episodes(tmp_path / f"missing{suffix}")


def test_a_changed_byte_of_an_npz_is_found_and_other_archives_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    save_episodes(path, sets()["several"])
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        at = file.getinfo("rewards.npy").header_offset + 60
    data[at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RecordingError, match=r"x\.npz"):
        load_episodes(path)
    np.savez(path, a=np.zeros(1))
    with pytest.raises(RecordingError, match="no header"):
        load_episodes(path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(RecordingError, match=r"x\.npz"):
        load_episodes(path)


def test_a_flipped_bit_of_a_parquet_file_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "x.parquet"
    save_episodes(path, sets()["judged"])
    whole = path.read_bytes()
    expected = [*map(trajectory_to_bytes, load_episodes(path).trajectories)]
    n_refused, places = 0, range(4, len(whole) - 8, 41)
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        try:
            taken = [*map(trajectory_to_bytes, load_episodes(path).trajectories)]
        except RecordingError as error:
            n_refused += str(path) in str(error)
        else:
            assert taken == expected, f"the bit at {at} changed what is read"
    assert n_refused > len(places) // 4


def test_a_file_without_a_digest_is_read_as_before(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    save_episodes(path, sets()["several"])
    table = pq.read_table(path)
    metadata = {name: x for name, x in table.schema.metadata.items() if name != b"maze_episodes_sha256"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert len(load_episodes(path).episodes) == 2


@pytest.mark.parametrize("shape", ["(-3,)", "(1099511627776,)", "(4,)"])
def test_an_array_of_another_length_than_its_header_says_is_never_made(shape, tmp_path):
    path = tmp_path / "x.npz"
    save_episodes(path, sets()["several"])
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    member = io.BytesIO()
    facts = {"descr": "<f8", "fortran_order": False, "shape": ast.literal_eval(shape)}
    np.lib.format.write_array_header_1_0(member, facts)
    members["rewards.npy"] = member.getvalue() + bytes(48)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(RecordingError, match=r"x\.npz .*'rewards\.npy' has 48 bytes"):
        load_episodes(path)


def test_any_damage_of_an_npz_is_told_as_damage(tmp_path):
    path, rng = tmp_path / "x.npz", np.random.default_rng(1)
    save_episodes(path, sets()["judged"])
    whole, n_refused = np.fromfile(path, np.uint8), 0
    for _ in range(200):
        changed = whole.copy()
        changed[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(changed.tobytes())
        try:
            load_episodes(path)
        except RecordingError:
            n_refused += 1
    assert n_refused > 150


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"rewards": np.zeros(2)}, "rewards has 2 where 3"),
        ({"rewards": np.float64(1)}, "rewards has one number"),
        ({"agent_ids": np.zeros(4, np.int64)}, "agent_ids has 4 where 3"),
        ({"flat_steps": np.arange(2)}, "flat_steps has 2 where 3"),
        ({"actor_rewards": np.zeros((2, 1))}, "actor_rewards has 2 where 3"),
        ({"actions": {0: {"action": np.zeros(2, np.int64)}}}, r"actions\[0\]\['action'\] has 2 where 3"),
        ({"actions": {}}, r"actions\[0\] has 0 where 3"),
        ({"step_keys": [0, 0]}, "where 2 should be"),
        ({"log_probs": np.zeros(4, "f4")}, "log_probs has 4 where 3"),
        ({"values": np.zeros(1, "f4")}, "values has 1 where 3"),
    ],
)
def test_what_is_longer_or_shorter_than_its_steps_is_refused_before_it_is_written(
    changed, reason, suffix, tmp_path
):
    """Two episodes whose lengths add up are refused too."""
    of_episode = {name: x for name, x in changed.items() if name in ("log_probs", "values")}
    of_steps = {name: x for name, x in changed.items() if name not in of_episode}
    odd = RecordedEpisode(trajectory=dataclasses.replace(plain(), **of_steps), **of_episode)
    given = EpisodeSet(episodes=[RecordedEpisode(trajectory=plain()), odd])
    with pytest.raises(RecordingError, match=f"Episode 1: .*{reason}"):
        save_episodes(tmp_path / f"x{suffix}", given)
    assert [*tmp_path.iterdir()] == []


def test_rows_that_do_not_add_up_are_refused_by_name(tmp_path):
    path = tmp_path / "x.npz"
    save_episodes(path, sets()["several"])
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    header = json.loads(members["maze_episodes.json"])
    header["episodes"][0]["length"] = 2
    members["maze_episodes.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    with pytest.raises(RecordingError, match=r"rows where 5 should be"):
        load_episodes(path)


def test_episodes_of_two_kinds_are_not_written_together(tmp_path):
    first, other = plain(), plain(seed=1)
    other.observations[0]["number"] = other.observations[0]["number"].astype("f4")
    given = EpisodeSet(episodes=[RecordedEpisode(trajectory=x) for x in (first, other)])
    with pytest.raises(RecordingError, match="number"):
        save_episodes(tmp_path / "x.npz", given)
    fewer = dataclasses.replace(first, observations={0: {"number": first.observations[0]["number"]}})
    given = EpisodeSet(episodes=[RecordedEpisode(trajectory=x) for x in (first, fewer)])
    with pytest.raises(RecordingError, match="names"):
        save_episodes(tmp_path / "x.npz", given)
    for place, reason in ((tmp_path / "x.csv", r"\.parquet"), (tmp_path / "x.npz", "no episodes")):
        with pytest.raises(RecordingError, match=reason):
            save_episodes(place, EpisodeSet(episodes=[]))
    assert [*Path(tmp_path).iterdir()] == []
