"""Episodes over HTTP with real processes: filmed without changing a number, and played once more bit by bit."""

import hashlib
import struct
import zlib

import numpy as np
import pytest

from maze_core import RunContext
from tests.maze_core.envs.videos import read_video

pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")

ROLLOUT = {
    "policy": "random_policy",
    "overrides": {"env.name": "CartPole-v1"},
    "n_episodes": 3,
    "seed": 5,
}


def rollout(server, **more):
    return server.wait(server.submit("rollout", ROLLOUT | more))


def episodes(server, run):
    return [server.get(f"/v1/runs/{run['id']}/episodes/{index}") for index in range(3)]


def replay(server, run, index, **body):
    answer = server.post(f"/v1/runs/{run['id']}/episodes/{index}/replay", body)
    assert answer.status_code == 202, answer.text
    return server.wait(answer.json()["id"])


@pytest.fixture(scope="module")
def filmed(server):
    return rollout(server, record=["trajectory", "video"], videos=2)


@pytest.fixture(scope="module")
def trained(server):
    overrides = {"env.name": "CartPole-v1", "algorithm.n_epochs": 2, "algorithm.epoch_length": 2}
    return server.wait(server.submit("train", {"overrides": overrides, "seed": 3}))


def test_filming_changes_no_number(server, filmed):
    plain = rollout(server, record=True)
    assert (filmed["state"], plain["state"]) == ("succeeded", "succeeded"), filmed["error"]
    assert filmed["config_sha256"] == plain["config_sha256"]
    without = {"usage", "duration_s"}
    results = [{k: v for k, v in run["result"].items() if k not in without} for run in (filmed, plain)]
    assert results[0] == results[1]
    shown = [[each | {"has_video": None} for each in episodes(server, run)] for run in (filmed, plain)]
    assert shown[0] == shown[1]
    assert all(each["trajectory"]["steps"] for each in shown[0])
    with RunContext(policy="random_policy", overrides=ROLLOUT["overrides"], seed=5, silent=True) as context:
        assert context.rollout(3, videos=0).summary.returns == filmed["result"]["returns"]


def test_a_video_has_a_picture_after_the_reset_and_one_per_step(server, filmed, tmp_path):
    listed = server.get(f"/v1/runs/{filmed['id']}/episodes")["data"]
    assert [each["has_video"] for each in listed] == [True, True, False]
    for each in listed[:2]:
        answer = server.client.get(f"/v1/runs/{filmed['id']}/episodes/{each['index']}/video")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
        assert answer.headers["content-disposition"].startswith("inline")
        path = tmp_path / f"{each['index']}.mp4"
        path.write_bytes(answer.content)
        about, pictures = read_video(path)
        assert about["codec"] == "h264"
        assert pictures.shape == (each["length"] + 1, 400, 600, 3)
        assert not np.array_equal(pictures[0], pictures[-1])


def test_a_video_is_read_in_parts_as_players_do(server, filmed):
    path = f"/v1/runs/{filmed['id']}/episodes/0/video"
    whole = server.client.get(path)
    assert whole.headers["etag"] == f'"{hashlib.sha256(whole.content).hexdigest()}"'
    head = server.client.head(path)
    assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")
    middle = server.client.get(path, headers={"Range": "bytes=100-299", "If-Range": whole.headers["etag"]})
    assert (middle.status_code, middle.content) == (206, whole.content[100:300])
    again = server.client.get(path, headers={"If-None-Match": whole.headers["etag"]})
    assert again.status_code == 304


