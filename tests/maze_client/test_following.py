"""What a client decides: when to try again, and how it goes on behind what broke. Nothing is sent, nobody waits."""

import asyncio
import itertools

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_client import Client, ConflictError, ConnectionFailed, ProblemError, WaitTimeout
from maze_client.caller import FOLLOWING_PATIENCE
from maze_client.following import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    LONGEST_TOLD_S,
    SILENCE_S,
    EventDecoder,
    recent_seq,
    retry_in_s,
)
from tests.maze_client.answering import RUN, SWEEP, Answers, event, problem, stream

GONE = httpx.ConnectError("refused", request=httpx.Request("GET", "http://host/v1/runs"))


def client(*answers, **settings):
    answering = Answers(*answers)
    return Client("http://host", transport=answering, **settings), answering


def a_run(*answers, **settings):
    made, answering = client(RUN, *answers, **settings)
    return made.run("run_1"), answering


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_passes_is_tried_again(status):
    assert retry_in_s(httpx.Response(status), 0, 1) is not None


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500])
def test_what_does_not_pass_is_not_tried_again(status):
    assert retry_in_s(httpx.Response(status), 0, 1) is None


def test_the_service_says_better_whether_to_try_again():
    assert retry_in_s(httpx.Response(503, headers={"x-should-retry": "false"}), 0, 1) is None
    assert retry_in_s(httpx.Response(409, headers={"x-should-retry": "true"}), 0, 1) is not None


@given(st.integers(0, 60))
def test_waits_grow_to_a_bound_and_are_never_all_alike(tries):
    longest = min(FIRST_RETRY_S * 2**tries, LONGEST_RETRY_S)
    waits = {retry_in_s(GONE, tries, 100) for _ in range(8)}
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert len(waits) > 1


def test_nobody_comes_before_the_time_that_was_told_and_nobody_waits_for_too_long_a_one():
    told = {seconds: httpx.Response(503, headers={"retry-after": f"{seconds:g}"}) for seconds in (7, 61)}
    assert retry_in_s(told[7], 0, 1) > 7
    assert told[61].headers["retry-after"] == "61"
    assert LONGEST_TOLD_S < 61
    assert retry_in_s(told[61], 0, 1) is None


