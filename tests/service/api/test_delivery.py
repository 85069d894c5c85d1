"""HEAD, ETag, 304 and gzip, for every address that answers GET; streams pass untouched."""

import asyncio
import gzip
from typing import Any

import pytest
from fastapi.routing import APIRoute

from service.api import page
from service.api.application import ROUTERS
from service.api.events import EVENT_STREAM
from service.api.examples import PATH_EXAMPLES
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_episode, new_sweep, start, submit
from tests.contracts.upload_store import begin
from tests.service.api.client import Client, Stream, http_scope

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
PATHS = sorted({route.path for route in ROUTES if "GET" in route.methods} | {"/openapi.json"})
PARTS = PATH_EXAMPLES | {"asset": "swagger-ui.css", "version": "1", "path": "main.js"}
CHANGING = ("/metrics", "/v1/status")
"""What is measured anew for each answer."""


def path_of(template: str, stores: Stores) -> str:
    run, lease = start(stores)
    checkpoint = stores.checkpoints.put(lease, new_checkpoint(1), b"bundle")
    stores.episodes.add(lease, new_episode(0), None, b"video", b"picture")
    ids = {"run_id": run.id, "checkpoint_id": checkpoint.id, "upload_id": begin(stores).id}
    ids["webhook_id"] = stores.webhooks.create("https://a.example", ["run.failed"], "whsec_x").id
    ids["sweep_id"] = stores.sweeps.create(new_sweep())[0].id
    ids["digest"] = page._digest()
    return template.replace(":path", "").format(**PARTS | ids)


@pytest.mark.parametrize("template", PATHS)
def test_head_is_answered_as_get_without_its_body(
    client: Client,
    stores: Stores,
    template: str,
) -> None:
    path = path_of(template, stores)
    named = {"x-request-id": "req_1"}  # a problem's body has it
    got, headed = client.get(path, headers=named), client.request("HEAD", path, headers=named)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    changing = {"etag", "content-length"} if template in CHANGING else set()
    assert {key: value for key, value in headed.headers.items() if key not in changing} == {
        key: value for key, value in got.headers.items() if key not in changing
    }


def test_head_of_a_stream_ends(client: Client, stores: Stores) -> None:
    path = f"/v1/runs/{submit(stores).id}/events"

    async def head() -> list[Any]:
        sent: list[Any] = []
        is_answered = asyncio.Event()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:  # as a server does: the answer's end is a disconnect
            if messages:
                return messages.pop()
            await is_answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                is_answered.set()

        scope = http_scope("HEAD", path, {"host": "localhost", "accept": EVENT_STREAM})
        await asyncio.wait_for(client.app(scope, receive, send), 60)
        return sent

    start, body = client.run(head())
    assert (start["status"], body.get("body", b"")) == (200, b"")


def test_head_says_405_where_there_is_no_get(client: Client) -> None:
    assert client.request("HEAD", "/v1/train").status_code == 405
    assert client.request("HEAD", "/v1/runs/run_0/compute_action").status_code == 405


def test_what_the_client_has_is_not_sent_again(client: Client, stores: Stores) -> None:
    path = f"/v1/runs/{submit(stores).id}/config"
    etag = client.get(path).headers["etag"]
    strong = etag.removeprefix("W/")
    lists = [
        [etag],
        [f'"other", {etag}'],
        [strong],
        [f'"a,b",{strong}'],
        ["*"],
        ['"other"', etag],
        [etag, '"a"'],
    ]
    for known in lists:
        again = client.get(path, headers=[("If-None-Match", line) for line in known])
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in again.headers
    for other in ('"other"', "", '"*"', strong.strip('"')):
        assert client.get(path, headers={"If-None-Match": other}).status_code == 200
    another = f"/v1/runs/{submit(stores).id}/config"
    assert client.get("/openapi.json").headers["etag"] != client.get(another).headers["etag"]


@pytest.mark.parametrize(
    ("accept", "is_taken"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=1.0, identity", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;level=1;q=0", False),
        ("gzipped", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("path", ["/openapi.json", "/problems", "/docs/swagger-ui.css"])
def test_a_large_body_is_compressed_where_the_client_takes_it(
    client: Client,
    path: str,
    accept: str,
    is_taken: bool,
) -> None:
    plain = client.get(path, headers={"Accept-Encoding": "identity"})

    async def raw() -> tuple[dict[str, str], bytes]:
        async with Stream(client.app, path, {"accept-encoding": accept}) as stream:
            body = (await stream._from_app.get())["body"]
            return {key.decode(): value.decode() for key, value in stream.fields.items()}, body

    headers, body = client.run(raw())
    assert headers.get("content-encoding") == ("gzip" if is_taken else None)
    assert int(headers["content-length"]) == len(body)
    assert (gzip.decompress(body) if is_taken else body) == plain.content
    assert (headers["etag"], headers["vary"]) == (plain.headers["etag"], "Accept-Encoding")
    assert not is_taken or len(body) < len(plain.content) / 2


def test_an_answer_that_depends_on_accept_says_so(client: Client, stores: Stores) -> None:
    path = f"/v1/runs/{submit(stores).id}"
    for url, forms in (
        (f"{path}/metrics", ["*/*", "text/csv", "application/vnd.apache.parquet"]),
        (f"{path}/events", ["*/*"]),
        ("/v1/events", ["*/*"]),
    ):
        for accept in forms:
            assert "Accept" in client.get(url, headers={"Accept": accept}).headers["vary"].split(", ")
    assert client.get(path).headers["vary"] == "Accept-Encoding"


def test_small_answers_and_problems_are_sent_as_they_are(client: Client) -> None:
    for path in ("/health/live", "/v1/runs/run_0"):
        assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": "gzip"}).headers


def test_a_stream_is_neither_held_nor_compressed(client: Client, stores: Stores) -> None:
    headers = {"accept": EVENT_STREAM, "accept-encoding": "gzip"}

    async def first() -> tuple[dict[bytes, bytes], str]:
        async with Stream(client.app, f"/v1/runs/{submit(stores).id}/events", headers) as stream:
            assert stream.fields[b"vary"] == b"Accept"
            return stream.fields, await anext(stream.pieces())

    fields, piece = client.run(asyncio.wait_for(first(), 60))
    assert b"content-encoding" not in fields
    assert b"etag" not in fields
    assert piece.startswith("event: state")
