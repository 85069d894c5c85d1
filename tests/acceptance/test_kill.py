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


RECURRENT = {
    "algorithm": "ppo",
    "model": "vector_obs_rnn",
    "critic": "template_state",
    "overrides": {
        "env.name": "CartPole-v1",
        "algorithm.n_epochs": 12,
        "algorithm.epoch_length": 2,
        "algorithm.n_rollout_steps": 16,
        "algorithm.checkpoint_every": 3,
    },
    "seed": 5,
}


def trained_though_killed(server, victim, spec):
    """The run, whose process or whose worker's was killed in the middle."""
    run = server.submit("train", spec)
    server.wait_for(lambda: (server.get(f"/v1/runs/{run}")["progress"]["epoch"] or 0) >= 5, "epoch 5")
    title = f"{victim} {run}" if victim == "maze: run" else victim
    (process,) = server.wait_for(lambda: server.processes(title), title)
    process.kill()
    finished = server.wait(run)
    assert finished["state"] == "succeeded", finished
    assert finished["attempt"] == 2
    return run


def check_kills(server, spec):
    """Killed or not, a run ends with the same content."""
    undisturbed = server.submit("train", spec)
    for victim in ("maze: run", "maze: worker"):
        run = trained_though_killed(server, victim, spec)
        assert server.wait(undisturbed)["attempt"] == 1
        assert content_of(server, run) == content_of(server, undisturbed)
        metrics = server.get(f"/v1/runs/{run}/metrics", names="eval/mean_return")["data"]
        epochs = [point["epoch"] for point in metrics]
        assert epochs == list(range(1, spec["overrides"]["algorithm.n_epochs"] + 1)), "none lost, none twice"


def test_a_killed_run_resumes_from_its_scheduled_checkpoint_and_ends_with_the_same_content(mortal):
    check_kills(mortal, SPEC)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_what_its_recurrent_networks_carried(mortal):
    check_kills(mortal, RECURRENT)


EVERY = {
    "ppo": {},
    "a2c": {},
    "impala": {},
    "es": {"algorithm.n_rollouts_per_update": 4},
    "dqn": {"algorithm.n_warmup_steps": 40},
    "qrdqn": {"algorithm.n_warmup_steps": 40},
    "sac": {"algorithm.n_warmup_steps": 40, "algorithm.batch_size": 32},
    "td3": {"algorithm.n_warmup_steps": 40, "algorithm.batch_size": 32},
    "bc": {"algorithm.n_epochs": 400},
    "sacfd": {"algorithm.n_warmup_steps": 40, "algorithm.batch_size": 32},
}
"""Algorithm → settings that make it learn within a few small epochs."""


@pytest.mark.slow
def test_a_killed_run_of_any_algorithm_ends_with_the_same_content(tmp_path):
    with serving(tmp_path, lease_s=3, heartbeat_s=0.5) as server:
        recorded = {}
        for env in ("CartPole-v1", "Pendulum-v1"):
            played = {"policy": "random_policy", "n_episodes": 4, "record": True, "seed": 3}
            recorded[env] = server.submit("rollout", played | {"overrides": {"env.name": env}})
            assert server.wait(recorded[env])["state"] == "succeeded"
        for algorithm, settings in EVERY.items():
            env = "Pendulum-v1" if algorithm in ("td3", "sacfd") else "CartPole-v1"
            overrides = {
                "env.name": env,
                "algorithm.n_epochs": 10,
                "algorithm.checkpoint_every": 2,
            } | settings
            if algorithm in ("bc", "sacfd"):
                overrides["dataset.run"] = recorded[env]
            spec = {"algorithm": algorithm, "overrides": overrides, "seed": 5}
            undisturbed, killed = server.submit("train", spec), server.submit("train", spec)
            server.wait_for(
                lambda killed=killed: (server.get(f"/v1/runs/{killed}")["progress"]["epoch"] or 0) >= 3,
                "epoch 3",
            )
            (process,) = server.wait_for(
                lambda killed=killed: server.processes(f"maze: run {killed}"), "its process"
            )
            process.kill()
            ends = [server.wait(run) for run in (undisturbed, killed)]
            assert [end["state"] for end in ends] == ["succeeded", "succeeded"], (algorithm, ends)
            assert [end["attempt"] for end in ends] == [1, 2], algorithm
            assert content_of(server, killed) == content_of(server, undisturbed), algorithm
