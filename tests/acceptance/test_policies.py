"""Policies over a real service: promoted, acting by name, compared as in Python, gated, and whole after kill -9."""

import threading

import httpx
import pytest

from maze_core import RunContext, compare

OVERRIDES = {"env.name": "CartPole-v1", "algorithm.n_epochs": 2, "algorithm.epoch_length": 2}
OBSERVATION = [0.1, 0.2, -0.1, 0.3]
CHAMPION = "/v1/policies/pole/aliases/champion"


@pytest.fixture(scope="module")
def trained(server):
    """Two runs, which are versions 1 and 2 of ``pole``; ``champion`` is the first one."""
    runs = [server.submit("train", {"overrides": OVERRIDES, "seed": seed}) for seed in (1, 2)]
    gate = {"aliases": ["champion"], "n_episodes": 4}
    assert server.post("/v1/policies", {"name": "pole", "gate": gate}).status_code == 201
    for run in runs:
        assert server.wait(run)["state"] == "succeeded"
        assert server.post("/v1/policies/pole/versions", {"run": run}).status_code == 201
    assert server.client.put(CHAMPION, json={"version": 1}).status_code == 200
    return runs


def test_a_policy_acts_plays_and_is_compared_by_its_name_as_its_run_does(server, trained):
    def acted(path):
        return server.post(f"{path}/compute_action", {"observation": OBSERVATION}).json()

    by_name = acted("/v1/policies/pole@champion")
    assert by_name == acted("/v1/policies/pole:1")
    assert by_name.pop("policy") == "pole:1"
    assert by_name == acted(f"/v1/runs/{trained[0]}")
    body = {"n_episodes": 3, "seed": 4}
    by_name = server.wait(server.submit("evaluate", {"policy": "pole:2", **body}))
    by_run = server.wait(server.submit("evaluate", {"run": trained[1], **body}))
    assert by_name["config_sha256"] == by_run["config_sha256"]
    by_name["result"].pop("usage"), by_run["result"].pop("usage")
    assert by_name["result"] == by_run["result"]
    pair = {"policies": [{"policy": "pole@champion"}, {"policy": "pole:2"}], **body}
    compared = server.wait(server.submit("compare", pair))
    assert compared["result"]["policies"][1]["returns"] == by_run["result"]["returns"]


