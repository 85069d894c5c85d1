"""Runs that follow from others, with real processes: continued, tried again, forked, with the digests of Python."""

import pytest

from maze_core import RunContext

OVERRIDES = {
    "env.name": "CartPole-v1",
    "algorithm.n_epochs": 4,
    "algorithm.epoch_length": 2,
    "algorithm.checkpoint_every": 2,
}
SPEC = {"overrides": OVERRIDES, "seed": 3, "name": "first", "labels": {"team": "a"}}
OBSERVATION = [0.1, 0.2, -0.1, 0.3]
LONG = {**SPEC, "overrides": {**OVERRIDES, "algorithm.n_epochs": 12}}


@pytest.fixture(scope="module")
def trained(server):
    return server.wait(server.submit("train", SPEC))


def follow(server, run, verb, body):
    answer = server.post(f"/v1/runs/{run['id']}/{verb}", body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def epochs_of(server, run):
    data = server.get(f"/v1/runs/{run['id']}/metrics", names="eval/mean_return")["data"]
    return [point["epoch"] for point in data]


@pytest.mark.parametrize("body", [{"n_epochs": 3}, {}, {"n_epochs": 9, "target_return": 1.0}])
def test_a_continued_run_has_the_content_of_python_that_trains_on(server, trained, tmp_path, body):
    continued = server.wait(follow(server, trained, "continue", body)["id"])
    with RunContext(tmp_path / "run", overrides=OVERRIDES, seed=3, silent=True) as context:
        assert context.train().content_sha256 == trained["result"]["content_sha256"]
    with RunContext.load(tmp_path / "run", "last") as context:
        report = context.train(body.get("n_epochs"), **{k: v for k, v in body.items() if k != "n_epochs"})
        action = context.compute_action(OBSERVATION)
    assert (continued["state"], continued["reason"]) == ("succeeded", report.stop_reason)
    assert continued["result"]["content_sha256"] == report.content_sha256
    assert (continued["parent_run"], continued["name"], continued["labels"]) == (
        trained["id"], "first", {"team": "a"},
    )  # fmt: skip
    assert epochs_of(server, continued) == list(range(5, 1 + report.counters.epoch))
    acted = server.post(f"/v1/runs/{continued['id']}/compute_action", {"observation": OBSERVATION})
    assert acted.json()["action"] == action["action"]


def test_a_continued_run_acts_before_its_first_checkpoint_as_the_one_it_goes_on_from(server, trained):
    continued = follow(server, trained, "continue", {"n_epochs": 100_000})
    of_both = [
        server.post(f"/v1/runs/{run['id']}/compute_action", {"observation": OBSERVATION}).json()["action"]
        for run in (trained, continued)
    ]
    assert of_both[0] == of_both[1]
    server.post(f"/v1/runs/{continued['id']}/cancel", {})
    server.wait(continued["id"])


def test_a_killed_continuation_ends_with_the_same_content(server, trained):
    undisturbed, killed = (follow(server, trained, "continue", {"n_epochs": 12})["id"] for _ in range(2))
    server.wait_for(lambda: (server.get(f"/v1/runs/{killed}")["progress"]["epoch"] or 0) >= 5, "epoch 5")
    (process,) = server.wait_for(lambda: server.processes(f"maze: run {killed}"), "its process")
    process.kill()
    ends = [server.wait(run) for run in (undisturbed, killed)]
    assert [end["attempt"] for end in ends] == [1, 2]
    assert ends[0]["result"]["content_sha256"] == ends[1]["result"]["content_sha256"]


def test_a_run_that_was_cancelled_and_tried_again_ends_as_one_that_was_not(server):
    undisturbed = server.submit("train", LONG)
    run = server.submit("train", LONG)
    server.wait_for(lambda: (server.get(f"/v1/runs/{run}")["progress"]["epoch"] or 0) >= 3, "epoch 3")
    server.post(f"/v1/runs/{run}/cancel", {})
    cancelled = server.wait(run)
    assert cancelled["state"] == "cancelled"
    again = server.wait(follow(server, cancelled, "retry", {})["id"])
    assert again["continues"]["first_epoch"] in range(2, 12, 2)
    assert again["result"]["content_sha256"] == server.wait(undisturbed)["result"]["content_sha256"]


def test_a_paused_run_that_is_resumed_ends_as_one_that_was_not_paused(server):
    undisturbed = server.submit("train", LONG)
    run = server.submit("train", LONG)
    server.wait_for(lambda: (server.get(f"/v1/runs/{run}")["progress"]["epoch"] or 0) >= 3, "epoch 3")
    server.post(f"/v1/runs/{run}/pause", {})
    assert server.wait(run, until=("paused",))["reason"] == "user_pause"
    server.post(f"/v1/runs/{run}/resume", {})
    assert (
        server.wait(run)["result"]["content_sha256"] == server.wait(undisturbed)["result"]["content_sha256"]
    )


def test_a_fork_without_changes_is_the_same_run_and_one_with_changes_another(server, trained):
    same = server.wait(follow(server, trained, "fork", {})["id"])
    assert same["result"]["content_sha256"] == trained["result"]["content_sha256"]
    other = follow(server, trained, "fork", {"checkpoint": "best", "overrides": {"algorithm.lr": 1e-4}})
    assert other["source_checkpoint"] == trained["best"]["checkpoint"]
    other = server.wait(other["id"])
    assert (other["state"], other["parent_run"]) == ("succeeded", trained["id"])
    assert other["config_sha256"] != trained["config_sha256"]


@pytest.mark.parametrize(
    ("verb", "body", "says"),
    [
        ("retry", {}, "continue it"),
        ("fork", {"overrides": {"algorithm.lr": "x"}}, "algorithm.lr"),
        ("fork", {"checkpoint": "best", "overrides": {"initial.run": "x"}}, "give one of them"),
        ("continue", {"checkpoint": "epoch:99"}, "epoch:99"),
        ("continue", {"n_epochs": -1}, "n_epochs"),
    ],
)
def test_what_cannot_follow_is_refused_with_the_way_out(server, trained, verb, body, says):
    answer = server.post(f"/v1/runs/{trained['id']}/{verb}", body)
    assert answer.status_code in (404, 409, 422)
    assert says in answer.text
