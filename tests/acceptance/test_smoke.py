"""A training is tried out by a worker, survives its child, can be cancelled, and leaves what was found."""

SPEC = {
    "algorithm": "ppo",
    "overrides": {"env.name": "CartPole-v1", "algorithm.epoch_length": 2},
    "n_epochs": 50,
    "seed": 3,
}


def test_it_says_what_a_training_costs(server):
    answer = server.post("/v1/train?smoke=1", SPEC, Prefer="wait=120")
    assert answer.status_code == 200
    found = answer.json()
    result = found["result"]
    assert (found["kind"], found["state"], result["has_learnt"]) == ("smoke", "succeeded", True)
    assert result["config_sha256"] == found["config_sha256"]
    assert result["n_epochs"] == 50
    assert result["total_s"] >= 50 * result["update_s"] * 2 > 0
    assert result["usage"]["max_rss_bytes"] >= result["max_rss_bytes"] > 2**20
    assert server.get(f"/v1/runs/{found['id']}/checkpoints")["data"] == []
    trained = server.submit("train", SPEC)
    assert server.get(f"/v1/runs/{trained}")["config_sha256"] == found["config_sha256"]
    server.post(f"/v1/runs/{trained}/cancel", {})


def test_a_killed_one_is_tried_out_again_and_one_that_cannot_work_says_why(server):
    slow = {
        **SPEC,
        "algorithm": "dqn",
        "overrides": {"env.name": "CartPole-v1", "algorithm.n_warmup_steps": 10**9},
    }
    run = server.post("/v1/train?smoke=1", slow).json()["id"]
    server.wait_for(lambda: server.get(f"/v1/runs/{run}")["phase"] == "training", "its first update")
    (process,) = server.wait_for(lambda: server.processes(f"maze: run {run}"), "its process")
    process.kill()
    end = server.wait(run)
    assert (end["state"], end["attempt"], end["result"]["has_learnt"]) == ("succeeded", 2, False)
    bad = {**SPEC, "algorithm": "dqn", "overrides": {"env.name": "Pendulum-v1"}}
    refused = server.post("/v1/train?smoke=1", bad, Prefer="wait=120")
    assert refused.status_code in (200, 422)
    assert "Box" in refused.text


def test_one_that_is_cancelled_ends_cancelled(server):
    slow = {
        **SPEC,
        "algorithm": "dqn",
        "overrides": {"env.name": "CartPole-v1", "algorithm.n_warmup_steps": 10**9},
    }
    run = server.post("/v1/train?smoke=1", slow).json()["id"]
    server.wait_for(lambda: server.get(f"/v1/runs/{run}")["phase"] == "training", "its first update")
    server.post(f"/v1/runs/{run}/cancel", {})
    assert server.wait(run)["state"] == "cancelled"
