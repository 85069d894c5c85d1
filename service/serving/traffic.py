"""Aliases whose requests go to more than one version: a canary answers a part of them, a shadow acts on copies.

Who answers is chosen by the request's key, which always gives the same version, or else in turn, so that of any
number of requests the canary gets its weight to within one. A shadow's actions are compared with those that were
answered, and go nowhere: copies are taken when the answer is there, wait in a short queue, and are dropped where
that is full. Everything is counted here, in this process, since the traffic was split as it is.
"""

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from service.domain.errors import ServiceError
from service.domain.policies import reference
from service.domain.ports import PolicyStore
from service.domain.sharing import key_of
from service.problems import Problem
from service.serving.batching import Job

if TYPE_CHECKING:
    from service.serving.agents import Version
    from service.serving.served import ServedAgent

logger = logging.getLogger(__name__)

MAX_COPIES = 256
"""Requests that wait for one shadow."""
TOLERANCE = 1e-3
"""Numbers with a fraction agree that differ by less, and by less than this part of them."""


class Role(StrEnum):
    """What a version does for an alias."""

    HOLDER = "holder"
    CANARY = "canary"
    SHADOW = "shadow"


class Split(NamedTuple):
    """How the requests to an alias are split now."""

    alias: str
    """As ``name@alias``, under its :func:`~service.domain.sharing.key_of` of the project."""
    revision: int
    """Of the alias; a new one begins new counts."""
    versions: dict[Role, str]
    """Each as ``name:3``, likewise."""
    weight: float
    """Of the canary."""

    @classmethod
    def of(cls, policies: PolicyStore, project: str, source: str) -> "Split | None":
        """How the requests to what is named are split now; None where one version answers them all.

        Args:
            policies: those of the project.
            project: whose they are.
            source: as ``name@alias``; what names no alias is not split.
        """
        name, alias, _ = reference(source) or ("", None, None)
        if alias is None:
            return None
        found = policies.alias(name, alias)
        if found.traffic is None:
            return None
        numbers = {
            Role.HOLDER: found.version,
            Role.CANARY: found.traffic.canary,
            Role.SHADOW: found.traffic.shadow,
        }
        versions = {
            role: key_of(project, f"{name}:{number}")
            for role, number in numbers.items()
            if number is not None
        }
        return cls(key_of(project, source), found.revision, versions, found.traffic.weight)


@dataclass
class Counts:
    """What a version has done for an alias."""

    requests: int = 0
    errors: int = 0
    """Of the requests, those that got no action."""
    seconds: float = 0.0
    """From the submission of its job to its actions, of all requests without errors."""
    steps: int = 0
    """Actions in sessions."""
    rewards: int = 0
    """Those of them whose reward was said."""
    reward: float = 0.0
    """The sum of their rewards."""
    compared: int = 0
    """Of a shadow: observations whose action was compared ..."""
    agreed: int = 0
    """... and was the answered one."""
    dropped: int = 0
    """Of a shadow: requests that found its queue full."""

    def add_reward(self, reward: float, before: float = math.nan) -> None:
        """Count a reward, in the place of one that was said before."""
        if math.isnan(before):
            self.rewards += 1
            self.reward += reward
        else:
            self.reward += reward - before


