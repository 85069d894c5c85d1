"""Sweeps over HTTP: what is taken, what is refused, and how they are followed, steered, asked and told."""

import asyncio
import sys

import httpx
import pytest

from service.api import sweeps
from service.domain.errors import StoreUnavailableError
from service.domain.run import MetricPoint, RunKind, RunState
from service.worker.sweeper import Sweeper
from tests.contracts.builders import new_sweep
from tests.service.api.client import HOST

OVERRIDES = {"env.name": "CartPole-v1", "algorithm.n_epochs": 3}
GRID = {"algorithm": ["ppo", "a2c"], "overrides": {**OVERRIDES, "algorithm.lr": [0.001, 0.01]}, "seed": 1}
SPACE = {
    "algorithm.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "algorithm.batch_size": {"choices": [64, 128]},
}
SEARCH = {
    "algorithm": "ppo",
    "overrides": OVERRIDES,
    "seed": 1,
    "search": {"space": SPACE, "n_trials": 3, "sampler": "random"},
}


def submitted(client, body):
    answer = client.post("/v1/sweeps", body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def jobs_of(client, sweep):
    return client.get(f"/v1/sweeps/{sweep['id']}/runs").json()["data"]


def finish(stores, state=RunState.SUCCEEDED, value=1.0):
    """A worker takes the next run and ends it with this value."""
    run, lease = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
    stores.runs.finish(lease, state, reason="completed", result={"best_value": value})
    return run.id


def test_a_grid_makes_a_run_of_every_combination_with_the_digest_of_that_run_alone(client):
    sweep = submitted(
        client, {**GRID, "name": "g", "labels": {"team": "a"}, "priority": 3, "resources": {"cpus": 2.0}}
    )
    assert (sweep["state"], sweep["n_jobs"], sweep["counts"]) == ("running", 4, {"queued": 4})
    jobs = jobs_of(client, sweep)
    assert [job["choices"] for job in jobs] == [
        {"algorithm": algorithm, "algorithm.lr": lr} for algorithm in ("ppo", "a2c") for lr in (0.001, 0.01)
    ]
    run = client.get(f"/v1/runs/{jobs[3]['run']}").json()
    alone = {"algorithm": "a2c", "overrides": {**OVERRIDES, "algorithm.lr": 0.01}, "seed": 1}
    assert run["config_sha256"] == client.post("/v1/train", alone).json()["config_sha256"]
    assert (run["sweep"], run["name"], run["labels"], run["priority"]) == (
        sweep["id"],
        "g 3",
        {"team": "a"},
        3,
    )
    assert run["resources"] == {"cpus": 2.0}
    assert run["links"]["sweep"] == f"/v1/sweeps/{sweep['id']}"
    listed = client.get("/v1/runs", params={"sweep": sweep["id"]}).json()["data"]
    assert {one["id"] for one in listed} == {job["run"] for job in jobs}


def test_a_preview_shows_the_digests_of_the_runs_and_stores_nothing(client):
    preview = client.post("/v1/sweeps/preview", GRID).json()
    assert preview["n_jobs"] == len(preview["jobs"]) == 4
    assert client.get("/v1/sweeps").json()["data"] == []
    sweep = submitted(client, GRID)
    runs = [client.get(f"/v1/runs/{job['run']}").json() for job in jobs_of(client, sweep)]
    assert [job["config_sha256"] for job in preview["jobs"]] == [run["config_sha256"] for run in runs]


def test_a_preview_composes_what_it_shows_and_counts_the_rest(client, monkeypatch):
    composed = []
    make = sweeps.compose
    monkeypatch.setattr(sweeps, "compose", lambda *args, **facts: composed.append(1) or make(*args, **facts))
    monkeypatch.setattr(sweeps, "PREVIEWED", 3)
    preview = client.post("/v1/sweeps/preview", {**GRID, "seed": [1, 2]}).json()
    assert (preview["n_jobs"], len(preview["jobs"]), len(composed)) == (8, 3, 3)


def test_all_jobs_of_a_submission_are_checked_by_what_the_registry_said_once(client, stores, monkeypatch):
    asked = []
    env_ids = stores.registry.env_ids
    monkeypatch.setattr(stores.registry, "env_ids", lambda: asked.append(1) or env_ids())
    submitted(client, GRID)
    first, asked[:] = len(asked), []
    submitted(client, {**GRID, "seed": [1, 2, 3]})
    assert (first, len(asked)) == (1, 1)


@pytest.mark.parametrize("name", ["n_epochs", "max_env_steps", "patience", "algorithm.epoch_length"])
def test_whole_numbers_are_searched(client, stores, settings, name):
    space = {name: {"low": 2, "high": 5, "type": "int", "step": 1}}
    overrides = {"env.name": "CartPole-v1"}
    search = {"space": space, "n_trials": 2, "sampler": "random"}
    sweep = submitted(client, {**SEARCH, "overrides": overrides, "search": search})
    Sweeper(settings, stores).look()
    (job,) = jobs_of(client, sweep)
    assert (job["state"], type(job["choices"][name])) == ("queued", int)


@pytest.mark.parametrize(
    ("search", "reason", "says"),
    [
        (
            {
                "space": {"a": {"low": 1, "high": 4, "step": 0.5, "type": "int"}},
                "n_trials": 2,
                "sampler": "random",
                "seed": 1,
            },
            "invalid_value",
            "whole numbers",
        ),
        ({"n_trials": 2}, "internal_error", "KeyError: 'space'"),
    ],
)
def test_a_sweep_that_raises_ends_and_the_others_go_on(client, stores, settings, search, reason, says):
    broken = [new_sweep(0, spec={"search": search}) for _ in range(2)]
    stores.sweeps.create(broken[0])
    good = submitted(client, SEARCH)
    stores.sweeps.create(broken[1])
    assert Sweeper(settings, stores).look()
    assert [job["state"] for job in jobs_of(client, good)] == ["queued"]
    for one in broken:
        found = client.get(f"/v1/sweeps/{one.id}").json()
        assert (found["state"], found["reason"]) == ("failed", reason)
        assert says in found["error"]["message"]


def test_a_sweep_that_the_database_did_not_answer_for_is_looked_at_again(
    client, stores, settings, monkeypatch
):
    first, second = (submitted(client, SEARCH)["id"] for _ in range(2))
    advance = stores.sweeps.advance

    def fails_for_one(sweep_id, judged=None):
        if sweep_id == first:
            raise StoreUnavailableError("busy")
        return advance(sweep_id, judged)

    monkeypatch.setattr(stores.sweeps, "advance", fails_for_one)
    sweeper = Sweeper(settings, stores)
    assert not sweeper.look()
    monkeypatch.undo()
    assert [stores.sweeps.get(sweep_id).counts for sweep_id in (first, second)] == [{}, {"queued": 1}]
    assert sweeper.look()
    assert stores.sweeps.get(first).counts == {"queued": 1}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_preview_of_a_search_shows_what_it_will_propose_first(client, stores, settings, sampler):
    body = {**SEARCH, "search": {**SEARCH["search"], "sampler": sampler}, "parallel": 1}
    preview = client.post("/v1/sweeps/preview", body).json()
    assert preview["n_jobs"] == len(preview["jobs"]) == 3
    sweep, sweeper = submitted(client, body), Sweeper(settings, stores)
    for _ in range(3):
        sweeper.look()
        finish(stores)
    sweeper.look()
    assert client.get(f"/v1/sweeps/{sweep['id']}").json()["state"] == "succeeded"
    jobs = jobs_of(client, sweep)
    assert [job["choices"] for job in jobs] == [job["choices"] for job in preview["jobs"]]


def test_the_same_key_makes_one_sweep_and_another_body_is_refused(client):
    first, again = (client.post("/v1/sweeps", SEARCH, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = client.post("/v1/sweeps", GRID, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    assert first.json()["id"] in other.json()["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({**GRID, "overrides": {"algorithm.lr": [0.1, "x"]}}, "algorithm.lr"),
        ({**GRID, "overrides": {"env.name": ["CartPole-v1", "os:system"]}}, "os:system"),
        ({**GRID, "algorithm": ["ppo", {"_target_": "os.system"}]}, "os.system"),
        ({**GRID, "overrides": {"sweep": {"_target_": "os.system"}}}, "search and parallel"),
        ({**GRID, "overrides": {"launcher.n_jobs": 9}}, "search and parallel"),
        ({**GRID, "overrides": {"algorithm.lr": []}}, "no job"),
        ({**GRID, "overrides": {"algorithm.lr": [1e-3 * n for n in range(1, 700)]}}, "1398 jobs; at most 1000"),
        ({**GRID, "overrides": {"algorithm.lr": [0.1] * 1001}}, "1001 values; at most 1000"),
        ({**SEARCH, "search": {"space": {"algorithm.lr": {"choices": [0.1] * 1001}}}}, "choices"),
        ({**SEARCH, "search": {"space": {"algorithm.lr": {"choices": [{"_target_": "os.system"}]}}}}, "os.system"),
        ({**SEARCH, "search": {"space": {"env.name": {"choices": ["a:b"]}}}}, "a:b"),
        ({**SEARCH, "search": {"space": {"initial.run": {"choices": ["run_1"]}}}}, "nothing to search"),
        ({**SEARCH, "search": {"space": {"algorithm.lr": {"low": 2.0, "high": 1.0}}}}, "low must be below"),
        ({**SEARCH, "search": {"space": {"algorithm.lrr": {"low": 1.0, "high": 2.0}}}}, "algorithm.lr"),
        ({**SEARCH, "search": {**SEARCH["search"], "n_trials": 1001}}, "1001 jobs; at most 1000"),
        ({**SEARCH, "search": {**SEARCH["search"], "sampler": "cmaes"}}, "tpe"),
        ({**SEARCH, "algorithm": ["ppo", "a2c"]}, "chooses the values itself"),
        ({**SEARCH, "search": {"space": {"n_epochs": {"low": 1, "high": 4, "step": 0.5, "type": "int"}}}}, "whole n"),
        ({**SEARCH, "search": {"space": {"n_epochs": {"low": 1.5, "high": 4, "type": "int"}}}}, "whole number"),
        ({**SEARCH, "search": {"space": {"algorithm.lr": {"low": 1, "high": 4, "step": 1e-300}}}}, "step has to"),
        ({**SEARCH, "search": {"space": {"algorithm.lr": {"choices": [0.1, 0.2, 0.1]}}}}, "0.1 twice"),
        ({**GRID, "seed": [1, 1]}, "1 twice"),
        ({**SEARCH, "seed": [1, 2, 1]}, "1 twice"),
        ({**GRID, "overrides": {**OVERRIDES, "algorithm.lr": [0.001, 0.001]}}, "0.001 twice"),
        ({**GRID, "ask_tell": True}, "give search"),
        ({**GRID, "run_dir": "/etc"}, "run_dir"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_by_name_and_stores_nothing(client, body, says):
    for path in ("/v1/sweeps", "/v1/sweeps/preview"):
        answer = client.post(path, body)
        assert answer.status_code == 422, answer.text
        assert says in answer.text
    assert client.get("/v1/sweeps").json()["data"] == []
    assert client.get("/v1/runs").json()["data"] == []


def test_a_sweep_that_an_experiment_holds_is_taken_and_changed(client):
    grid = submitted(client, {"experiment": "grid_search", "overrides": {"algorithm.lr": 0.1}, "seed": 1})
    assert [job["choices"] for job in jobs_of(client, grid)] == [
        {"algorithm.entropy_coef": 0.0}, {"algorithm.entropy_coef": 0.01},
    ]  # fmt: skip
    search = submitted(client, {"experiment": "optuna_search", "search": {"n_trials": 2}, "seed": 5})
    assert search["search"]["n_trials"] == search["n_jobs"] == 2
    assert (search["search"]["seed"], search["parallel"]) == (5, 1)
    assert set(search["search"]["space"]) == {
        "algorithm.lr",
        "algorithm.entropy_coef",
        "algorithm.batch_size",
    }


def test_the_best_values_are_those_with_the_best_mean_over_their_seeds(client, stores, settings):
    body = {**GRID, "algorithm": "ppo", "seed": [1, 2]}
    sweep = submitted(client, body)
    assert client.get(f"/v1/sweeps/{sweep['id']}/best").status_code == 404
    for value in (5.0, 1.0, 3.0, 4.0):  # of seeds 1 and 2 with either step size
        finish(stores, value=value)
    Sweeper(settings, stores).look()
    jobs = jobs_of(client, sweep)
    assert [(job["trial"], job["choices"]["seed"], job["value"]) for job in jobs] == [
        (0, 1, 5.0), (1, 1, 1.0), (0, 2, 3.0), (1, 2, 4.0),
    ]  # fmt: skip
    best = client.get(f"/v1/sweeps/{sweep['id']}/best").json()
    assert (best["trial"], best["choices"], best["value"]) == (0, {"algorithm.lr": 0.001}, 4.0)
    assert best["runs"] == [jobs[0]["run"], jobs[2]["run"]]


def test_a_sweep_goes_on_when_runs_fail_and_fails_when_all_do(client, stores, settings):
    sweeper = Sweeper(settings, stores)
    for states, end in (("SF", ("succeeded", "completed")), ("FC", ("failed", "all_failed"))):
        sweep = submitted(client, {**GRID, "algorithm": "ppo", "parallel": 1})
        for state in states:
            if state == "C":
                run = next(job["run"] for job in jobs_of(client, sweep) if job["state"] == "queued")
                assert client.post(f"/v1/runs/{run}/cancel").status_code == 200
            else:
                finish(stores, RunState.SUCCEEDED if state == "S" else RunState.FAILED)
            sweeper.look()
        found = client.get(f"/v1/sweeps/{sweep['id']}").json()
        assert (found["state"], found["reason"]) == end


def test_a_metric_of_choice_judges_the_runs_in_the_direction_of_choice(client, stores, settings):
    body = {**GRID, "algorithm": "ppo", "metric": "train/loss", "direction": "minimize"}
    sweep = submitted(client, body)
    for values in ((3.0, 1.0), (2.0, 1.5)):
        _, lease = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
        points = [
            MetricPoint(name="train/loss", epoch=epoch, step=epoch, value=value)
            for epoch, value in enumerate(values, start=1)
        ]
        stores.runs.report(lease, metrics=points)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed", result={"best_value": 9.0})
    Sweeper(settings, stores).look()
    assert [job["value"] for job in jobs_of(client, sweep)] == [1.0, 1.5]
    assert client.get(f"/v1/sweeps/{sweep['id']}/best").json()["trial"] == 0


def test_pause_resume_stop_and_cancel_reach_the_runs(client, stores, settings):
    sweep = submitted(client, {**GRID, "parallel": 2})
    path, sweeper = f"/v1/sweeps/{sweep['id']}", Sweeper(settings, stores)
    stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)

    def after(verb):
        for _ in range(2):  # again changes nothing
            answer = client.post(f"{path}/{verb}")
            assert answer.status_code == 202, answer.text
        sweeper.look()
        found = client.get(path).json()
        return found["state"], found["counts"]

    assert after("pause") == ("paused", {"paused": 1, "stopping": 1, "planned": 2})
    assert after("resume") == ("running", {"queued": 1, "running": 1, "planned": 2})
    assert after("pause")[0] == "paused"
    assert after("stop") == ("stopping", {"queued": 1, "running": 1, "cancelled": 2})
    assert after("cancel") == ("stopping", {"cancelled": 3, "stopping": 1})
    refused = client.post(f"{path}/resume")
    assert (refused.status_code, refused.json()["state"]) == (409, "stopping")
    assert client.request("DELETE", path).status_code == 409


def test_a_stopped_sweep_ends_with_its_runs_and_its_deletion_leaves_them(client, stores, settings):
    sweep, sweeper = submitted(client, {**GRID, "parallel": 1}), Sweeper(settings, stores)
    path = f"/v1/sweeps/{sweep['id']}"
    client.post(f"{path}/stop")
    run_id = finish(stores)
    sweeper.look()
    found = client.get(path).json()
    assert (found["state"], found["reason"], found["counts"]) == (
        "succeeded", "user_stop", {"succeeded": 1, "cancelled": 3},
    )  # fmt: skip
    assert found["finished_at"] is not None
    assert client.request("DELETE", path).status_code == 204
    assert client.get(path).status_code == 404
    assert client.get(f"/v1/runs/{run_id}").json()["sweep"] is None


def test_sweeps_are_listed_newest_first_in_pages_and_by_state(client):
    ids = [submitted(client, {**GRID, "algorithm": "ppo"})["id"] for _ in range(3)]
    client.post(f"/v1/sweeps/{ids[0]}/pause")
    first = client.get("/v1/sweeps", params={"limit": 2}).json()
    rest = client.get("/v1/sweeps", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == ids[::-1]
    assert rest["has_more"] is False
    paused = client.get("/v1/sweeps", params={"state": "paused"}).json()["data"]
    assert [one["id"] for one in paused] == ids[:1]
    jobs = client.get(f"/v1/sweeps/{ids[0]}/runs", params={"limit": 1}).json()
    more = client.get(f"/v1/sweeps/{ids[0]}/runs", params={"limit": 1, "cursor": jobs["next_cursor"]}).json()
    assert [job["job"] for job in jobs["data"] + more["data"]] == [0, 1]
    assert client.get("/v1/sweeps", params={"cursor": jobs["next_cursor"]}).status_code == 422


ASKED = {**SEARCH, "ask_tell": True}


def test_clients_ask_for_values_run_them_elsewhere_and_tell_how_good_they_were(client):
    sweep = submitted(client, ASKED)
    path = f"/v1/sweeps/{sweep['id']}"
    asked = client.post(f"{path}/ask", {"n": 2}).json()["data"]
    preview = client.post("/v1/sweeps/preview", SEARCH).json()["jobs"]
    assert [one["choices"] for one in asked] == [one["choices"] for one in preview[:2]]
    own = client.post(f"{path}/ask", {"values": {"algorithm.lr": 0.005, "algorithm.batch_size": 128}})
    assert own.json()["data"][0]["trial"] == 2
    exhausted = client.post(f"{path}/ask", {})
    assert (exhausted.status_code, "0 of 3 trials left" in exhausted.text) == (409, True)
    for _ in range(2):  # the same again changes nothing
        told = client.post(f"{path}/tell", {"trial": 0, "value": 2.5})
        assert told.status_code == 200, told.text
    assert client.post(f"{path}/tell", {"trial": 0, "value": 2.6}).status_code == 409
    client.post(f"{path}/tell", {"trial": 1, "state": "failed"})
    assert client.get("/v1/runs").json()["data"] == []
    assert client.get(path).json()["counts"] == {"succeeded": 1, "failed": 1, "asked": 1}
    end = client.post(f"{path}/tell", {"trial": 2, "value": 7}).json()
    assert (end["state"], end["best"]["trial"], end["best"]["value"]) == ("succeeded", 2, 7.0)


def test_an_ask_that_is_sent_again_with_its_key_gets_the_same_trials(client):
    path = f"/v1/sweeps/{submitted(client, ASKED)['id']}"
    key = {"Idempotency-Key": "one"}
    first = client.post(f"{path}/ask", {"n": 2}, headers=key)
    other = client.post(f"{path}/ask", {"n": 1}, headers={"Idempotency-Key": "two"})
    assert [one["trial"] for one in other.json()["data"]] == [2]
    again = client.post(f"{path}/ask", {"n": 2}, headers=key)  # though no trial is left
    assert (again.status_code, again.json()) == (200, first.json())
    assert client.post(f"{path}/ask", {"n": 1}, headers=key).status_code == 422
    elsewhere = client.post(f"/v1/sweeps/{submitted(client, ASKED)['id']}/ask", {"n": 1}, headers=key)
    assert [one["trial"] for one in elsewhere.json()["data"]] == [0]


def test_all_of_many_who_ask_at_once_get_values_of_their_own(client):
    search = {"space": SPACE, "n_trials": 24, "sampler": "tpe", "n_startup_trials": 2}
    path = f"/v1/sweeps/{submitted(client, {**ASKED, 'search': search})['id']}"

    async def ask_at_once():
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as http:
            return await asyncio.gather(*(http.post(f"{path}/ask", json={"n": 2}) for _ in range(12)))

    answers = client.run(ask_at_once())
    assert [answer.status_code for answer in answers] == [200] * 12
    trials = [one["trial"] for answer in answers for one in answer.json()["data"]]
    assert sorted(trials) == [*range(24)]


def test_what_is_asked_for_with_run_the_service_runs_and_tells(client, stores, settings):
    sweep = submitted(client, {**ASKED, "parallel": 2})
    path = f"/v1/sweeps/{sweep['id']}"
    (asked,) = client.post(f"{path}/ask", {"run": True}).json()["data"]
    (job,) = jobs_of(client, sweep)
    assert (job["state"], job["choices"]) == ("queued", asked["choices"])
    assert client.post(f"{path}/tell", {"trial": 0, "value": 1.0}).status_code == 409
    finish(stores, value=4.5)
    Sweeper(settings, stores).look()
    assert jobs_of(client, sweep)[0]["value"] == 4.5


@pytest.mark.parametrize(
    ("verb", "body", "status", "says"),
    [
        ("tell", {"trial": 9, "value": 1.0}, 404, "no trial 9"),
        ("tell", {"trial": 0}, 422, "Give the value"),
        ("tell", {"trial": 0, "value": 1.0, "state": "failed"}, 422, "Give the value"),
        ("tell", {"trial": 0, "value": [1.0, 2.0]}, 422, "/value"),
        ("tell", {"trial": 0, "value": "1.5"}, 422, "/value"),
        ("tell", {"trial": 0, "value": True}, 422, "/value"),
        ("ask", {"values": {"algorithm.lr": 0.005}}, 422, "algorithm.batch_size"),
        ("ask", {"values": {"algorithm.lr": 0.5, "algorithm.batch_size": 64}}, 422, "not between"),
        (
            "ask",
            {"values": {"algorithm.lr": 0.005, "algorithm.batch_size": True}},
            422,
            "none of its choices",
        ),
        ("ask", {"n": 0}, 422, "/n"),
    ],
)
def test_what_cannot_be_asked_or_told_is_refused_by_name(client, verb, body, status, says):
    path = f"/v1/sweeps/{submitted(client, ASKED)['id']}"
    client.post(f"{path}/ask", {})
    answer = client.post(f"{path}/{verb}", body)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert client.get(path).json()["counts"] == {"asked": 1}


def test_choices_that_are_equal_are_kept_apart(client):
    space = {"algorithm.lr": {"choices": [0.001, 1.0, True, 1, False, 0]}}
    sweep = submitted(client, {**ASKED, "search": {"space": space, "n_trials": 6, "sampler": "random"}})
    for value in space["algorithm.lr"]["choices"]:
        asked = client.post(f"/v1/sweeps/{sweep['id']}/ask", {"values": {"algorithm.lr": value}})
        assert repr(asked.json()["data"][0]["choices"]["algorithm.lr"]) == repr(value)


@pytest.mark.parametrize("is_search", [True, False])
def test_the_parameter_that_decides_is_the_important_one(client, stores, settings, is_search):
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    lrs, sizes = [1e-3 * n for n in range(1, 9)], [64, 128]
    if is_search:
        space = {"algorithm.lr": {"choices": lrs}, "algorithm.batch_size": {"choices": sizes}}
        sweep = submitted(client, {**ASKED, "search": {"space": space, "n_trials": 16}})
    else:
        overrides = {**OVERRIDES, "algorithm.lr": lrs, "algorithm.batch_size": sizes}
        sweep = submitted(client, {**GRID, "algorithm": "ppo", "overrides": overrides})
    path = f"/v1/sweeps/{sweep['id']}"
    early = client.get(f"{path}/importance")
    assert (early.status_code, "0 trials have a value" in early.text) == (409, True)
    for lr in lrs:
        for size in sizes:
            value = 100 * lr + size / 1e4
            if is_search:
                body = {"values": {"algorithm.lr": lr, "algorithm.batch_size": size}}
                trial = client.post(f"{path}/ask", body).json()["data"][0]["trial"]
                client.post(f"{path}/tell", {"trial": trial, "value": value})
            else:
                finish(stores, value=value)
    Sweeper(settings, stores).look()
    found = client.get(f"{path}/importance").json()
    assert found["n_trials"] == 16
    assert found["importance"]["algorithm.lr"] > 0.8
    assert sum(found["importance"].values()) == pytest.approx(1.0)
    assert client.get(f"{path}/importance").json() == found


def test_a_search_that_no_worker_can_propose_for_fails_and_says_what_to_install(
    client, stores, settings, monkeypatch
):
    sweep = submitted(client, {**SEARCH, "search": {"space": SPACE}})
    monkeypatch.setitem(sys.modules, "optuna", None)
    Sweeper(settings, stores).look()
    found = client.get(f"/v1/sweeps/{sweep['id']}").json()
    assert (found["state"], found["reason"]) == ("failed", "missing_extra")
    assert "pip install 'maze-service[optuna]'" in found["error"]["message"]


def test_runs_of_a_sweep_are_changed_together(client):
    sweep, _ = submitted(client, GRID), submitted(client, GRID)
    answer = client.post("/v1/runs/bulk", {"action": "cancel", "filter": {"sweep": sweep["id"]}})
    assert {one["state"] for one in answer.json()["data"]} == {"cancelled"}
    assert {one["id"] for one in answer.json()["data"]} == {job["run"] for job in jobs_of(client, sweep)}


def test_a_recorded_configuration_is_varied_as_any_other(client):
    recorded = client.post("/v1/config/compose", {"algorithm": "ppo", "overrides": OVERRIDES, "seed": 1})
    body = {
        "config": recorded.json()["config"],
        "overrides": {"algorithm.lr": [0.001, 0.002]},
        "seed": [1, 2],
    }
    preview = client.post("/v1/sweeps/preview", body).json()
    assert [job["choices"] for job in preview["jobs"]] == [
        {"seed": seed, "algorithm.lr": lr} for seed in (1, 2) for lr in (0.001, 0.002)
    ]
    alone = {"algorithm": "ppo", "overrides": {**OVERRIDES, "algorithm.lr": 0.002}, "seed": 2}
    composed = client.post("/v1/config/compose", alone).json()
    assert preview["jobs"][3]["config_sha256"] == composed["config_sha256"]
