"""The configuration over HTTP: what there is to choose from, and dry runs."""

import pytest

from maze_core.config import compose_run
from service.store import Stores
from tests.service.api.client import Client


def test_groups_list_the_modules_that_a_submission_may_name(client: Client) -> None:
    page = client.get("/v1/config/groups").json()
    groups = {row["group"]: row["modules"] for row in page["data"]}
    assert {"a2c", "ppo"} <= set(groups["algorithm"])
    assert "launcher" not in groups
    for row in page["data"]:
        assert client.get(row["links"]["self"]).json()["group"] == row["group"]


def test_every_module_can_be_read(client: Client) -> None:
    for row in client.get("/v1/config/groups").json()["data"]:
        for summary in client.get(row["links"]["self"]).json()["modules"]:
            module = client.get(f"/v1/config/groups/{row['group']}/{summary['name']}").json()
            assert (module["group"], module["name"]) == (row["group"], summary["name"])
            assert module["yaml"]
            assert module["description"] == summary["description"]


@pytest.mark.parametrize(
    "path", ["nogroup", "nogroup/ppo", "algorithm/nosuch", "algorithm/..%2f..%2fconf_train", "launcher"]
)
def test_what_is_not_there_is_not_found(client: Client, path: str) -> None:
    answer = client.get(f"/v1/config/groups/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_module_that_is_not_there_is_answered_with_the_closest_one(client: Client) -> None:
    answer = client.get("/v1/config/groups/algorithm/pp0").json()
    assert "'ppo'" in answer["detail"]
    assert answer["allowed"] == ["a2c", "bc", "dqn", "es", "impala", "ppo", "qrdqn", "sac", "sacfd", "td3"]


def test_targets_are_those_that_the_trust_check_takes(client: Client) -> None:
    targets = [row["target"] for row in client.get("/v1/config/targets").json()["data"]]
    assert "maze_core.GymEnvConfig" in targets
    assert targets == sorted(set(targets))


class TestCompose:
    def test_it_tells_what_a_submission_would_run(self, client: Client, stores: Stores) -> None:
        body = {"algorithm": "a2c", "overrides": {"env.name": "CartPole-v1"}, "seed": 4}
        composed = client.post("/v1/config/compose", body).json()
        run = client.post("/v1/train", body).json()
        assert composed["config_sha256"] == run["config_sha256"]
        assert composed["config"] == stores.runs.get(run["id"]).config
        assert composed["seed"] == 4

    def test_it_runs_nothing(self, client: Client, stores: Stores) -> None:
        client.post("/v1/config/compose", {})
        assert stores.runs.list().data == []

    def test_a_drawn_seed_is_told(self, client: Client) -> None:
        drawn = client.post("/v1/config/compose", {}).json()
        again = client.post("/v1/config/compose", {"seed": drawn["seed"]}).json()
        assert drawn == again

    def test_rollouts_compose_too(self, client: Client) -> None:
        body = {"mode": "rollout", "policy": "random_policy", "seed": 2}
        twin = compose_run("rollout", policy="random_policy", seed=2)
        assert client.post("/v1/config/compose", body).json()["config"] == twin.tree

    def test_an_argument_of_the_other_mode_is_told(self, client: Client) -> None:
        answer = client.post("/v1/config/compose", {"mode": "rollout", "algorithm": "ppo"})
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/algorithm"]

    def test_all_errors_come_at_once(self, client: Client) -> None:
        body = {"algorithm": "pp0", "model": "vectr_obs", "overrides": {"seeding.env_base_seed": -1}}
        pointers = [error["pointer"] for error in client.post("/v1/config/compose", body).json()["errors"]]
        assert pointers == ["/algorithm", "/model", "/overrides/seeding.env_base_seed"]
