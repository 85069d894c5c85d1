"""Which agent answers for a run: loaded once, kept while used, replaced when the run has a better one."""

import asyncio
from typing import Any

import pytest

from service.domain.errors import (
    AgentGoneError,
    DamagedCheckpointError,
    NoCheckpointError,
    NoPolicyError,
    NotFoundError,
    NotServableAgentError,
    StoreUnavailableError,
)
from service.domain.run import RunKind, RunState
from service.serving.agents import FAILURE_REMEMBERED_S, TTL_S, AgentCache
from service.serving.request import decode_request
from tests.service.serving.checkpoints import make_checkpoint
from tests.service.serving.memory_stores import MemoryStores


def test_many_first_requests_load_once(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    async def scenario() -> list[Any]:
        return await asyncio.gather(*(cache.get("r", "best") for _ in range(20)))

    agents = runner.run(scenario())
    assert len({id(acting.served) for acting in agents}) == 1
    assert (stores.count("resolve"), stores.count("read")) == (1, 1)


def test_a_warm_agent_asks_the_database_nothing(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    async def scenario() -> None:
        served = (await cache.get("r", "best")).served
        stores.asked.clear()
        for _ in range(100):
            assert cache.warm("r", "best").served is served

    runner.run(scenario())
    assert stores.asked == []


def test_a_new_best_checkpoint_acts_within_the_ttl(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    async def scenario() -> None:
        first = await cache.get("r", "best")
        stores.add("r", "c2", make_checkpoint(seed=1).to_bytes())
        cache.clock.now += TTL_S * 0.4
        assert cache.warm("r", "best").served is first.served
        cache.clock.now += TTL_S * 0.6
        assert cache.warm("r", "best") is None
        assert (await cache.get("r", "best")).version.checkpoint == "c2"

    runner.run(scenario())


def test_a_steady_stream_is_refreshed_in_the_background(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    async def scenario() -> None:
        await cache.get("r", "best")
        stores.add("r", "c2", make_checkpoint(seed=1).to_bytes())
        cache.clock.now += TTL_S * 0.7
        old = cache.warm("r", "best")
        assert old is not None
        assert old.version.checkpoint == "c"
        assert cache.warm("r", "best").served is old.served
        while stores.count("resolve") < 2 or cache.warm("r", "best") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert (await cache.get("r", "best")).version.checkpoint == "c2"

    runner.run(scenario())
    assert stores.count("resolve") == 2


def test_a_database_that_does_not_answer_takes_no_fresh_answer_away(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    async def scenario() -> None:
        served = (await cache.get("r", "best")).served
        stores.is_down = True
        cache.clock.now += TTL_S * 0.7
        assert cache.warm("r", "best").served is served  # and asks in the background
        while stores.count("resolve") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert cache.warm("r", "best").served is served
        cache.clock.now += TTL_S
        with pytest.raises(StoreUnavailableError):
            await cache.get("r", "best")

    runner.run(scenario())


def test_the_least_recently_used_agent_leaves_first(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    for name in ("a", "b"):
        stores.add(name, f"c_{name}", make_checkpoint().to_bytes())

    async def scenario() -> None:
        await cache.get("r", "best")
        await cache.get("a", "best")
        assert cache.warm("r", "best") is not None  # so that "a" is the older one
        await cache.get("b", "best")
        assert cache.warm("a", "best") is None
        assert cache.warm("r", "best") is not None
        await cache.get("a", "best")

    runner.run(scenario())
    assert stores.count("read", "c_a") == 2
    assert stores.count("read", "c") == 1


def test_two_selectors_of_one_checkpoint_share_an_agent(cache: AgentCache, runner: asyncio.Runner) -> None:
    async def scenario() -> None:
        assert (await cache.get("r", "best")).served is (await cache.get("r", "c")).served

    runner.run(scenario())


def test_an_unknown_run_is_not_found(cache: AgentCache, runner: asyncio.Runner) -> None:
    with pytest.raises(NotFoundError, match="no run x"):
        runner.run(cache.get("x", "best"))


def test_a_run_of_others_does_not_lend_its_checkpoint(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    stores.add("other", "c_other", b"")
    with pytest.raises(NotFoundError, match="has no checkpoint c_other"):
        runner.run(cache.get("r", "c_other"))


@pytest.mark.parametrize(
    ("state", "sentence"), [(RunState.QUEUED, "try again later"), (RunState.FAILED, "left no checkpoint")]
)
def test_a_run_without_checkpoint_says_its_state(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner, state: RunState, sentence: str
) -> None:
    stores.add_run("young", state=state)
    with pytest.raises(NoCheckpointError, match=f"is {state} .*{sentence}"):
        runner.run(cache.get("young", "best"))


def test_a_rollout_has_no_policy(cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner) -> None:
    stores.add_run("roll", kind=RunKind.ROLLOUT)
    with pytest.raises(NoPolicyError, match="rollout"):
        runner.run(cache.get("roll", "best"))


def test_a_checkpoint_that_cannot_act_says_why(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    stores.add("r", "c2", make_checkpoint().to_bytes(), servable=False)
    with pytest.raises(NotServableAgentError, match=r"overrides step\(\)"):
        runner.run(cache.get("r", "best"))
    assert stores.count("read") == 0


def test_a_bundle_that_says_it_cannot_act_is_believed(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    checkpoint = make_checkpoint(servable=False, not_servable_reason="It peeks.")
    stores.add("r", "c2", checkpoint.to_bytes())
    with pytest.raises(NotServableAgentError, match="It peeks"):
        runner.run(cache.get("r", "best"))


def damaged_bundles() -> dict[str, bytes]:
    good = make_checkpoint().to_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    checkpoint = make_checkpoint()
    name = "recorded/0/action/action"
    otherwise = dict(checkpoint.tensors) | {name: 1 - checkpoint.tensors[name]}
    acts_otherwise = type(checkpoint)(identity=checkpoint.identity, tensors=otherwise).to_bytes()
    return {"empty": b"", "cut": good[:-100], "flipped": bytes(flipped), "acts otherwise": acts_otherwise}


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "acts otherwise", "gone"])
def test_a_damaged_checkpoint_never_acts_and_is_not_read_for_every_request(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner, damage: str
) -> None:
    stores.bundles |= {"c": damaged_bundles()[damage]} if damage != "gone" else {}
    if damage == "gone":
        del stores.bundles["c"]

    async def ask() -> None:
        with pytest.raises(DamagedCheckpointError, match="Checkpoint c"):
            await cache.get("r", "best")

    for _ in range(5):
        runner.run(ask())
    assert stores.count("read") == 1
    cache.clock.now += FAILURE_REMEMBERED_S
    stores.bundles["c"] = make_checkpoint().to_bytes()
    assert runner.run(cache.get("r", "best")).version.checkpoint == "c"


def test_an_evicted_agent_answers_what_it_took_and_no_more(
    cache: AgentCache, stores: MemoryStores, runner: asyncio.Runner
) -> None:
    for name in ("a", "b"):
        stores.add(name, f"c_{name}", make_checkpoint().to_bytes())

    async def scenario() -> None:
        served = (await cache.get("r", "best")).served
        request = decode_request(b'{"observation": [0, 0, 0, 0]}')
        loop = asyncio.get_running_loop()
        taken, late = (served.job(request, loop.create_future()) for _ in range(2))
        served.batcher.submit(taken)
        await cache.get("a", "best")
        await cache.get("b", "best")
        assert await taken.reply in ([0], [1])
        await asyncio.sleep(0.01)
        with pytest.raises(AgentGoneError):
            served.batcher.submit(late)

    runner.run(scenario())
