"""Recorded episodes become a policy, and that policy the start of another training, over HTTP with real processes."""

from maze_core import RunContext

SMALL = {"configuration": "test", "seed": 1}


def test_a_rollout_is_cloned_and_the_clone_is_trained_on_with_the_digests_of_python(server, tmp_path):
    rollout = server.submit("rollout", {"policy": "random_policy", "n_episodes": 4, "seed": 1})
    assert server.wait(rollout)["state"] == "succeeded"
    cloning = {"algorithm": "bc", "overrides": {"dataset.run": rollout}, **SMALL}
    clone = server.wait(server.submit("train", cloning))
    assert clone["state"] == "succeeded", clone
    assert clone["latest_metrics"]["validation/loss"] > 0
    tuned = server.wait(server.submit("train", {"overrides": {"initial.run": clone["id"]}, **SMALL}))
    assert tuned["state"] == "succeeded", tuned
    best = clone["best"]["checkpoint"]
    assert (tuned["source_run"], tuned["source_checkpoint"]) == (clone["id"], best)

    played = RunContext(policy="random_policy", overrides={"runner.n_episodes": 4}, seed=1)
    saved = played.rollout(save=tmp_path / "rollout").saved_to
    here = RunContext(tmp_path / "clone", algorithm="bc", overrides={"dataset.run": saved}, **SMALL)
    report = here.train()
    then = RunContext(tmp_path / "tuned", overrides={"initial.run": tmp_path / "clone"}, **SMALL)
    assert [clone["config_sha256"], tuned["config_sha256"]] == [here.config_sha256, then.config_sha256]
    assert clone["result"]["content_sha256"] == report.content_sha256
    assert tuned["result"]["content_sha256"] == then.train().content_sha256


def test_what_cannot_be_learnt_from_is_told_when_it_is_submitted(server):
    def refused(overrides, algorithm="bc"):
        answer = server.post("/v1/train", {"algorithm": algorithm, "overrides": overrides, **SMALL})
        return answer.status_code, answer.text

    silent = server.submit("rollout", {"policy": "random_policy", "n_episodes": 1, "record": False, **SMALL})
    assert server.wait(silent)["state"] == "succeeded"
    for expected, overrides in [
        ((422, "no recorded episodes"), {"dataset.run": silent}),
        ((404, "run_0"), {"dataset.run": "run_0"}),
        ((422, "is not the id of a run"), {"dataset.run": "/etc"}),
        ((422, "is not the id of a run"), {"dataset.run": "minari:pole/expert-v0"}),
        ((422, "is not the id of a run"), {"dataset.run": "plays.parquet"}),
        ((422, "is not the id of a run"), {"initial.run": "../runs"}),
        ((422, "learns from recorded episodes"), {}),
    ]:
        status, detail = refused(overrides)
        assert status == expected[0]
        assert expected[1] in detail
    assert refused({"dataset.run": silent}, "ppo")[0] == 422
