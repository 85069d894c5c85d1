"""Splitting the traffic of an alias over HTTP: who answers, what is counted, what ends it, and moves under load."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from service.serving import agents
from service.serving.agents import AgentCache
from service.store import Stores
from tests.service.api.client import HOST, Client
from tests.service.api.submissions import errors
from tests.service.api.test_v2 import named

ALIAS = "/v1/policies/walker/aliases/champion"
ACT = "/v1/policies/walker@champion/compute_action"
BODY = {"observation": [0.01, -0.02, 0.03, -0.04]}
CANARY = {"canary": {"version": 2, "weight": 0.1}}


@pytest.fixture
def checkpoints(stores: Stores) -> dict[str, int]:
    """Checkpoint → version of ``walker``, which has three; ``champion`` is the first."""
    named(stores, 3)
    return {stores.policies.resolve("walker", number=n).checkpoint: n for n in (1, 2, 3)}


def put(client: Client, body: dict[str, Any], tag: str | None = '"1"') -> httpx.Response:
    return client.request("PUT", f"{ALIAS}/traffic", json=body, headers={"If-Match": tag} if tag else {})


def forgotten(client: Client) -> AgentCache:
    """The agents, which look at once where the alias is."""
    cache: AgentCache = client.app._app._services.agents  # type: ignore[attr-defined]
    cache._selectors._answers.clear()
    cache._hot.clear()
    return cache


def acted(client: Client, checkpoints: dict[str, int], n: int, **also: Any) -> Counter[int]:
    """How often each version answered."""
    answers = client.together([{"method": "POST", "url": ACT, "json": BODY | also} for _ in range(n)])
    assert {answer.status_code for answer in answers} == {200}
    return Counter(checkpoints[answer.json()["checkpoint"]] for answer in answers)


def counts(client: Client) -> dict[str, dict[str, Any]]:
    return {one["role"]: one for one in client.get(f"{ALIAS}/traffic").json()["versions"]}


def test_a_canary_answers_its_part_and_a_shadow_none(client: Client, checkpoints: dict[str, int]) -> None:
    acted(client, checkpoints, 3)
    answer = put(client, CANARY | {"shadow": {"version": 3}})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    told = answer.json()
    assert (told["canary"], told["shadow"]) == (CANARY["canary"], {"version": 3})
    forgotten(client)
    found = acted(client, checkpoints, 100)
    assert found.keys() == {1, 2}
    assert abs(found[2] - 10) <= 1
    lane = client.app._app._services.agents.traffic.lanes["walker@champion"]  # type: ignore[attr-defined]

    async def settled() -> None:
        while lane._shadowing is not None:
            await lane._shadowing

    client.run(settled())
    by_role = counts(client)
    assert [by_role[role]["version"] for role in ("holder", "canary", "shadow")] == [1, 2, 3]
    assert by_role["holder"]["requests"] + by_role["canary"]["requests"] == 100
    assert by_role["shadow"]["compared"] + by_role["shadow"]["dropped"] == 100
    assert 0 <= by_role["shadow"]["agreement"] <= 1
    assert by_role["canary"]["errors"] == 0
    metrics = client.get("/metrics").text
    assert 'maze_traffic_requests_total{alias="walker@champion",role="canary"}' in metrics


def test_requests_of_one_key_are_answered_by_one_version_on_every_face(
    client: Client, checkpoints: dict[str, int]
) -> None:
    put(client, {"canary": {"version": 2, "weight": 0.5}})
    chosen = {}
    for key in map(str, range(12)):
        (version,) = acted(client, checkpoints, 4, traffic_key=key)
        chosen[key] = version
        tensor = {"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": BODY["observation"]}
        body = {"inputs": [tensor], "parameters": {"traffic_key": key}}
        answer = client.post("/v2/models/walker%40champion/infer", body).json()
        assert checkpoints[answer["parameters"]["checkpoint"]] == version
    assert set(chosen.values()) == {1, 2}


def test_promotion_and_rollback_end_a_split_and_the_history_tells_of_it(
    client: Client, checkpoints: dict[str, int]
) -> None:
    put(client, CANARY | {"reason": "try it"})
    client.request("PUT", ALIAS, json={"version": 2}, headers={"If-Match": '"2"'})
    told = client.get(f"{ALIAS}/traffic").json()
    assert (told["version"], told["canary"], told["shadow"], told["versions"]) == (2, None, None, [])
    put(client, {"shadow": {"version": 1}}, '"3"')
    assert client.post(f"{ALIAS}/rollback").json()["version"] == 1
    assert client.get(f"{ALIAS}/traffic").json()["shadow"] is None
    moves = client.get(f"{ALIAS}/history").json()["data"][::-1]
    assert [one["kind"] for one in moves] == ["set", "traffic", "set", "traffic", "rollback"]
    assert (moves[1]["reason"], moves[1]["evidence"]) == ("try it", {"traffic": CANARY})
    forgotten(client)
    assert acted(client, checkpoints, 20) == {1: 20}


def test_a_split_is_ended_by_hand_once_though_asked_twice(
    client: Client, checkpoints: dict[str, int]
) -> None:
    first, again = (put(client, CANARY) for _ in range(2))
    assert first.json() == again.json()  # as where the first answer was lost
    for _ in range(2):
        assert client.request("DELETE", f"{ALIAS}/traffic").status_code == 204
    assert client.get(f"{ALIAS}/traffic").json()["revision"] == 3
    forgotten(client)
    assert acted(client, checkpoints, 20) == {1: 20}


def test_what_cannot_be_split_is_refused(client: Client, checkpoints: dict[str, int]) -> None:
    assert put(client, CANARY, None).status_code == 428
    assert put(client, CANARY, '"9"').status_code == 412
    assert put(client, {}).status_code == 422
    for weight in (0, 1, -0.1, 1.5):
        wrong = put(client, {"canary": {"version": 2, "weight": weight}})
        assert list(errors(wrong)) == ["/canary/weight"]
    assert put(client, {"canary": {"version": 9, "weight": 0.5}}).status_code == 404
    assert put(client, {"shadow": {"version": 1}}).status_code == 409
    path = ALIAS.replace("champion", "nobody") + "/traffic"
    assert client.get(path).status_code == 404
    assert client.get(f"{ALIAS}/traffic").json()["revision"] == 1


def test_a_canary_that_cannot_act_costs_no_request(
    client: Client, stores: Stores, checkpoints: dict[str, int]
) -> None:
    put(client, {"canary": {"version": 2, "weight": 0.5}})
    lost = stores.policies.resolve("walker", number=2).checkpoint
    read = stores.checkpoints.read

    def broken(checkpoint: str) -> bytes:
        return b"no bundle" if checkpoint == lost else read(checkpoint)

    cache = forgotten(client)
    cache._read = broken  # type: ignore[method-assign]
    assert acted(client, checkpoints, 20) == {1: 20}
    assert counts(client)["canary"]["errors"] == 10


def test_moves_of_an_alias_under_load_fail_no_request(
    client: Client, checkpoints: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "TTL_S", 0.02)
    monkeypatch.setattr(agents, "_REFRESH_AFTER_S", 0.01)
    done = False
    seen: Counter[int] = Counter()

    async def ask(http: httpx.AsyncClient) -> None:
        while not done:
            answer = await http.post(ACT, json=BODY)
            assert answer.status_code == 200, answer.text
            seen[checkpoints[answer.json()["checkpoint"]]] += 1

    async def scenario() -> None:
        nonlocal done
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as http:
            asking = [asyncio.create_task(ask(http)) for _ in range(8)]
            revision = 1
            for version in (2, 3, 1, 2, 3):
                split = {"canary": {"version": version, "weight": 0.5}}
                headers = {"If-Match": f'"{revision}"'}
                assert (await http.put(f"{ALIAS}/traffic", json=split, headers=headers)).status_code == 200
                await asyncio.sleep(0.05)
                headers = {"If-Match": f'"{revision + 1}"'}
                moved = await http.put(ALIAS, json={"version": version}, headers=headers)
                assert moved.status_code == 200
                revision += 2
                for asked in range(200):  # until it answers, by itself as well as for others
                    answer = await http.post(ACT, json=BODY)
                    if checkpoints[answer.json()["checkpoint"]] == version and asked > 20:
                        break
            done = True
            await asyncio.gather(*asking)

    client.run(scenario())
    assert seen.keys() == {1, 2, 3}
