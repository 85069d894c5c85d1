"""Schemas, provenance and differences over HTTP: they say of a configuration what submitting it would do."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from maze_core.config import compose_run
from maze_core.config.json_schema import module_schema
from maze_core.config.trust import trust_policy
from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client, running
from tests.service.api.submissions import TRAIN, errors

A2C = {"algorithm": "a2c", "overrides": {"algorithm.lr": 0.5, "env.name": "CartPole-v1"}, "seed": 3}


def test_a_module_that_is_listed_has_the_schema_that_the_library_has_for_clients(client: Client) -> None:
    policy = trust_policy()
    for row in client.get("/v1/config/groups").json()["data"]:
        for name in row["modules"][:2]:
            schema = client.get(f"/v1/config/groups/{row['group']}/{name}/schema").json()
            assert schema == module_schema(row["group"], name, policy=policy)
            assert schema["title"] == f"{row['group']}={name}"


@pytest.mark.parametrize("path", ["launcher/local", "algorithm/pp0", "nogroup/ppo"])
def test_there_is_no_schema_of_what_is_not_there(client: Client, path: str) -> None:
    answer = client.get(f"/v1/config/groups/{path}/schema")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("mode", ["train", "rollout"])
def test_what_composes_fits_the_schema_of_the_whole(client: Client, mode: str) -> None:
    schema = Draft202012Validator(client.get(f"/v1/config/schema?mode={mode}").json())
    given = {} if mode == "train" else {"policy": "random_policy"}
    composed = client.post("/v1/config/compose", {"mode": mode, **given}).json()["config"]
    assert schema.is_valid(composed)
    assert not schema.is_valid(composed | {"runner": composed["runner"] | {"n_envs": "eight"}})


def provenance(client: Client, path: str, body: Any = None) -> dict[str, tuple[str, str | None]]:
    answer = client.get(path) if body is None else client.post(path, body)
    return {key: (of["source"], of["name"]) for key, of in answer.json()["provenance"].items()}


class TestProvenance:
    COMPOSE = "/v1/config/compose?provenance=true"

    def test_it_is_that_of_python(self, client: Client) -> None:
        found = provenance(client, self.COMPOSE, A2C)
        twin = compose_run(algorithm="a2c", overrides=A2C["overrides"], seed=3)
        assert found == {key: tuple(origin) for key, origin in twin.provenance.items()}

    def test_it_is_told_to_those_who_ask(self, client: Client) -> None:
        assert client.post("/v1/config/compose", A2C).json()["provenance"] is None

    def test_a_seed_that_was_not_given_is_drawn(self, client: Client) -> None:
        assert provenance(client, self.COMPOSE, {})["seeding.env_base_seed"] == ("drawn", None)

    def test_of_a_resolved_configuration_only_what_stands_beside_it_was_given(self, client: Client) -> None:
        config = client.post("/v1/config/compose", A2C).json()["config"]
        found = provenance(client, self.COMPOSE, {"config": config, "overrides": {"algorithm.gamma": 0.5}})
        assert found["algorithm.gamma"] == ("override", "algorithm.gamma")
        assert found["algorithm.lr"] == found["seeding.env_base_seed"] == ("config", None)

    def test_of_a_run_it_is_what_composing_its_request_told(self, client: Client) -> None:
        run = client.post("/v1/train", TRAIN).json()["id"]
        found = provenance(client, f"/v1/runs/{run}/config?provenance=true")
        assert found == provenance(client, self.COMPOSE, TRAIN)

    def test_of_a_run_with_a_drawn_seed_nothing_has_changed(self, client: Client) -> None:
        run = client.post("/v1/train", {}).json()["id"]
        found = provenance(client, f"/v1/runs/{run}/config?provenance=true")
        assert found["seeding.agent_base_seed"] == ("drawn", None)
        assert not [key for key, (source, _) in found.items() if source == "changed"]

    def test_of_a_rollout_its_fields_are_overrides(self, client: Client) -> None:
        body = {"policy": "random_policy", "n_episodes": 3, "overrides": {"env.name": "CartPole-v1"}}
        run = client.post("/v1/rollout", body).json()["id"]
        found = provenance(client, f"/v1/runs/{run}/config?provenance=true")
        assert found["runner.n_episodes"] == ("override", "runner.n_episodes")
        assert found["policy._target_"] == ("module", "policy/random_policy")

    def test_of_a_fork_what_was_not_asked_for_is_the_parents(self, client: Client) -> None:
        parent = client.post("/v1/train", A2C).json()["id"]
        fork = client.post(f"/v1/runs/{parent}/fork", {"overrides": {"algorithm.gamma": 0.5}}).json()["id"]
        found = provenance(client, f"/v1/runs/{fork}/config?provenance=true")
        assert found["algorithm.gamma"] == ("override", "algorithm.gamma")
        assert found["algorithm.lr"] == ("config", parent)

    def test_what_would_come_out_otherwise_today_has_changed(self, stores: Stores, tmp_path: Path) -> None:
        module = tmp_path / "algorithm" / "mine.yaml"
        module.parent.mkdir()
        module.write_text("_target_: PPOAlgorithmConfig\nlr: 0.25\ngamma: 0.9\n")
        settings = Settings(auth=False, config_dirs=[str(tmp_path)])
        with running(settings, stores) as client:
            run = client.post("/v1/train", {"algorithm": "mine"}).json()["id"]
            module.write_text("_target_: PPOAlgorithmConfig\nlr: 0.5\ngamma: 0.90\n")
            found = provenance(client, f"/v1/runs/{run}/config?provenance=true")
            assert found["algorithm.lr"] == ("changed", None)
            assert found["algorithm.gamma"] == ("module", "algorithm/mine")
            module.unlink()
            found = provenance(client, f"/v1/runs/{run}/config?provenance=true")
            assert {source for source, _ in found.values()} == {"changed"}


class TestDiff:
    def diff(self, client: Client, left: Any, right: Any) -> Any:
        return client.post("/v1/config/diff", {"left": left, "right": right}).json()

    def test_a_run_differs_from_its_own_request_in_nothing(self, client: Client) -> None:
        run = client.post("/v1/train", TRAIN).json()
        found = self.diff(client, {"run": run["id"]}, TRAIN)
        assert found["data"] == []
        assert found["left_sha256"] == found["right_sha256"] == run["config_sha256"]

    def test_each_difference_is_told_with_both_values(self, client: Client) -> None:
        kwargs = {"env.kwargs": {"sutton_barto_reward": True}}
        changes = {"algorithm.lr": 0.5, "env.vectorization": "per_env"}
        found = self.diff(client, {"overrides": kwargs}, {"overrides": changes})
        assert found["data"] == [
            {"key": "env.kwargs.sutton_barto_reward", "kind": "removed", "left": True, "right": None},
            {"key": "algorithm.lr", "kind": "changed", "left": 0.001, "right": 0.5},
        ]
        assert found["left_sha256"] != found["right_sha256"]

    def test_a_run_may_be_compared_with_itself_changed(self, client: Client) -> None:
        run = client.post("/v1/train", {}).json()["id"]
        changed = {"run": run, "overrides": {"algorithm.gamma": 0.5}}
        found = self.diff(client, {"run": run}, changed)["data"]
        assert [(one["key"], one["right"]) for one in found] == [("algorithm.gamma", 0.5)]

    @pytest.mark.parametrize(("left", "right"), [({"seed": 5}, {}), ({}, {"seed": 5}), ({}, {})])
    def test_an_open_seed_is_that_of_the_other_one(self, client: Client, left: Any, right: Any) -> None:
        found = self.diff(client, left, right)
        assert (found["data"], found["left_sha256"]) == ([], found["right_sha256"])

    def test_seeds_that_differ_are_a_difference(self, client: Client) -> None:
        found = self.diff(client, {"seed": 5}, {"seed": 6})["data"]
        assert [one["key"] for one in found] == ["seeding.env_base_seed", "seeding.agent_base_seed"]

    def test_mistakes_are_told_where_they_are(self, client: Client) -> None:
        answer = client.post("/v1/config/diff", {"left": {}, "right": {"overrides": {"algorithm.lr": -1}}})
        assert answer.status_code == 422
        assert list(errors(answer)) == ["/right/overrides/algorithm.lr"]

    def test_a_run_that_there_is_not_is_not_found(self, client: Client) -> None:
        answer = client.post("/v1/config/diff", {"left": {"run": "run_nosuch"}, "right": {}})
        assert answer.status_code == 404
