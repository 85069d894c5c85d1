"""What is sent again and counts once, and what is no answer: each an error of this package, in plain words."""

import ast
import asyncio
import base64
import json
from datetime import datetime
from importlib import resources

import httpx
import numpy as np
import pytest

from maze_client import (
    AsyncClient,
    ChangedError,
    Client,
    ConflictError,
    InvalidRequestError,
    MazeClientError,
    ProblemError,
)
from tests.maze_client.answering import RUN, SWEEP, Answers, problem, stream

LOST = httpx.ReadError("connection reset", request=httpx.Request("POST", "http://host"))
CONFLICT = problem(409, "state_conflict")
HOOK = {"id": "hook_1", "url": "https://a.b", "types": ["run.failed"], "created_at": RUN["created_at"]}


def client(*answers, **settings):
    answering = Answers(*answers)
    return Client("http://host", transport=answering, **settings), answering


@pytest.mark.parametrize(
    ("verb", "there", "elsewhere"),
    [("cancel", "cancelled", "succeeded"), ("pause", "stopping", "failed"), ("resume", "queued", "paused")],
)
def test_a_run_is_where_it_was_wanted_when_only_the_answer_was_lost(clock, verb, there, elsewhere):
    made, _ = client(RUN, LOST, CONFLICT, {**RUN, "state": there})
    run = made.run("run_1")
    assert getattr(run, verb)() is run
    assert run.state == there
    made, _ = client(RUN, LOST, CONFLICT, {**RUN, "state": elsewhere})
    with pytest.raises(ConflictError):
        getattr(made.run("run_1"), verb)()
    made, answering = client(RUN, CONFLICT, {**RUN, "state": there})
    with pytest.raises(ConflictError):
        getattr(made.run("run_1"), verb)()
    assert len(answering.requests) == 2


@pytest.mark.parametrize(
    ("verb", "there", "elsewhere"),
    [
        ("pause", "paused", "stopping"),
        ("resume", "succeeded", "paused"),
        ("stop", "succeeded", "running"),
        ("cancel", "cancelled", "succeeded"),
    ],
)
def test_a_sweep_is_where_it_was_wanted_when_only_the_answer_was_lost(clock, verb, there, elsewhere):
    made, _ = client(SWEEP, LOST, CONFLICT, {**SWEEP, "state": there})
    sweep = made.get_sweep("sweep_1")
    assert getattr(sweep, verb)() is sweep
    assert sweep.state == there
    made, _ = client(SWEEP, LOST, CONFLICT, {**SWEEP, "state": elsewhere})
    with pytest.raises(ConflictError):
        getattr(made.get_sweep("sweep_1"), verb)()


def test_an_edit_whose_answer_was_lost_is_done_and_another_ones_is_not(clock):
    changed = problem(412, "revision_conflict")
    edited = {**RUN, "notes": "mine", "labels": {"kept": "1", "new": "2"}, "revision": 5}
    edit = {"notes": "mine", "labels": {"new": "2", "old": None}}
    made, _ = client(RUN, LOST, changed, edited)
    assert made.run("run_1").edit(**edit, if_revision=4).revision == 5
    for other in ({"notes": "theirs"}, {"labels": {"new": "3"}}, {"labels": {"new": "2", "old": "1"}}):
        made, _ = client(RUN, LOST, changed, {**edited, **other})
        with pytest.raises(ChangedError):
            made.run("run_1").edit(**edit, if_revision=4)


@pytest.mark.parametrize(
    ("action", "done", "refused"),
    [
        ("cancel", ("state_conflict", "cancelled"), ("state_conflict", "succeeded")),
        ("resume", ("state_conflict", "running"), ("state_conflict", "cancelled")),
        ("delete", ("not_found", None), ("state_conflict", "running")),
    ],
)
def test_what_a_lost_try_did_to_many_runs_is_no_error(clock, action, done, refused):
    items = [
        {"id": f"run_{code}_{state}", "state": state, "error": {"code": code, "message": "…"}}
        for code, state in (done, refused)
    ]
    page = {"data": items, "has_more": False, "next_cursor": None}
    made, _ = client(LOST, page)
    assert [each.error is None for each in made.bulk(action, ids=["run_1", "run_2"])] == [True, False]
    made, _ = client(page)
    assert not any(each.error is None for each in made.bulk(action, ids=["run_1", "run_2"]))


