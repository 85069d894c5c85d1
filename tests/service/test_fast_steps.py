"""The steps of sessions on the fast path: what it answers is what the plain way answers, byte for byte."""

# ruff: noqa: F401, F811

import asyncio
import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from service.domain.sharing import Caller, Scope
from service.domain.use_cases import create_token
from service.fast_path import FastProtocol
from service.serving.sessions.episodes import Episodes
from service.store import Stores
from tests.service.test_fast_path import (
    FIELDS,
    GOOD,
    HEALTH,
    Frozen,
    _nothing_depends_on_the_time,
    answered,
    both,
    run,
    status,
)
from tests.service.wire import Wire, post, request, wire

JSON_BODY = b"Content-Type: application/json"
SESSION = re.compile(rb"session_[0-9a-z]{26}")
NOBODYS = b"session_" + b"0" * 26


def closing(path: bytes) -> bytes:
    return b"DELETE %b HTTP/1.1\r\nHost: localhost:8000\r\n\r\n" % path.removesuffix(b"/step")


async def begun(service: Wire, run: str, *fields: bytes, **facts: Any) -> bytes:
    """The path of the steps of a new session."""
    body = json.dumps({"run": run, "seed": 1, **facts}).encode()
    answer = await service.connect().send(post(b"/v1/sessions", [JSON_BODY, *fields], body))
    assert status(answer) == 201, answer
    (found, *_) = SESSION.findall(answer)
    return b"/v1/sessions/%b/step" % found


def step(
    path: bytes, seq: int, *fields: bytes, observation: Any = (0.01, -0.02, 0.03, -0.04), **facts: Any
) -> bytes:
    body = json.dumps({"seq": seq, "observation": observation, **facts}).encode()
    return post(path, [JSON_BODY, *fields], body)


def played(
    stores: Stores,
    run: str,
    sent: Iterable[Any],
    *,
    begin: tuple[bytes, ...] = (),
    facts: dict[str, Any] | None = None,
    **settings: Any,
) -> list[bytes]:
    """The answers to these requests, each made of the path of a session's steps, on one connection."""

    async def scenario(service: Wire) -> list[bytes]:
        path = await begun(service, run, *begin, **(facts or {}))
        connection = service.connect()
        answers = []
        for make in sent:
            if connection.transport.is_closed or connection.transport.is_ended:
                connection = service.connect()
            answers.append(SESSION.sub(NOBODYS, await connection.send(make(path))))
        service.application._app.sessions._open.clear()  # the next service does not go on with it
        return answers

    answers: list[bytes] = both(stores, run, scenario, **settings)
    return answers


def test_steps_are_answered_at_once_with_the_exact_version_that_acts(
    sqlite_stores: Stores,
    run: str,
    answered: list[int],
) -> None:
    info = sqlite_stores.checkpoints.resolve(run, "best")

    async def scenario(service: Wire) -> list[bytes]:
        path = await begun(service, run)
        connection = service.connect()
        answers = [await connection.send(step(path, seq)) for seq in range(12)]
        if isinstance(connection.protocol, FastProtocol):
            assert len(connection.transport.writes) == 12
            assert not service.state.tasks
        service.application._app.sessions._open.clear()
        return answers

    last = json.loads(both(sqlite_stores, run, scenario)[-1].partition(b"\r\n\r\n")[2])
    assert answered == [200] * 12
    assert last.pop("action") in (0, 1)
    assert last == {
        "seq": 11,
        "next_seq": 12,
        "run": run,
        "checkpoint": info.id,
        "checkpoint_sha256": info.content_sha256,
    }


BODIES = [
    *(b"", b"{", b"[]", b'{"seq": 0}', b'{"seq": 1, "seq": 1, "observation": [0, 0, 0, 0]}'),
    *(b'{"seq": -1, "observation": [0, 0, 0, 0]}', b'{"seq": 0, "observation": [NaN, 0, 0, 0]}'),
    *(b'{"seq": 0, "observation": [0]}', b'{"seq": 7, "observation": [0, 0, 0, 0]}'),
    b'{"seq": 0, "observation": [0, 0, 0, 0], "terminated": true}',
    b'{"seq": 0, "observation": [0, 0, 0, 0], "actor_id": ["none", 3]}',
    b'{"seq": 0, "observation": [0, 0, 0, 0], "reward": 1e39}',
    b'{"seq": 0, "observation": {"observation": [0, 0, 0, 0]}}',
    *(b'{"seq": 1, "observation": [0, 0, 0, 0], "reward": 0.5}',) * 3,
    b'{"seq": 1, "observation": [0, 0, 0, 0], "reward": 0.6}',
    b'{"seq": 2, "observation": [0, 0, 0, 0], "truncated": true}',
    b'{"seq": 2, "observation": [0, 0, 0, 0], "truncated": true}',
    b'{"seq": 0, "observation": [0, 0, 0, 0]}' + b" " * 70_000,
    b'{"seq": 1, "observation": [0, 0, 0, 0]}',
]


