"""POST train, rollout and evaluate: what is accepted, what is stored, and what the client is told."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from maze_core.config import compose_run, config_groups
from service.domain.run import RunKind, RunState, StopReason
from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client, running
from tests.service.api.submissions import TRAIN, UNKNOWN, errors, publish


class TestTrain:
    def test_a_run_is_queued_and_its_place_is_told(self, client: Client, stores: Stores) -> None:
        answer = client.post("/v1/train", TRAIN | {"name": "cartpole", "labels": {"team": "a"}})
        run = answer.json()
        assert answer.status_code == 202
        assert answer.headers["location"] == run["links"]["self"] == f"/v1/runs/{run['id']}"
        assert (run["kind"], run["state"], run["seed"]) == ("train", "queued", 1)
        assert (run["name"], run["labels"]) == ("cartpole", {"team": "a"})
        assert stores.runs.get(run["id"]).request == TRAIN | {"name": "cartpole", "labels": {"team": "a"}}

    def test_it_is_the_run_that_python_would_make_of_the_same_arguments(
        self, client: Client, stores: Stores
    ) -> None:
        run = client.post("/v1/train", TRAIN).json()
        twin = compose_run("train", **TRAIN)  # type: ignore[arg-type]
        assert run["config_sha256"] == twin.config_sha256
        assert stores.runs.get(run["id"]).config == twin.tree

    def test_what_a_run_takes_of_its_machine_changes_no_number_and_is_kept_when_it_is_tried_again(
        self, client: Client, stores: Stores
    ) -> None:
        plain = client.post("/v1/train", TRAIN).json()
        run = client.post("/v1/train", TRAIN | {"resources": {"cpus": 2, "memory_mib": 512}}).json()
        assert (plain["resources"], run["resources"]) == (None, {"cpus": 2, "memory_mib": 512})
        assert run["config_sha256"] == plain["config_sha256"]
        client.post(f"/v1/runs/{run['id']}/cancel")
        again = client.post(f"/v1/runs/{run['id']}/retry").json()
        assert again["resources"] == run["resources"]
        client.post(f"/v1/runs/{again['id']}/cancel")
        other = client.post(f"/v1/runs/{again['id']}/retry", {"resources": {"gpus": 0.5}}).json()
        assert stores.runs.get(other["id"]).resources == {"gpus": 0.5}

    @pytest.mark.parametrize(
        ("resources", "pointer"),
        [
            ({"cpus": -1}, "/resources/cpus"),
            ({"memory_mib": 1}, "/resources/memory_mib"),
            ({"cores": 2}, "/resources/cores"),
        ],
    )
    def test_resources_that_mean_nothing_are_refused_by_place(
        self, client: Client, resources: dict[str, Any], pointer: str
    ) -> None:
        answer = client.post("/v1/train", TRAIN | {"resources": resources})
        assert (answer.status_code, [*errors(answer)]) == (422, [pointer])

    def test_a_drawn_seed_is_echoed_and_repeats_the_run(self, client: Client) -> None:
        body = {"overrides": {"env.name": "CartPole-v1"}}
        first = client.post("/v1/train", body).json()
        again = client.post("/v1/train", body | {"seed": first["seed"]}).json()
        assert first["config_sha256"] == again["config_sha256"]

    def test_seeds_set_apart_stay_apart(self, client: Client, stores: Stores) -> None:
        seeds = {"seeding.env_base_seed": 3, "seeding.agent_base_seed": 4}
        run = client.post("/v1/train", {"overrides": seeds}).json()
        assert run["seed"] == 3
        assert stores.runs.get(run["id"]).config["seeding"] == {"env_base_seed": 3, "agent_base_seed": 4}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("n_epochs", 7),
            ("max_env_steps", 900),
            ("max_wall_s", 1.5),
            ("patience", 2),
            ("target_return", -3.0),
        ],
    )
    def test_a_budget_is_a_field_and_is_given_once(
        self, client: Client, stores: Stores, name: str, value: float
    ) -> None:
        run = client.post("/v1/train", {name: value}).json()
        assert stores.runs.get(run["id"]).config["algorithm"][name] == value
        twice = client.post("/v1/train", {name: value, "overrides": {f"algorithm.{name}": value}})
        assert errors(twice) == {f"/{name}": "contradiction"}
        parent = {"config": client.get(f"/v1/runs/{run['id']}/config").json(), name: value * 2}
        again = client.post("/v1/train", parent).json()
        assert stores.runs.get(again["id"]).config["algorithm"][name] == value * 2

    def test_a_training_that_is_tried_out_is_no_training(self, client: Client, stores: Stores) -> None:
        headers = {"Idempotency-Key": "k"}
        smoke = client.post("/v1/train?smoke=1", TRAIN, headers=headers).json()
        train = client.post("/v1/train?smoke=false", TRAIN, headers=headers).json()
        assert (smoke["kind"], train["kind"]) == ("smoke", "train")
        assert smoke["config_sha256"] == train["config_sha256"]
        assert [run["id"] for run in client.get("/v1/runs?kind=train").json()["data"]] == [train["id"]]
        assert client.get("/v1/runs?kind=smoke").json()["data"][0]["id"] == smoke["id"]
        assert client.post(f"/v1/runs/{smoke['id']}/cancel").json()["state"] == "cancelled"
        again = client.post(f"/v1/runs/{smoke['id']}/retry", {}).json()
        assert (again["kind"], again["parent_run"]) == ("smoke", smoke["id"])
        for verb in ("continue", "fork"):
            assert client.post(f"/v1/runs/{smoke['id']}/{verb}", {}).status_code == 409

    def test_a_trace_is_kept_with_the_run_and_given_back_in_answers_and_problems(
        self, client: Client, stores: Stores
    ) -> None:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers = {"traceparent": parent, "tracestate": "a=1, b=2"}
        answer = client.post("/v1/train", TRAIN, headers=headers)
        assert (answer.headers["traceparent"], answer.headers["tracestate"]) == (parent, "a=1,b=2")
        assert answer.json()["traceparent"] == parent
        kept = stores.runs.get(answer.json()["id"])
        assert (kept.traceparent, kept.tracestate) == (parent, "a=1,b=2")
        assert client.get(f"/v1/runs/{kept.id}").json()["traceparent"] == parent
        refused = client.post("/v1/train", {"seed": -1}, headers=headers)
        assert (refused.status_code, refused.json()["traceparent"]) == (422, parent)
        assert "traceparent" not in client.post("/v1/train", {"seed": -1}).json()
        assert client.post("/v1/train", TRAIN).json()["traceparent"] is None

    def test_a_configuration_goes_round(self, client: Client) -> None:
        body = {"wrappers": "vector_obs", "overrides": {"env.name": "CartPole-v1"}, "seed": 3}
        run = client.post("/v1/train", body).json()
        answer = client.get(f"/v1/runs/{run['id']}/config").json()
        for config in (answer, answer["config"]):
            again = client.post("/v1/train", {"config": config})
            assert again.status_code == 202
            assert again.json()["config_sha256"] == run["config_sha256"]
        changed = client.post(
            "/v1/train", {"config": answer, "seed": 4, "overrides": {"algorithm.lr": 0.5}}
        ).json()
        assert changed["seed"] == 4

    @pytest.mark.parametrize(
        ("part", "value", "pointer", "code"),
        [
            (
                "env",
                {"_target_": "os.system", "command": "true"},
                "/config/env/_target_",
                "target_not_allowed",
            ),
            (
                "algorithm",
                {"_target_": "PPOAlgorithmConfig", "lr": -1},
                "/config/algorithm/lr",
                "out_of_range",
            ),
            (
                "runner",
                {"_target_": "TrainingRunnerConfig", "n_envs": 65},
                "/config/runner/n_envs",
                "out_of_range",
            ),
            ("run_dir", "/tmp/x", "/config/run_dir", "reserved_key"),
            ("hooks", {}, "/config/hooks", "unknown_key"),
        ],
    )
    def test_a_configuration_goes_through_every_check(
        self, client: Client, part: str, value: object, pointer: str, code: str
    ) -> None:
        config = client.post("/v1/config/compose", {"seed": 1}).json()["config"]
        problem = client.post("/v1/train", {"config": config | {part: value}})
        assert problem.status_code == 422
        assert {"pointer": pointer, "code": code}.items() <= problem.json()["errors"][0].items()

    @pytest.mark.parametrize(
        ("body", "meant"),
        [
            ({"learning_rate": 0.1}, "algorithm.lr"),
            ({"overrides": {"total_timesteps": 1000}}, "algorithm.total_env_steps"),
            ({"algorithm": {"n_steps": 8}}, "n_rollout_steps"),
            ({"algorithm": "PPO"}, "ppo"),
        ],
    )
    def test_words_of_other_libraries_are_answered_with_ours(
        self, client: Client, body: dict[str, Any], meant: str
    ) -> None:
        assert client.post("/v1/train", body).json()["errors"][0]["did_you_mean"] == meant

    def test_a_component_may_be_an_object_with_target(self, client: Client, stores: Stores) -> None:
        policy = {
            "_target_": "maze.perception.models.policies.ProbabilisticPolicyComposer",
            "networks": [
                {
                    "_target_": "maze.perception.models.built_in.flatten_concat.FlattenConcatPolicyNet",
                    "non_lin": "torch.nn.Tanh",
                    "hidden_units": [32, 32],
                }
            ],
        }
        body = {"policy": policy, "model": "flatten_concat", "critic": "flatten_concat_shared"}
        answer = client.post("/v1/train", body)
        assert answer.status_code == 202, answer.text
        stored = stores.runs.get(answer.json()["id"]).config["model"]["policy"]
        assert stored["_target_"] == "maze_core.ProbabilisticPolicyComposerConfig"
        assert stored["networks"][0]["hidden_units"] == [32, 32]

    def test_a_full_queue_refuses_for_now(self, client: Client, settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setitem(settings.__dict__, "max_queued_runs", 1)
        assert client.post("/v1/train", {}).status_code == 202
        answer = client.post("/v1/train", {})
        assert (answer.status_code, answer.json()["code"]) == (503, "capacity")
        assert int(answer.headers["retry-after"]) >= 1


class TestMistakes:
    def test_every_problem_is_told_with_its_place_in_the_body(self, client: Client) -> None:
        overrides = {"env.name": "CartPole-v1", "algorithm.gamma": 3, "algorithm.gama": 1}
        answer = client.post("/v1/train", {"algorithm": "ppo", "overrides": overrides})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_specification")
        assert errors(answer) == {
            "/overrides/algorithm.gamma": "out_of_range",
            "/overrides/algorithm.gama": "unknown_key",
        }

    def test_an_unknown_environment_is_answered_with_the_closest_one(
        self, client: Client, stores: Stores
    ) -> None:
        publish(stores, "CartPole-v1", "MyOwn-v0")
        answer = client.post("/v1/train", {"overrides": {"env.name": "CartPol-v1"}})
        (mistake,) = answer.json()["errors"]
        assert mistake["pointer"] == "/overrides/env.name"
        assert mistake["path"] == "env.name"
        assert mistake["did_you_mean"] == "CartPole-v1"

    def test_only_published_environments_exist(self, client: Client, stores: Stores) -> None:
        publish(stores, "MyOwn-v0")
        assert client.post("/v1/train", {"overrides": {"env.name": "CartPole-v1"}}).status_code == 422
        assert client.post("/v1/train", {"overrides": {"env.name": "MyOwn-v0"}}).status_code == 202

    def test_before_a_worker_has_published_those_of_gymnasium_exist(self, client: Client) -> None:
        assert client.post("/v1/train", {"overrides": {"env.name": "Acrobot-v1"}}).status_code == 202
        awaited = client.post("/v1/train", {"overrides": {"env.name": "MyOwn-v0"}})
        assert (awaited.status_code, awaited.json()["code"]) == (503, "not_ready")
        assert awaited.headers["retry-after"] == "2"

    def test_an_environment_is_awaited_while_a_worker_has_yet_to_publish_its_own(
        self, client: Client, stores: Stores
    ) -> None:
        publish(stores, "CartPole-v1")
        stores.registry.beat_worker("w2", {"environments": "pending"})
        assert client.post("/v1/train", {"overrides": {"env.name": "MyOwn-v0"}}).status_code == 503
        stores.registry.beat_worker("w2", {"environments": "published"})
        answer = client.post("/v1/train", {"overrides": {"env.name": "MyOwn-v0"}})
        assert "GET /v1/environments lists those that workers offer" in answer.json()["detail"]

    def test_spaces_in_which_nothing_can_act_are_refused_unless_arguments_may_change_them(
        self, client: Client, stores: Stores
    ) -> None:
        reason = "The observation space holds a Graph space at its root, which is not supported."
        row = {"id": "Graph-v0", "source": "gymnasium", "is_available": True, **UNKNOWN}
        row |= {"is_trainable": False, "reason": reason, "open_kwargs": ["flat"]}
        submitted = {"overrides": {"env.name": "Graph-v0"}}
        stores.registry.publish_environments("w1", [row])  # could not be made just now, and may be later
        assert client.post("/v1/train", submitted).status_code == 202
        stores.registry.publish_environments("w1", [row | {"observation_space": None, "action_space": None}])
        answer = client.post("/v1/train", submitted)
        assert (answer.status_code, errors(answer)) == (422, {"/overrides/env.name": "env_not_trainable"})
        assert client.post("/v1/train", {"env": "gym_text_env", **submitted}).status_code == 202
        assert reason in answer.json()["detail"]
        played = client.post("/v1/rollout", submitted | {"policy": "random_policy"})
        assert played.status_code == 422
        assert client.post("/v1/train", {"env": {"name": "Graph-v0"}}).status_code == 422

    def test_an_algorithm_that_does_not_act_in_the_spaces_is_refused_with_those_that_do(
        self, client: Client, stores: Stores, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        box = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}
        row = {"id": "Own-v0", "source": "gymnasium", "is_available": True, **UNKNOWN, "is_trainable": True}
        stores.registry.publish_environments("w1", [row | {"observation_space": box, "action_space": box}])
        submitted = {"algorithm": "dqn", "overrides": {"env.name": "Own-v0"}}
        answer = client.post("/v1/train", submitted)
        assert (answer.status_code, errors(answer)) == (422, {"/algorithm": "env_not_trainable"})
        assert "take ppo, a2c, impala, es, sac or td3" in answer.json()["detail"]
        assert client.post("/v1/train", submitted | {"algorithm": "sac"}).status_code == 202
        assert client.post("/v1/train", submitted | {"wrappers": "vector_obs"}).status_code == 202
        inside = "gymnasium.wrappers.stateful_observation.TimeAwareObservation"
        monkeypatch.setitem(settings.__dict__, "extra_targets", [inside])
        submitted["overrides"] |= {"env.wrappers": [{"_target_": inside}]}  # may change the spaces
        assert client.post("/v1/train", submitted).status_code == 202

    def test_a_missing_extra_is_named_with_its_command(self, client: Client, stores: Stores) -> None:
        publish(stores, "CartPole-v1")
        answer = client.post("/v1/train", {"overrides": {"env.name": "ALE/Pong-v5"}})
        assert "pip install 'maze-service[atari]'" in answer.json()["detail"]

    def test_arguments_that_the_operators_files_name_may_be_given(
        self, sqlite_url: str, stores: Stores, tmp_path: Path
    ) -> None:
        (tmp_path / "env").mkdir()
        module = "_target_: maze_core.envs.config.GymEnvConfig\nname: MyOwn-v0\nkwargs: {size: 5}\n"
        (tmp_path / "env" / "own.yaml").write_text(module)
        publish(stores, "MyOwn-v0")
        settings = Settings(database_url=sqlite_url, auth=False, config_dirs=[str(tmp_path)])
        with running(settings, stores) as client:
            assert client.post("/v1/train", {"env": "own"}).status_code == 202
            given = client.post("/v1/train", {"env": "own", "overrides": {"env.kwargs.size": 9}})
            assert given.status_code == 202
            assert stores.runs.get(given.json()["id"]).config["env"]["kwargs"] == {"size": 9}
            refused = client.post("/v1/train", {"env": "own", "overrides": {"env.kwargs.colour": 1}})
            assert refused.json()["errors"][0]["allowed"] == ["size"]

    def test_an_unknown_module_is_answered_with_the_modules_there_are(self, client: Client) -> None:
        (mistake,) = client.post("/v1/train", {"algorithm": "pp0"}).json()["errors"]
        assert mistake["pointer"] == "/algorithm"
        assert mistake["allowed"] == config_groups()["algorithm"]
        assert mistake["did_you_mean"] == "ppo"

    def test_an_unknown_field_is_answered_with_the_fields_there_are(self, client: Client) -> None:
        (mistake,) = client.post("/v1/train", {"overides": {}}).json()["errors"]
        assert (mistake["pointer"], mistake["code"]) == ("/overides", "unknown_field")
        assert mistake["did_you_mean"] == "overrides"

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"seed": "1"}, "/seed"),
            ({"seed": True}, "/seed"),
            ({"seed": 1.0}, "/seed"),
            ({"seed": -1}, "/seed"),
            ({"seed": 2**32}, "/seed"),
            ({"n_epochs": -1}, "/n_epochs"),
            ({"env": 3}, "/env"),
            ({"algorithm": ["ppo"]}, "/algorithm"),
            ({"overrides": []}, "/overrides"),
            ({"labels": {"a": 1}}, "/labels/a"),
            ({"labels": {"a/b": "c"}}, "/labels/a~1b"),
            ({"name": ""}, "/name"),
            ([], ""),
        ],
    )
    def test_a_wrong_kind_of_value_is_told_by_its_place(
        self, client: Client, body: Any, pointer: str
    ) -> None:
        answer = client.post("/v1/train", body)
        assert answer.status_code == 422
        assert list(errors(answer)) == [pointer]

    @pytest.mark.parametrize("name", ["run_dir", "launcher", "multirun", "config_dirs", "silent", "run"])
    def test_nothing_that_names_a_place_or_launcher_is_a_field(self, client: Client, name: str) -> None:
        assert errors(client.post("/v1/train", {name: "x"})) == {f"/{name}": "unknown_field"}

    def test_an_error_deep_in_an_object_points_there(self, client: Client) -> None:
        network = {"_target_": "maze_core.FlattenConcatPolicyNetConfig", "hidden_units": ["x"]}
        policy = {
            "_target_": "maze_core.models.composers.ProbabilisticPolicyComposer",
            "networks": [network],
        }
        answer = client.post("/v1/train", {"model": "flatten_concat", "policy": policy})
        assert answer.status_code == 422
        assert all(pointer.startswith("/policy/networks/0/hidden_units") for pointer in errors(answer))

    def test_input_is_not_repeated_by_the_shape_check(self, client: Client) -> None:
        answer = client.post("/v1/train", {"seed": "a secret", "n_epochs": {"token": "a secret"}})
        assert answer.status_code == 422
        assert "a secret" not in answer.text

    def test_a_body_of_a_hundred_thousand_mistakes_gets_a_short_answer(self, client: Client) -> None:
        answer = client.post("/v1/train", {f"field{number}": 0 for number in range(50_000)})
        assert answer.status_code == 422
        assert len(answer.json()["errors"]) == 32
        assert "50000 mistakes" in answer.json()["detail"]


KEY = {"Idempotency-Key": "one"}


class TestIdempotency:
    def test_the_same_key_submits_once(self, client: Client, stores: Stores) -> None:
        headers = {"Idempotency-Key": '"one"'}
        first = client.post("/v1/train", {"n_epochs": 3}, headers=headers)
        again = client.post("/v1/train", {"n_epochs": 3}, headers={"Idempotency-Key": "one"})
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        assert len(stores.runs.list().data) == 1

    def test_the_same_key_with_another_body_is_a_mistake(self, client: Client) -> None:
        headers = {"Idempotency-Key": "one"}
        client.post("/v1/train", {"n_epochs": 3}, headers=headers)
        answer = client.post("/v1/train", {"n_epochs": 4}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")
        assert "Idempotency-Key 'one'" in answer.json()["detail"]

    def test_a_run_that_a_key_has_made_is_answered_though_the_queue_is_full(
        self, client: Client, settings: Any, monkeypatch: Any
    ) -> None:
        bodies = {"train": {}, "rollout": {"policy": "random_policy"}}
        made = {kind: client.post(f"/v1/{kind}", body, headers=KEY).json() for kind, body in bodies.items()}
        monkeypatch.setitem(settings.__dict__, "max_queued_runs", 1)
        monkeypatch.setattr("service.api.submit.compose", None)
        for kind, body in bodies.items():
            again = client.post(f"/v1/{kind}", body, headers=KEY)
            assert (again.status_code, again.json()["id"]) == (202, made[kind]["id"])
            assert again.headers["idempotent-replayed"] == "true"

    def test_kinds_of_runs_do_not_share_keys(self, client: Client) -> None:
        headers = {"Idempotency-Key": "one"}
        assert client.post("/v1/train", {}, headers=headers).status_code == 202
        assert client.post("/v1/rollout", {"policy": "random_policy"}, headers=headers).status_code == 202

    @pytest.mark.parametrize("key", ["", "a b", "k" * 256, "\u00fc".encode().decode("latin-1")])
    def test_a_key_is_printable_and_short(self, client: Client, key: str) -> None:
        headers = {"Idempotency-Key": key.encode("latin-1")}
        assert client.post("/v1/train", {}, headers=headers).status_code == 400


class TestPreferWait:
    def test_no_time_left_answers_the_run_as_it_is(self, client: Client) -> None:
        answer = client.post("/v1/train", {}, headers={"Prefer": "wait=0"})
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        assert answer.headers["preference-applied"] == "wait=0"

    def test_the_end_of_the_run_is_waited_for(self, client: Client, stores: Stores) -> None:
        def finish_soon() -> None:
            while (claimed := stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)) is None:
                time.sleep(0.01)
            time.sleep(0.15)
            stores.runs.finish(claimed[1], RunState.SUCCEEDED, reason="completed", result={"n": float("nan")})

        async def both() -> httpx.Response:
            transport = httpx.ASGITransport(client.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
                headers = {"Prefer": "respond-async, wait=60"}
                posted = http.post("/v1/train", json={}, headers=headers)
                answer, _ = await asyncio.gather(posted, asyncio.to_thread(finish_soon))
                return answer

        answer = client.run(both())
        assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
        assert answer.json()["result"] == {"n": "NaN"}

    @pytest.mark.parametrize(
        ("prefer", "applied"), [("wait=100000, x", "wait=300"), ("return=minimal", None), ("wait=soon", None)]
    )
    def test_what_is_asked_is_capped_or_ignored(
        self, client: Client, stores: Stores, prefer: str, applied: str | None
    ) -> None:
        run = client.post("/v1/train", {}, headers={"Idempotency-Key": "k"}).json()
        stores.runs.request_stop(run["id"], StopReason.CANCEL)
        headers = {"Idempotency-Key": "k", "Prefer": prefer}
        answer = client.post("/v1/train", {}, headers=headers)
        assert answer.headers.get("preference-applied") == applied
        assert answer.status_code == (200 if applied else 202)


class TestOperatorsModules:
    @pytest.fixture
    def settings(self, sqlite_url: str, tmp_path: Path) -> Settings:
        (tmp_path / "experiment").mkdir()
        preset = "# @package _global_\nseeding:\n  env_base_seed: 11\n  agent_base_seed: 12\n"
        (tmp_path / "experiment" / "seeded.yaml").write_text(preset)
        chained = "# @package _global_\ndefaults: [seeded]\nenv: {name: Acrobot-v1}\n"
        (tmp_path / "experiment" / "chained.yaml").write_text(chained)
        mapped = "# @package _global_\nenv: {name: CartPole-v1, kwargs: {map_file: m.txt}}\n"
        (tmp_path / "experiment" / "mapped.yaml").write_text(mapped)
        return Settings(database_url=sqlite_url, auth=False, config_dirs=[str(tmp_path)])

    @pytest.mark.parametrize("experiment", ["seeded", "chained"])
    def test_a_preset_of_theirs_may_set_the_seeds(
        self, client: Client, stores: Stores, experiment: str
    ) -> None:
        run = client.post("/v1/train", {"experiment": experiment}).json()
        assert run["seed"] == 11
        assert stores.runs.get(run["id"]).config["seeding"] == {"env_base_seed": 11, "agent_base_seed": 12}

    def test_an_argument_that_theirs_alone_may_name_is_taken_from_them_and_from_no_client(
        self, client: Client, stores: Stores
    ) -> None:
        run = client.post("/v1/train", {"experiment": "mapped"}).json()
        assert stores.runs.get(run["id"]).config["env"]["kwargs"] == {"map_file": "m.txt"}
        body = {"experiment": "mapped", "overrides": {"env.kwargs.map_file": "/etc/passwd"}}
        assert errors(client.post("/v1/train", body)) == {"/overrides/env.kwargs.map_file": "reserved_key"}

    def test_it_is_listed_with_the_others(self, client: Client) -> None:
        names = [module["name"] for module in client.get("/v1/config/groups/experiment").json()["modules"]]
        assert "seeded" in names

    def test_a_preset_that_is_not_there_is_one_problem_among_all(self, client: Client) -> None:
        answer = client.post("/v1/train", {"experiment": "seded", "algorithm": "pp0"})
        assert errors(answer) == {"/experiment": "unknown_module", "/algorithm": "unknown_module"}
