"""kill -9 of a training child, and of the worker: the run goes on and ends as one that was not disturbed."""

import pytest

from tests.acceptance.server import serving

SPEC = {
    "algorithm": "ppo",
    "overrides": {
        "env.name": "CartPole-v1",
        "algorithm.n_epochs": 24,
        "algorithm.epoch_length": 2,
        "algorithm.checkpoint_every": 3,
    },
    "seed": 5,
}


def content_of(server, run):
    return server.get(f"/v1/runs/{run}")["result"]["content_sha256"]


@pytest.mark.parametrize("victim", ["maze: run", "maze: worker"])
def test_a_killed_run_resumes_from_its_scheduled_checkpoint_and_ends_with_the_same_content(victim, tmp_path):
    with serving(tmp_path, lease_s=3, heartbeat_s=0.5) as server:
        undisturbed = server.submit("train", SPEC)
        assert server.wait(undisturbed)["state"] == "succeeded"

        run = server.submit("train", SPEC)
        server.wait_for(lambda: (server.get(f"/v1/runs/{run}")["progress"]["epoch"] or 0) >= 5, "epoch 5")
        title = f"{victim} {run}" if victim == "maze: run" else victim
        (process,) = server.wait_for(lambda: server.processes(title), title)
        process.kill()
        finished = server.wait(run)
        assert finished["state"] == "succeeded", finished
        assert finished["attempt"] == 2
        assert content_of(server, run) == content_of(server, undisturbed)
        epochs = [
            point["epoch"]
            for point in server.get(f"/v1/runs/{run}/metrics", names="eval/mean_return")["data"]
        ]
        assert epochs == list(range(1, 25)), "no epoch lost, none twice"
