"""What is said and understood: arguments as JSON has them, answers as types, errors in plain words."""

import json
import math
import sys

import httpx
import msgspec
import numpy as np
import pytest

from maze_client import Client, ConnectionFailed, MazeClientError, ProblemError, RunFailed
from maze_client.answers import Metric, Metrics, RunFacts, read
from maze_client.progress import line, shown
from tests.maze_client.answering import RUN, Answers, problem

FAILED = {
    **RUN,
    "state": "failed",
    "error": {"code": "exception", "message": "ValueError: no", "exit_code": 1},
}
POINTS = [Metric(name="loss", epoch=epoch, step=8 * epoch, value=0.5) for epoch in (1, 2)]


def asked(answer, **settings):
    answering = Answers(answer)
    return Client(transport=answering, **settings), answering


def test_the_address_and_the_token_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MAZE_URL", "example.org:8000")
    monkeypatch.setenv("MAZE_TOKEN", "maze_1_2")
    client, answering = asked(RUN)
    client.run("run_1")
    (request,) = answering.requests
    assert str(request.url) == "http://example.org:8000/v1/runs/run_1"
    assert request.headers["authorization"] == "Bearer maze_1_2"


def test_what_is_given_wins_over_the_environment_and_no_token_sends_none(monkeypatch):
    monkeypatch.setenv("MAZE_URL", "example.org")
    monkeypatch.delenv("MAZE_TOKEN", raising=False)
    client, answering = asked(RUN, base_url="https://host")
    client.run("run_1")
    assert answering.requests[0].url.host == "host"
    assert "authorization" not in answering.requests[0].headers


def test_observations_that_are_arrays_travel_as_their_bytes_and_others_as_json():
    client, answering = asked({**RUN, "actions": [[0.5]]})
    run, camera = client.run("run_1"), np.arange(6, dtype=np.uint8).reshape(2, 3)
    run.compute_actions([{"camera": camera.T, 7: np.float32(0.5)}], actor_id=(0, 1))
    run.compute_actions([{"camera": [[1]], 7: np.float32(0.5), "odd": np.array([1.0], ">f4")}])
    packed, plain = answering.requests[1:]
    assert packed.headers["content-type"] == "application/msgpack"
    leaf = {"data": bytes([0, 3, 1, 4, 2, 5]), "dtype": "uint8", "shape": [3, 2]}
    said = {"observations": [{"camera": leaf, "7": 0.5}], "actor_id": [0, 1]}
    assert msgspec.msgpack.decode(packed.content) == said
    assert plain.headers["content-type"] == "application/json"
    assert json.loads(plain.content) == {"observations": [{"camera": [[1]], "7": 0.5, "odd": [1.0]}]}


def test_arrays_and_runs_travel_as_json():
    client, answering = asked(RUN)
    run = client.run("run_1")
    client.rollout(run=run, overrides={"initial.run": run, "seeds": np.arange(2)})
    assert json.loads(answering.requests[1].content) == {
        "run": "run_1",
        "overrides": {"initial.run": "run_1", "seeds": [0, 1]},
    }


def test_an_object_of_python_is_refused_with_its_place_and_the_way_out():
    client, answering = asked(RUN)
    with pytest.raises(MazeClientError, match=r"^model\.networks\.0: object objects do not travel.*_target_"):
        client.train(model={"networks": [object()]})
    assert answering.requests == []


def test_filters_are_query_parameters():
    client, answering = asked({"data": [RUN], "has_more": False})
    created = read(RUN, RunFacts).created_at
    (run,) = client.runs(kind="train", labels={"a": "1", "b": "2"}, created_after=created)
    params = answering.requests[0].url.params
    assert (run.id, params["kind"], params.get_list("label")) == ("run_1", "train", ["a=1", "b=2"])
    assert params["created_after"] == "2026-11-22T11:02:03.913000+00:00"


