"""The one layer around everything: what passes, what is refused with which problem, and what answers carry."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from service.security import HostRule, OriginRule, SecurityLayer
from service.settings import Settings
from tests.service.layer import Make, layers

JSON = {"content-type": "application/json"}


@pytest.fixture
def make() -> Iterator[Make]:
    with layers() as make:
        yield make


class TestHost:
    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "localhost.", "[::1]", "[::1]:8000"],
    )
    def test_loopback_is_served(self, make: Make, host: str) -> None:
        assert make()(headers={"host": host}).status == 200

    @pytest.mark.parametrize(
        "host",
        [
            *("evil.test", "evil.test:8000", "127.0.0.1.evil.test", "localhost.evil.test", "", "10.0.0.1"),
            *("0.0.0.0", "evil.test@localhost", "localhost,evil.test", "[::2]", "x" * 10_000, "local host"),
        ],
    )
    def test_a_name_that_is_not_ours_is_refused_before_anything_runs(self, make: Make, host: str) -> None:
        caller = make()
        for _ in range(2):  # the second time from memory
            assert caller(headers={"host": host}).problem["code"] == "host_not_allowed"
        assert caller.inner.scopes == []

    def test_no_host_is_refused(self, make: Make) -> None:
        assert make()(headers=[("host", "")]).status == 400

    def test_two_hosts_are_refused(self, make: Make) -> None:
        answer = make()(headers=[("host", "localhost"), ("host", "evil.test")])
        assert answer.problem["code"] == "bad_request"

    def test_the_operator_s_names_are_served(self, make: Make) -> None:
        caller = make(allowed_hosts=["maze.example", "*.lab.example"])
        assert caller(headers={"host": "maze.example:443"}).status == 200
        assert caller(headers={"host": "a.lab.example"}).status == 200
        assert caller(headers={"host": "lab.example"}).status == 400
        assert make(allowed_hosts=["*"])(headers={"host": "any.test"}).status == 200

    def test_beyond_loopback_addresses_are_served_and_names_are_not(self) -> None:
        rule = HostRule("0.0.0.0", [])
        rule.check(b"192.168.1.5:8000")
        rule.check(b"[fe80::1]:8000")
        with pytest.raises(Exception, match="not served here"):
            rule.check(b"evil.test")


class TestOrigin:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.test",
            "null",
            "http://127.0.0.1:9999",
            "http://127.0.0.1",
            "https://evil.test:8000",
            "x",
        ],
    )
    def test_a_page_from_elsewhere_cannot_change_anything(self, make: Make, method: str, origin: str) -> None:
        caller = make()
        assert caller(method, headers={"origin": origin}).problem["code"] == "origin_not_allowed"
        assert caller.inner.scopes == []

    @pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "https://127.0.0.1:8000", None])
    def test_our_own_page_and_programs_can(self, make: Make, origin: str | None) -> None:
        assert make()("POST", headers={"origin": origin} if origin else {}).status == 200

    def test_reading_needs_no_origin_but_other_pages_are_not_told_they_may(self, make: Make) -> None:
        answer = make()(headers={"origin": "http://evil.test"})
        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers

    def test_the_operator_s_origins_may_call_and_read(self, make: Make) -> None:
        caller = make(allowed_origins=["https://Board.example/"])
        origin = {"origin": "https://board.example"}
        preflight = caller("OPTIONS", headers=origin | {"access-control-request-method": "POST"})
        assert preflight.status == 204
        assert "POST" in preflight.headers["access-control-allow-methods"]
        for answer in (preflight, caller("POST", headers=origin)):
            assert answer.headers["access-control-allow-origin"] == "https://board.example"
            assert answer.headers["vary"] == "Origin"
        assert caller("POST", headers={"origin": "https://board.example.evil.test"}).status == 403

    def test_a_listed_origin_is_compared_as_a_whole(self) -> None:
        rule = OriginRule(["https://board.example"])
        assert not rule.lists(b"https://board.example:444")
        assert not rule.lists(b"http://board.example")


class TestWebSocket:
    def test_one_of_ours_is_accepted(self, make: Make) -> None:
        caller = make()
        caller(kind="websocket", headers={"origin": "http://127.0.0.1:8000"})
        assert [message["type"] for message in caller.sent] == ["websocket.accept"]

    @pytest.mark.parametrize("headers", [{"origin": "http://evil.test"}, {"host": "evil.test"}])
    def test_one_from_elsewhere_is_closed_before_it_is_open(
        self, make: Make, headers: dict[str, str]
    ) -> None:
        caller = make()
        caller(kind="websocket", headers=headers)
        assert caller.sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        assert caller.inner.scopes == []

    def test_where_the_server_can_the_refusal_is_a_problem(self, make: Make) -> None:
        caller = make(tokens={})
        extensions: dict[str, Any] = {"websocket.http.response": {}}
        answer = caller(kind="websocket", extensions=extensions)
        assert (answer.status, json.loads(answer.body)["code"]) == (401, "unauthorized")


class TestBody:
    def test_one_at_the_limit_passes_and_one_byte_more_does_not(self, make: Make) -> None:
        caller = make(max_body_bytes=100)
        assert caller("POST", headers=JSON | {"content-length": "100"}, body=b"x" * 100).status == 200
        answer = caller("POST", headers=JSON | {"content-length": "101"}, body=b"x" * 101)
        assert answer.problem["code"] == "payload_too_large"
        assert answer.headers["connection"] == "close"
        assert len(caller.inner.scopes) == 1

    @pytest.mark.parametrize("length", ["transfer-encoding", "lie"])
    def test_bytes_are_counted_and_not_believed(self, make: Make, length: str) -> None:
        caller = make(max_body_bytes=100)
        said = {"transfer-encoding": "chunked"} if length == "transfer-encoding" else {"content-length": "10"}
        answer = caller("POST", headers=JSON | said, body=[b"x" * 60, b"x" * 60, b"x" * 60])
        assert answer.problem["code"] == "payload_too_large"
        assert caller.inner.bodies == []

    @pytest.mark.parametrize("length", ["-1", "x", "1_0", "+1", "1.0", "\u00b2"])
    def test_a_length_is_a_number(self, make: Make, length: str) -> None:
        answer = make()("POST", headers=JSON | {"content-length": length})
        assert answer.problem["code"] == "bad_request"

    @pytest.mark.parametrize("length", ["9" * 19, "9" * 5000])
    def test_an_absurd_length_is_too_large(self, make: Make, length: str) -> None:
        assert make()("POST", headers=JSON | {"content-length": length}).status == 413

    @pytest.mark.parametrize(
        "media_type",
        ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/a+json"],
    )
    def test_json_passes(self, make: Make, media_type: str) -> None:
        assert (
            make()("POST", headers={"content-type": media_type, "content-length": "2"}, body=b"{}").status
            == 200
        )

    @pytest.mark.parametrize(
        "media_type",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/json",
            "",
            "application/jsonx",
        ],
    )
    def test_what_a_page_may_send_without_asking_does_not(self, make: Make, media_type: str) -> None:
        answer = make()("POST", headers={"content-type": media_type, "content-length": "2"}, body=b"{}")
        assert answer.problem["code"] == "unsupported_media_type"

    def test_no_content_type_or_a_packed_body_does_not_pass(self, make: Make) -> None:
        assert make()("POST", headers={"content-length": "2"}, body=b"{}").status == 415
        packed = JSON | {"content-encoding": "gzip", "content-length": "2"}
        assert make()("POST", headers=packed, body=b"{}").status == 415

    def test_no_body_needs_no_content_type(self, make: Make) -> None:
        assert make()("POST").status == 200
        assert make()("POST", headers={"content-length": "0"}).status == 200

    def test_a_get_with_a_body_is_limited_too(self, make: Make) -> None:
        caller = make(max_body_bytes=10)
        assert caller("GET", headers=JSON | {"content-length": "11"}, body=b"x" * 11).status == 413


class TestAnswers:
    TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def test_a_trace_is_echoed_and_logged(self, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        caller = make()
        assert caller(headers={"traceparent": self.TRACE}).headers["traceparent"] == self.TRACE
        for harmful in (
            "x",
            self.TRACE + "x",
            self.TRACE.upper(),
            "ff" + self.TRACE[2:],
            "00-" + "0" * 32 + "-1-01",
        ):
            assert "traceparent" not in caller(headers={"traceparent": harmful}).headers
        caller.inner.error = RuntimeError("broken")
        caller(headers={"traceparent": self.TRACE})
        assert self.TRACE in caplog.text

    def test_lines_of_one_name_are_one_list(self, make: Make) -> None:
        caller = make()
        lines = [("prefer", "respond-async"), ("accept", "a/b"), ("prefer", "wait=5"), ("accept", "c/d")]
        assert caller(headers=lines).status == 200
        (scope,) = caller.inner.scopes
        fields = dict(scope["headers"])
        assert len(fields) == len(scope["headers"])
        assert (fields[b"prefer"], fields[b"accept"]) == (b"respond-async, wait=5", b"a/b, c/d")

    @pytest.mark.parametrize("name", ["traceparent", "x-request-id"])
    def test_two_traces_or_ids_are_none(self, make: Make, name: str) -> None:
        other = self.TRACE.replace("b7ad", "a7ad")
        answer = make()(headers=[(name, self.TRACE), (name, other)])
        assert answer.status == 200
        assert answer.headers.get("traceparent") is None
        assert answer.headers["x-request-id"].startswith("req_")

    @pytest.mark.parametrize(
        "name", ["idempotency-key", "last-event-id", "authorization", "content-type", "x-api-key", "origin"]
    )
    def test_a_header_that_decides_is_sent_once(self, make: Make, name: str) -> None:
        assert make()(headers=[(name, "a"), (name, "b")]).problem["code"] == "bad_request"

    def test_every_answer_carries_an_id_of_its_own(self, make: Make) -> None:
        caller = make()
        ids = [caller().headers["x-request-id"] for _ in range(3)]
        assert len(set(ids)) == 3
        assert [scope["state"]["request_id"] for scope in caller.inner.scopes] == ids

    def test_the_client_s_id_is_kept_when_it_is_harmless(self, make: Make) -> None:
        caller = make()
        assert caller(headers={"x-request-id": "a-1.b:c_D"}).headers["x-request-id"] == "a-1.b:c_D"
        for harmful in ("", "a b", "x" * 65, "a\r\nb", "<b>", "\u00e4"):
            assert caller(headers={"x-request-id": harmful}).headers["x-request-id"].startswith("req_")

    def test_an_application_s_own_message_is_not_changed(self, make: Make) -> None:
        caller = make()
        for _ in range(2):
            assert list(caller().headers) == ["x-request-id", "x-content-type-options"]
        assert caller.inner.start["headers"] == []

    def test_a_mistake_below_is_a_500_that_tells_nothing(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        caller = make()
        caller.inner.error = RuntimeError("secret")
        answer = caller()
        assert answer.problem["code"] == "internal"
        assert b"secret" not in answer.body
        assert answer.headers["x-request-id"] in caplog.text

    def test_an_answer_that_has_begun_is_cut(self, make: Make) -> None:
        caller = make()
        caller.inner.error, caller.inner.fails_after_start = RuntimeError("late"), True
        with pytest.raises(RuntimeError, match="late"):
            caller()

    def test_answers_are_told_to_the_metrics(self, make: Make) -> None:
        seen: list[tuple[int, bool]] = []
        caller = make()
        layer = SecurityLayer(
            caller.inner,
            Settings(auth=False),
            {}.get,
            lambda scope, status, seconds: seen.append((status, seconds > 0)),
        )
        caller.layer = layer
        caller()
        caller(headers={"host": "evil.test"})
        assert seen == [(200, True), (400, True)]
