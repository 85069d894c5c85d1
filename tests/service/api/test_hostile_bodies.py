"""Bodies made to break a server get a problem that starts with 4, say nothing of the machine, and change nothing."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.main import create_app
from service.settings import Settings
from service.store import open_stores
from tests.service.api.client import Client, http_scope

PATHS = ("/v1/train", "/v1/rollout", "/v1/evaluate", "/v1/config/compose")


@pytest.fixture(scope="module")
def client(migrated_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One application for all tests here: none of them may change anything."""
    path = tmp_path_factory.mktemp("hostile") / "maze.db"
    shutil.copyfile(migrated_sqlite_file, path)
    stores = open_stores(f"sqlite:///{path}")
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=f"sqlite:///{path}", auth=False), stores), runner)
    assert stores.runs.list().data == []
    stores.close()


def is_problem(answer: Any) -> bool:
    return (
        400 <= answer.status_code < 500
        and answer.headers["content-type"] == "application/problem+json"
        and {"type", "title", "status", "code", "detail", "instance", "request_id"} <= answer.json().keys()
        and "Traceback" not in answer.text
    )


@pytest.mark.parametrize("text", [b'{"reason": "x"}', b"{", b"[]", b"null"])
def test_a_body_that_nobody_reads_is_refused(client: Client, text: bytes) -> None:
    answer = client.post_text("/v1/runs/run_0/cancel", text)
    assert (answer.status_code, answer.json()["detail"]) == (422, "This path takes no body.")
    for nothing in (b"", b"{}"):
        assert client.post_text("/v1/runs/run_0/cancel", nothing).status_code == 404


def test_a_client_that_goes_away_within_its_body_is_no_mistake_of_the_service(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    fields = {"host": "localhost", "content-type": "application/json", "content-length": "9"}
    client.run(client.app(http_scope("POST", "/v1/train", fields), receive, send))
    assert caplog.text == ""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b'{"overrides": {"algorithm.lr": NaN}}', 400),
        (b'{"overrides": {"algorithm.lr": Infinity}}', 400),
        (b'{"overrides": {"algorithm.lr": 1e999}}', 400),
        (b'{"name": "\\ud800"}', 400),
        (b'{"overrides": {"\\udfff": 1}}', 400),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400),
        (b'{"seed": 1' + b"0" * 30 + b"}", 422),
        (b"[" * 100_000, 400),
        (b'{"overrides": ' * 40 + b"1" + b"}" * 40, 422),
        (b'{"a":' * 50_000, 400),
        (b'{"name": "a\\u0000b"}', 422),
        (b'{"name": "a\\nb"}', 422),
        (b'{"labels": {"team": "\\u001b[2J"}}', 422),
        ('{"name": "ä"}'.encode("utf-16"), 400),
        (b'{"name": "\xff"}', 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"", 422),
        (b" ", 400),
        (b"null", 422),
        (b'"text"', 422),
        (b"{} {}", 400),
        (b"{'seed': 1}", 400),
    ],
)
def test_a_broken_body_is_the_client_s_mistake(client: Client, path: str, text: bytes, status: int) -> None:
    answer = client.post_text(path, text)
    assert is_problem(answer)
    assert answer.status_code == status


@pytest.mark.parametrize(
    "change", [{"name": "a\nb"}, {"labels": {"team": "\x9b2J"}}, {"labels": {"a\n": "b"}}]
)
def test_a_run_gets_no_name_and_no_label_with_control_characters(
    client: Client, change: dict[str, Any]
) -> None:
    answers = [
        client.request("PATCH", "/v1/runs/run_none", json=change),
        client.request("PUT", "/v1/runs/run_mine1", json={"kind": "train", **change}),
        client.post("/v1/sweeps/preview", change),
        client.post("/v1/checkpoints", {"size_bytes": 1, "sha256": "0" * 64, **change}),
    ]
    assert [answer.status_code for answer in answers] == [422] * 4


