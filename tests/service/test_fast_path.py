"""The fast path answers what the plain way answers, byte for byte, and gives way wherever a request is unusual."""

import asyncio
import inspect
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import fast_path, http_server, security
from service.domain.errors import AgentGoneError
from service.domain.policies import MoveKind
from service.domain.sharing import ANYBODY
from service.domain.use_cases import new_token
from service.fast_path import MAX_KNOWN, NAMES, FastProtocol, missing_names, protocol_of
from service.http_server import Limits
from service.main import create_app
from service.serving import agents
from service.serving.batching import Batcher
from service.serving.forms import MSGPACK
from service.serving.served import ServedAgent
from service.settings import Settings
from service.store import Stores, open_stores
from tests.contracts.builders import new_checkpoint, start
from tests.service.serving.checkpoints import make_checkpoint
from tests.service.serving.hostile import NO_JSON, WRONG
from tests.service.wire import OURS, Connection, Wire, post, request, wire

GOOD = b'{"observation": [0.01, -0.02, 0.03, -0.04]}'
HEALTH = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def run(sqlite_stores: Stores) -> str:
    """A run whose best checkpoint acts for CartPole."""
    return with_checkpoint(sqlite_stores)


def with_checkpoint(stores: Stores) -> str:
    run, lease = start(stores)
    bundle = make_checkpoint()
    info = new_checkpoint(1, is_best=True, content_sha256=bundle.content_sha256)
    stores.checkpoints.put(lease, info, bundle.to_bytes())
    return run.id


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses that the fast path has answered."""
    statuses: list[int] = []
    write = fast_path._Exchange._write

    def noted(exchange: Any, status: int, *rest: Any) -> None:
        statuses.append(status)
        write(exchange, status, *rest)

    monkeypatch.setattr(fast_path._Exchange, "_write", noted)
    return statuses


@pytest.fixture(autouse=True)
def _nothing_depends_on_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a selector means is asked once, and all numbers of requests have the same length."""
    monkeypatch.setattr(agents, "TTL_S", 600.0)
    monkeypatch.setattr(agents, "_REFRESH_AFTER_S", 600.0)
    monkeypatch.setattr(security, "_COUNT", itertools.count(16**8))


Scenario = Callable[[Wire], Awaitable[Any]]


def both(stores: Stores, run: str, scenario: Scenario, **settings: Any) -> Any:
    """What a scenario gives on the fast path, which has to be what it gives on the plain one."""

    async def play(is_fast: bool) -> Any:
        async with wire(stores, fast_path=is_fast, **settings) as service:
            if not settings.get("auth"):
                assert b" 200 OK" in await service.connect().send(request(run, GOOD))  # the agent is loaded
            return await scenario(service), service.counted

    fast, plain = (asyncio.run(play(is_fast)) for is_fast in (True, False))
    assert fast == plain
    return fast[0]


async def twice_and_on(service: Wire, sent: bytes) -> list[bytes]:
    """The answers to the same request twice on one connection, and to another one after it."""
    connection = service.connect()
    return [await connection.send(piece) for piece in (sent, sent, HEALTH)]


def each(stores: Stores, run: str, requests: Iterable[bytes], **settings: Any) -> None:
    """Each of these requests, in one service, gives and counts on the fast path what it does on the plain one."""

    async def scenario(service: Wire) -> dict[bytes, Any]:
        return {sent: (await twice_and_on(service, sent), service.counted) for sent in requests}

    both(stores, run, scenario, **settings)


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_the_usual_request_is_answered_at_once_by_one_write(
    sqlite_stores: Stores, run: str, answered: list[int]
) -> None:
    async def scenario(service: Wire) -> Any:
        connection = service.connect()
        answers = [await connection.send(request(run, GOOD)) for _ in range(3)]
        if isinstance(connection.protocol, FastProtocol):
            assert len(connection.transport.writes) == 3
            assert not service.state.tasks
        return answers

    first, *others = both(sqlite_stores, run, scenario)
    assert others == [first, first]
    assert answered == [200, 200, 200]
    head, _, body = first.partition(b"\r\n\r\n")
    assert json.loads(body)["action"] in (0, 1)
    assert b"x-request-id: req_" in head


def test_every_body_gets_the_plain_answer(sqlite_stores: Stores, run: str) -> None:
    bodies = [GOOD, *(body for body, _ in WRONG), *NO_JSON]
    each(sqlite_stores, run, [request(run, body) for body in bodies])


