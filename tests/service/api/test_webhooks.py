"""Webhooks over HTTP: made with a secret that is shown once, listed, tested, deleted; private targets are refused."""

from typing import Any

import pytest

from service.domain.run import RunState
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import start
from tests.service.api.client import Client, running
from tests.service.api.submissions import errors

URL = "https://hooks.example/maze"


def test_a_webhook_lives_from_its_making_to_its_deletion(client: Client, stores: Stores) -> None:
    answer = client.post("/v1/webhooks", {"url": URL, "types": ["run.failed", "run.failed"]})
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/v1/webhooks/{made['id']}")
    assert made.pop("secret").startswith("whsec_")
    assert (made["url"], made["types"], made["disabled_at"]) == (URL, ["run.failed"], None)
    path = f"/v1/webhooks/{made['id']}"
    assert client.get(path).json() == made
    assert client.get("/v1/webhooks").json()["data"] == [made]
    _, lease = start(stores)
    run = stores.runs.finish(lease, RunState.FAILED, reason="x", error={"code": "x", "message": "y"})
    test = client.post(f"{path}/test")
    assert (test.status_code, test.json()["type"], test.json()["state"]) == (202, "webhook.test", "waiting")
    listed = client.get(f"{path}/deliveries").json()["data"]
    assert [(each["type"], each["run"]) for each in listed] == [
        ("webhook.test", None),
        ("run.failed", run.id),
    ]
    assert "secret" not in client.get(path).text + client.get(f"{path}/deliveries").text
    assert client.request("DELETE", path).status_code == 204
    for method, part in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")):
        assert client.request(method, path + part).status_code == 404


def test_a_disabled_webhook_is_enabled_again(client: Client) -> None:
    path = f"/v1/webhooks/{client.post('/v1/webhooks', {'url': URL}).json()['id']}"
    assert client.request("PATCH", path, json={"is_enabled": False}).json()["disabled_reason"] is not None
    assert client.post(f"{path}/test").status_code == 409
    changed = client.request("PATCH", path, json={"is_enabled": True, "types": ["run.failed"]}).json()
    assert (changed["disabled_at"], changed["types"]) == (None, ["run.failed"])
    assert client.post(f"{path}/test").status_code == 202
    assert list(errors(client.request("PATCH", path, json={"url": "https://10.0.0.1/"}))) == ["/url"]


def test_a_secret_of_the_clients_own_is_taken(client: Client, stores: Stores) -> None:
    secret = "whsec_" + "A" * 32
    made = client.post("/v1/webhooks", {"url": URL, "secret": secret}).json()
    assert made["secret"] == secret
    assert made["types"] == ["run.succeeded", "run.failed", "run.cancelled"]
    assert stores.webhooks.get(made["id"]).secret == secret


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "http://hooks.example"}, "/url"),
        ({"url": "https://10.0.0.1/"}, "/url"),
        ({"url": "https://localhost/"}, "/url"),
        ({"url": "https://[::ffff:127.0.0.1]/"}, "/url"),
        ({"url": "https://[v1.a]/"}, "/url"),
        ({"url": "https://a..b/"}, "/url"),
        ({"url": "https://a.example:0/"}, "/url"),
        ({"url": "https://user@a.example/"}, "/url"),
        ({"url": "file:///etc/passwd"}, "/url"),
        ({"url": "https://" + "a" * 3000}, "/url"),
        ({"url": URL, "types": []}, "/types"),
        ({"url": URL, "types": ["run.paused"]}, "/types/0"),
        ({"url": URL, "secret": "short"}, "/secret"),
        ({}, "/url"),
        ({"url": URL, "headers": {}}, "/headers"),
    ],
)
def test_a_mistake_is_named_at_its_place(client: Client, body: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/webhooks", body)
    assert (answer.status_code, list(errors(answer))) == (422, [pointer])


def test_an_operator_may_list_private_hosts(sqlite_url: str, stores: Stores) -> None:
    settings = Settings(database_url=sqlite_url, auth=False, webhook_private_hosts=["127.0.0.1", "Inside"])
    with running(settings, stores) as client:
        for url in ("http://127.0.0.1:9/x", "http://inside/"):
            assert client.post("/v1/webhooks", {"url": url}).status_code == 201
