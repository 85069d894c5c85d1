"""Tokens, projects, tickets and the audit log, by both clients, on a service that asks for tokens."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from maze_client import AsyncClient, Client, NotFoundError, ProblemError
from tests.acceptance.server import serving
from tests.maze_client.test_client import now


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Address of a service that asks for tokens, and the one that it printed."""
    with serving(tmp_path_factory.mktemp("shared"), auth=True, workers=1) as server:
        text = server.wait_for(lambda: re.search(r"maze_\w+_\w{64}", server.log()), "the first token")
        yield f"http://127.0.0.1:{server.port}", text[0]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_admin_shares_a_service_and_sees_who_did_what(kind, shared):
    asyncio.run(told(kind, *shared))


async def told(kind, url, secret):
    opened = []

    def client(token=secret, **options):
        opened.append(kind(url, token, max_retries=0, **options))
        return opened[-1]

    try:
        await story(client, url, kind.__name__.lower())
    finally:
        for each in opened:
            await now(each.close())


async def story(client, url, name):
    admin = client()
    assert (await now(admin.me())).scopes == ["admin"]
    made = await now(admin.projects.put(name, share=2, max_queued=0, max_stored_mib=5))
    changed = await now(admin.projects.put(name, max_stored_mib=None))
    assert (changed.share, changed.max_queued, changed.max_stored_mib) == (2, 0, None)
    assert await now(admin.projects.get(name)) == changed != made
    assert changed in await now(admin.projects.list())

    within = client(project=name)
    trains = await now(within.tokens.create("trains", ["runs:write"]))
    looks = await now(within.tokens.create("looks", ["runs:read"], expires_in_s=60))
    assert looks.token not in repr(looks)
    assert [(each.id, each.token) for each in await now(within.tokens.list())] == [
        (trains.id, None),
        (looks.id, None),
    ]
    reader = client(looks.token)
    assert (await now(reader.me())).project == name
    with pytest.raises(ProblemError, match="runs:write") as refused:
        await now(reader.train())
    assert refused.value.status == 403
    with pytest.raises(ProblemError) as full:
        await now(client(trains.token).train())
    assert full.value.body["quota"] == "max_queued"

    ticket = await now(reader.ticket("/v1/events"))
    assert ticket.ticket not in repr(ticket)
    async with httpx.AsyncClient(base_url=url) as browser:
        opened = [await browser.get(f"{ticket.path}?ticket={ticket.ticket}") for _ in range(2)]
    assert [each.status_code for each in opened] == [200, 401]

    await now(within.tokens.revoke(looks.id))
    with pytest.raises(NotFoundError):
        await now(admin.tokens.revoke("none"))
    entries = await now(admin.audit.list(project=name))
    assert [(each.action, each.outcome) for each in entries] == [
        ("revoke_token", "done"),
        ("train", "refused"),
        ("make_token", "done"),
        ("make_token", "done"),
    ]
    assert {each.token_name for each in entries} == {"first", "looks"}
    (found,) = await now(admin.audit.list(action="make_token", subject=f"/v1/tokens/{looks.id}"))
    assert found == entries[2]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert await now(admin.audit.list(since=tomorrow, token=found.token_id)) == []