FIELDS = [
    *([b"Content-Type: application/json; charset=utf-8"], [b"content-type: application/geo+json"]),
    *([b"Content-Type: text/plain"], [b"Content-Type: "], [], [b"Content-Type: application/json"] * 2),
    *(
        [b"Content-Type: application/json", field]
        for field in (
            *(b"Origin: http://localhost:8000", b"Origin: http://evil.test", b"Expect: 100-continue"),
            *(b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: websocket"),
            *(
                b"Content-Encoding: gzip",
                b"Host: evil.test",
                b"Content-Length: 3",
                b"Transfer-Encoding: gzip",
            ),
            *(b"X-Request-ID: mine", b"X-Request-ID: not mine", b"Accept: a", b"Accept-Encoding: gzip"),
            *(b"Traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"traceparent: 00-0-0-00"),
            *(b"X-Forwarded-For: 192.0.2.7", b"X: " + b"a" * 5000, b"X: " + b"a" * 70_000, b"X: \x00"),
            *(b"X-API-Key: maze_a_b", b"Cookie: a=1", b"If-None-Match: *", b"Idempotency-Key: 1"),
        )
    ),
    [b"Content-Type: application/json", b"X-Request-ID: a", b"X-Request-ID: b"],
    [b"Content-Type: application/json", b"Accept: a", b"Accept: b"],
]


def test_what_the_policy_thought_is_told_on_the_plain_way(
    sqlite_stores: Stores, run: str, answered: list[int]
) -> None:
    async def scenario(service: Wire) -> Any:
        connection, body = service.connect(), GOOD[:-1] + b', "explain": true}'
        return [await connection.send(request(run, each)) for each in (GOOD, body, GOOD, body)]

    _, told, _, again = both(sqlite_stores, run, scenario)
    assert answered == [200, 200]
    assert told == again
    assert b'"decision":{"distribution":{"action":{"kind":"categorical"' in told


def test_every_head_gets_the_plain_answer(sqlite_stores: Stores, run: str) -> None:
    path = f"/v1/runs/{run}/compute_action".encode()
    each(sqlite_stores, run, [post(path, fields, GOOD) for fields in FIELDS])


CHANGES = [
    *((b"POST", b"GET"), (b"POST", b"PUT"), (b"POST", b"post"), (b"POST", b"FOO"), (b"compute_action", b"x")),
    *((b"HTTP/1.1", b"HTTP/1.0"), (b"HTTP/1.1", b"HTTP/2.0"), (b"HTTP/1.1", b"HTTP/1.1 x"), (b"\r\n", b"\n")),
    *((b" HTTP", b"? HTTP"), (b" HTTP", b"?a=1 HTTP"), (b" HTTP", b"#a HTTP"), (b" HTTP", b"/ HTTP")),
    *((b"/v1/runs/", b"/v1/runs//"), (b"/v1/runs/", b"//v1/runs/"), (b"/v1", b"http://localhost:8000/v1")),
    *(
        (b"/v1/runs/run", b"/v1/runs/%72un"),
        (b"/v1/runs/run", b"/v1/runs/other"),
        (b"/v1/runs/run", b"/v1/runs/%00"),
    ),
    *(
        (b"Host: localhost:8000", b"Host: evil.test"),
        (b"Host: localhost:8000\r\n", b""),
        (b"localhost", b"LOCALHOST."),
    ),
    *(
        (b"POST", b"\r\nPOST"),
        (b"POST", b"\r\n\r\nPOST"),
        (b"Content-Type:", b"Content-Type :"),
        (b": app", b":app"),
    ),
]


def test_every_other_line_gets_the_plain_answer(sqlite_stores: Stores, run: str) -> None:
    sent = request(run, GOOD)
    assert all(old in sent for old, _ in CHANGES)
    each(sqlite_stores, run, [sent.replace(old, new) for old, new in CHANGES])


def test_other_forms_than_json_go_the_plain_way(sqlite_stores: Stores, run: str, answered: list[int]) -> None:
    values = np.array([0.01, -0.02, 0.03, -0.04], np.float32)
    path = f"/v1/runs/{run}/compute_action".encode()
    octets = [b"Content-Type: application/octet-stream", b"X-Array-Dtype: float32", b"X-Array-Shape: 4"]
    sent = [
        post(path, octets, values.tobytes()),
        post(path, [b"Content-Type: application/msgpack"], MSGPACK.encode({"observation": values})),
        post(path, [b"Content-Type: application/msgpack"], GOOD),
        post(path, [b"Content-Type: Application/Octet-Stream; v=1"], GOOD),
    ]
    each(sqlite_stores, run, sent)
    assert answered == []


@pytest.mark.parametrize("max_action_body_bytes", [1_000_000, 60, 43])
def test_every_length_gets_the_plain_answer(
    sqlite_stores: Stores, run: str, max_action_body_bytes: int
) -> None:
    sizes = (0, 1, 43, 60, 61, 65_536, 65_537, 200_000)
    sent = [request(run, GOOD.ljust(size)[:size]) for size in sizes]
    each(sqlite_stores, run, sent, max_action_body_bytes=max_action_body_bytes)


def test_the_next_request_may_be_of_another_length_run_or_kind(
    sqlite_stores: Stores, run: str, answered: list[int]
) -> None:
    other = with_checkpoint(sqlite_stores)
    bodies = [b'{"observation": [%d, 0, 0, 0]}' % 10**i for i in range(8)]
    sent = [request(name, body) for body in bodies for name in (run, other, "none")] + [HEALTH]

    async def scenario(service: Wire) -> list[bytes]:
        connection = service.connect()
        return [await connection.send(one) for one in sent * 2]

    answers = both(sqlite_stores, run, scenario)
    assert [status(answer) for answer in answers[: len(sent)]][:3] == [200, 200, 404]
    assert len(answered) > len(sent)


def test_a_connection_remembers_few_heads_and_no_long_ones(sqlite_stores: Stores, run: str) -> None:
    async def scenario() -> None:
        async with wire(sqlite_stores) as service:
            await service.connect().send(request(run, GOOD))
            connection = service.connect()
            for number in range(3 * MAX_KNOWN):
                await connection.send(request(run, GOOD, b"X-Request-ID: %d" % number))
                assert 0 < len(connection.protocol._known) <= MAX_KNOWN
            before = dict(connection.protocol._known)
            await connection.send(request(run, GOOD, b"X: " + b"a" * 10_000))
            assert connection.protocol._known == before
            connection.lose()
            assert connection.protocol._known == {}

    asyncio.run(scenario())


def test_what_came_in_pieces_or_in_company_is_not_taken_for_a_head(sqlite_stores: Stores, run: str) -> None:
    body = GOOD + b"  "  # whatever its length, it is JSON
    sent = request(run, body)
    head = sent[: -len(body)]

    async def scenario(service: Wire) -> list[bytes]:
        answers = []
        for pieces in (
            *([head, body], [head[:-4], head[-4:] + body], [head[:-2], head[-2:] + body], [sent + sent]),
            *(
                [sent, sent[:9], sent[9:]],
                [sent + sent[:9], sent[9:]],
                [sent + b"\r\n", sent],
                [sent, b"\r\n", sent],
            ),
            *(
                [sent, head, sent, body],
                [b"\r\n" + sent, sent],
                [sent, sent[:-1], sent[-1:]],
                [sent, sent + b"x"],
                [sent, sent[:9], sent],
            ),
        ):
            connection = service.connect()
            answers.append(await connection.send(*pieces, turns=2))
            if isinstance(connection.protocol, FastProtocol):
                assert all(known.lstrip() == head for known in connection.protocol._known)
            answers.append(await connection.send(sent))
        return answers

    both(sqlite_stores, run, scenario)


def test_what_follows_a_known_request_is_no_part_of_its_body(sqlite_stores: Stores, run: str) -> None:
    async def scenario() -> list[bytes]:
        async with wire(sqlite_stores) as service:
            connection = service.connect()
            for _ in range(3):
                await connection.send(request(run, GOOD))
            assert connection.protocol._known
            return re.findall(rb"HTTP/1.1 (\d+)", await connection.send(request(run, GOOD) + b" "))

    assert asyncio.run(scenario())[-1] == b"400"


@pytest.mark.parametrize("n_requests", [2, 3, 500])
def test_pipelined_requests_are_answered_in_their_order(
    sqlite_stores: Stores, run: str, n_requests: int, answered: list[int]
) -> None:
    def one(number: int) -> bytes:
        if number % 7 == 3:
            return HEALTH.replace(b"\r\n\r\n", b"\r\nx-request-id: %d\r\n\r\n" % number)
        body = GOOD if number % 5 else b"[]"
        return request(run, body, b"X-Request-ID: %d" % number)

    async def scenario(service: Wire) -> bytes:
        connection = service.connect()
        await connection.send(request(run, GOOD))
        return await connection.send(b"".join(one(number) for number in range(n_requests)))

    answers = both(sqlite_stores, run, scenario)
    assert [int(found) for found in re.findall(rb"x-request-id: (\d+)", answers)] == list(range(n_requests))
    assert answered


def test_requests_of_many_connections_share_a_forward(
    sqlite_stores: Stores, run: str, answered: list[int]
) -> None:
    async def scenario() -> list[float]:
        async with wire(sqlite_stores) as service:
            connections = [service.connect() for _ in range(20)]
            await connections[0].send(request(run, GOOD))
            await asyncio.gather(*(connection.send(request(run, GOOD)) for connection in connections))
            route = service.application.action_route
            assert route is not None
            await asyncio.gather(*(connection.send(request(run, GOOD)) for connection in connections))
            return [sum(route.metrics.batch_rows.counts), route.metrics.batch_rows.total]

    n_forwards, n_rows = asyncio.run(scenario())
    assert n_rows == 41 == len(answered) + 1
    assert n_forwards < 10


class TestTokens:
    @pytest.fixture
    def tokens(self, sqlite_stores: Stores) -> Iterator[list[bytes]]:
        made = [new_token() for _ in range(2)]
        for token_id, _, digest in made:
            sqlite_stores.registry.add_token(token_id, digest, "test", ANYBODY)
        self.ids = [token_id for token_id, _, _ in made]
        return [text.encode() for _, text, _ in made]

    def test_they_are_asked_for_as_on_the_plain_way(
        self, sqlite_stores: Stores, run: str, tokens: list[bytes], answered: list[int]
    ) -> None:
        good, revoked = tokens
        sqlite_stores.registry.revoke_token(self.ids[1])
        fields = [
            *(b"Authorization: Bearer " + good, b"authorization: bearer  " + good, b"X-API-Key: " + good),
            *(
                b"Authorization: Basic " + good,
                b"Authorization: Bearer " + good[:-1],
                b"X-API-Key: " + revoked,
            ),
            *(
                b"X-API-Key: " + good.upper(),
                b"X-API-Key: " + b"a" * 300,
                b"X: none",
                b"X-API-Key: maze_%c_b" % 228,
            ),
        ]

        async def scenario(service: Wire) -> list[bytes]:
            answers = []
            for _ in range(2):
                for field in fields:
                    answers += await twice_and_on(service, request(run, GOOD, field))
            return answers

        answers = both(sqlite_stores, run, scenario, auth=True)
        assert {status(answer) for answer in answers} == {200, 401}
        assert len(answered) >= 9

    def test_a_revoked_one_ends_for_a_connection_that_used_it(
        self, sqlite_stores: Stores, run: str, tokens: list[bytes], answered: list[int]
    ) -> None:
        sent = request(run, GOOD, b"X-API-Key: " + tokens[0])

        async def scenario() -> list[int]:
            async with wire(sqlite_stores, auth=True) as service:
                verifier = service.application._verifier
                assert verifier is not None
                connection = service.connect()
                statuses = [status(await connection.send(sent)) for _ in range(3)]
                sqlite_stores.registry.revoke_token(self.ids[0])
                verifier._ttl_s = -1.0
                for token_id, (grant, _) in list(verifier._grants.items()):
                    verifier._grants[token_id] = grant, 0.0
                connection.protocol._known = {
                    head: known_until(known, 0.0) for head, known in connection.protocol._known.items()
                }
                return [*statuses, status(await connection.send(sent))]

        assert asyncio.run(scenario()) == [200, 200, 200, 401]
        assert answered == [200, 200]

    @pytest.mark.parametrize("auth", [True, False])
    def test_the_rate_counts_every_request_once(
        self, sqlite_stores: Stores, run: str, tokens: list[bytes], auth: bool
    ) -> None:
        async def scenario(service: Wire) -> list[bytes]:
            answers = []
            for key in tokens:
                connection = service.connect()
                bodies = (GOOD, b"[]", GOOD, b'{"observation": [0]}', *[GOOD] * 5)
                sent = [request(run, body, b"X-API-Key: " + key) for body in bodies]
                answers += [await connection.send(one) for one in sent]
            proxied = request(run, GOOD, b"X-Forwarded-For: 192.0.2.9", b"X-API-Key: " + tokens[0])
            return answers + [await service.connect().send(proxied) for _ in range(2)]

        options = {"auth": auth, "rate_limit_per_s": 3.0}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("service.security.time", Frozen)
            patched.setattr("service.security.RateLimiter.__init__.__defaults__", (Frozen.monotonic,))
            statuses = [status(answer) for answer in both(sqlite_stores, run, scenario, **options)]
        assert {200, 422, 429} <= set(statuses)


def known_until(known: Any, until: float) -> Any:
    known._passed = known._passed._replace(until=until)
    return known


class Frozen:
    """Clocks that stand still."""

    @staticmethod
    def monotonic() -> float:
        return 1000.0

    @staticmethod
    def perf_counter() -> float:
        return 1000.0


class TestErrors:
    """What goes wrong after the request has joined its batch."""

    @pytest.mark.parametrize(
        "error", [ArithmeticError("of the forward"), AgentGoneError("gone"), ValueError("\x00")]
    )
    def test_of_the_forward_are_told_and_logged_alike(
        self,
        sqlite_stores: Stores,
        run: str,
        error: Exception,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        answered: list[int],
    ) -> None:
        act, logs = ServedAgent._act, []

        def fails(served: Any, call: Any) -> Any:
            if (call.observations["observation"] == 2).any():
                raise error
            return act(served, call)

        monkeypatch.setattr(ServedAgent, "_act", fails)
        bad = request(run, b'{"observation": [2, 0, 0, 0]}', b"X-Request-ID: mine")

        async def scenario(service: Wire) -> list[bytes]:
            caplog.clear()
            connections = [service.connect() for _ in range(4)]
            together = await asyncio.gather(
                *(one.send(request(run, GOOD) if i % 2 else bad) for i, one in enumerate(connections))
            )
            answers = [*together, *await twice_and_on(service, bad)]
            logs.append(sorted(OURS_LOG.sub("req", record.getMessage()) for record in caplog.records))
            return answers

        answers = both(sqlite_stores, run, scenario)
        assert [status(answer) for answer in answers[:4]] == [status(answers[0]), 200] * 2
        assert status(answers[0]) >= 500
        assert logs[0] == logs[1]
        assert 200 in answered

    def test_an_action_that_is_not_finite_is_a_problem_of_its_request_alone(
        self, sqlite_stores: Stores, run: str, monkeypatch: pytest.MonkeyPatch, answered: list[int]
    ) -> None:
        def infinite(served: Any, call: Any) -> Any:
            return {"action": np.where(call.observations["observation"][:, 0] == 2, np.inf, 1.0)}

        monkeypatch.setattr(ServedAgent, "_act", infinite)
        bad = request(run, b'{"observation": [2, 0, 0, 0]}')
        answers = both(sqlite_stores, run, lambda service: twice_and_on(service, bad))
        assert [status(answer) for answer in answers] == [422, 422, 200]
        assert 422 in answered

    def test_a_full_queue_is_told(self, sqlite_stores: Stores, run: str, answered: list[int]) -> None:
        rows = b'{"observations": [[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,0]]}'
        sent = request(run, rows)
        answers = both(sqlite_stores, run, lambda service: twice_and_on(service, sent), action_queue_rows=3)
        assert [status(answer) for answer in answers] == [503, 503, 200]
        assert b"retry-after: 1" in answers[0]
        assert b'"queue_age_s":0.0' in answers[0]
        assert answered == [503, 503]

    def test_an_action_that_cannot_be_written_does_not_spoil_its_batch(
        self, sqlite_stores: Stores, run: str, monkeypatch: pytest.MonkeyPatch, answered: list[int]
    ) -> None:
        from service.serving import hot_route

        encode = hot_route._encode

        def fails(value: Any) -> bytes:
            if value == 1:
                raise TypeError("no JSON")
            return encode(value)

        def first_number(served: Any, call: Any) -> Any:
            return {"action": call.observations["observation"][:, 0].astype(np.int64)}

        monkeypatch.setattr(ServedAgent, "_act", first_number)

        async def scenario(service: Wire) -> list[bytes]:
            monkeypatch.setattr(hot_route, "_encode", fails)
            connections = [service.connect() for _ in range(6)]
            sent = [request(run, b'{"observation": [%d, 0, 0, 0]}' % (i % 2)) for i in range(6)]
            pairs = zip(connections, sent, strict=True)
            answers = await asyncio.gather(*(connection.send(one) for connection, one in pairs))
            monkeypatch.setattr(hot_route, "_encode", encode)
            return answers

        assert [status(answer) for answer in both(sqlite_stores, run, scenario)] == [200, 500] * 3
        assert answered.count(500) == 3


def test_an_agent_that_was_evicted_between_two_requests_is_loaded_again(
    sqlite_stores: Stores, run: str, answered: list[int]
) -> None:
    other = with_checkpoint(sqlite_stores)

    async def scenario(service: Wire) -> list[bytes]:
        connection = service.connect()
        order = (run, run, other, other, run, other, run, run)
        return [await connection.send(request(name, GOOD)) for name in order]

    answers = both(sqlite_stores, run, scenario, agents_cached=1)
    assert {status(answer) for answer in answers} == {200}
    assert answered


def test_no_connection_keeps_an_evicted_agent(sqlite_stores: Stores, run: str) -> None:
    async def scenario() -> None:
        async with wire(sqlite_stores) as service:
            connection = service.connect()
            for _ in range(3):
                await connection.send(request(run, GOOD))
            (known,) = connection.protocol._known.values()
            assert known._acting is None
            assert known.cycle.body == b""

    asyncio.run(scenario())


def test_a_new_best_checkpoint_acts_soon(
    sqlite_stores: Stores, answered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "TTL_S", 1.0)
    monkeypatch.setattr(agents, "_REFRESH_AFTER_S", 0.5)
    run, lease = start(sqlite_stores)

    def put(epoch: int) -> str:
        bundle = make_checkpoint()
        info = new_checkpoint(epoch, is_best=True, content_sha256=bundle.content_sha256)
        return sqlite_stores.checkpoints.put(lease, info, bundle.to_bytes()).id

    async def scenario() -> None:
        async with wire(sqlite_stores) as service:
            put(1)
            connection = service.connect()
            for _ in range(3):
                await connection.send(request(run.id, GOOD))
            new = put(2).encode()
            for _ in range(1000):
                if new in await connection.send(request(run.id, GOOD)):
                    return
                await asyncio.sleep(0.01)
            pytest.fail("the old one acts on")

    asyncio.run(scenario())
    assert len(answered) >= 2


def test_one_who_does_not_read_is_answered_on_the_plain_way(
    sqlite_stores: Stores, run: str, answered: list[int]
) -> None:
    async def scenario() -> None:
        async with wire(sqlite_stores) as service:
            connection = service.connect()
            for _ in range(2):
                await connection.send(request(run, GOOD))
            before = connection.transport.sent
            connection.protocol.pause_writing()
            connection.protocol.data_received(request(run, GOOD))
            for _ in range(20):
                await asyncio.sleep(0)
            assert connection.transport.sent == before
            connection.protocol.resume_writing()
            assert status(await connection.send()) == 200
            connection.protocol.pause_writing()
            connection.protocol.check_due(asyncio.get_running_loop().time() + 2 * Limits().read_s)
            assert connection.transport.is_closed

    asyncio.run(scenario())
    assert answered == [200]


async def waiting(service: Wire, run: str) -> Connection:
    """A connection whose second request waits in its batch."""
    connection = service.connect()
    for _ in range(2):
        await connection.send(request(run, GOOD))
    others = [service.connect() for _ in range(3)]
    for one in (*others, connection):
        one.protocol.data_received(request(run, GOOD))
    assert not connection.protocol.cycle.response_complete
    return connection


def test_requests_behind_one_that_waits_are_answered_after_it(sqlite_stores: Stores, run: str) -> None:
    async def scenario(service: Wire) -> list[int]:
        counts = []
        for n_behind in (1, 2):
            connection = await waiting(service, run)
            before = connection.transport.sent.count(b"200 OK")
            for _ in range(n_behind):
                connection.protocol.data_received(request(run, GOOD))
            await connection.send()
            counts.append(connection.transport.sent.count(b"200 OK") - before)
            assert not connection.transport.is_paused
        return counts

    assert both(sqlite_stores, run, scenario) == [2, 3]


def test_who_waits_at_the_end_of_the_server_is_answered_and_then_closed(
    sqlite_stores: Stores, run: str
) -> None:
    async def scenario(service: Wire) -> list[Any]:
        connection = await waiting(service, run)
        connection.protocol.shutdown()
        answer = await connection.send()
        later = service.connect()
        answers = [await later.send(request(run, GOOD)) for _ in range(2)]
        later.protocol.shutdown()
        answers.append(await later.send(request(run, GOOD)))
        half = service.connect()
        half.protocol.data_received(request(run, GOOD)[:-3])
        half.protocol.shutdown()
        answers.append(await half.send(GOOD[-3:]))
        return [
            answer,
            *answers,
            connection.transport.is_closed,
            later.transport.is_closed,
            half.transport.is_closed,
        ]

    waited, first, second, last, half, *closed = both(sqlite_stores, run, scenario)
    assert [status(answer) for answer in (waited, first, second, last, half)] == [200] * 5
    assert [b"connection: close" in answer for answer in (waited, first, second, last, half)] == [
        *(True, False, False, True, True)
    ]
    assert closed == [True] * 3


def test_an_answer_to_who_went_away_is_not_written(
    sqlite_stores: Stores, run: str, answered: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with wire(sqlite_stores) as service:
            await service.connect().send(request(run, GOOD))
            for queued in (b"", request(run, GOOD) * 2):
                connection = await waiting(service, run)
                connection.protocol.data_received(queued)
                before = connection.transport.sent
                connection.lose()
                for _ in range(20):
                    await asyncio.sleep(0)
                assert connection.transport.sent == before
            assert status(await service.connect().send(request(run, GOOD))) == 200

    asyncio.run(scenario())
    assert len(answered) == 13
    assert caplog.text == ""


def test_an_idle_connection_ends_and_one_in_use_does_not(sqlite_stores: Stores, run: str) -> None:
    async def scenario() -> None:
        async with wire(sqlite_stores) as service:
            service.config.timeout_keep_alive = 1.0  # type: ignore[assignment]
            connection = service.connect()
            for _ in range(15):
                assert status(await connection.send(request(run, GOOD))) == 200
                await asyncio.sleep(0.1)
            assert connection.protocol._known
            assert service.state.total_requests == 15
            waits = await waiting(service, run)
            waits.protocol.timeout_keep_alive_handler()
            assert not waits.transport.is_closed
            assert status(await waits.send()) == 200
            await asyncio.sleep(1.5)
            assert connection.transport.is_ended
            assert waits.transport.is_ended

    asyncio.run(scenario())


def test_half_a_request_is_not_waited_for(sqlite_stores: Stores, run: str) -> None:
    async def scenario(service: Wire) -> bytes:
        connection = service.connect()
        for _ in range(2):
            await connection.send(request(run, GOOD))
        connection.protocol.data_received(request(run, GOOD)[:-3])
        before = len(connection.transport.sent)
        connection.protocol.check_due(asyncio.get_running_loop().time() + 2 * Limits().body_s)
        assert connection.protocol._is_refused
        return OURS.sub(b"req_", connection.transport.sent[before:])

    assert status(both(sqlite_stores, run, scenario)) == 408


HEADS = st.sampled_from(
    [
        [],
        [],
        [],
        [b"Connection: close"],
        [b"X-Request-ID: a b"],
        [b"Origin: http://x.test"],
        [b"Expect: 100-continue"],
    ]
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-5, 5)
BODIES = st.one_of(
    st.fixed_dictionaries(
        {"observation": st.lists(NUMBERS, min_size=3, max_size=5)},
        optional={
            "deterministic": st.just(True) | st.none(),
            "seed": st.integers(-1, 2**32),
            "checkpoint": st.sampled_from(["best", "last", "epoch:1", "none", "../x"]),
        },
    ),
    st.fixed_dictionaries({"observations": st.lists(st.lists(NUMBERS, min_size=4, max_size=4), max_size=5)}),
    st.dictionaries(st.sampled_from(["observation", "observations", "x"]), st.none() | st.text(max_size=3)),
).map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope="module")
def module_stores(
    migrated_sqlite_file: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stores, str]]:
    path = tmp_path_factory.mktemp("fast") / "maze.db"
    path.write_bytes(migrated_sqlite_file.read_bytes())
    stores = open_stores(f"sqlite:///{path}")
    yield stores, with_checkpoint(stores)
    stores.close()


@hypothesis.settings(max_examples=40)  # two services each
@given(
    requests=st.lists(st.tuples(BODIES, HEADS), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 1500), max_size=4),
    whole=st.booleans(),
    turns=st.integers(0, 3),
)
def test_whatever_is_asked_in_whatever_pieces_the_answers_are_the_plain_ones(
    module_stores: tuple[Stores, str],
    requests: list[tuple[bytes, list[bytes]]],
    cuts: list[int],
    whole: bool,
    turns: int,
) -> None:
    stores, run = module_stores
    sent = [
        request(run, body, *fields, b"X-Trace: %d" % (i % 2)) for i, (body, fields) in enumerate(requests)
    ]
    if whole:
        pieces = sent + sent
    else:
        stream = b"".join(sent)
        places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
        pieces = [stream[a:b] for a, b in itertools.pairwise(places)]

    async def scenario(service: Wire) -> list[bytes]:
        connection = service.connect()
        if whole:
            return [await connection.send(piece) for piece in pieces]
        return [await connection.send(*pieces, turns=turns)]

    both(stores, run, scenario)