def test_an_ask_is_sent_again_with_the_same_key_and_another_one_with_another(clock):
    trial = {"trial": 0, "choices": {"algorithm.lr": 0.1}, "value": None, "runs": []}
    made, answering = client(SWEEP, LOST, {"data": [trial]})
    sweep = made.get_sweep("sweep_1")
    for _ in range(2):
        assert [one.trial for one in sweep.ask()] == [0]
    keys = [request.headers["idempotency-key"] for request in answering.requests[1:]]
    assert keys[0] == keys[1] != keys[2]


def test_a_webhook_is_sent_again_with_the_secret_of_the_first_try(clock):
    made, answering = client(LOST, HOOK)
    for _ in range(2):
        made.webhooks.create("https://a.b")
    first, again, other = (json.loads(request.content)["secret"] for request in answering.requests)
    assert first == again != other
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


NAMES = ["", ".", "..", "pole/aliases/other", "a\nb", "\ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_would_lead_elsewhere_is_not_sent(name):
    made, answering = client(RUN, SWEEP)
    run, sweep = made.run("run_1"), made.get_sweep("sweep_1")
    run.__dict__["id"] = sweep.__dict__["id"] = name
    answering.requests.clear()
    asks = [
        lambda: made.run(name),
        lambda: made.get_sweep(name),
        lambda: made.put(name),
        lambda: made.config_module(name, "ppo"),
        lambda: made.config_schema("algorithm", name),
        lambda: made.policies.get(name),
        lambda: made.policies.delete(name),
        lambda: made.policies.alias("pole", name),
        lambda: made.policies.rollback("pole", name),
        lambda: made.policies.delete_alias("pole", name),
        lambda: list(made.policies.history(name, "a")),
        lambda: made.policies.act(name, [0]),
        lambda: made.fork(name),
        lambda: made.webhooks.edit(name, is_enabled=True),
        lambda: made.webhooks.delete(name),
        lambda: made.webhooks.test(name),
        lambda: list(made.webhooks.deliveries(name)),
        lambda: made.tokens.revoke(name),
        lambda: made.projects.put(name),
        lambda: made.projects.get(name),
        run.delete,
        run.cancel,
        lambda: list(run.events()),
        sweep.delete,
    ]
    for ask in asks:
        with pytest.raises(MazeClientError, match="names nothing under /v1/"):
            ask()
    assert answering.requests == []


def test_no_path_is_put_together_by_hand():
    for module in ("caller", "client", "following", "policies", "run", "sharing", "sweep", "webhooks"):
        source = resources.files("maze_client").joinpath(f"{module}.py").read_text()
        texts = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr))
        parts = [part.value for text in texts for part in text.values if isinstance(part, ast.Constant)]
        assert [part for part in parts if "/" in part.replace("://", "")] == []


def test_every_part_of_a_path_is_one_name_and_environments_may_have_slashes():
    made, answering = client({"id": "ALE/Pong-v5", "source": "gymnasium", "is_available": True})
    made.environment("ALE/Pong-v5")
    for ask in (lambda: made.environment("../runs"), lambda: made.environment("")):
        with pytest.raises(MazeClientError):
            ask()
    made.policies._transport.http.base_url = "http://host/under/"
    with pytest.raises(MazeClientError):
        made.policies.get("a?b#c d%2F")  # the answer is none of a policy
    paths = [request.url.raw_path for request in answering.requests]
    assert paths == [b"/v1/environments/ALE/Pong-v5", b"/under/v1/policies/a%3Fb%23c%20d%252F"]


