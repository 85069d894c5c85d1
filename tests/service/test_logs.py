"""What the log says of a request or a run, as text and as JSON, and what a stranger cannot make it say."""

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from service import logs
from service.domain.sharing import ANYBODY
from service.domain.use_cases import new_token
from service.fast_path import protocol_of
from service.http_server import Protocol
from service.logs import JsonFormatter, TextFormatter
from service.main import create_app
from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client

HOSTILE = "a\r\n2026-01-01 00:00:00 INFO [1] forged\x1b[2J\u2028b"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(params=[TextFormatter, JsonFormatter])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the root logger writes in a format."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def test_what_a_stranger_sent_makes_no_line_of_its_own(written: io.StringIO) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("x").exception("cannot use %s", HOSTILE)
    lines = written.getvalue().removesuffix("\n").split("\n")
    assert all(line.startswith("  ") for line in lines[1:])
    assert "\\u001b[2J" in lines[0]
    assert not {"\r", "\x1b", "\u2028"} & set(written.getvalue())


@pytest.mark.parametrize("written", [JsonFormatter], indirect=True)
def test_a_request_is_logged_with_its_ids_and_without_its_token(
    written: io.StringIO, sqlite_url: str, sqlite_stores: Stores
) -> None:
    token_id, token, digest = new_token()
    sqlite_stores.registry.add_token(token_id, digest, "test", ANYBODY)
    settings = Settings(database_url=sqlite_url, access_log=True)
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Request-ID": "mine",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    }
    with asyncio.Runner() as runner:
        client = Client(create_app(settings, sqlite_stores), runner)
        assert client.get("/v1/runs/run_0?secret=1", headers=headers).status_code == 422
    told = [json.loads(line) for line in written.getvalue().splitlines()]
    (entry,) = [each for each in told if each["logger"] == "service.access"]
    assert entry.pop("duration_s") > 0
    known = ("request_id", "token_id", "trace_id", "method", "route", "path", "status", "level")
    assert {name: entry[name] for name in known} == {
        "request_id": "mine",
        "token_id": token_id,
        "trace_id": TRACE,
        "method": "GET",
        "route": "/v1/runs/{run_id}",
        "path": "/v1/runs/run_0",
        "status": 422,
        "level": "info",
    }
    assert token not in written.getvalue()
    assert "secret" not in json.dumps(entry)


@pytest.mark.parametrize("written", [JsonFormatter], indirect=True)
def test_what_a_thread_says_of_its_attempt_has_the_run_and_no_other_thread_s(written: io.StringIO) -> None:
    def work() -> None:
        logs.attempt.set({"run_id": "run_1", "attempt": 2})
        logging.getLogger("x").info("begun")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    logging.getLogger("x").info("else")
    begun, other = (json.loads(line) for line in written.getvalue().splitlines())
    assert (begun["run_id"], begun["attempt"], begun["message"]) == ("run_1", 2, "begun")
    assert "run_id" not in other


def test_where_every_request_is_logged_none_goes_the_short_way() -> None:
    settings: dict[str, Any] = {"auth": False}
    assert protocol_of(create_app(Settings(**settings)), Settings(**settings)) is not Protocol
    settings["access_log"] = True
    assert protocol_of(create_app(Settings(**settings)), Settings(**settings)) is Protocol
