"""A training over HTTP that films what its policy does: before it learns, on the way, and at its best."""

import pytest

from tests.acceptance.server import serving

pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")

OVERRIDES = {
    "env.name": "CartPole-v1",
    "algorithm.epoch_length": 1,
    "algorithm.checkpoint_every": 2,
    "algorithm.rollout_evaluator.max_episode_steps": 30,
}
BODY = {"overrides": OVERRIDES, "seed": 3, "n_epochs": 7}


def films(server, run):
    return server.get(f"/v1/runs/{run}/episodes", limit=100)["data"]


@pytest.fixture(scope="module")
def filmed(server):
    return server.wait(server.submit("train", BODY | {"videos": 1}))


def test_a_filmed_training_is_the_same_run(server, filmed):
    plain = server.wait(server.submit("train", BODY))
    assert (filmed["state"], plain["state"]) == ("succeeded", "succeeded"), filmed["error"]
    assert filmed["config_sha256"] == plain["config_sha256"]
    assert filmed["result"]["content_sha256"] == plain["result"]["content_sha256"]
    assert films(server, plain["id"]) == []


def test_the_policy_is_filmed_before_it_learns_on_the_way_and_at_its_best(server, filmed):
    listed = films(server, filmed["id"])
    moments = {each["epoch"]: each["moment"] for each in listed}
    best = server.get(f"/v1/runs/{filmed['id']}/checkpoints")["data"]
    (best_epoch,) = {each["epoch"] for each in best if each["is_best"]}
    expected = {0: "begin", 2: "scheduled", 4: "scheduled", 6: "scheduled", 7: "last"} | {best_epoch: "best"}
    assert moments == expected
    assert [each["index"] for each in listed] == sorted(expected)
    assert len({each["seed"] for each in listed}) == 1
    for each in listed:
        assert (each["has_video"], each["has_trajectory"]) == (True, True)
        path = f"/v1/runs/{filmed['id']}/episodes/{each['index']}"
        assert server.client.get(f"{path}/video").headers["content-type"] == "video/mp4"
        assert server.client.get(f"{path}/thumbnail").headers["content-type"] == "image/png"
        assert len(server.get(path)["trajectory"]["steps"]) == each["length"]


def test_the_policy_of_a_film_still_acts_as_it_did(server, filmed):
    for each in films(server, filmed["id"]):
        episode = server.get(f"/v1/runs/{filmed['id']}/episodes/{each['index']}")
        steps = episode["trajectory"]["steps"]
        body = {"observations": [s["observation"] for s in steps], "checkpoint": f"epoch:{each['epoch']}"}
        answer = server.post(f"/v1/runs/{filmed['id']}/compute_action", body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["actions"] == [step["action"]["action"] for step in steps]


def test_a_film_is_played_once_more_and_its_decisions_are_made_again(server, filmed):
    path = f"/v1/runs/{filmed['id']}/episodes/0/replay"
    for body in ({}, {"step": 3}):
        answer = server.post(path, body)
        assert answer.status_code == 202, answer.text
        run = server.wait(answer.json()["id"])
        assert run["state"] == "succeeded", run["error"]
        assert run["result"]["equal"] is True


def test_a_run_goes_on_filmed_but_not_from_what_acts_in_a_film_alone(server, filmed):
    path = f"/v1/runs/{filmed['id']}/continue"
    run = server.wait(server.post(path, {"n_epochs": 3}).json()["id"])
    assert run["state"] == "succeeded", run["error"]
    assert {each["epoch"]: each["moment"] for each in films(server, run["id"])}[7] == "begin"
    answer = server.post(path, {"checkpoint": "epoch:0"})
    assert answer.status_code == 409
    assert "no training goes on from it" in answer.text


def test_of_many_films_some_are_kept_over_the_whole_training(server):
    overrides = OVERRIDES | {"algorithm.checkpoint_every": 1, "algorithm.n_rollout_steps": 16}
    body = {"overrides": overrides, "seed": 3, "n_epochs": 35, "videos": 1}
    run = server.wait(server.submit("train", body))
    assert run["state"] == "succeeded", run["error"]
    by_moment = {}
    for each in films(server, run["id"]):
        by_moment.setdefault(each["moment"], []).append(each["epoch"])
    regular = {*range(4, 36, 4)} - {*by_moment["best"]}
    assert by_moment["begin"] == [0]
    assert {*by_moment["scheduled"]} == regular
    assert 35 in by_moment.get("last", by_moment["best"])
    stored = server.get(f"/v1/runs/{run['id']}/checkpoints", limit=100)["data"]
    assert {each["epoch"] for each in stored if each["kind"] == "filmed"} <= {0, *range(4, 36, 4)}


def test_a_filmed_training_whose_process_was_killed_has_the_films_of_one_that_was_not(server, tmp_path):
    body = BODY | {"n_epochs": 24, "videos": 1}
    undisturbed = server.submit("train", body)
    with serving(tmp_path, lease_s=3, heartbeat_s=0.5) as other:
        run = other.submit("train", body)
        other.wait_for(lambda: len(films(other, run)) >= 4, "four films")
        (process,) = other.wait_for(lambda: other.processes(f"maze: run {run}"), "its process")
        process.kill()
        ended = other.wait(run)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
        listed = films(other, run)
    reference = server.wait(undisturbed)
    assert ended["result"]["content_sha256"] == reference["result"]["content_sha256"]
    assert listed == films(server, undisturbed)


def test_more_films_of_one_policy_than_are_looked_at_are_refused(server):
    answer = server.post("/v1/train", BODY | {"videos": 11})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/videos"
