"""Requests that arrive together share a forward, and no answer depends on the company it had."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maze_core.agent import load_agent
from maze_core.types import Action, ActorID
from service.domain.errors import AgentGoneError, CapacityError
from service.metrics import ActionMetrics
from service.problems import Problem
from service.serving.batching import Batcher, Call, Extras, Job, QueueLimits, Spent, action_rows
from service.serving.observations import ObservationReader
from tests.service.serving.asgi_client import Client
from tests.service.serving.checkpoints import CARTPOLE, make_checkpoint, sample_batch

ACTOR = ActorID(0, 0)


class RecordingAgent:
    """Acts like the real one, and keeps every call; a row of nines makes a forward fail."""

    def __init__(self) -> None:
        self.agent = load_agent(make_checkpoint())
        self.calls: list[Call] = []
        self.gate: asyncio.Event | None = None
        self.reader = ObservationReader(self.agent, ACTOR)

    def act(self, call: Call) -> Action:
        self.calls.append(call)
        if (call.observations["observation"] == 9.0).all(axis=1).any():
            raise ArithmeticError("nines")
        return self.agent.compute_actions(
            call.observations,
            actor_id=call.actor,
            deterministic=call.deterministic,
            rng=np.random.default_rng(call.seed),
        )

    async def act_async(self, call: Call) -> Action:
        if self.gate is not None:
            await self.gate.wait()
        return self.act(call)

    @property
    def sizes(self) -> list[int]:
        return [len(call.observations["observation"]) for call in self.calls]


@pytest.fixture
def acting() -> RecordingAgent:
    return RecordingAgent()


@pytest.fixture(params=["on the loop", "elsewhere"])
def batcher(request: pytest.FixtureRequest, acting: RecordingAgent) -> Batcher:
    act = acting.act if request.param == "on the loop" else None
    return Batcher(act, acting.act_async, ActionMetrics())


def job(acting: RecordingAgent, row: Any, **fields: Any) -> Job:
    values = {"deterministic": True, "seed": None} | fields
    future = asyncio.get_running_loop().create_future()
    return Job(reader=acting.reader, rows=[row], reply=future, **values)


ROWS = [[0.1 * i, 0.2, -0.01 * i, 0.3] for i in range(20)]


def test_jobs_of_one_turn_are_one_forward(acting: RecordingAgent, batcher: Batcher) -> None:
    async def scenario() -> list[Any]:
        jobs = [job(acting, row) for row in ROWS]
        for one in jobs:
            batcher.submit(one)
        return [await one.reply for one in jobs]

    actions = asyncio.run(scenario())
    assert acting.sizes == [20]
    alone = [load_agent(make_checkpoint()).compute_action(row)["action"] for row in ROWS]
    assert actions == [[action] for action in alone]


def test_a_lonely_client_does_not_wait_for_the_turn_to_end(acting: RecordingAgent) -> None:
    async def scenario() -> None:
        batcher = Batcher(acting.act, acting.act_async, ActionMetrics())
        batcher.submit(first := job(acting, ROWS[0]))
        await first.reply
        await asyncio.sleep(0)
        batcher.submit(second := job(acting, ROWS[1]))
        assert second.reply.done()
        others = [job(acting, row) for row in ROWS[2:]]
        for one in others:
            batcher.submit(one)
            assert not one.reply.done()
        await asyncio.gather(*(one.reply for one in others))

    asyncio.run(scenario())
    assert acting.sizes == [1, 1, 18]


def test_modes_are_computed_apart(acting: RecordingAgent, batcher: Batcher) -> None:
    async def scenario() -> None:
        jobs = [
            job(acting, ROWS[0]),
            job(acting, ROWS[1], deterministic=False),
            job(acting, ROWS[2]),
            job(acting, ROWS[3], deterministic=False),
        ]
        for one in jobs:
            batcher.submit(one)
        await asyncio.gather(*(one.reply for one in jobs))

    asyncio.run(scenario())
    assert [(call.deterministic, size) for call, size in zip(acting.calls, acting.sizes, strict=True)] == [
        (True, 2),
        (False, 2),
    ]


def test_a_seeded_random_job_is_computed_alone(acting: RecordingAgent, batcher: Batcher) -> None:
    async def scenario() -> None:
        seeded = [job(acting, row, deterministic=False, seed=1) for row in ROWS[:2]]
        unseeded = [job(acting, row, deterministic=False) for row in ROWS[2:4]]
        jobs = [seeded[0], unseeded[0], seeded[1], unseeded[1]]
        for one in jobs:
            batcher.submit(one)
        await asyncio.gather(*(one.reply for one in jobs))

    asyncio.run(scenario())
    assert [(call.seed, n) for call, n in zip(acting.calls, acting.sizes, strict=True)] == [
        (1, 1),
        (None, 2),
        (1, 1),
    ]


def test_a_job_that_breaks_the_forward_fails_alone(acting: RecordingAgent, batcher: Batcher) -> None:
    async def scenario() -> list[Any]:
        jobs = [job(acting, row) for row in (ROWS[0], [9.0] * 4, ROWS[1])]
        for one in jobs:
            batcher.submit(one)
        return await asyncio.gather(*(one.reply for one in jobs), return_exceptions=True)

    first, broken, last = asyncio.run(scenario())
    assert isinstance(broken, ArithmeticError)
    assert first in ([0], [1])
    assert last in ([0], [1])


def test_a_cancelled_job_leaves_before_its_batch(acting: RecordingAgent, batcher: Batcher) -> None:
    async def scenario() -> None:
        kept, dropped = job(acting, ROWS[0]), job(acting, ROWS[1])
        batcher.submit(dropped)
        batcher.submit(kept)
        dropped.reply.cancel()
        await kept.reply

    asyncio.run(scenario())
    assert acting.sizes == [1]


def test_what_arrives_during_a_forward_is_the_next_batch(acting: RecordingAgent) -> None:
    async def scenario() -> None:
        acting.gate = asyncio.Event()
        batcher = Batcher(None, acting.act_async, ActionMetrics())
        jobs = [job(acting, row) for row in ROWS]
        batcher.submit(jobs[0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for one in jobs[1:]:
            batcher.submit(one)
        acting.gate.set()
        await asyncio.gather(*(one.reply for one in jobs))

    asyncio.run(scenario())
    assert acting.sizes == [1, 19]


def test_more_rows_than_may_wait_are_refused_and_the_others_answered(acting: RecordingAgent) -> None:
    async def scenario() -> None:
        batcher = Batcher(acting.act, acting.act_async, ActionMetrics())
        full = [job(acting, ROWS[0]) for _ in range(4096 // 512)]
        for one in full:
            one.rows = [ROWS[0]] * 512
            batcher.submit(one)
        with pytest.raises(CapacityError) as caught:
            batcher.submit(job(acting, ROWS[0]))
        assert caught.value.details["queue_rows"] == 4096
        assert [len(await one.reply) for one in full] == [512] * len(full)
        assert acting.sizes == [1024] * 4
        batcher.submit(after := job(acting, ROWS[0]))
        await after.reply

    asyncio.run(scenario())


def test_who_waited_for_too_long_leaves_before_the_batch_and_the_others_are_answered(
    acting: RecordingAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(
        "service.serving.batching.time", SimpleNamespace(perf_counter=lambda: now, time=lambda: now)
    )

    async def scenario() -> None:
        nonlocal now
        acting.gate = asyncio.Event()
        batcher = Batcher(None, acting.act_async, ActionMetrics(), QueueLimits(age_s=3.5))
        jobs = [job(acting, row) for row in ROWS[:4]]
        for one in jobs:
            batcher.submit(one)
            for _ in range(5):  # until the first one is being computed
                await asyncio.sleep(0)
            now += 1.5
        acting.gate.set()
        first, second, *late = await asyncio.gather(*(one.reply for one in jobs), return_exceptions=True)
        assert isinstance(second, CapacityError)
        assert (second.details["queue_age_s"], second.retry_after_s) == (4.5, 4.5)
        assert [first, *late] == [
            [acting.agent.compute_action(row)["action"]] for row in (ROWS[0], *ROWS[2:4])
        ]
        assert acting.sizes == [1, 2]
        assert batcher.statistics.failed == Spent(1, 4.5)
        assert batcher.statistics.answered.count == 3

    now = 1.0
    asyncio.run(scenario())


def test_timing_says_how_long_a_job_waited_and_with_how_many_it_was_computed(
    acting: RecordingAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1.0
    monkeypatch.setattr(
        "service.serving.batching.time", SimpleNamespace(perf_counter=lambda: now, time=lambda: now)
    )

    async def slow(call: Call) -> Action:
        nonlocal now
        now += 0.25
        return acting.act(call)

    async def scenario() -> None:
        nonlocal now
        batcher = Batcher(None, slow, ActionMetrics())
        jobs = [job(acting, row, extras=Extras()) for row in ROWS[:2]] + [job(acting, ROWS[2])]
        for one in jobs:
            batcher.submit(one)
        now += 0.5
        await asyncio.gather(*(one.reply for one in jobs))
        assert [(one.extras.queue_s, one.extras.forward_s, one.extras.n_rows) for one in jobs[:2]] == [
            (0.5, 0.25, 3)
        ] * 2
        found = batcher.statistics
        assert (found.answered, found.waited, found.forwards) == (
            Spent(3, 2.25),
            Spent(3, 1.5),
            {3: Spent(1, 0.25)},
        )

    asyncio.run(scenario())


def test_a_drained_batcher_answers_what_it_took_and_takes_no_more(
    acting: RecordingAgent, batcher: Batcher
) -> None:
    async def scenario() -> None:
        taken = job(acting, ROWS[0])
        batcher.submit(taken)
        await batcher.drain()
        assert taken.reply.done()
        with pytest.raises(AgentGoneError):
            batcher.submit(job(acting, ROWS[0]))

    asyncio.run(scenario())


def test_actions_become_json_like_the_agents_own() -> None:
    agent = load_agent(make_checkpoint())
    actions = agent.compute_actions(sample_batch(CARTPOLE, 5, 0))
    assert action_rows(actions, "action") == (actions["action"].tolist(), None)
    two = {"move": np.array([1, 2]), "force": np.array([[0.5], [1.5]], np.float32)}
    flat = {"dict": [["move", "move"], ["force", "force"]]}
    assert action_rows(two, flat) == ([{"move": 1, "force": [0.5]}, {"move": 2, "force": [1.5]}], None)
    nested = {"tuple": [{"dict": [[3, "force"]]}, "move"]}
    assert action_rows(two, nested) == ([({3: [0.5]}, 1), ({3: [1.5]}, 2)], None)


def test_rows_that_are_not_finite_are_told_apart() -> None:
    actions = {"action": np.array([[0.5, 1.0], [np.nan, 0.0], [1.0, np.inf]], np.float32), "go": np.ones(3)}
    rows, finite = action_rows(actions, {"dict": [["action", "action"], ["go", "go"]]})
    assert rows[0] == {"action": [0.5, 1.0], "go": 1.0}
    assert finite is not None
    assert finite.tolist() == [True, False, False]


def test_a_job_whose_action_is_not_finite_is_refused_alone(acting: RecordingAgent) -> None:
    def act(call: Call) -> Action:
        return {"action": np.where(call.observations["observation"] > 0.45, np.inf, 0.0)}

    async def scenario() -> list[Any]:
        batcher = Batcher(act, acting.act_async, ActionMetrics())
        jobs = [job(acting, row) for row in ([0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0])]
        for one in jobs:
            batcher.submit(one)
        return await asyncio.gather(*(one.reply for one in jobs), return_exceptions=True)

    good, bad = asyncio.run(scenario())
    assert good == [[0.0, 0.0, 0.0, 0.0]]
    assert isinstance(bad, Problem)
    assert (bad.status, bad.code) == (422, "action_not_finite")


def test_concurrent_requests_share_a_forward_and_get_what_they_would_get_alone(client: Client) -> None:
    bodies = [{"observation": row} for row in ROWS]
    client.post("r", bodies[0])
    before = sum(client.route.metrics.batch_rows.counts)
    together = client.post_together("r", bodies)
    assert sum(client.route.metrics.batch_rows.counts) <= before + 2  # the first may go at once
    alone = [client.post("r", body) for body in bodies]
    assert [answer.json for answer in together] == [answer.json for answer in alone]


def test_a_bad_request_among_good_ones_fails_alone(client: Client) -> None:
    bodies = [{"observation": row} for row in ROWS]
    bodies[3] = {"observation": [0, 0, 0, "x"]}
    statuses = [answer.status for answer in client.post_together("r", bodies)]
    assert statuses == [200] * 3 + [422] + [200] * 16
