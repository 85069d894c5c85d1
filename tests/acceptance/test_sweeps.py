"""Sweeps with real processes: the runs of RunContext's multirun, bit by bit, whoever is killed meanwhile."""

import contextlib
import os
import signal

import httpx
import pytest

from maze_core import RunContext
from tests.acceptance.server import serving

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
        with contextlib.suppress(httpx.TransportError):  # it is being started again
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


def test_a_search_gives_up_the_runs_that_a_multirun_gives_up(server):
    search = {**SEARCH, "space": {"algorithm.lr": {"low": 1e-5, "high": 1.0, "log": True}}}
    search |= {"pruner": "successive_halving", "n_trials": 6}
    overrides = {**QUICK, "algorithm.n_epochs": 12, "algorithm.n_rollout_steps": 64}
    sweep = submitted(server, {"algorithm": "ppo", "overrides": overrides, "seed": 3, "search": search})
    end, jobs = ended(server, sweep), jobs_of(server, sweep)
    node = {"_target_": "maze_core.OptunaSearchConfig", **search}
    with RunContext(
        multirun=True, algorithm="ppo", overrides={**overrides, "sweep": node}, seed=3, launcher={"n_jobs": 1}
    ) as context:
        context.train()
        report = context.sweep
    assert [(job["choices"], job["value"], job["pruned_at"]) for job in jobs] == [
        (record.choices, record.value, record.pruned_at) for record in report.jobs
    ]
    pruned = [job for job in jobs if job["state"] == "pruned"]
    assert 0 < len(pruned) < 6
    assert end["counts"] == {"pruned": len(pruned), "succeeded": 6 - len(pruned)}
    assert end["best"]["choices"] == report.best.choices
    for job in pruned:
        run = server.wait(job["run"])
        assert (run["state"], run["reason"]) in (("cancelled", "pruned"), ("succeeded", "completed"))


def test_jobs_may_begin_with_the_policy_of_a_run_which_is_the_one_it_was_at_submission(server):
    first = server.wait(server.submit("train", {"algorithm": "ppo", "overrides": QUICK, "seed": 1}))
    overrides = {**QUICK, "initial.run": first["id"]}
    for more in ({"search": {**SEARCH, "n_trials": 1, "sampler": "random"}}, {"n_epochs": [1, 2]}):
        given = {**overrides, "algorithm.n_epochs": 1} if "search" in more else dict(overrides)
        if "n_epochs" in more:
            del given["algorithm.n_epochs"]
        sweep = submitted(server, {"algorithm": "ppo", "overrides": given, "seed": 1, **more})
        assert ended(server, sweep)["state"] == "succeeded"
        for job in jobs_of(server, sweep):
            run = server.get(f"/v1/runs/{job['run']}")
            assert run["source_run"] == first["id"]
            assert run["source_checkpoint"] == first["best"]["checkpoint"]
            alone = {key: value for key, value in given.items() if key != "algorithm.n_epochs"} | {
                key: value for key, value in job["choices"].items() if key != "n_epochs"
            }
            epochs = job["choices"].get("n_epochs", 1)
            body = {"algorithm": "ppo", "overrides": alone, "seed": 1, "n_epochs": epochs}
            assert run["config_sha256"] == server.post("/v1/config/compose", body).json()["config_sha256"]


DISTURBED = {**QUICK, "algorithm.n_epochs": 6}
KILLED = {
    "grid": {"overrides": {**DISTURBED, "algorithm.lr": [0.001, 0.003, 0.01, 0.03]}, "parallel": 1},
    "search": {"overrides": DISTURBED, "search": SEARCH},
}


def found(server, sweep):
    """How it ended: its state, its jobs, and the content of each, none of which was made twice."""
    end, jobs = ended(server, sweep), jobs_of(server, sweep)
    runs = server.get("/v1/runs", sweep=sweep["id"], limit=200)["data"]
    assert {run["id"] for run in runs} == {job["run"] for job in jobs}, "no run is made twice"
    assert len(runs) == len(jobs) == end["n_jobs"]
    return end["state"], [job["choices"] for job in jobs], digests_of(server, jobs)


@pytest.fixture(scope="module")
def undisturbed(server):
    sweeps = {
        kind: submitted(server, {"algorithm": "ppo", "seed": 3, **body}) for kind, body in KILLED.items()
    }
    return {kind: found(server, sweep) for kind, sweep in sweeps.items()}


def in_the_middle(server, kind):
    """A sweep whose second run has begun, and the process of that run."""
    sweep = submitted(server, {"algorithm": "ppo", "seed": 3, **KILLED[kind]})
    second = server.wait_for(
        lambda: jobs_of(server, sweep)[1:2] and jobs_of(server, sweep)[1]["run"], "a run"
    )
    (child,) = server.wait_for(lambda: server.processes(f"maze: run {second}"), "its process")
    return sweep, child


@pytest.mark.parametrize(
    ("kind", "victim"),
    [
        pytest.param("grid", "maze: worker", marks=pytest.mark.slow),
        *(("search", name) for name in ("maze: run", "maze: worker", "maze: api")),
    ],
)
def test_a_sweep_in_which_a_process_is_killed_ends_as_one_that_was_not(mortal, undisturbed, kind, victim):
    sweep, child = in_the_middle(mortal, kind)
    (child if victim == "maze: run" else mortal.processes(victim)[0]).kill()
    assert found(mortal, sweep) == undisturbed[kind]


@pytest.mark.slow
def test_a_sweep_in_which_everything_is_killed_ends_as_one_that_was_not(undisturbed, tmp_path):
    with serving(tmp_path, lease_s=3, heartbeat_s=0.5) as server:
        sweep, _ = in_the_middle(server, "search")
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(30)
    with serving(tmp_path, lease_s=3, heartbeat_s=0.5) as again:
        assert found(again, sweep) == undisturbed["search"]
