"""Loaded agents, the least recently used one leaving first, and the way from (run, selector) to one of them.

One load per checkpoint at a time, however many requests wait for it. A load that failed is remembered for a
second, so that requests for a damaged checkpoint do not read it again and again. Which checkpoint a run's
``best``, ``last`` or ``epoch:N`` is, is remembered for a quarter of a second; a steady stream of requests never
waits for the database: an answer in the second half of its life is asked for again in the background while it is
still given, so each (run, selector) in use costs at most eight queries a second.
"""

import asyncio
import gc
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import cache
from typing import NamedTuple

import msgspec

from service.domain.errors import (
    CapacityError,
    DamagedCheckpointError,
    NotFoundError,
    ServiceError,
    StateConflictError,
)
from service.domain.policies import is_policy
from service.domain.ports import Stores
from service.domain.projects import stores_of
from service.domain.run import CheckpointInfo
from service.domain.sharing import key_of, name_of, project_of
from service.domain.use_cases import acting_checkpoint, named_version
from service.metrics import ActionMetrics
from service.serving.served import ServedAgent
from service.serving.traffic import Chosen, Lane, Role, Split, Traffic

TTL_S = 0.25
_REFRESH_AFTER_S = TTL_S / 2
_REMEMBERED = 4096
FAILURE_REMEMBERED_S = 1.0
MAX_LOADS = 2
"""Agents that are loaded at the same time; the next ones wait."""
MAX_LOADS_WAITING = 32
MAX_HOT = 1024
"""(run, selector) pairs that are answered with one look-up."""

Load = Callable[[str, bytes, ActionMetrics], Awaitable[ServedAgent]]