def test_a_comparison_has_digest_and_result_of_python(server, trained, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        with RunContext(tmp_path / name, overrides=OVERRIDES, seed=seed, silent=True) as context:
            context.train()
    there = compare([tmp_path / "a", tmp_path / "b", (tmp_path / "b", "last")], 5, seed=9)
    policies = [{"run": trained[0]}, {"run": trained[1]}, {"run": trained[1], "checkpoint": "last"}]
    body = {"policies": policies, "n_episodes": 5, "seed": 9}
    here = server.wait(server.submit("compare", body))
    assert here["config_sha256"] == there.config_sha256
    here["result"].pop("usage")
    assert here["result"] == there.to_dict()
    assert here["progress"]["fraction"] == 1.0


def test_policies_of_other_spaces_are_refused_or_fail_with_the_place_and_the_reason(server, trained):
    """Refused where the environments that workers published tell it; arguments may change what they published."""
    for kwargs in ({}, {"g": 9.0}):
        pendulum = {"overrides": {**OVERRIDES, "env.name": "Pendulum-v1", "env.kwargs": kwargs}, "seed": 1}
        other = server.submit("train", pendulum)
        server.wait(other)
        body = {"policies": [{"policy": "pole:1"}, {"run": other}], "n_episodes": 2}
        answer = server.post("/v1/compare", body)
        if not kwargs:
            assert answer.status_code == 422, answer.text
            assert all(name in answer.text for name in ("/policies/1", "CartPole-v1", "Pendulum-v1"))
            continue
        failed = server.wait(answer.json()["id"])
        assert (failed["state"], failed["error"]["code"]) == ("failed", "invalid_specification")
        assert "policies.1" in str(failed["error"])


def test_a_fork_of_a_named_policy_ends_as_that_of_its_run_and_checkpoint(server, trained):
    ends = []
    for path, body in (
        ("/v1/policies/pole:2", {}),
        (f"/v1/runs/{trained[1]}", {"checkpoint": "best"}),
    ):
        answer = server.post(f"{path}/fork", {"overrides": {"algorithm.lr": 1e-4}, "seed": 5, **body})
        assert answer.status_code == 202, answer.text
        ends.append(server.wait(answer.json()["id"]))
    assert [(end["state"], end["parent_run"]) for end in ends] == [("succeeded", trained[1])] * 2
    assert ends[0]["result"]["content_sha256"] == ends[1]["result"]["content_sha256"]


def test_a_gate_opens_for_what_it_asked_for_and_a_rollback_needs_none(server, trained):
    def put(revision, **body):
        return server.client.put(CHAMPION, json={"version": 2, **body}, headers={"If-Match": revision})

    tag = server.client.get(CHAMPION).headers["etag"]
    closed = put(tag)
    assert closed.status_code == 409
    comparison = server.wait(server.submit("compare", closed.json()["compare"]))
    low, high = comparison["result"]["pairs"][0]["ci95"]
    answer = put(tag, comparison=comparison["id"])
    assert answer.status_code == (200 if high >= 0 else 409), (low, high, answer.text)
    if answer.status_code == 200:
        assert server.post(f"{CHAMPION}/rollback", {"reason": "back"}).json()["version"] == 1


def test_a_comparison_whose_process_is_killed_ends_with_the_same_result(server, trained):
    body = {"policies": [{"policy": "pole:1"}, {"policy": "pole:2"}], "n_episodes": 1000, "seed": 2}
    undisturbed, killed = (server.submit("compare", body) for _ in range(2))
    server.wait_for(lambda: (server.get(f"/v1/runs/{killed}")["progress"]["fraction"] or 0) > 0.02, "a start")
    for process in server.processes(f"maze: run {killed}"):
        process.kill()
    ends = [server.wait(run) for run in (undisturbed, killed)]
    assert [end["attempt"] for end in ends] == [1, 2]
    for end in ends:
        end["result"].pop("usage")
    assert ends[0]["result"] == ends[1]["result"]


def hammer(server, answered, ended, name):
    """Promote on and on; note what was answered."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:
        while not ended.is_set():
            try:
                present = client.get(CHAMPION)
                version = 3 - present.json()["version"] if present.status_code == 200 else 1
                headers = {"If-Match": present.headers["etag"]} if present.status_code == 200 else {}
                moved = client.put(CHAMPION, json={"version": version, "reason": name}, headers=headers)
            except httpx.TransportError:
                ended.wait(0.02)
            else:
                if moved.status_code == 200:
                    answered.append((moved.json()["revision"], version))


def moves_of(server):
    """The whole history, oldest first."""
    moves, cursor = [], {}
    while cursor is not None:
        page = server.get(f"{CHAMPION}/history", limit=200, **cursor)
        moves += page["data"]
        cursor = {"cursor": page["next_cursor"]} if page["has_more"] else None
    return moves[::-1]


def test_an_api_that_is_killed_in_the_middle_of_promotes_loses_none_and_invents_none(mortal):
    """What was answered is there; the history has no gap, and the alias is what its last move says."""
    answered, ended = [], threading.Event()

    def more_promotes():
        wanted = len(answered) + 10
        mortal.wait_for(lambda: len(answered) > wanted, "promotes")

    run = mortal.submit("train", {"overrides": OVERRIDES, "seed": 1})
    mortal.wait(run)
    mortal.post("/v1/policies", {"name": "pole"})
    for checkpoint in ("epoch:1", "epoch:2"):
        body = {"run": run, "checkpoint": checkpoint}
        assert mortal.post("/v1/policies/pole/versions", body).status_code == 201
    clients = [threading.Thread(target=hammer, args=(mortal, answered, ended, name)) for name in "ab"]
    for client in clients:
        client.start()
    for _ in range(3):
        more_promotes()
        (api,) = mortal.wait_for(lambda: mortal.processes("maze: api"), "the API")
        api.kill()
        api.wait(30)
    more_promotes()
    ended.set()
    for client in clients:
        client.join()
    moves, alias = moves_of(mortal), mortal.get(CHAMPION)
    assert [move["seq"] for move in moves] == list(range(1, len(moves) + 1))
    assert [move["from_version"] for move in moves] == [None, *(move["to_version"] for move in moves[:-1])]
    assert (alias["version"], alias["revision"]) == (moves[-1]["to_version"], moves[-1]["seq"])
    assert all(moves[revision - 1]["to_version"] == version for revision, version in answered)
    moved = [revision for revision, _ in answered]
    assert len(set(moved)) == len(moved), "of two who moved the same, one won"
