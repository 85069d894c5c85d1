"""Sweeps with real processes: the runs of RunContext's multirun, bit by bit, whoever is killed meanwhile."""

import pytest

from maze_core import RunContext

QUICK = {
    "env.name": "CartPole-v1",
    "algorithm.n_epochs": 2,
    "algorithm.checkpoint_every": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 32,
    "algorithm.rollout_evaluator.n_episodes": 2,
}
GRID = {"algorithm": ["a2c", "ppo"], "overrides": {**QUICK, "algorithm.lr": [0.001, 0.01]}, "seed": 3}
SPACE = {
    "algorithm.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "algorithm.gamma": {"choices": [0.9, 0.99]},
}
SEARCH = {"space": SPACE, "n_trials": 5, "n_startup_trials": 2}


def jobs_of(server, sweep):
    return server.get(f"/v1/sweeps/{sweep['id']}/runs", limit=200)["data"]


def ended(server, sweep, states=("succeeded", "failed", "cancelled")):
    def look():
        found = server.get(f"/v1/sweeps/{sweep['id']}")
        return found if found["state"] in states else None

    return server.wait_for(look, "the end of the sweep")


def submitted(server, body):
    answer = server.post("/v1/sweeps", body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def digests_of(server, jobs):
    runs = [server.get(f"/v1/runs/{job['run']}") for job in jobs]
    return [(run["config_sha256"], run["result"]["content_sha256"]) for run in runs]


@pytest.mark.parametrize("parallel", [1, None])
def test_a_grid_has_the_digests_of_a_multirun(server, parallel):
    sweep = submitted(server, {**GRID, "parallel": parallel, "name": "grid", "labels": {"team": "a"}})
    end = ended(server, sweep)
    assert (end["state"], end["reason"], end["counts"]) == ("succeeded", "completed", {"succeeded": 4})
    jobs = jobs_of(server, sweep)
    with RunContext(multirun=True, **GRID) as context:
        reports, shas, records = context.train(), context.config_sha256, context.sweep.jobs
        best = context.sweep.best
    assert [job["choices"] for job in jobs] == [record.choices for record in records]
    assert digests_of(server, jobs) == [
        (sha, report.content_sha256) for sha, report in zip(shas, reports, strict=True)
    ]
    assert [job["value"] for job in jobs] == [record.best_return for record in records]
    assert (end["best"]["choices"], end["best"]["value"]) == (best.choices, best.best_return)
    listed = server.get("/v1/runs", sweep=sweep["id"])["data"]
    assert {run["id"] for run in listed} == {job["run"] for job in jobs}
    assert {(run["sweep"], run["labels"]["team"]) for run in listed} == {(sweep["id"], "a")}


@pytest.mark.parametrize(("sampler", "seed"), [("tpe", 3), ("random", [1, 2])])
def test_a_search_has_the_trials_of_a_multirun(server, sampler, seed):
    search = {**SEARCH, "sampler": sampler, "n_trials": 4}
    sweep = submitted(server, {"algorithm": "ppo", "overrides": QUICK, "seed": seed, "search": search})
    end = ended(server, sweep)
    assert (end["state"], end["n_jobs"]) == ("succeeded", 4 if seed == 3 else 8)
    jobs = jobs_of(server, sweep)
    overrides = {**QUICK, "sweep": {"_target_": "maze_core.OptunaSearchConfig", **search}}
    with RunContext(
        multirun=True, algorithm="ppo", overrides=overrides, seed=seed, launcher={"n_jobs": 1}
    ) as context:
        reports, shas, report = context.train(), context.config_sha256, context.sweep
    assert [job["choices"] for job in jobs] == [record.choices for record in report.jobs]
    assert digests_of(server, jobs) == [
        (sha, one.content_sha256) for sha, one in zip(shas, reports, strict=True)
    ]
    best = max(report.parameters, key=lambda one: one.value)
    assert (end["best"]["choices"], end["best"]["value"]) == (best.choices, best.value)