class AgentCache:
    """At most ``capacity`` loaded agents; used from one event loop."""

    def __init__(
        self,
        stores: Stores,
        capacity: int,
        metrics: ActionMetrics,
        load: Load = ServedAgent.load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind the stores.

        Args:
            stores: where runs and checkpoints are.
            capacity: agents kept in memory.
            metrics: counts loads and evictions.
            load: makes an agent of checkpoint id and bundle.
            clock: seconds, monotonic.
        """
        self._stores = stores
        self._capacity = capacity
        self.metrics = metrics
        self._load = load
        self._clock = clock
        self._selectors = SelectorCache(stores, clock)
        self._hot: dict[tuple[str, str], tuple[Acting, float]] = {}
        self._agents: OrderedDict[str, ServedAgent] = OrderedDict()
        self._loading: dict[str, asyncio.Task[ServedAgent]] = {}
        self._failed: dict[str, tuple[float, ServiceError]] = {}
        self._load_slots = asyncio.Semaphore(MAX_LOADS)
        self._closing: set[asyncio.Task[None]] = set()
        self.traffic = Traffic(self._version)

    def warm(self, run_id: str, selector: str) -> "Acting | None":
        """The agent where it is loaded and the selector is fresh; neither waits nor asks the database."""
        key = (run_id, selector)
        if (hot := self.hot(key, self._clock())) is not None:
            self._agents.move_to_end(hot.version.checkpoint)
            return hot
        version = self._selectors.peek(run_id, selector)
        served = None if version is None else self.loaded(version.checkpoint)
        if version is None or served is None or self._selectors.split(run_id, selector) is not None:
            return None  # where requests are split, who answers is chosen for each
        if len(self._hot) >= MAX_HOT:
            self._hot.clear()
        acting = Acting(served, version)
        self._hot[key] = (acting, self._selectors.refresh_at(run_id, selector))
        return acting

    def hot(self, key: tuple[str, str], now: float) -> "Acting | None":
        """The agent of (run, selector), where :meth:`warm` found it a moment ago: one look-up, and no use noted."""
        hot = self._hot.get(key)
        return hot[0] if hot is not None and now < hot[1] else None

    async def get(self, run_id: str, selector: str) -> "Acting":
        """The agent of a run's checkpoint, loaded where it is not.

        Raises:
            ServiceError: as :meth:`SelectorCache.resolve` and :meth:`ServedAgent.load`.
            CapacityError: too many agents wait to be loaded.
        """
        version = await self._selectors.resolve(run_id, selector)
        return Acting(await self.of(version.checkpoint), version)

    async def of(self, checkpoint_id: str) -> ServedAgent:
        """The agent of a checkpoint, loaded where it is not.

        Raises:
            ServiceError: as :meth:`ServedAgent.load`.
            CapacityError: too many agents wait to be loaded.
        """
        served = self.loaded(checkpoint_id)
        if served is not None:
            return served
        failed_at, error = self._failed.get(checkpoint_id, (-FAILURE_REMEMBERED_S, None))
        if error is not None and self._clock() < failed_at + FAILURE_REMEMBERED_S:
            raise error.with_traceback(None)
        return await asyncio.shield(self._start_loading(checkpoint_id))

    async def choose(self, source: str, selector: str, key: str | None = None) -> Chosen:
        """As :meth:`get`, of an alias whose traffic is split for one request, or for all with this key.

        Where a canary cannot be loaded the version answers that the alias names.
        """
        await self._selectors.resolve(source, selector)
        split = self._selectors.split(source, selector)
        if split is None:
            return Chosen(*await self.get(source, selector))
        lane = self.traffic.lane(split)
        if (role := lane.choose(key)) is Role.CANARY:
            try:
                return Chosen(*await self.get(split.versions[role], "best"), lane, role)
            except ServiceError:
                lane.failed(role)
        return Chosen(*await self.get(split.versions[Role.HOLDER], "best"), lane)

    async def _version(self, name: str) -> ServedAgent:
        """The agent of ``name:3``."""
        return (await self.get(name, "best")).served

    def lane(self, alias: str) -> Lane | None:
        """The traffic of ``name@alias``, where it was split and a request has come since."""
        return self.traffic.lanes.get(alias)

    def peek(self, checkpoint_id: str) -> ServedAgent | None:
        """The agent where it is in memory; looking is no use of it."""
        return self._agents.get(checkpoint_id)

    def unload(self, checkpoint_id: str) -> None:
        """Let go of an agent, once it has answered what it took on; the next request loads it again."""
        if checkpoint_id in self._agents:
            self._evict(checkpoint_id)

    def for_project(self, project: str) -> "ProjectAgents":
        """The agents as one project has them."""
        return ProjectAgents(self, project)

    async def close(self) -> None:
        """Let go of every agent and child."""
        await self.traffic.close()
        for task in list(self._loading.values()):
            task.cancel()
        while self._agents:
            self._evict(next(iter(self._agents)))
        await asyncio.gather(*self._closing, *self._loading.values(), return_exceptions=True)

    def loaded(self, checkpoint_id: str) -> ServedAgent | None:
        """The agent of a checkpoint, where it is loaded."""
        served = self._agents.get(checkpoint_id)
        if served is None:
            return None
        if served.is_gone:
            self._evict(checkpoint_id)
            return None
        self._agents.move_to_end(checkpoint_id)
        return served

    def _start_loading(self, checkpoint_id: str) -> asyncio.Task[ServedAgent]:
        task = self._loading.get(checkpoint_id)
        if task is None:
            if len(self._loading) >= MAX_LOADS_WAITING:
                raise CapacityError("Too many policies are being loaded; try again.")
            task = asyncio.get_running_loop().create_task(self._load_and_keep(checkpoint_id))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._loading[checkpoint_id] = task
        return task

    async def _load_and_keep(self, checkpoint_id: str) -> ServedAgent:
        try:
            async with self._load_slots:
                bundle = await asyncio.to_thread(self._read, checkpoint_id)
                served = await self._load(checkpoint_id, bundle, self.metrics)
        except ServiceError as error:
            self._remember_failure(checkpoint_id, error)
            raise
        finally:
            del self._loading[checkpoint_id]
        await asyncio.to_thread(_settle_memory)
        self.metrics.loads += 1
        self._agents[checkpoint_id] = served
        while len(self._agents) > self._capacity:
            self._evict(next(iter(self._agents)))
        self.metrics.agents_loaded = len(self._agents)
        return served

    def _read(self, checkpoint_id: str) -> bytes:
        try:
            return self._stores.checkpoints.read(checkpoint_id)
        except NotFoundError as error:
            raise DamagedCheckpointError(f"{error} Ask for another one.", checkpoint=checkpoint_id) from error

    def _remember_failure(self, checkpoint_id: str, error: ServiceError) -> None:
        now = self._clock()
        for known, (failed_at, _) in list(self._failed.items()):
            if now >= failed_at + FAILURE_REMEMBERED_S:
                del self._failed[known]
        self._failed[checkpoint_id] = (now, error)
        self._selectors.forget(checkpoint_id)

    def _evict(self, checkpoint_id: str) -> None:
        served = self._agents.pop(checkpoint_id)
        self._hot.clear()
        self.metrics.evictions += 1
        self.metrics.agents_loaded = len(self._agents)
        task = asyncio.get_running_loop().create_task(served.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class ProjectAgents:
    """Loaded agents for one project."""

    def __init__(self, agents: AgentCache, project: str) -> None:
        self._agents, self._project = agents, project
        self.metrics, self.peek, self.unload = agents.metrics, agents.peek, agents.unload

    def for_project(self, project: str) -> "ProjectAgents":
        """Those of another one."""
        return ProjectAgents(self._agents, project)

    async def get(self, source: str, selector: str) -> "Acting":
        """As :meth:`AgentCache.get`, of what the project has."""
        return await self._agents.get(key_of(self._project, source), selector)

    async def choose(self, source: str, selector: str, key: str | None = None) -> Chosen:
        """As :meth:`AgentCache.choose`, of what the project has."""
        return await self._agents.choose(key_of(self._project, source), selector, key)

    def lane(self, alias: str) -> Lane | None:
        """As :meth:`AgentCache.lane`, of what the project has."""
        return self._agents.lane(key_of(self._project, alias))


class Version(NamedTuple):
    """What acts, to the last bit; every answer says it."""

    run: str
    checkpoint: str
    checkpoint_sha256: str
    policy: str | None
    """``name:3``, where it was asked for by a policy's name."""
    tail: bytes
    """The same as the end of a JSON object."""

    @classmethod
    def named(cls, stores: Stores, source: str, selector: str) -> "tuple[Version, CheckpointInfo]":
        """What a source and a selector mean now; raises as :func:`acting_checkpoint`."""
        policy = None
        if is_policy(source) and selector == "best":
            found = named_version(stores.policies, source)
            source = policy = f"{found.policy}:{found.number}"
        info = acting_checkpoint(stores, source, selector)
        said = {"run": info.run_id, "checkpoint": info.id, "checkpoint_sha256": info.content_sha256}
        said |= {"policy": policy} if policy else {}
        tail = b"," + msgspec.json.encode(said)[1:]
        return cls(info.run_id, info.id, info.content_sha256, policy, tail), info

    def members(self) -> dict[str, str]:
        """As members of an answer."""
        names = ("run", "checkpoint", "checkpoint_sha256", "policy")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Acting(NamedTuple):
    """An agent, and which version it is called by."""

    served: ServedAgent
    version: Version


class _Answer(NamedTuple):
    version: Version
    split: Split | None
    refresh_at: float
    expires_at: float


class SelectorCache:
    """Resolves (run, selector) to a version; used from one event loop.

    A run, or policy, of another project than the default one stands behind its project:
    :func:`~service.domain.sharing.key_of`.
    """

    def __init__(self, stores: Stores, clock: Callable[[], float] = time.monotonic) -> None:
        self._stores = stores
        self._clock = clock
        self._answers: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Version]] = {}

    def peek(self, run_id: str, selector: str) -> Version | None:
        """The version where it is known and fresh."""
        key = (run_id, selector)
        answer = self._answers.get(key)
        if answer is None:
            return None
        now = self._clock()
        if now >= answer.refresh_at:
            if now >= answer.expires_at:
                return None
            self._ask(key)
        return answer.version

    def refresh_at(self, run_id: str, selector: str) -> float:
        """Until when the answer just peeked at needs no second look."""
        return self._answers[run_id, selector].refresh_at

    def split(self, run_id: str, selector: str) -> Split | None:
        """How requests are split, as of the answer just given."""
        answer = self._answers.get((run_id, selector))
        return None if answer is None else answer.split

    async def resolve(self, run_id: str, selector: str) -> Version:
        """The version.

        Raises:
            ServiceError: as :func:`~service.domain.use_cases.acting_checkpoint`.
        """
        known = self.peek(run_id, selector)
        return await asyncio.shield(self._ask((run_id, selector))) if known is None else known

    def forget(self, checkpoint_id: str) -> None:
        """Drop every answer that names this checkpoint, because it turned out to be gone."""
        for key in [
            key for key, answer in self._answers.items() if answer.version.checkpoint == checkpoint_id
        ]:
            del self._answers[key]

    def _ask(self, key: tuple[str, str]) -> asyncio.Task[Version]:
        """Ask the database, one question per key at a time."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._query(key))
            task.add_done_callback(_mark_retrieved)
            self._asking[key] = task
        return task

    async def _query(self, key: tuple[str, str]) -> Version:
        asked_at = self._clock()
        try:
            version, split = await asyncio.to_thread(self._look, *key)
        except (NotFoundError, StateConflictError):
            self._answers.pop(key, None)
            raise
        finally:
            del self._asking[key]
        self._answers[key] = _Answer(version, split, asked_at + _REFRESH_AFTER_S, asked_at + TTL_S)
        self._answers.move_to_end(key)
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return version

    def _look(self, source: str, selector: str) -> tuple[Version, Split | None]:
        stores = stores_of(self._stores, project_of(source))
        version, _ = Version.named(stores, name_of(source), selector)
        is_split = is_policy(source)
        return version, Split.of(stores.policies, project_of(source), name_of(source)) if is_split else None


def _mark_retrieved(task: asyncio.Task[Version]) -> None:
    """A background question that fails is no news: the next request asks again and gets the error."""
    if not task.cancelled():
        task.exception()


@cache
def _settle_memory() -> None:
    """Take what lives as long as the process out of the garbage collector's sight, once, and let it look less often.

    After the first load everything is imported: some 70,000 objects, and a full collection of them stops all
    requests for 70 ms, several times a minute under load. What a request leaves behind dies by reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
