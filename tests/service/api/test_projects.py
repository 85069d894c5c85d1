"""What another project has is not there: not by its id, not in a list, not in a count, and in the same words."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from service.domain.policies import MoveKind
from service.domain.run import MetricPoint, RunKind, StopReason
from service.domain.sharing import Caller, Scope
from service.domain.use_cases import create_token
from service.main import create_app
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_episode, new_run, new_sweep, start
from tests.contracts.upload_store import begin
from tests.service.api.client import Client
from tests.service.api.test_session_socket import connected
from tests.service.serving.checkpoints import make_checkpoint

UNKNOWN = {
    "run_id": "run_00000000000000000000000000",
    "sweep_id": "sweep_00000000000000000000000000",
    "upload_id": "upl_00000000000000000000000000",
    "webhook_id": "hook_00000000000000000000000000",
    "checkpoint_id": "ckpt_00000000000000000000000000",
    "name": "nobody",
    "policy": "nobody@nothing",
    "alias": "nothing",
    "session_id": "session_00000000000000000000000000",
}
"""Ids of nothing, as long as those that there are."""
PLAIN = {"number": "1", "index": "0", "token_id": "none", "project": "none"}


@pytest.fixture
def client(sqlite_url: str, sqlite_stores: Stores) -> Iterator[Client]:
    with asyncio.Runner() as runner:
        yield Client(create_app(Settings(database_url=sqlite_url), sqlite_stores), runner)


@pytest.fixture
def owned(client: Client, sqlite_stores: Stores) -> dict[str, str]:
    """Ids of what the default project has, of every kind."""
    stores = sqlite_stores
    run, lease = start(stores, name="secret walker", labels={"team": "secret"})
    bundle = make_checkpoint()
    new = new_checkpoint(1, is_best=True, is_last=True, content_sha256=bundle.content_sha256)
    info = stores.checkpoints.put(lease, new, bundle.to_bytes())
    stores.runs.report(
        lease, metrics=[MetricPoint(name="loss", epoch=1, step=1, value=0.5)], logs=[("info", "x")]
    )
    stores.episodes.add(lease, new_episode(0), b"trajectory")
    stores.policies.create("walker")
    stores.policies.add_version("walker", info.id)
    stores.policies.move("walker", "champion", 1, kind=MoveKind.SET, revision=None)
    return {
        "run_id": run.id,
        "checkpoint_id": info.id,
        "sweep_id": stores.sweeps.create(new_sweep())[0].id,
        "upload_id": begin(stores).id,
        "webhook_id": stores.webhooks.create("https://secret.example", ["run.failed"], "whsec_x").id,
        "name": "walker",
        "policy": "walker@champion",
        "alias": "champion",
        "session_id": begun(client, {"run": run.id}, admin(stores)),
    }


@pytest.fixture
def stranger(sqlite_stores: Stores) -> dict[str, str]:
    """A token of another project that may do everything there."""
    sqlite_stores.projects.put("other", {})
    grants = Caller(project="other", scopes=frozenset(Scope) - {Scope.ADMIN})
    return {"X-API-Key": create_token(sqlite_stores.registry, "stranger", grants)}


def admin(stores: Stores, project: str = "default") -> dict[str, str]:
    return {"X-API-Key": create_token(stores.registry, "admin"), "X-Maze-Project": project}


def begun(client: Client, body: dict[str, Any], headers: dict[str, str]) -> str:
    """Id of a new session."""
    answer = client.post("/v1/sessions", body, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def filled(path: str, values: Mapping[str, str]) -> str:
    for name, value in {**PLAIN, **values}.items():
        path = path.replace("{" + name + "}", value)
    return path


def asked(
    client: Client,
    operation: tuple[str, str, dict[str, Any]],
    values: Mapping[str, str],
    headers: dict[str, str],
) -> tuple[int, str]:
    """Status and body of an operation on these ids, without what differs between any two answers."""
    path, method, described = operation
    options: dict[str, Any] = {"headers": headers}
    for media_type, content in described.get("requestBody", {}).get("content", {}).items():
        if media_type == "application/json":
            example = next(iter(content.get("examples", {"": {"value": {}}}).values()))["value"]
            text = json.dumps(example)
            for name, shown in SHOWN.items():
                text = text.replace(shown, values[name])
            options["json"] = json.loads(text)
        else:
            options |= {"content": b"x", "headers": headers | {"Content-Type": media_type}}
        break
    answer = client.request(method.upper(), filled(path, values), **options)
    text = answer.text.replace(answer.headers.get("x-request-id", "-"), "")
    for name in sorted(
        values, key=lambda name: -len(values[name])
    ):  # a policy's reference has its name in it
        text = text.replace(values[name], "{" + name + "}")
    return answer.status_code, text


SHOWN = {
    "run_id": "run_06b1c9k2m4n6p8q0r2s4t6v8w0",
    "policy": "walker@champion",
}
"""Ids in the examples of requests."""


def test_every_operation_answers_of_anothers_as_of_nothing(
    client: Client, sqlite_stores: Stores, owned: dict[str, str], stranger: dict[str, str]
) -> None:
    document = client.get("/openapi.json").json()
    found = 0
    for path, methods in document["paths"].items():
        if not {*UNKNOWN} & {part.strip("{}") for part in path.split("/")}:
            continue
        for method, described in methods.items():
            if described["operationId"] == "put_run":  # nothing there is what it makes
                continue
            operation = path, method, described
            foreign = asked(client, operation, owned, stranger)
            nothing = asked(client, operation, UNKNOWN, stranger)
            assert foreign == nothing, (method, path)
            assert foreign[0] in (400, 404, 409, 415, 422, 428), path
            found += 1
    assert found > 50
    run = sqlite_stores.runs.get(owned["run_id"])
    assert (run.state, run.name) == ("running", "secret walker")


def test_lists_counts_searches_and_feeds_show_nothing(
    client: Client, sqlite_stores: Stores, owned: dict[str, str], stranger: dict[str, str]
) -> None:
    for path in (
        *("/v1/runs", "/v1/runs?name=secret", "/v1/runs?label.team=secret", "/v1/runs?sort=-loss"),
        *("/v1/sweeps", "/v1/policies", "/v1/policies?name=walk", "/v1/webhooks", "/v1/checkpoints/uploads"),
        *("/v1/events", "/v1/workers", "/v1/sessions"),
    ):
        answer = client.get(path, headers=stranger)
        assert answer.status_code in (200, 422), path
        assert answer.json().get("data", []) == [], path
    status = client.get("/v1/status", headers=stranger).json()
    assert {(each["queued"], each["running"]) for each in status["queue"]} == {(0, 0)}
    ours = client.get("/v1/status", headers=admin(sqlite_stores)).json()
    assert sum(each["queued"] + each["running"] for each in ours["queue"]) > 0
    bodies = [client.get(path, headers=stranger).text for path in ("/v1/status", "/v1/workers", "/")]
    assert not any("secret" in body or owned["run_id"] in body for body in bodies)


def test_a_run_begins_with_nothing_of_another_project(
    client: Client, owned: dict[str, str], stranger: dict[str, str]
) -> None:
    run, unknown = owned["run_id"], UNKNOWN["run_id"]
    for path, body in (
        ("/v1/train", {"overrides": {"initial.run": run}}),
        ("/v1/train", {"algorithm": "bc", "overrides": {"dataset.run": run}}),
        ("/v1/rollout", {"run": run}),
        ("/v1/rollout", {"policy": "walker@champion"}),
        ("/v1/evaluate", {"run": run}),
        ("/v1/compare", {"policies": [{"run": run}, {"run": run, "checkpoint": "last"}]}),
        ("/v1/policies/mine/versions", {"run": run}),
        ("/v1/runs/bulk", {"action": "cancel", "ids": [run]}),
        ("/v1/metrics/query", {"runs": [run], "names": ["loss"]}),
    ):
        client.post("/v1/policies", {"name": "mine"}, headers=stranger)
        answer = client.post(path, body, headers=stranger)
        other = json.loads(json.dumps(body).replace(run, unknown).replace("walker@", "nobody@"))
        same = client.post(path, other, headers=stranger)
        texts = [
            each.text.replace(run, "").replace(unknown, "").replace("walker", "nobody")
            for each in (answer, same)
        ]
        for each, text in zip((answer, same), list(texts), strict=True):
            texts[texts.index(text)] = text.replace(each.headers["x-request-id"], "")
        assert answer.status_code == same.status_code, (path, answer.text, same.text)
        assert texts[0] == texts[1], path
        assert "loss" not in answer.text or answer.status_code >= 400 or not answer.json().get("data"), path


def test_a_warm_agent_acts_for_its_own_project_alone(
    client: Client, sqlite_stores: Stores, owned: dict[str, str], stranger: dict[str, str]
) -> None:
    own = admin(sqlite_stores)
    body = {"observation": [0.0, 0.1, 0.0, -0.1]}
    for path in (f"/v1/runs/{owned['run_id']}/compute_action", "/v1/policies/walker@champion/compute_action"):
        for _ in range(2):
            assert client.post(path, body, headers=own).status_code == 200
            assert client.post(path, body, headers=stranger).status_code == 404
            assert client.post(path, body, headers=admin(sqlite_stores, "other")).status_code == 404


def test_what_a_session_records_is_its_projects(
    client: Client, sqlite_stores: Stores, stranger: dict[str, str]
) -> None:
    stores = sqlite_stores
    assert client.post("/v1/train", {}, headers=stranger).status_code == 202
    run, lease = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30) or pytest.fail("nothing waits")
    stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), make_checkpoint().to_bytes())
    path = f"/v1/sessions/{begun(client, {'run': run.id, 'record': True}, stranger)}"
    recording = client.get(path, headers=stranger).json()["recording"]
    assert stores.runs.get(recording).project == "other"


@pytest.mark.parametrize("by_socket", [True, False])
def test_a_session_is_pinned_anew_to_a_policy_of_its_own_project(
    client: Client, sqlite_stores: Stores, owned: dict[str, str], stranger: dict[str, str], by_socket: bool
) -> None:
    stores = sqlite_stores
    _, lease = start(stores, project="other")
    info = stores.checkpoints.put(lease, new_checkpoint(1), make_checkpoint(seed=1).to_bytes())
    stores.policies.create("walker", project="other")
    stores.policies.add_version("walker", info.id, project="other")
    stores.policies.move("walker", "champion", 1, kind=MoveKind.SET, revision=None, project="other")
    path = f"/v1/sessions/{begun(client, {'policy': 'walker@champion'}, stranger)}"

    async def repinned() -> str:
        async with connected(client, path, **{"x-api-key": stranger["X-API-Key"]}) as socket:
            await socket.hear()
            return str((await socket.ask(op="reset", repin=True))["checkpoint"])

    over_http = client.post(f"{path}/reset", {"repin": True}, headers=stranger).json()["checkpoint"]
    assert (client.run(repinned()) if by_socket else over_http) == info.id


def test_a_session_of_another_project_has_no_websocket(
    client: Client, owned: dict[str, str], stranger: dict[str, str]
) -> None:
    async def closed() -> Any:
        path = f"/v1/sessions/{owned['session_id']}"
        async with connected(client, path, **{"x-api-key": stranger["X-API-Key"]}) as socket:
            return (await socket.hear())["problem"]["code"], await socket.hear()

    assert client.run(closed()) == ("not_found", 4404)


def test_a_run_that_was_just_polled_is_not_there_for_another_project(
    client: Client, owned: dict[str, str], sqlite_stores: Stores, stranger: dict[str, str]
) -> None:
    path = f"/v1/runs/{owned['run_id']}"
    own = admin(sqlite_stores)
    assert [client.get(path, headers=headers).status_code for headers in (own, stranger, own)] == [
        200,
        404,
        200,
    ]


def test_names_of_policies_and_positions_of_events_are_each_projects_own(
    client: Client, sqlite_stores: Stores, owned: dict[str, str], stranger: dict[str, str]
) -> None:
    made = client.post("/v1/policies", {"name": "walker", "description": "mine"}, headers=stranger)
    assert (made.status_code, made.json()["name"], made.json()["n_versions"]) == (201, "walker", 0)
    missing = client.get("/v1/policies/walker/versions/1", headers=stranger)
    long = [client.post("/v1/policies", {"name": "a" * n}, headers=stranger).status_code for n in (58, 59)]
    assert long == [201, 422], "more than a database keeps together with the project"
    assert "other/" not in made.text + missing.text
    assert missing.status_code == 404
    sqlite_stores.runs.create(new_run(project="other"))
    (event,) = client.get("/v1/events", headers=stranger).json()["data"]
    assert event["position"] == 1
    assert client.request("DELETE", "/v1/policies/walker", headers=stranger).status_code == 204
    assert sqlite_stores.policies.get("walker").n_versions == 1


def test_an_id_of_the_clients_that_another_project_took_is_nothing_to_see(
    client: Client, owned: dict[str, str], stranger: dict[str, str]
) -> None:
    answer = client.request("PUT", f"/v1/runs/{owned['run_id']}", json={"kind": "train"}, headers=stranger)
    assert answer.status_code == 404


def test_an_end_is_told_to_webhooks_of_the_runs_project_alone(sqlite_stores: Stores) -> None:
    stores = sqlite_stores
    stores.projects.put("other", {})
    hooks = {
        project: stores.webhooks.create("https://a.example", ["run.cancelled"], "whsec_x", project=project).id
        for project in ("default", "other")
    }
    run, _ = stores.runs.create(new_run(project="other"))
    stores.runs.request_stop(run.id, StopReason.CANCEL)
    told = {project: len(stores.webhooks.deliveries(hook).data) for project, hook in hooks.items()}
    assert told == {"default": 0, "other": 1}