WRONG = {
    "a page of HTML": httpx.Response(200, html="<h1>Welcome</h1>"),
    "nothing": httpx.Response(204),
    "a list": httpx.Response(200, json=[1]),
    "a list of pairs": httpx.Response(200, json=[["id", 1]]),
    "null": httpx.Response(200, json=None),
    "a number": httpx.Response(200, json=3),
    "an object of something else": httpx.Response(200, json={"hello": "world"}),
    "members of other types": httpx.Response(200, json={**RUN, "data": 3, "state": 7}),
    "broken compression": httpx.Response(
        200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"x")
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_answer_of_somebody_else_is_an_error_that_says_so(clock, tmp_path, wrong):
    asks = [
        lambda made, run: made.run("run_1"),
        lambda made, run: list(made.runs()),
        lambda made, run: made.train(),
        lambda made, run: list(made.bulk("cancel", ids=["run_1"])),
        lambda made, run: made.config_groups(),
        lambda made, run: made.health(),
        lambda made, run: made.import_checkpoint(__file__),
        lambda made, run: made.policies.rollback("a", "b"),
        lambda made, run: run.wait(),
        lambda made, run: list(run.logs(follow=True)),
        lambda made, run: run.act([0]),
        lambda made, run: run.config(),
        lambda made, run: run.download_video(0, tmp_path / "a.mp4"),
        lambda made, run: run.download_trajectory(0, tmp_path / "a.safetensors"),
    ]
    for ask in asks:
        made, _ = client(RUN, wrong)
        run = made.run("run_1")
        with pytest.raises(MazeClientError) as raised:
            ask(made, run)
        assert str(raised.value)
    if "html" in wrong.headers.get("content-type", ""):
        with pytest.raises(
            MazeClientError, match=r"http://host/v1/runs/run_1 answered HTTP 200 and '<h1>Wel.*MAZE_URL"
        ):
            made.run("run_1")


def test_an_event_that_is_none_is_an_error():
    for data in (b"data: {nonsense\n\n", b"data: {}\n\n"):
        made, _ = client(RUN, stream(data))
        with pytest.raises(MazeClientError, match="no Event"):
            list(made.run("run_1").events())


@pytest.mark.parametrize(
    "errors",
    [None, "text", 3, {"a": 1}, ["text"], [{"loc": ["body"], "msg": "m"}], [{"code": 1, "message": None}]],
)
def test_a_problem_of_an_unexpected_shape_keeps_its_detail(errors):
    made, _ = client(problem(422, "invalid_request", errors=errors, request_id=7))
    with pytest.raises(
        InvalidRequestError, match=r"^What happened\. \(invalid_request, HTTP 422, 7\)"
    ) as raised:
        made.train()
    assert all(str(part) in str(raised.value) for part in (errors if isinstance(errors, list) else []))
    made, _ = client(httpx.Response(400, json={"title": "Bad", "detail": None}))
    with pytest.raises(ProblemError, match=r"^Bad"):
        made.train()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host:nonsense", "port"),
        ("ftp://host", "http or https"),
        ("http://", "host"),
        ("http://a\x00b", "'"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(url, said):
    with pytest.raises(MazeClientError, match=rf"no address of a service.*{said}.*MAZE_URL"):
        Client(url)


@pytest.mark.parametrize(
    ("token", "said"), [("maze_1\n", r"'\\n' at place 6"), ("mäze", "'ä' at place 1"), ("a b", "' '")]
)
def test_a_token_that_no_header_can_carry_is_refused_with_the_place(token, said):
    with pytest.raises(MazeClientError, match=f"The token has {said}"):
        Client("http://host", token)


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), np.array([1.0, -np.inf])])
def test_a_number_that_is_not_finite_is_refused_with_its_place(value):
    made, answering = client(RUN)
    with pytest.raises(MazeClientError, match=r"^overrides\.b(\.1)?: (nan|inf|-inf) is no number that JSON"):
        made.train(overrides={"a": [1.0], "b": value})
    assert answering.requests == []


def test_a_closed_client_says_that_it_is_closed():
    made, _ = client(RUN)
    run = made.run("run_1")
    made.close()
    for ask in (run.refresh, lambda: list(run.events()), lambda: made.run("run_1")):
        with pytest.raises(MazeClientError, match="This client is closed"):
            ask()

    async def story():
        async with AsyncClient("http://host", transport=Answers(RUN)) as theirs:
            run = await theirs.run("run_1")
        with pytest.raises(MazeClientError, match="This client is closed"):
            await run.refresh()

    asyncio.run(story())


def test_what_cannot_be_sent_at_all_is_an_error_of_this_package():
    made, _ = client(RUN)
    with pytest.raises(MazeClientError, match="cannot be sent"):
        list(made.runs(name="\ud800"))


def test_a_time_without_a_zone_is_refused_with_the_way_out():
    made, answering = client({"data": [], "has_more": False})
    for name in ("created_after", "created_before"):
        with pytest.raises(
            MazeClientError, match=rf"{name}: 2020-01-01 00:00:00 has no time zone.*astimezone"
        ):
            list(made.runs(**{name: datetime(2020, 1, 1)}))  # noqa: DTZ001
    assert answering.requests == []


def test_members_of_a_newer_service_and_those_that_an_older_one_lacks_are_no_matter():
    least = {name: RUN[name] for name in ("id", "kind", "state", "labels", "progress", "created_at")}
    made, _ = client({**least, "tomorrow": {"a": [1]}, "progress": {"tomorrow": 1}})
    run = made.run("run_1")
    assert (run.state, run.best, run.name, run.progress.epoch) == ("running", None, None, None)
    page = {"data": [{**SWEEP, "tomorrow": 1}], "tomorrow": 1}  # and no has_more
    made, _ = client(page)
    assert [sweep.best for sweep in made.sweeps()] == [None]