@pytest.mark.parametrize("facts", [{}, {"deterministic": False}])
def test_every_body_gets_the_plain_answer(
    sqlite_stores: Stores,
    run: str,
    answered: list[int],
    facts: dict[str, Any],
) -> None:
    sent = [lambda path, body=body: post(path, [JSON_BODY], body) for body in BODIES]
    statuses = {status(answer) for answer in played(sqlite_stores, run, sent, facts=facts)}
    assert statuses == {200, 400, 409, 422}
    assert len(answered) > 5


def test_every_head_and_every_path_gets_the_plain_answer(
    sqlite_stores: Stores,
    run: str,
    answered: list[int],
) -> None:
    body = b'{"seq": 0, "observation": [0, 0, 0, 0]}'
    sent: list[Any] = [lambda path, fields=fields: post(path, fields, body) for fields in FIELDS]
    for old, new in [
        (b"/step", b"/steps"),
        (b"/v1", b"//v1"),
        (b"/step", b"/step?a=1"),
    ]:
        sent.append(lambda path, old=old, new=new: post(path.replace(old, new), [JSON_BODY], body))
    sent += [lambda path: post(b"/v1/sessions/%b/step" % NOBODYS, [JSON_BODY], body)]
    sent += [lambda path: post(path, [JSON_BODY], body).replace(b"POST", b"GET", 1), lambda _: HEALTH]
    statuses = {status(answer) for answer in played(sqlite_stores, run, sent) if answer}
    assert {200, 400, 403, 404, 405, 415} <= statuses
    assert answered


def test_a_session_that_is_closed_says_so_to_the_connection_that_used_it(
    sqlite_stores: Stores,
    run: str,
    answered: list[int],
) -> None:
    sent = [lambda path: step(path, 0), lambda path: step(path, 1), closing, lambda path: step(path, 2)]
    assert [status(answer) for answer in played(sqlite_stores, run, sent)] == [200, 200, 204, 410]
    assert answered == [200, 200]


def test_the_rate_counts_every_step_once(sqlite_stores: Stores, run: str) -> None:
    sent = [lambda path, seq=seq: step(path, min(seq, 3)) for seq in range(10)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("service.security.time", Frozen)
        patched.setattr("service.security.RateLimiter.__init__.__defaults__", (Frozen.monotonic,))
        statuses = [status(one) for one in played(sqlite_stores, run, sent, rate_limit_per_s=4.0)]
    assert statuses == [200] * 6 + [429] * 4


@pytest.mark.parametrize(
    ("scopes", "project", "code"),
    [
        (frozenset({Scope.ACT}), "default", 200),
        (frozenset({Scope.RUNS_READ}), "default", 403),
        (frozenset({Scope.ACT}), "other", 404),
    ],
)
def test_a_step_is_for_who_may_act_in_the_project_of_the_session(
    sqlite_stores: Stores,
    run: str,
    scopes: frozenset[Scope],
    project: str,
    code: int,
) -> None:
    admin, token = (
        b"X-API-Key: " + create_token(sqlite_stores.registry, name, caller).encode()
        for name, caller in [
            ("owner", Caller(scopes=frozenset({Scope.ADMIN}))),
            ("other", Caller(scopes=scopes, project=project)),
        ]
    )
    sent = [lambda path, key=key, seq=seq: step(path, seq, key) for seq in range(2) for key in (admin, token)]
    answers = played(sqlite_stores, run, sent, begin=(admin,), auth=True)
    assert [status(answer) for answer in answers] == [200, code, 200, code]


def test_steps_of_many_connections_share_a_forward_and_wait_for_it(
    sqlite_stores: Stores,
    run: str,
    answered: list[int],
) -> None:
    async def scenario() -> list[list[int]]:
        async with wire(sqlite_stores) as service:
            await service.connect().send(request(run, GOOD))
            paths = [await begun(service, run) for _ in range(8)]
            connections = [service.connect() for _ in paths]
            found = []
            for seq in range(4):
                pairs = zip(connections, paths, strict=True)
                answers = await asyncio.gather(*(one.send(step(path, seq)) for one, path in pairs))
                found.append([status(answer) for answer in answers])
            return found

    assert asyncio.run(scenario()) == [[200] * 8] * 4
    assert len(answered) == 4 * 8


def test_what_nobody_expected_is_an_internal_error_and_the_step_may_come_again(
    sqlite_stores: Stores,
    run: str,
    answered: list[int],
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    async def scenario(service: Wire) -> list[int]:
        path = await begun(service, run)
        connection = service.connect()
        statuses = [status(await connection.send(step(path, 0)))]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Episodes, "is_full", fail)
            answer = await connection.send(step(path, 1))
            assert b"secret" not in answer
            statuses.append(status(answer))
        statuses.append(status(await connection.send(step(path, 1))))
        service.application._app.sessions._open.clear()
        return statuses

    assert both(sqlite_stores, run, scenario) == [200, 500, 200]
