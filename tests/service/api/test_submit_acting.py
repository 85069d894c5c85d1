"""POST rollout and evaluate: whose policy acts, in which environment, and why it sometimes cannot."""

from typing import Any

import pytest

from maze_core.config import compose_run
from service.domain.run import RunKind, RunState
from service.store import Stores
from tests.contracts.builders import new_checkpoint
from tests.service.api.client import Client
from tests.service.api.submissions import errors, trained


class TestRollout:
    def test_a_policy_without_training_plays_in_the_environment_named(
        self, client: Client, stores: Stores
    ) -> None:
        body = {"policy": "random_policy", "overrides": {"env.name": "CartPole-v1"}, "n_episodes": 3}
        run = client.post("/v1/rollout", body | {"max_episode_steps": 0, "record": False, "seed": 5}).json()
        stored = stores.runs.get(run["id"])
        assert (stored.kind, stored.seed, stored.source_run) == (RunKind.ROLLOUT, 5, None)
        runner = stored.config["runner"]
        assert (runner["n_episodes"], runner["max_episode_steps"]) == (3, None)
        assert runner["record_trajectory"] is False
        twin = compose_run(
            "rollout",
            policy="random_policy",
            overrides={
                "env.name": "CartPole-v1",
                "runner.n_episodes": 3,
                "runner.max_episode_steps": 0,
                "runner.record_trajectory": False,
            },
            seed=5,
        )
        assert run["config_sha256"] == twin.config_sha256

    def test_a_trained_policy_plays_in_its_own_run_s_environment(
        self, client: Client, stores: Stores
    ) -> None:
        source, lease = trained(client, stores)
        checkpoint = stores.checkpoints.put(lease, new_checkpoint(2, is_best=True), b"bundle")
        body = {
            "run": source.id,
            "n_episodes": 4,
            "max_episode_steps": 9,
            "deterministic": False,
            "n_envs": 2,
        }
        answer = client.post("/v1/rollout", body)
        assert answer.status_code == 202, answer.text
        stored = stores.runs.get(answer.json()["id"])
        assert (stored.source_run, stored.source_checkpoint) == (source.id, checkpoint.id)
        for part in ("env", "wrappers", "model"):
            assert stored.config[part] == source.config[part]
        runner = stored.config["runner"]
        assert runner["_target_"] == "maze_core.RolloutRunnerConfig"
        assert [runner[name] for name in ("n_episodes", "max_episode_steps", "n_envs")] == [4, 9, 2]
        assert runner["deterministic"] is False
        assert stored.config["seeding"] == {"env_base_seed": stored.seed, "agent_base_seed": stored.seed}

    @pytest.mark.parametrize("verb", ["rollout", "evaluate"])
    @pytest.mark.parametrize(("given", "limit"), [({}, 10_000), ({"max_episode_steps": 0}, None)])
    def test_the_step_limit_of_the_run_holds_unless_another_is_given(
        self, client: Client, stores: Stores, verb: str, given: dict[str, int], limit: int | None
    ) -> None:
        source, lease = trained(client, stores)
        stores.checkpoints.put(lease, new_checkpoint(2, is_best=True), b"bundle")
        evaluator = source.config["algorithm"]["rollout_evaluator"]
        assert evaluator["max_episode_steps"] == 10_000
        answer = client.post(f"/v1/{verb}", {"run": source.id, **given})
        runner = stores.runs.get(answer.json()["id"]).config["runner"]
        assert runner["max_episode_steps"] == limit
        assert runner["n_envs"] == source.config["runner"]["n_envs"]

    def test_either_a_run_or_a_policy_is_needed(self, client: Client) -> None:
        assert "random_policy" in client.post("/v1/rollout", {}).json()["detail"]

    def test_a_run_brings_its_own_environment(self, client: Client, stores: Stores) -> None:
        source, lease = trained(client, stores)
        stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), b"bundle")
        answer = client.post("/v1/rollout", {"run": source.id, "env": "gym_env"})
        assert errors(answer) == {"/env": "contradiction"}

    @pytest.mark.parametrize("policy", ["torch_policy", {"_target_": "maze_core.TorchPolicyConfig"}])
    def test_a_trained_policy_is_named_by_its_run(self, client: Client, policy: Any) -> None:
        assert errors(client.post("/v1/rollout", {"policy": policy})) == {"/policy": "missing_field"}

    def test_a_number_of_episodes_is_given_once(self, client: Client) -> None:
        body = {"policy": "random_policy", "n_episodes": 3, "overrides": {"runner.n_episodes": 4}}
        assert errors(client.post("/v1/rollout", body)) == {"/n_episodes": "contradiction"}

    def test_a_problem_of_the_runner_points_to_the_request_s_own_field(self, client: Client) -> None:
        answer = client.post("/v1/rollout", {"policy": "random_policy", "n_envs": 65})
        assert errors(answer) == {"/n_envs": "out_of_range"}


FILMED = {"policy": "random_policy", "overrides": {"env.name": "CartPole-v1"}, "n_episodes": 3}


