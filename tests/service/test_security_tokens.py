"""Tokens and rates: who is let in, how often, and for how long that is remembered."""

import asyncio
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from service.domain.errors import StoreUnavailableError
from service.domain.sharing import Caller, Grant
from service.domain.sharing import Scope as Right
from service.domain.use_cases import new_token
from service.security import RateLimiter, SecurityLayer, TokenVerifier
from service.settings import Settings
from tests.service.layer import Make, granting, layers


@pytest.fixture
def make() -> Iterator[Make]:
    with layers() as make:
        yield make


class TestToken:
    @pytest.fixture
    def token(self) -> tuple[str, dict[str, str]]:
        token_id, text, digest = new_token()
        return text, {token_id: digest}

    @pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Bearer   {} "])
    def test_a_bearer_token_lets_in(self, make: Make, token: tuple[str, dict[str, str]], form: str) -> None:
        text, tokens = token
        caller = make(tokens=tokens)
        assert caller(headers={"authorization": form.format(text)}).status == 200
        assert caller.inner.scopes[0]["state"]["caller"].token_id in tokens

    def test_an_api_key_header_lets_in(self, make: Make, token: tuple[str, dict[str, str]]) -> None:
        text, tokens = token
        assert make(tokens=tokens)(headers={"X-API-Key": text}).status == 200

    def test_nothing_else_does(self, make: Make, token: tuple[str, dict[str, str]]) -> None:
        text, tokens = token
        (digest,) = tokens.values()
        _, other, _ = new_token()
        wrong = (
            text[:-1],
            text + "0",
            other,
            digest,
            "",
            "maze__",
            "maze_x_y",
            "\u00e9",
            "a" * 100_000,
            text.upper(),
        )
        caller = make(tokens=tokens)
        for credentials in wrong:
            answer = caller(headers={"authorization": f"Bearer {credentials}"})
            assert answer.problem["code"] == "unauthorized", credentials
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert text not in answer.body.decode()
        assert caller(headers={"authorization": f"Basic {text}"}).status == 401
        assert caller(path=f"/?token={text}").status == 401
        assert caller.inner.scopes == []

    def test_signs_of_life_and_documentation_need_none(self, make: Make) -> None:
        caller = make(tokens={})
        for path in ("/health/live", "/health/ready", "/docs", "/docs/swagger-ui.css", "/openapi.json"):
            assert caller(path=path).status == 200, path
        for path in (
            "/",
            "/v1/runs",
            "/metrics",
            "/docsx",
            "/health/live/",
            "/problems",
            "/v1/runs/r/compute_action",
        ):
            assert caller(path=path).status == 401, path

    def test_a_token_is_looked_up_once_in_a_while(self) -> None:
        token_id, text, digest = new_token()
        calls: list[str] = []
        find = granting({token_id: digest})
        verifier = TokenVerifier(lambda name: calls.append(name) or find(name), ttl_s=1000)  # type: ignore[func-returns-value]
        headers = {b"x-api-key": text.encode()}

        async def many() -> list[Caller | None]:
            return [await verifier.caller(headers) for _ in range(5)]

        assert asyncio.run(many()) == [Caller(token_id)] * 5
        assert calls == [token_id]

    def test_a_revoked_token_works_no_longer_than_it_is_remembered(self) -> None:
        token_id, text, digest = new_token()
        tokens = {token_id: digest}
        headers = {b"x-api-key": text.encode()}

        async def revoke(ttl_s: float) -> tuple[Caller | None, Caller | None]:
            tokens[token_id] = digest
            verifier = TokenVerifier(granting(tokens), ttl_s=ttl_s)
            before = await verifier.caller(headers)
            del tokens[token_id]
            return before, await verifier.caller(headers)

        assert asyncio.run(revoke(0.0)) == (Caller(token_id), None)
        assert asyncio.run(revoke(1000.0)) == (Caller(token_id), Caller(token_id))

    def test_an_expired_token_is_not_remembered_a_moment_longer(self) -> None:
        token_id, text, digest = new_token()
        left_s = [0.05]

        def find(name: str) -> Grant | None:
            grant = Grant(sha256=digest, caller=Caller(token_id), expires_in_s=left_s[0])
            return grant if left_s[0] > 0 else None

        async def expire() -> list[Caller | None]:
            verifier = TokenVerifier(find, ttl_s=1000)
            headers = {b"x-api-key": text.encode()}
            found = [await verifier.caller(headers), verifier.remembered(headers)[0]]
            assert verifier.holds_s(token_id) <= 0.05
            await asyncio.sleep(0.06)
            left_s[0] = 0.0
            return [*found, verifier.remembered(headers)[0], await verifier.caller(headers)]

        assert asyncio.run(expire()) == [Caller(token_id)] * 2 + [None] * 2

    @pytest.mark.parametrize(("unused_s", "is_noted"), [(None, True), (7200.0, True), (60.0, False)])
    def test_the_use_of_a_token_is_written_down_once_in_a_while(
        self, unused_s: float | None, is_noted: bool
    ) -> None:
        token_id, text, digest = new_token()
        noted: list[str] = []

        async def use(key: str) -> None:
            grant = Grant(sha256=digest, caller=Caller(token_id), unused_s=unused_s)
            verifier = TokenVerifier(lambda _: grant, note_use=noted.append)
            for _ in range(3):
                await verifier.caller({b"x-api-key": key.encode()})

        asyncio.run(use(text[:-1]))
        assert noted == [], "a guess is no use"
        asyncio.run(use(text))
        assert noted == [token_id] * is_noted

    @pytest.mark.parametrize("has_begun", [True, False], ids=["a stream", "a long poll"])
    def test_an_answer_under_way_ends_with_its_token(
        self, make: Make, token: tuple[str, dict[str, str]], has_begun: bool
    ) -> None:
        text, tokens = token
        seen: list[float] = []

        async def endless(scope: Scope, receive: Receive, send: Send) -> None:
            if has_begun:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"data", "more_body": True})
            for turn in range(10):  # as often as it is looked up, it is known
                await asyncio.sleep(0.02)
                seen.append(turn)
            tokens.clear()
            await asyncio.Event().wait()

        caller = make(tokens=tokens)
        layer = SecurityLayer(endless, Settings(auth=True), granting(tokens))
        layer._verifier = TokenVerifier(granting(tokens), ttl_s=0.03)
        caller.layer = layer
        answer = caller(headers={"x-api-key": text})
        assert len(seen) == 10
        assert not caller.sent[-1].get("more_body"), "the answer has no end"
        if has_begun:
            assert (answer.status, answer.body) == (200, b"data")
        else:
            assert answer.problem["code"] == "unauthorized"

    def test_a_database_that_is_away_ends_no_answer(
        self, make: Make, token: tuple[str, dict[str, str]]
    ) -> None:
        text, tokens = token
        looks: list[str] = []
        has_failed = asyncio.Event()

        def find(name: str) -> Grant | None:
            looks.append(name)
            if len(looks) > 1:
                caller.runner.get_loop().call_soon_threadsafe(has_failed.set)
                raise StoreUnavailableError("away")
            return granting(tokens)(name)

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await has_failed.wait()
            await asyncio.sleep(0.05)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"whole"})

        caller = make(tokens=tokens)
        layer = SecurityLayer(slow, Settings(auth=True), find)
        layer._verifier = TokenVerifier(find, ttl_s=0.02)
        caller.layer = layer
        assert caller(headers={"x-api-key": text}).body == b"whole"

    def test_a_database_that_is_away_is_a_503(self, make: Make) -> None:
        def away(_: str) -> Grant | None:
            raise StoreUnavailableError("db.internal is away")

        caller = make(tokens={})
        caller.layer = SecurityLayer(caller.inner, Settings(auth=True), away)
        answer = caller(headers={"x-api-key": new_token()[1]})
        assert answer.problem["code"] == "store_unavailable"
        assert b"db.internal" not in answer.body