def test_a_list_is_read_to_its_last_page():
    pages = [{"data": [RUN], "has_more": True, "next_cursor": "c"}, {"data": [RUN], "has_more": False}]
    answering = Answers(*pages)
    assert len(list(Client(transport=answering).runs())) == 2
    assert [request.url.params.get("cursor") for request in answering.requests] == [None, "c"]


def test_a_run_shows_its_facts_and_nobody_changes_them():
    client, _ = asked(RUN)
    run = client.run("run_1")
    assert repr(run) == "<run_1 train running epoch=1/4>"
    assert math.isnan(run.latest_metrics["loss"])
    assert run.created_at.utcoffset() is not None
    with pytest.raises(AttributeError):
        run.state = "succeeded"


def test_a_failed_run_is_raised_with_its_error_unless_it_is_not_to_be_checked():
    client, _ = asked(FAILED)
    run = client.run("run_1")
    with pytest.raises(RunFailed, match="train run_1 failed: exception: ValueError: no") as raised:
        run.wait()
    assert raised.value.run is run
    assert run.wait(check=False).error.code == "exception"


def test_a_problem_says_where_what_and_the_way_out():
    errors = [
        {"pointer": "/algorithm", "code": "x", "message": "No such module.", "allowed": ["a2c", "ppo"]},
        {"parameter": "limit", "code": "y", "message": "Too large.", "did_you_mean": "9"},
    ]
    client, _ = asked(problem(422, "invalid_request", request_id="req_1", errors=errors))
    with pytest.raises(ProblemError) as raised:
        client.train()
    assert str(raised.value).splitlines() == [
        "What happened. (invalid_request, HTTP 422, req_1)",
        "  /algorithm: No such module. Allowed: a2c, ppo.",
        "  limit: Too large. Did you mean '9'?",
    ]


def test_an_answer_of_somebody_in_between_is_an_error_with_its_words():
    client, _ = asked(httpx.Response(502, html="<h1>Bad gateway</h1>"), max_retries=0)
    with pytest.raises(ProblemError, match=r"<h1>Bad gateway</h1> \(http_502, HTTP 502\)"):
        client.environments()


def test_a_service_that_is_not_ready_says_so_and_one_that_is_away_is_an_error():
    checks = {"database": {"status": "failed"}}
    client, answering = asked(problem(503, "not_ready", checks=checks))
    assert (client.health().is_ready, client.health().checks) == (False, checks)
    assert len(answering.requests) == 2
    client, _ = asked(httpx.ConnectError("refused", request=httpx.Request("GET", "http://host")))
    with pytest.raises(ConnectionFailed):
        client.health()


def test_metrics_are_a_table_of_pandas():
    pandas = pytest.importorskip("pandas", reason="the client works without pandas")
    table = Metrics(POINTS).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["name", "epoch", "step", "value", "at"]
    assert table.epoch.tolist() == [1, 2]


def test_metrics_are_a_table_of_polars():
    pytest.importorskip("polars", reason="the client works without polars")
    assert Metrics(POINTS).to_polars()["step"].to_list() == [8, 16]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_without_its_library_says_what_to_install(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MazeClientError, match=f"pip install {library}"):
        getattr(Metrics(POINTS), f"to_{library}")()


def test_progress_is_a_line_of_what_is_known():
    queued = {"state": "queued", "name": "first", "queue": {"ahead": 2, "waits_for": "turn"}, "progress": {}}
    assert line(read({**RUN, **queued}, RunFacts)) == "first  queued  2 ahead, waits for turn"
    best = {"best": {"metric": "eval/mean_return", "value": 51.0, "checkpoint": "c"}}
    assert line(read({**RUN, **best}, RunFacts)) == (
        "run_1  running  [======                  ] 25%  epoch 1/4  eval/mean_return 51"
    )


def test_a_name_does_not_steer_the_terminal():
    named = read({**RUN, "name": "a\x1b[2J\nb", "progress": {}}, RunFacts)
    assert line(named) == "a?[2J?b  running"


def test_nothing_is_shown_where_standard_error_is_no_terminal():
    assert shown(True) is None
    assert shown(print) is print