class TestVideos:
    @pytest.mark.parametrize(
        ("asked", "n_videos", "is_recorded"),
        [
            ({"record": ["trajectory", "video"]}, 3, True),
            ({"record": ["video"], "videos": 2}, 2, False),
            ({"videos": 9}, 3, True),
            ({"videos": 0}, None, True),
            ({"record": True}, None, True),
        ],
    )
    def test_what_is_filmed_is_no_part_of_the_configuration(
        self, client: Client, stores: Stores, asked: dict[str, Any], n_videos: int | None, is_recorded: bool
    ) -> None:
        run = client.post("/v1/rollout", FILMED | {"seed": 1} | asked).json()
        stored = stores.runs.get(run["id"])
        assert stored.arguments.get("videos") == n_videos
        assert stored.config["runner"]["record_trajectory"] is is_recorded
        plain = client.post("/v1/rollout", FILMED | {"seed": 1, "record": is_recorded}).json()
        assert run["config_sha256"] == plain["config_sha256"]

    def test_what_no_worker_can_film_is_refused_with_the_way_out(
        self, client: Client, stores: Stores
    ) -> None:
        stores.registry.beat_worker("w", {"films": False})
        for asked, pointer in (({"videos": 1}, "/videos"), ({"record": ["video"]}, "/record")):
            answer = client.post("/v1/rollout", FILMED | asked)
            assert answer.status_code == 422
            (error,) = answer.json()["errors"]
            assert (error["pointer"], error["code"]) == (pointer, "missing_extra")
            assert "pip install 'maze-service[video]'" in error["message"]
        stores.registry.beat_worker("v", {"films": True})
        assert client.post("/v1/rollout", FILMED | {"videos": 1}).status_code == 202

    def test_a_run_that_is_tried_again_films_as_before(self, client: Client, stores: Stores) -> None:
        run = client.post("/v1/rollout", FILMED | {"videos": 2}).json()
        client.post(f"/v1/runs/{run['id']}/cancel")
        again = client.post(f"/v1/runs/{run['id']}/retry").json()
        assert stores.runs.get(again["id"]).arguments == {"videos": 2}
        client.post(f"/v1/runs/{again['id']}/cancel")
        stores.registry.beat_worker("w", {"films": False})
        refused = client.post(f"/v1/runs/{again['id']}/retry")
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "missing_extra")


class TestEvaluate:
    def test_the_checkpoint_is_fixed_when_the_run_is_submitted(self, client: Client, stores: Stores) -> None:
        source, lease = trained(client, stores)
        first = stores.checkpoints.put(lease, new_checkpoint(1, is_best=True, is_last=True), b"one")
        run = client.post("/v1/evaluate", {"run": source.id, "seed": 1}).json()
        stores.checkpoints.put(lease, new_checkpoint(2, is_best=True, is_last=True), b"two")
        assert (run["kind"], run["source_checkpoint"]) == ("evaluate", first.id)
        assert stores.runs.get(run["id"]).config["runner"]["n_episodes"] == 20

    def test_a_run_without_a_checkpoint_says_its_state_and_when_to_ask_again(
        self, client: Client, stores: Stores
    ) -> None:
        source, _ = trained(client, stores)
        answer = client.post("/v1/evaluate", {"run": source.id})
        assert (answer.status_code, answer.json()["code"]) == (409, "no_checkpoint")
        assert answer.json()["state"] == "running"
        assert answer.headers["x-should-retry"] == "true"
        assert int(answer.headers["retry-after"]) >= 1

    def test_a_run_that_ended_without_a_checkpoint_never_has_one(
        self, client: Client, stores: Stores
    ) -> None:
        source, lease = trained(client, stores)
        stores.runs.finish(lease, RunState.FAILED, reason="error", error={"code": "x", "message": "y"})
        answer = client.post("/v1/evaluate", {"run": source.id})
        assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")
        assert "retry-after" not in answer.headers

    def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(
        self, client: Client, stores: Stores
    ) -> None:
        source, lease = trained(client, stores)
        stores.checkpoints.put(lease, new_checkpoint(5, is_best=True), b"bundle")
        answer = client.post("/v1/evaluate", {"run": source.id, "checkpoint": "epoch:7"})
        assert answer.status_code == 404
        assert "5" in answer.json()["detail"]

    def test_a_checkpoint_that_cannot_act_says_why(self, client: Client, stores: Stores) -> None:
        source, lease = trained(client, stores)
        facts = {"is_best": True, "servable": False, "not_servable_reason": "a wrapper steps itself"}
        stores.checkpoints.put(lease, new_checkpoint(1, **facts), b"bundle")
        answer = client.post("/v1/evaluate", {"run": source.id})
        assert (answer.status_code, answer.json()["code"]) == (409, "not_servable")
        assert "a wrapper steps itself" in answer.json()["detail"]

    def test_a_rollout_has_no_policy_of_its_own(self, client: Client) -> None:
        rollout = client.post("/v1/rollout", {"policy": "random_policy"}).json()
        answer = client.post("/v1/evaluate", {"run": rollout["id"]})
        assert (answer.status_code, answer.json()["code"]) == (409, "no_policy")

    def test_an_unknown_run_is_not_found(self, client: Client) -> None:
        assert client.post("/v1/evaluate", {"run": "run_nowhere"}).status_code == 404