class TestProject:
    @pytest.mark.parametrize(
        ("scopes", "project", "expected"),
        [
            ({Right.ADMIN}, "other", "other"),
            ({Right.ADMIN}, "Other!", 400),
            ({Right.RUNS_READ}, "mine", "mine"),
            ({Right.RUNS_READ}, "other", 403),
        ],
    )
    def test_only_an_admin_chooses_another_one(
        self, make: Make, scopes: set[Right], project: str, expected: str | int
    ) -> None:
        token_id, text, digest = new_token()
        caller = make(tokens={})
        grant = Grant(sha256=digest, caller=Caller(token_id, "mine", frozenset(scopes)))
        caller.layer = SecurityLayer(caller.inner, Settings(auth=True), {token_id: grant}.get)
        answer = caller(headers={"x-api-key": text, "x-maze-project": project})
        if isinstance(expected, int):
            assert answer.problem["status"] == expected
            assert caller.inner.scopes == []
        else:
            assert caller.inner.scopes[0]["state"]["caller"].project == expected

    def test_without_tokens_everybody_is_an_admin_of_the_default_one(self, make: Make) -> None:
        caller = make()
        caller()
        caller(kind="websocket")
        assert [scope["state"]["caller"] for scope in caller.inner.scopes] == [Caller()] * 2
        assert Caller().may(Right.POLICIES_PROMOTE)


class TestRate:
    def test_a_bucket_empties_and_fills_again(self) -> None:
        now = [0.0]
        limiter = RateLimiter(2.0, clock=lambda: now[0])
        assert [limiter.take("a") for _ in range(4)] == [0.0] * 4
        assert limiter.take("a") == pytest.approx(0.5)
        assert limiter.take("b") == 0.0
        now[0] = 0.5
        assert limiter.take("a") == 0.0
        assert limiter.take("a") > 0
        now[0] = 1000.0
        assert [limiter.take("a") for _ in range(5)][:4] == [0.0] * 4

    def test_strangers_cannot_fill_the_memory(self) -> None:
        limiter = RateLimiter(1.0)
        for number in range(10_000):
            limiter.take(str(number))
        assert len(limiter._buckets) <= 4096

    def test_too_many_requests_are_told_when_to_come_back(self, make: Make) -> None:
        caller = make(rate_limit_per_s=0.001)
        assert caller().status == 200
        answer = caller()
        assert answer.problem["code"] == "rate_limited"
        assert int(answer.headers["retry-after"]) >= 1
        assert caller(client="192.0.2.2").status == 200
        assert caller(path="/health/live").status == caller(path="/health/ready").status == 200

    def test_guessing_tokens_is_limited_and_a_valid_one_has_a_bucket_of_its_own(self, make: Make) -> None:
        token_id, text, digest = new_token()
        caller = make(tokens={token_id: digest}, rate_limit_per_s=0.001)
        assert [caller(headers={"x-api-key": "guess"}).status for _ in range(2)] == [401, 429]
        assert caller(headers={"x-api-key": text}).status == 200