def png_size(data):
    """Width and height of a PNG whose header has the check sum that it should have."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert zlib.crc32(data[12:29]) == struct.unpack(">I", data[29:33])[0]
    return struct.unpack(">II", data[16:24])


def test_a_thumbnail_is_a_small_picture(server, filmed):
    answer = server.client.get(f"/v1/runs/{filmed['id']}/episodes/1/thumbnail")
    assert answer.headers["content-type"] == "image/png"
    width, height = png_size(answer.content)
    assert (width, height) == (320, 213)
    assert len(answer.content) > 500


def test_an_episode_that_was_not_filmed_has_no_video(server, filmed):
    for part in ("video", "thumbnail"):
        answer = server.client.get(f"/v1/runs/{filmed['id']}/episodes/2/{part}")
        assert answer.status_code == 404
        assert "not filmed" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "has"),
    [
        ({"record": ["video"]}, (False, True)),
        ({"record": []}, (False, False)),
        ({"videos": 3}, (True, True)),
        ({"record": ["trajectory"], "videos": 0}, (True, False)),
        ({"record": False, "videos": 9}, (False, True)),
    ],
)
def test_what_is_recorded_is_what_was_asked_for(server, body, has):
    run = rollout(server, **body)
    assert run["state"] == "succeeded", run["error"]
    listed = server.get(f"/v1/runs/{run['id']}/episodes")["data"]
    assert [(each["has_trajectory"], each["has_video"]) for each in listed] == [has] * 3


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"record": ["video"], "n_episodes": 101}, "/record"),
        ({"videos": 101, "n_episodes": 101}, "/videos"),
        ({"record": ["film"]}, "/record"),
        ({"videos": -1}, "/videos"),
        ({"record": "video"}, "/record"),
    ],
)
def test_what_cannot_be_filmed_is_refused(server, body, pointer):
    answer = server.post("/v1/rollout", ROLLOUT | body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


def test_an_environment_without_pictures_fails_with_the_way_out_and_plays_without(mortal):
    body = {"policy": "random_policy", "overrides": {"env.name": "Blind-v0"}, "n_episodes": 1}
    mortal.wait_for(
        lambda: mortal.client.get("/v1/environments/Blind-v0").status_code == 200, "the environment"
    )
    run = mortal.wait(mortal.submit("rollout", body | {"videos": 1}))
    assert (run["state"], run["reason"]) == ("failed", "invalid_specification")
    assert "cannot be filmed" in run["error"]["message"]
    assert 'render_mode="rgb_array"' in run["error"]["message"]
    assert mortal.wait(mortal.submit("rollout", body))["state"] == "succeeded"


def test_a_replay_of_every_episode_is_equal(server, filmed):
    for index in range(3):
        run = replay(server, filmed, index)
        assert (run["kind"], run["state"], run["parent_run"]) == ("replay", "succeeded", filmed["id"])
        length = episodes(server, filmed)[index]["length"]
        assert run["result"]["equal"] is True
        assert (run["result"]["n_steps"], run["result"]["difference"]) == (length, None)


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_decision_of_a_trained_policy_is_made_again(server, trained, deterministic):
    body = {"run": trained["id"], "n_episodes": 3, "seed": 1, "deterministic": deterministic}
    played = server.wait(server.submit("rollout", body))
    assert replay(server, played, 0)["result"]["equal"] is True
    for step in (0, 7):
        run = replay(server, played, 2, step=step)
        recorded = episodes(server, played)[2]["trajectory"]["steps"][step]
        assert run["source_run"] == trained["id"]
        assert run["result"] == run["result"] | {
            "equal": True,
            "step": step,
            "deterministic": deterministic,
            "recorded": recorded["action"],
            "action": recorded["action"],
        }


def test_a_decision_whose_policy_was_deleted_says_so_and_the_whole_episode_is_still_played(server):
    overrides = {"env.name": "CartPole-v1", "algorithm.n_epochs": 1, "algorithm.epoch_length": 1}
    source = server.wait(server.submit("train", {"overrides": overrides, "seed": 3}))["id"]
    played = server.wait(server.submit("rollout", {"run": source, "n_episodes": 1, "seed": 1}))
    assert server.client.delete(f"/v1/runs/{source}").status_code == 204
    answer = server.post(f"/v1/runs/{played['id']}/episodes/0/replay", {"step": 0})
    assert answer.status_code == 409
    assert f"Run {source} was deleted" in answer.text
    assert "without step" in answer.text
    assert replay(server, played, 0)["result"]["equal"] is True


def test_a_decision_of_a_policy_without_training_is_made_again(server, filmed):
    run = replay(server, filmed, 1, step=4)
    assert run["result"]["equal"] is True, run


def test_what_cannot_be_replayed_is_refused(server, filmed):
    path = f"/v1/runs/{filmed['id']}/episodes"
    length = episodes(server, filmed)[0]["length"]
    answer = server.post(f"{path}/0/replay", {"step": length})
    assert answer.status_code == 422
    assert f"there is no {length}" in answer.text
    assert server.post(f"{path}/7/replay", {}).status_code == 404
    plain = rollout(server, record=False)
    answer = server.post(f"/v1/runs/{plain['id']}/episodes/0/replay", {})
    assert answer.status_code == 409
    assert "not recorded" in answer.text


def test_a_filming_run_whose_process_was_killed_ends_as_one_that_was_not(server):
    undisturbed, killed = (server.submit("rollout", ROLLOUT | {"n_episodes": 20, "videos": 20}) for _ in "ab")
    server.wait_for(lambda: len(server.get(f"/v1/runs/{killed}/episodes")["data"]) >= 2, "two episodes")
    (process,) = server.wait_for(lambda: server.processes(f"maze: run {killed}"), "its process")
    process.kill()
    ends = [server.wait(run) for run in (undisturbed, killed)]
    assert [(end["state"], end["attempt"]) for end in ends] == [("succeeded", 1), ("succeeded", 2)]
    listed = [server.get(f"/v1/runs/{run}/episodes", limit=100)["data"] for run in (undisturbed, killed)]
    assert listed[0] == listed[1]


def test_a_recorded_episode_is_taken_away_bit_by_bit_and_written_as_a_table(
    server, filmed, tmp_path, monkeypatch, capsys
):
    from maze_core import load_episodes, load_trajectory
    from service.cli import main

    path = f"/v1/runs/{filmed['id']}/episodes/0/trajectory"
    (tmp_path / "episode.safetensors").write_bytes(server.client.get(path).content)
    recorded = load_trajectory(tmp_path / "episode.safetensors")
    listed = server.get(f"/v1/runs/{filmed['id']}/episodes/0")["trajectory"]
    assert recorded.to_json() == listed
    monkeypatch.setenv("MAZE_URL", str(server.client.base_url))
    table = tmp_path / "plays.parquet"
    assert main(["data", "convert", filmed["id"], str(table)]) == 0
    back = load_episodes(table)
    assert back.trajectories[0].content_sha256 == recorded.content_sha256
    assert all(episode.seed is not None for episode in back.episodes)
    assert back.spaces is not None
    assert main(["data", "show", str(table)]) == 0
    assert str(len(back.episodes)) in capsys.readouterr().out
    assert main(["data", "convert", str(table), str(tmp_path / "plays.csv")]) == 1
    assert ".parquet or .npz" in capsys.readouterr().err
