"""The way a user goes, over HTTP, with real processes: train, evaluate, roll out, act, cancel, restart."""

import gymnasium

from tests.acceptance.server import serving

CARTPOLE = {
    "algorithm": "ppo",
    "model": "vector_obs",
    "critic": "template_state",
    "wrappers": "vector_obs",
    "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 12},
    "seed": 1,
    "name": "walk",
    "labels": {"suite": "acceptance"},
}


def test_a_policy_is_trained_evaluated_rolled_out_and_served_and_outlives_a_restart(tmp_path):
    with serving(tmp_path) as server:
        run = server.submit("train", CARTPOLE)
        trained = server.wait(run)
        assert trained["state"] == "succeeded", trained
        assert trained["best"]["value"] >= 475

        long = server.submit(
            "train",
            {**CARTPOLE, "seed": 2, "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 100_000}},
        )
        server.wait(long, until=("running",))
        server.wait_for(lambda: server.get(f"/v1/runs/{long}")["progress"]["epoch"], "the first epoch")
        assert server.post(f"/v1/runs/{long}/cancel", {}).status_code in (200, 202)
        cancelled = server.wait(long)
        assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "user_cancel")
        kinds = {row["kind"] for row in server.get(f"/v1/runs/{long}/checkpoints")["data"]}
        assert "continued" in kinds, "a cancelled run is terminal only when its last checkpoint is stored"

        evaluation = server.wait(server.submit("evaluate", {"run": run, "n_episodes": 20, "seed": 1}))
        assert evaluation["state"] == "succeeded", evaluation
        result = evaluation["result"]
        assert len(result["returns"]) == len(result["seeds"]) == len(result["lengths"]) == 20
        assert result["mean_return"] >= 475
        assert result["ci95"][0] <= result["mean_return"] <= result["ci95"][1]

        rollout = server.submit(
            "rollout",
            {
                "run": run,
                "checkpoint": "best",
                "n_episodes": 3,
                "max_episode_steps": 0,
                "deterministic": True,
                "seed": 1,
                "record": True,
            },
        )
        assert server.wait(rollout)["state"] == "succeeded"
        episodes = server.get(f"/v1/runs/{rollout}/episodes")["data"]
        assert [row["index"] for row in episodes] == [0, 1, 2]
        assert [row["episode_return"] for row in episodes] == result["returns"][:3]

    with serving(tmp_path) as server:
        assert server.get(f"/v1/runs/{run}")["state"] == "succeeded"
        assert drive(server, run) >= 475
        labelled = server.get("/v1/runs", **{"label.suite": "acceptance", "kind": "train"})["data"]
        assert {row["id"] for row in labelled} == {run, long}


def drive(server, run):
    """Drive a real gymnasium environment with actions from HTTP; returns the episode's return."""
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=11)
    total, done = 0.0, False
    while not done:
        response = server.post(f"/v1/runs/{run}/compute_action", {"observation": observation.tolist()})
        assert response.status_code == 200, response.text
        observation, reward, terminated, truncated, _ = env.step(response.json()["action"])
        total, done = total + reward, terminated or truncated
    env.close()
    return total


def test_a_random_policy_plays_without_a_run(server):
    body = {"policy": "random_policy", "overrides": {"env.name": "CartPole-v1"}, "n_episodes": 4, "seed": 3}
    finished = server.wait(server.submit("rollout", body))
    assert finished["state"] == "succeeded", finished
    assert len(finished["result"]["returns"]) == 4


def test_prefer_wait_answers_with_the_run_that_has_ended(server):
    body = {"policy": "random_policy", "overrides": {"env.name": "CartPole-v1"}, "n_episodes": 1, "seed": 3}
    response = server.post("/v1/rollout", body, prefer="wait=60")
    assert response.status_code == 200
    assert response.json()["state"] == "succeeded"


def test_events_can_be_read_as_a_page_and_as_a_stream_from_where_one_was(server):
    body = {"policy": "random_policy", "overrides": {"env.name": "CartPole-v1"}, "n_episodes": 2, "seed": 3}
    run = server.submit("rollout", body)
    server.wait(run)
    page = server.get(f"/v1/runs/{run}/events")["data"]
    assert [event["seq"] for event in page] == list(range(1, len(page) + 1))
    headers = {"accept": "text/event-stream", "last-event-id": "1"}
    with server.client.stream("GET", f"/v1/runs/{run}/events", headers=headers) as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("id: ")]
    assert lines == [f"id: {event['seq']}" for event in page[1:]]


def test_the_users_model_policy_dict_works_over_http(server):
    """The dict of the RunContext document, with its ``maze.*`` names."""
    composer = {
        "_target_": "maze.perception.models.policies.ProbabilisticPolicyComposer",
        "networks": [
            {
                "_target_": "maze.perception.models.built_in.flatten_concat.FlattenConcatPolicyNet",
                "non_lin": "torch.nn.Tanh",
                "hidden_units": [256, 256],
            }
        ],
        "substeps_with_separate_agent_nets": [],
        "agent_counts_dict": {"0": 1},
    }
    run = server.submit("train", {"overrides": {"model.policy": composer}, "n_epochs": 1, "seed": 1})
    finished = server.wait(run)
    assert finished["state"] == "succeeded", finished
    config = server.get(f"/v1/runs/{run}/config")
    assert config["config"]["model"]["policy"]["networks"][0]["hidden_units"] == [256, 256]