def test_a_submission_that_is_sent_again_has_one_key_and_the_next_one_another(clock):
    made, answering = client(GONE, problem(503, "capacity", {"retry-after": "3"}), RUN)
    assert made.train(algorithm="ppo").id == "run_1"
    made.train(algorithm="ppo")
    keys = [request.headers["idempotency-key"] for request in answering.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len(clock.slept) == 2
    assert clock.slept[1] > 3


def test_a_conflict_is_raised_at_once(clock):
    run, answering = a_run(problem(409, "state_conflict", {"x-should-retry": "false"}))
    with pytest.raises(ConflictError, match="What happened"):
        run.resume()
    assert (len(answering.requests), clock.slept) == (2, [])


def test_a_resumption_whose_answer_was_lost_is_done_and_one_of_a_run_that_is_still_paused_is_an_error(clock):
    conflict = problem(409, "state_conflict")
    run, _ = a_run(httpx.ReadError("reset"), conflict, {**RUN, "state": "queued"})
    assert run.resume() is run
    assert run.state == "queued"
    paused, _ = a_run(httpx.ReadError("reset"), conflict, {**RUN, "state": "paused"})
    with pytest.raises(ConflictError):
        paused.resume()


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 5000, 1_000_003])
def test_who_waits_begins_near_the_last_event(count):
    asked = []

    async def page(after):
        asked.append(after)
        return [after + 1] if after < count else []

    since = asyncio.run(recent_seq(page))
    assert max(count - 1024, 0) <= since <= max(count - 1, 0)
    assert len(asked) <= 2 + 2 * max(0, (count // 1024).bit_length())


def test_a_service_that_is_not_there_is_given_up_with_its_address(clock):
    made, answering = client(GONE, max_retries=3)
    with pytest.raises(
        ConnectionFailed, match=r"http://host/v1/runs/run_1 was not reached: refused.*MAZE_URL"
    ):
        made.run("run_1")
    assert len(answering.requests) == 4


def test_a_deletion_whose_answer_was_lost_is_done_and_one_of_no_run_is_an_error(clock):
    run, _ = a_run(httpx.ReadError("reset"), problem(404, "not_found"))
    assert run.delete() is None
    with pytest.raises(ProblemError):
        run.delete()


@given(st.lists(st.integers(1, 400), max_size=20))
def test_events_are_read_however_their_bytes_were_cut(cuts):
    whole = b": still here\n" + event(1) + b": still here\n" + event(2, "end")
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    decoder = EventDecoder()
    read = [found for a, b in itertools.pairwise(places) for found in decoder.feed(whole[a:b])]
    assert [(found.seq, found.type, found.data["text"]) for found in read] == [
        (1, "progress", "a\u2028b"),
        (2, "end", "a\u2028b"),
    ]


def test_events_go_on_behind_the_last_whole_one_when_the_stream_breaks(clock):
    cut = event(3)[:30]
    run, answering = a_run(
        stream(event(1), event(2), cut, breaks=True), GONE, stream(event(3)), stream(event(4, "end"))
    )
    assert [found.seq for found in run.events()] == [1, 2, 3, 4]
    assert [request.headers["last-event-id"] for request in answering.requests[1:]] == ["0", "2", "2", "3"]


def test_events_of_an_ended_run_are_no_more_when_all_were_seen(clock):
    run, _ = a_run(httpx.Response(204))
    assert list(run.events(after=9)) == []


def test_events_are_given_up_when_the_service_stays_away(clock):
    run, answering = a_run(stream(event(1)), GONE, max_retries=1)
    with pytest.raises(ConnectionFailed):
        list(run.events())
    assert len(answering.requests) == 2 + FOLLOWING_PATIENCE


@pytest.mark.parametrize("held_back", [[httpx.Response(200, json={})], [stream()] * 3])
def test_events_are_polled_where_something_holds_streams_back(clock, held_back):
    first = {"data": [{"seq": 1, "at": RUN["created_at"], "type": "state", "data": {}}]}
    last = {"data": [{"seq": 2, "at": RUN["created_at"], "type": "end", "data": {}}]}
    run, answering = a_run(*held_back, first, {"data": []}, last)
    assert [found.seq for found in run.events(types=["state"])] == [1, 2]
    asked = [request.url.params for request in answering.requests[-3:]]
    assert [params["after"] for params in asked] == ["0", "1", "1"]
    assert asked[0].get_list("types") == ["end", "state"]


def test_a_wait_ends_when_its_time_is_up_and_the_run_goes_on(clock):
    made = Client("http://host", transport=httpx.MockTransport(still_running))
    with pytest.raises(WaitTimeout, match="run_1 is running after 5 s"):
        made.run("run_1").wait(5)
    assert clock.now == pytest.approx(5)


def test_a_wait_streams_until_its_time_is_so_near_that_a_silent_stream_would_pass_it(clock):
    streams = []

    def answer(request):
        if "text/event-stream" not in request.headers["accept"]:
            return still_running(request)
        streams.append(clock.now)
        clock.now += 15
        return stream(b": still here\n")

    run = Client("http://host", transport=httpx.MockTransport(answer)).run("run_1")
    with pytest.raises(WaitTimeout):
        run.wait(100)
    assert streams[0] == 0
    assert streams[-1] < 100 - SILENCE_S < streams[-1] + 30
    assert clock.now == pytest.approx(100)


def still_running(request):
    is_run = request.url.path == "/v1/runs/run_1"
    return httpx.Response(200, json=RUN if is_run else {"data": []})


def test_a_log_is_followed_to_what_was_written_before_the_end(clock):
    run, answering = a_run(RUN, lines(1, 2), RUN, lines(), {**RUN, "state": "succeeded"}, lines(3))
    assert [found.seq for found in run.logs(follow=True)] == [1, 2, 3]
    asked = [request for request in answering.requests if request.url.path.endswith("/logs")]
    assert [request.url.params["after"] for request in asked] == ["0", "2", "2"]


def lines(*seqs):
    line = {"at": RUN["created_at"], "level": "info", "message": "…"}
    return {"data": [{**line, "seq": seq} for seq in seqs], "has_more": False}


AWAY = [GONE] * 8
"""A restart of the service: so many tries find nobody, with waits of half a minute in all."""


def test_a_log_is_followed_through_a_restart_by_a_client_of_little_patience(clock):
    ended = {**RUN, "state": "succeeded"}
    run, answering = a_run(RUN, lines(1), *AWAY, ended, *AWAY, lines(2), max_retries=2)
    assert [found.seq for found in run.logs(follow=True)] == [1, 2]
    assert len(answering.requests) == 1 + 4 + 2 * len(AWAY)


def test_a_wait_looks_through_restarts_with_little_patience(clock):
    none, ended = {"data": []}, {**RUN, "state": "succeeded"}
    run, _ = a_run(*AWAY, RUN, *AWAY, none, *AWAY, RUN, stream(event(1, "end")), *AWAY, ended, max_retries=2)
    assert run.wait() is run
    assert run.state == "succeeded"


def test_a_wait_for_a_sweep_looks_through_restarts_with_little_patience(clock):
    made, _ = client(SWEEP, *AWAY, SWEEP, *AWAY, {**SWEEP, "state": "succeeded"}, max_retries=2)
    assert made.get_sweep("sweep_1").wait().state == "succeeded"


def test_what_does_not_follow_a_run_has_the_patience_that_was_given(clock):
    run, answering = a_run(GONE, max_retries=2)
    for ask in (run.refresh, lambda: list(run.logs()), run.checkpoints):
        answering.requests.clear()
        with pytest.raises(ConnectionFailed):
            ask()
        assert len(answering.requests) == 3