def test_every_name_of_uvicorns_that_is_used_is_there() -> None:
    """On a new version of uvicorn read its ``httptools_impl.py``, where these names stand, beside the two protocols.

    ``on_headers_complete`` has to call ``_start_asgi_task`` when nothing else is answered, ``on_response_complete``
    for what waits; ``RequestResponseCycle.send`` is what ``_Exchange._write`` does in one piece.
    """
    assert missing_names() == []
    text = inspect.getsource(inspect.getmodule(FastProtocol))  # type: ignore[arg-type]
    for names in NAMES.values():
        assert all(
            re.search(rf"\b{name}\b", text.replace(repr(name), "").replace(f'"{name}"', "")) for name in names
        )


def protocol_with(**switches: Any) -> Any:
    settings = Settings(auth=False, **switches)
    return protocol_of(create_app(settings), settings)


def test_without_one_of_them_or_the_switch_the_plain_way_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert protocol_with().func is FastProtocol
    assert protocol_with(fast_path=False) is http_server.Protocol
    monkeypatch.setitem(NAMES, Batcher, ("submit", "no_such_name"))  # type: ignore[call-overload]
    assert missing_names() == ["Batcher.no_such_name"]
    assert protocol_with() is http_server.Protocol
    assert "this uvicorn has no Batcher.no_such_name" in caplog.text