class Lane:
    """The traffic of one alias, while it is split in one way; used from one event loop."""

    def __init__(self, split: Split, load: "Callable[[str], Awaitable[ServedAgent]]") -> None:
        """Start at zero.

        Args:
            split: who gets what.
            load: gives the agent of a version.
        """
        self.split = split
        self.counts = {role: Counts() for role in split.versions}
        self._load = load
        self._n, self._phase = 0, random.random()  # processes begin at different places
        self._copies: deque[tuple[Job, Sequence[Any]]] = deque()
        self._shadowing: asyncio.Task[None] | None = None

    def choose(self, key: str | None = None) -> Role:
        """Who answers the next request, or every request with this key."""
        if Role.CANARY not in self.split.versions:
            return Role.HOLDER
        weight = self.split.weight
        if key is not None:
            digest = blake2b(f"{self.split.alias}\0{key}".encode(), digest_size=8).digest()
            return Role.CANARY if int.from_bytes(digest) < weight * 2**64 else Role.HOLDER
        before = math.floor(self._n * weight + self._phase)
        self._n += 1
        return Role.CANARY if math.floor(self._n * weight + self._phase) > before else Role.HOLDER

    def watch(self, role: Role, job: Job, actions: "asyncio.Future[Any]") -> None:
        """Count what comes of a job, and let the shadow act on a copy of it."""
        actions.add_done_callback(partial(self._done, role, job, time.perf_counter()))

    def answered(self, role: Role, job: Job, actions: Sequence[Any], seconds: float) -> None:
        """Count a job that got its actions, and let the shadow act on a copy of it."""
        self.counts[role].requests += 1
        self.counts[role].seconds += seconds
        # a state belongs to who made it, and a draw that nobody can repeat agrees with none
        if Role.SHADOW in self.split.versions and job.states is None and _is_repeatable(job):
            self._copy(job, actions)

    def failed(self, role: Role) -> None:
        """Count a request that got no action."""
        self.counts[role].requests += 1
        self.counts[role].errors += 1

    async def close(self) -> None:
        """Drop the copies that wait."""
        self._copies.clear()
        if self._shadowing is not None:
            self._shadowing.cancel()
            await asyncio.gather(self._shadowing, return_exceptions=True)

    def _done(self, role: Role, job: Job, began: float, actions: "asyncio.Future[Any]") -> None:
        if actions.cancelled():
            return
        if actions.exception() is not None:
            self.failed(role)
        else:
            self.answered(role, job, actions.result(), time.perf_counter() - began)

    def _copy(self, job: Job, actions: Sequence[Any]) -> None:
        if len(self._copies) >= MAX_COPIES:
            self.counts[Role.SHADOW].dropped += 1
            return
        self._copies.append((job, actions))
        if self._shadowing is None:
            self._shadowing = asyncio.get_running_loop().create_task(self._shadow())

    async def _shadow(self) -> None:
        try:
            while self._copies:
                job, actions = self._copies.popleft()
                try:
                    await self._compare(job, actions)
                except Exception as error:
                    self.failed(Role.SHADOW)
                    logger.debug("the shadow of %s failed: %s", self.split.alias, error)
        finally:
            self._shadowing = None

    async def _compare(self, job: Job, actions: Sequence[Any]) -> None:
        served = await self._load(self.split.versions[Role.SHADOW])
        reader = served.reader(*job.reader.actor)
        if reader.space != job.reader.space:
            raise Problem("not_servable", "The shadow observes another space.")
        began = time.perf_counter()
        reply = asyncio.get_running_loop().create_future()
        served.batcher.submit(Job(reader, job.rows, job.deterministic, job.seed, reply, None, job.is_many))
        found = await reply
        counts = self.counts[Role.SHADOW]
        counts.requests += 1
        counts.seconds += time.perf_counter() - began
        counts.compared += len(found)
        counts.agreed += sum(map(agree, actions, found))


class Chosen(NamedTuple):
    """Who acts on a request."""

    served: "ServedAgent"
    version: "Version"
    lane: Lane | None = None
    """Where the alias's traffic is split."""
    role: Role = Role.HOLDER

    def submit(self, job: Job, reply: "asyncio.Future[Any]") -> None:
        """Let a job join the agent's next batch, and count what comes of it; raises as the batcher does."""
        if self.lane is not None:
            self.lane.watch(self.role, job, reply)
        try:
            self.served.submit(job)
        except ServiceError:
            if self.lane is not None:
                self.lane.failed(self.role)
            raise


@dataclass(eq=False)
class Traffic(Collector):
    """All aliases whose traffic is split."""

    load: "Callable[[str], Awaitable[ServedAgent]]"
    """Gives the agent of a version, as ``name:3``."""
    lanes: dict[str, Lane] = field(default_factory=dict)
    """By ``name@alias``."""

    def lane(self, split: Split) -> Lane:
        """The lane of an alias; a new one where its traffic is split in a new way."""
        lane = self.lanes.get(split.alias)
        if lane is None or lane.split.revision != split.revision:
            lane = self.lanes[split.alias] = Lane(split, self.load)
        return lane

    async def close(self) -> None:
        """Drop what waits for shadows."""
        await asyncio.gather(*(lane.close() for lane in self.lanes.values()))

    def collect(self) -> Iterator[Metric]:
        """The counts as metric families."""
        for name, text, of in _FAMILIES:
            family = CounterMetricFamily(f"maze_traffic_{name}", text, labels=["alias", "role"])
            for alias, lane in list(self.lanes.items()):
                for role, counts in lane.counts.items():
                    family.add_metric([alias, role], getattr(counts, of))
            yield family


_FAMILIES = (
    ("requests", "Requests of aliases whose traffic is split, by who acted.", "requests"),
    ("errors", "Those of them that got no action.", "errors"),
    ("seconds", "Seconds until their actions were there.", "seconds"),
    ("steps", "Actions in sessions that named such an alias.", "steps"),
    ("rewards", "Those of them whose reward was said.", "rewards"),
    ("compared", "Observations whose action by the shadow was compared.", "compared"),
    ("agreed", "Those of them whose action was the answered one.", "agreed"),
    ("dropped", "Requests that found the queue of a shadow full.", "dropped"),
)


def agree(ours: Any, theirs: Any) -> bool:
    """Whether two actions in the environment's form are the same, numbers with a fraction nearly so."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(agree(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return len(ours) == len(theirs) and all(map(agree, ours, theirs))
    one, other = np.asarray(ours), np.asarray(theirs)
    if one.shape != other.shape:
        return False
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE))
    return bool((one == other).all())


def _is_repeatable(job: Job) -> bool:
    return job.deterministic or job.seed is not None