TARGETS = (
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "maze_core.checkpoint.Checkpoint",
    "maze_core.config.compose.compose_run",
    "maze_core.rundir.RunDirectory",
    "hydra.utils.instantiate",
    "maze_core.envs.config.CallableEnvConfig",
    "maze_core.models.config.FlattenConcatPolicyNetConfig.__init__",
    "MAZE_CORE.envs.config.GymEnvConfig",
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("argument", ["env", "wrappers", "algorithm", "model", "policy", "critic", "runner"])
def test_a_component_that_is_not_listed_is_refused(client: Client, argument: str, target: str) -> None:
    answer = client.post("/v1/train", {argument: {"_target_": target}})
    assert is_problem(answer)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "overrides",
    [
        {"env.name": "os:environ"},
        {"env.name": "module:Env-v0"},
        {"env.name": "../CartPole-v1"},
        {"env.name": "${oc.env:HOME}"},
        {"project.name": "${oc.env:HOME}"},
        {"${oc.env:HOME}": 1},
        {"hydra.run.dir": "/tmp"},
        {"hydra.searchpath": ["file:///tmp"]},
        {"hydra/launcher": "x"},
        {"defaults": []},
        {"env._args_": [1]},
        {"env._partial_": True},
        {"env.kwargs": {"render_mode": "human"}},
        {"env.kwargs.entry_point": "os.system"},
        {"algorithm": "ppo"},
        {"model": {"_target_": "os.system"}},
        {"model.policy._target_": "os.system"},
        {"~env": 1},
        {"+env.x": 1},
        {"++env.x": 1},
        {"env@pkg": 1},
        {"run_dir": "/tmp"},
        {"runner.n_envs": 10**9},
        {"algorithm.n_rollout_steps": 10**18},
        {"algorithm.n_epochs": 1e30},
        {"model.policy.networks.0.hidden_units": [10**9]},
        {"a" * 600: 1},
        {"env.name": "x" * 100_000},
        {".": 1},
        {"": 1},
        {"..": 1},
        {"env..name": "CartPole-v1"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/train", "/v1/config/compose"])
def test_a_hostile_override_is_refused(client: Client, path: str, overrides: dict[str, Any]) -> None:
    answer = client.post(path, {"overrides": overrides})
    assert is_problem(answer)
    assert answer.status_code == 422
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    "module", ["../ppo", "..%2fppo", "ppo.yaml", "/etc/passwd", "a b", "ppo\n", "", "p" * 10_000]
)
def test_a_module_is_a_name_and_no_path(client: Client, module: str) -> None:
    assert is_problem(client.post("/v1/train", {"algorithm": module}))


def test_more_overrides_than_allowed_are_refused_at_once(client: Client) -> None:
    answer = client.post("/v1/train", {"overrides": {f"algorithm.x{number}": 0 for number in range(10_000)}})
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 1)


IDS = (
    "...",
    "%2e%2e%2f",
    "%252e%252e%252f",
    "..%5c",
    ";",
    "%00",
    "con",
    "run_%F0%9F%98%80",
    "run_" + "a" * 10_000,
    "RUN_06b1c9k2m4n6p8q0r2s4t6v8w0",
    "run_06b1c9k2m4n6p8q0r2s4t6v8w0%0a",
)


@pytest.mark.parametrize("run_id", IDS)
@pytest.mark.parametrize("part", ["", "/events", "/metrics", "/config", "/checkpoints", "/episodes/0"])
def test_an_id_that_is_none_of_ours_is_not_found(client: Client, run_id: str, part: str) -> None:
    answer = client.get(f"/v1/runs/{run_id}{part}")
    assert is_problem(answer)
    assert answer.status_code in (404, 405)  # `..` leads to another path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "env",
    "wrappers",
    "algorithm",
    "model",
    "overrides",
    "seed",
    "n_epochs",
    "name",
    "labels",
    "experiment",
)


def test_no_json_value_in_any_field_makes_the_service_fail(client: Client) -> None:
    @given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
    def answers_without_failing(body: dict[str, Any]) -> None:
        answer = client.post_text("/v1/config/compose", json.dumps(body))
        assert answer.status_code < 500, answer.text

    answers_without_failing()