OURS_LOG = re.compile(r"req_[0-9a-f]+_?[0-9a-f]*")


NAMED = b"/v1/policies/walker@champion/compute_action"


def named(path: bytes) -> bytes:
    return post(path, [b"Content-Type: application/json"], GOOD)


def test_a_policy_acts_by_its_name_as_its_checkpoint_does_and_where_it_arrives(
    sqlite_stores: Stores, run: str, answered: list[int]
) -> None:
    sqlite_stores.policies.create("walker")
    sqlite_stores.policies.add_version("walker", sqlite_stores.checkpoints.resolve(run, "best").id)
    sqlite_stores.policies.move("walker", "champion", 1, kind=MoveKind.SET, revision=None)
    paths = [NAMED, b"/v1/policies/walker:1/compute_action", b"/v1/policies/walker%40champion/compute_action"]
    each(sqlite_stores, run, [named(path) for path in paths])

    async def scenario(service: Wire) -> list[bytes]:
        bodies = []
        for path in (f"/v1/runs/{run}/compute_action".encode(), *paths):
            *_, answer = [await service.connect().send(named(path)) for _ in range(2)]
            bodies.append(answer.partition(b"\r\n\r\n")[2])
        return bodies

    answered.clear()
    by_run, *by_name = both(sqlite_stores, run, scenario)
    assert set(by_name) == {by_run[:-1] + b',"policy":"walker:1"}'}
    assert b'"checkpoint":"ckpt_' in by_run
    assert len(answered) >= 4


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        (b"/v1/policies/walker/compute_action", 404, b"walker:1"),
        (b"/v1/policies/walker@none/compute_action", 404, b"no alias none"),
        (b"/v1/policies/none@none/compute_action", 404, b"no policy none"),
        (b"/v1/policies//compute_action", 404, b"no such"),
        (b"/v1/policies/a@b@c/compute_action", 404, b"no such"),
        (b"/v1/runs/walker@champion/compute_action", 404, b"no such"),
    ],
)
def test_a_name_that_acts_nowhere_is_refused_as_on_the_plain_way(
    sqlite_stores: Stores, run: str, path: bytes, code: int, says: bytes
) -> None:
    sqlite_stores.policies.create("walker")
    sqlite_stores.policies.add_version("walker", sqlite_stores.checkpoints.resolve(run, "best").id)
    each(sqlite_stores, run, [named(path)])

    async def scenario(service: Wire) -> bytes:
        return await service.connect().send(named(path))

    answer = both(sqlite_stores, run, scenario)
    assert (status(answer), says in answer) == (code, True), answer


