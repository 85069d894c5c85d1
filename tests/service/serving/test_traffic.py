"""Who answers of several versions, what is counted, and that a shadow never stands in the way."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from maze_core.agent import load_agent
from service.metrics import ActionMetrics
from service.serving import traffic
from service.serving.batching import Job
from service.serving.served import ServedAgent
from service.serving.traffic import Lane, Role, Split, Traffic, agree
from tests.service.serving.checkpoints import make_checkpoint


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*given: Any, **fixtures: Any) -> None:
        asyncio.run(test(*given, **fixtures))

    return run


ROW = (0.01, -0.02, 0.03, -0.04)


def split(weight: float = 0.1, *roles: Role, revision: int = 1) -> Split:
    versions: Any = {role: role.value for role in (Role.HOLDER, *roles)}
    return Split("walker@champion", revision, versions, weight)


async def no_agent(checkpoint: str) -> ServedAgent:
    raise RuntimeError(f"{checkpoint} is damaged")


@pytest.mark.parametrize("weight", [0.01, 0.1, 1 / 3, 0.5, 0.999])
def test_of_any_number_of_requests_a_canary_gets_its_weight_to_within_one(weight: float) -> None:
    lane = Lane(split(weight, Role.CANARY), no_agent)
    n_canary = 0
    for n in range(1, 1001):
        n_canary += lane.choose() is Role.CANARY
        assert abs(n_canary - n * weight) < 1 + 1e-9


def test_a_key_always_gets_the_same_version_and_a_larger_weight_takes_none_back() -> None:
    small, large = (Lane(split(weight, Role.CANARY), no_agent) for weight in (0.1, 0.4))
    keys = [f"user {n}" for n in range(2000)]
    few, many = ({key for key in keys if lane.choose(key) is Role.CANARY} for lane in (small, large))
    assert few == {key for key in keys if small.choose(key) is Role.CANARY}
    assert few < many
    assert (len(few) / 2000, len(many) / 2000) == (pytest.approx(0.1, abs=0.03), pytest.approx(0.4, abs=0.04))


def test_without_a_canary_the_holder_answers() -> None:
    lane = Lane(split(0.0, Role.SHADOW), no_agent)
    assert {lane.choose(), lane.choose("a")} == {Role.HOLDER}


@pytest.mark.parametrize(
    ("ours", "theirs", "is_same"),
    [
        (1, 1, True),
        (1, 0, False),
        ([0.5, 1.0], [0.5004, 1.0], True),
        ([0.5, 1.0], [0.51, 1.0], False),
        ([1, 2], [1], False),
        ({"go": (1, [0.5])}, {"go": (1, [0.5])}, True),
        ({"go": (1, [0.5])}, {"go": (1, [0.7])}, False),
        ({"go": 1}, {"stay": 1}, False),
        ((1, 2), (1, 2, 3), False),
    ],
)
def test_actions_agree_that_are_the_same_and_numbers_nearly_so(ours: Any, theirs: Any, is_same: bool) -> None:
    assert agree(ours, theirs) is is_same


def served(seed: int) -> ServedAgent:
    return ServedAgent(f"c{seed}", load_agent(make_checkpoint(seed=seed)), ActionMetrics())


def job_of(agent: ServedAgent, **how: Any) -> tuple[Job, "asyncio.Future[Any]"]:
    reply = asyncio.get_running_loop().create_future()
    how = {"deterministic": True, "seed": None, **how}
    return Job(agent.reader(), [ROW], reply=reply, **how), reply


async def answered(lane: Lane, agent: ServedAgent, role: Role = Role.HOLDER, **how: Any) -> None:
    job, reply = job_of(agent, **how)
    lane.watch(role, job, reply)
    agent.batcher.submit(job)
    await reply
    await asyncio.sleep(0)  # who watches is told in the loop's next turn


async def settled(lane: Lane) -> None:
    while lane._shadowing is not None:
        await lane._shadowing


@on_loop
async def test_a_shadow_is_compared_with_what_was_answered_and_counted_apart() -> None:
    holder, same, other = served(0), served(0), served(1)
    for shadow in (same, other):

        async def load(_: str, shadow: ServedAgent = shadow) -> ServedAgent:
            return shadow

        lane = Lane(split(0.0, Role.SHADOW), load)
        for _ in range(20):
            await answered(lane, holder)
        await settled(lane)
        counts = lane.counts[Role.SHADOW]
        assert (counts.requests, counts.compared, counts.errors, counts.dropped) == (20, 20, 0, 0)
        assert counts.agreed == (20 if shadow is same else 20 * _agrees(holder, other))
        assert lane.counts[Role.HOLDER].requests == 20
        assert counts.seconds > 0


def _agrees(one: ServedAgent, other: ServedAgent) -> bool:
    actions = [agent._agent.compute_action(list(ROW))["action"] for agent in (one, other)]
    return bool(actions[0] == actions[1])


@on_loop
async def test_what_nobody_can_repeat_and_what_carries_a_state_is_not_compared() -> None:
    holder = served(0)

    async def load(_: str) -> ServedAgent:
        return holder

    lane = Lane(split(0.0, Role.SHADOW), load)
    await answered(lane, holder, deterministic=False)
    assert lane._shadowing is None
    await answered(lane, holder, deterministic=False, seed=3)
    await settled(lane)
    assert lane.counts[Role.SHADOW].agreed == 1


@on_loop
async def test_answers_do_not_wait_for_a_shadow_and_its_queue_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traffic, "MAX_COPIES", 5)
    holder, is_loaded = served(0), asyncio.Event()

    async def load(_: str) -> ServedAgent:
        await is_loaded.wait()
        return holder

    lane = Lane(split(0.0, Role.SHADOW), load)
    for _ in range(20):
        await answered(lane, holder)
    shadow = lane.counts[Role.SHADOW]
    assert (lane.counts[Role.HOLDER].requests, shadow.requests) == (20, 0)
    assert shadow.dropped >= 14  # one may have been taken on already
    is_loaded.set()
    await settled(lane)
    assert shadow.compared + shadow.dropped == 20


@on_loop
async def test_a_shadow_that_cannot_act_is_counted_and_hurts_nobody() -> None:
    holder = served(0)
    lane = Lane(split(0.0, Role.SHADOW), no_agent)
    for _ in range(3):
        await answered(lane, holder)
    await settled(lane)
    assert (lane.counts[Role.SHADOW].errors, lane.counts[Role.HOLDER].errors) == (3, 0)
    await lane.close()


@on_loop
async def test_errors_and_rewards_are_counted_for_who_acted() -> None:
    lane = Lane(split(0.5, Role.CANARY), no_agent)
    job, reply = job_of(served(0))
    lane.watch(Role.CANARY, job, reply)
    reply.set_exception(RuntimeError("lost"))
    await asyncio.sleep(0)
    reply.exception()
    canary = lane.counts[Role.CANARY]
    canary.add_reward(2.0)
    canary.add_reward(1.0)
    canary.add_reward(5.0, before=1.0)
    assert (canary.requests, canary.errors, canary.rewards, canary.reward) == (1, 1, 2, 7.0)


def test_a_new_split_begins_new_counts_and_prometheus_has_them_by_alias_and_role() -> None:
    all_traffic = Traffic(no_agent)
    lane = all_traffic.lane(split(0.1, Role.CANARY))
    lane.failed(Role.CANARY)
    assert all_traffic.lane(split(0.1, Role.CANARY)) is lane
    registry = CollectorRegistry()
    registry.register(all_traffic)
    told = generate_latest(registry).decode()
    assert 'maze_traffic_requests_total{alias="walker@champion",role="canary"} 1.0' in told
    assert 'maze_traffic_errors_total{alias="walker@champion",role="holder"} 0.0' in told
    assert all_traffic.lane(split(0.1, Role.CANARY, revision=2)).counts[Role.CANARY].requests == 0