def test_where_an_alias_has_moved_acts_soon(
    sqlite_stores: Stores, answered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "TTL_S", 1.0)
    monkeypatch.setattr(agents, "_REFRESH_AFTER_S", 0.5)
    _, lease = start(sqlite_stores)
    sqlite_stores.policies.create("walker")
    for epoch in (1, 2):
        bundle = make_checkpoint()
        info = new_checkpoint(epoch, content_sha256=bundle.content_sha256)
        made = sqlite_stores.checkpoints.put(lease, info, bundle.to_bytes())
        sqlite_stores.policies.add_version("walker", made.id)
    sqlite_stores.policies.move("walker", "champion", 1, kind=MoveKind.SET, revision=None)
    new = sqlite_stores.policies.resolve("walker", number=2).checkpoint.encode()

    async def scenario() -> None:
        async with wire(sqlite_stores) as service:
            connection = service.connect()
            for _ in range(3):
                assert new not in await connection.send(named(NAMED))
            sqlite_stores.policies.move("walker", "champion", 2, kind=MoveKind.SET, revision=1)
            for _ in range(1000):
                if new in await connection.send(named(NAMED)):
                    return
                await asyncio.sleep(0.01)
            pytest.fail("the old one acts on")

    asyncio.run(scenario())
    assert len(answered) >= 2


def test_a_policy_that_acts_takes_no_checkpoint(sqlite_stores: Stores, run: str) -> None:
    sqlite_stores.policies.create("walker")
    sqlite_stores.policies.add_version("walker", sqlite_stores.checkpoints.resolve(run, "best").id)
    body = GOOD[:-1] + b', "checkpoint": "last"}'
    sent = post(b"/v1/policies/walker:1/compute_action", [b"Content-Type: application/json"], body)
    each(sqlite_stores, run, [sent])

    async def scenario(service: Wire) -> bytes:
        return await service.connect().send(sent)

    answer = both(sqlite_stores, run, scenario)
    assert (status(answer), b"leave checkpoint 'last' out" in answer) == (404, True)
