"""Which sessions are open: how they begin, how long they stay, and how they end.

All of this happens on one event loop; what may take time is done in threads.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from service.domain.errors import (
    CapacityError,
    NotFoundError,
    ServiceError,
    StateConflictError,
    StoreUnavailableError,
)
from service.domain.ports import Stores
from service.domain.projects import stores_of
from service.domain.run import CheckpointInfo, NewRun
from service.domain.sessions import (
    DEFAULT_TTL_S,
    EndedSession,
    NewSession,
    SessionEnd,
    SessionGoneError,
)
from service.domain.sharing import DEFAULT_PROJECT, name_of
from service.domain.use_cases import new_session_id
from service.metrics import SessionMetrics
from service.problems import Problem
from service.serving.agents import AgentCache, Version
from service.serving.sessions.episodes import Episodes
from service.serving.sessions.session import Answer, Session, Share, StepRequest
from service.serving.sessions.snapshots import restored, snapshot
from service.serving.sessions.steps import Steps
from service.serving.traffic import Role, Split
from service.settings import Settings

logger = logging.getLogger(__name__)

EVICTABLE_S = 60.0
"""Idle for longer, a session may give its place to a new one."""
FULL_RETRY_S = 5.0
SWEEP_S = 1.0
_REMEMBERED = 4096
"""Ended sessions that are known without a look at the database."""
_SEED_LIMIT = 2**32


class _Choice(NamedTuple):
    """What a session will act with."""

    version: Version
    info: CheckpointInfo
    share: Share | None


class Sessions:
    """All sessions of the service; used from one event loop."""

    def __init__(
        self,
        stores: Stores,
        agents: AgentCache,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind stores and agents.

        Args:
            stores: where checkpoints are, and what is written of sessions and their episodes.
            agents: the loaded agents.
            settings: how many may be open.
            clock: seconds, monotonic.
        """
        self._stores, self._agents, self._clock = stores, agents, clock
        self._max = settings.max_sessions
        self._open: dict[str, Session] = {}
        self.metrics = SessionMetrics(self.__len__)
        self._episodes = Episodes(stores, self.__len__)
        self._steps = Steps(agents, self._episodes, self.metrics, self._spawn)
        self._sequences: dict[Sequence[Any], Session] = {}
        self._n_beginning = 0
        self._ended: OrderedDict[str, EndedSession] = OrderedDict()
        self._unsettled: list[tuple[Session, EndedSession]] = []
        self._settling = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Sessions that are open."""
        return len(self._open)

    def of(self, project: str) -> Sequence[Session]:
        """Open sessions of a project, newest first."""
        found = [one for one in self._open.values() if one.project == project]
        return sorted(found, key=lambda one: one.id, reverse=True)

    def peek(self, session_id: str, project: str) -> Session | None:
        """The open session, where there is one of the project."""
        session = self._open.get(session_id)
        return session if session is not None and session.project == project else None

    async def get(self, session_id: str, project: str) -> Session:
        """The open session.

        Args:
            session_id: which.
            project: whose.

        Raises:
            SessionGoneError: it has ended.
            NotFoundError: there is none of the project, or none any more.
        """
        session = self.peek(session_id, project)
        if session is not None:
            self._require_time(session)
            return session
        ended = self._ended.get(session_id)
        if ended is None:
            ended = await asyncio.to_thread(self._stores.sessions.ended, session_id)
        if project != ended.project or session_id in self._open:
            raise NotFoundError(f"there is no session {session_id}, or it ended long ago")
        raise SessionGoneError(ended)

    async def create(
        self,
        stores: Stores,
        source: str,
        selector: str = "best",
        *,
        deterministic: bool = True,
        seed: int | None = None,
        ttl_s: float = DEFAULT_TTL_S,
        project: str = DEFAULT_PROJECT,
        by: str | None = None,
        record: Callable[[CheckpointInfo], NewRun] | None = None,
        sequence: Sequence[Any] | None = None,
    ) -> Session:
        """Begin a session.

        Args:
            stores: the caller's, where its runs and policies are.
            source: the id of a run, or ``name@alias`` or ``name:3`` of a policy.
            selector: which checkpoint of a run.
            deterministic: take the most likely action rather than a drawn one.
            seed: of drawn actions; drawn itself where it is None.
            ttl_s: idle for longer, it ends.
            project: whose it is.
            by: id of the token.
            record: makes the run that its episodes are recorded to.
            sequence: a name besides its id, for :meth:`in_sequence`.

        Raises:
            ServiceError: as :func:`~service.domain.use_cases.acting_checkpoint` and :meth:`AgentCache.of`.
            CapacityError: all places are taken.
        """
        self._require_place(project)
        self._n_beginning += 1
        try:
            session_id = new_session_id()
            version, info, share = await self._chosen(stores, session_id, project, source, selector)
            session = Session(
                id=session_id,
                project=project,
                created_by=by,
                created_at=datetime.now(UTC),
                source=source,
                selector=selector,
                version=version,
                sequence=sequence,
                share=share,
                deterministic=deterministic,
                seed=secrets.randbelow(_SEED_LIMIT) if seed is None else seed,
                ttl_s=ttl_s,
                run_id=None,
                used_at=self._clock(),
            )
            await asyncio.to_thread(self._store, session, record and record(info))
        finally:
            self._n_beginning -= 1
        self._begin(session)
        self.metrics.opened += 1
        return session

    def in_sequence(self, sequence: Sequence[Any]) -> Session | None:
        """The open session that was made with this name last."""
        return self._sequences.get(sequence)

    def step(self, session: Session, request: StepRequest) -> Answer:
        """Act; see :meth:`Steps.step`.

        Raises:
            SessionGoneError: it has ended.
        """
        self._require_time(session)
        return self._steps.step(session, request)

    async def reset(
        self, session: Session, *, seed: int | None = None, repin_in: Stores | None = None
    ) -> None:
        """Begin an episode; one that is open is cut.

        Args:
            session: whose.
            seed: begins the random stream anew; None goes on with it.
            repin_in: act with what the session's run or policy means now, in these stores.

        Raises:
            SequenceConflictError: a step is under way.
            ServiceError: as of :meth:`create`.
        """
        self._require_time(session)
        if session.pending is not None or session.is_resetting:
            raise session.conflict(None)
        session.is_resetting = True
        try:
            version, share = session.version, session.share
            if repin_in is not None:
                given = session.id, session.project, session.source, session.selector
                version, _, share = await self._chosen(repin_in, *given)
                await asyncio.to_thread(self._stores.sessions.repin, session.id, version.checkpoint)
            await self._episodes.finish(session, None, terminated=False, truncated=True)
        finally:
            session.is_resetting = False
        if session.next_seq:
            session.begin_episode()
        session.version, session.share, session.last = version, share, None
        if seed is not None:
            session.seed, session.n_drawn = seed, 0

    def feedback(self, session: Session, seq: int, reward: float) -> None:
        """Say what came of a step of the open episode, in place of what was said before.

        Raises:
            StateConflictError: the session records nothing.
            Problem: there is no such step in the open episode.
        """
        self._require_time(session)
        if session.run_id is None:
            message = f"session {session.id} records nothing; rewards are kept by one made with record: true"
            raise StateConflictError(message)
        before = None if session.recorder is None else session.recorder.pay(seq, reward)
        if before is None:
            message = f"The open episode has no step {seq} to reward."
            raise Problem.at("/seq", "invalid_value", message)
        if session.share is not None:
            session.share.counts.add_reward(reward, before)

    async def close(self, session: Session) -> EndedSession:
        """End a session; an open episode is cut, and a recording run succeeds."""
        ended = self._leave(session, SessionEnd.CLOSED)
        await self._settle()
        return ended

    async def sweep(self) -> None:
        """End what was idle for too long, and what was cancelled; called every second."""
        for session in list(self._open.values()):
            if self._is_late(session):
                self._leave(session, SessionEnd.EXPIRED)
        recording = {one.run_id: one for one in self._open.values() if one.run_id is not None}
        if recording:
            for run in await asyncio.to_thread(self._stores.runs.held):
                if run.stop_wish is not None and (one := recording.get(run.id)) is not None:
                    self._leave(one, SessionEnd.CLOSED)
        await self._settle()

    async def start(self) -> None:
        """Go on with what the process before has written down, and end what it has lost."""
        left = await asyncio.to_thread(self._stores.sessions.take_over)
        lost_runs = [*left.lost_runs]
        for session_id, (kept, run_id) in left.snapshots.items():
            try:
                session = await restored(kept, self._agents.of, self._clock())
                session.share = await asyncio.to_thread(self._share, session)
            except Exception as error:
                logger.warning("session %s cannot go on: %s", session_id, error)
                lost = EndedSession(id=session_id, project="", reason=SessionEnd.RESTARTED, last_seq=None)
                await asyncio.to_thread(self._stores.sessions.end, [lost])
                lost_runs += [] if run_id is None else [run_id]
            else:
                self._begin(session)
        for lost_run in lost_runs:
            await asyncio.to_thread(self._episodes.end_run, lost_run, SessionEnd.RESTARTED)
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep_often())

    def warn(self) -> None:
        """Tell everyone who is connected that the service ends; safe to call more than once."""
        for session in list(self._open.values()):
            for listener in list(session.listeners):
                listener(None)

    async def stop(self) -> None:
        """Write the open sessions down."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        under_way = [one.pending.future for one in self._open.values() if one.pending is not None]
        await asyncio.gather(*self._tasks, *under_way, return_exceptions=True)
        await self._settle()
        snapshots = {session.id: snapshot(session) for session in self._open.values()}
        if snapshots:
            await asyncio.to_thread(self._stores.sessions.suspend, snapshots)

    def _begin(self, session: Session) -> None:
        self._open[session.id] = session
        if session.sequence is not None:
            self._sequences[session.sequence] = session

    async def _chosen(
        self, stores: Stores, session_id: str, project: str, source: str, selector: str
    ) -> _Choice:
        """What a session acts with, loaded; where a canary cannot be, the version that the alias names."""
        split = await asyncio.to_thread(Split.of, stores.policies, project, source)
        if split is None:
            return await self._loaded(stores, source, selector, None)
        lane = self._agents.traffic.lane(split)
        if (role := lane.choose(session_id)) is Role.CANARY:
            try:
                return await self._loaded(stores, name_of(split.versions[role]), selector, Share(lane, role))
            except ServiceError:
                lane.failed(role)
        holder = name_of(split.versions[Role.HOLDER])
        return await self._loaded(stores, holder, selector, Share(lane, Role.HOLDER))

    async def _loaded(self, stores: Stores, source: str, selector: str, share: Share | None) -> _Choice:
        version, info = await asyncio.to_thread(Version.named, stores, source, selector)
        await self._agents.of(version.checkpoint)
        return _Choice(version, info, share)

    def _share(self, session: Session) -> Share | None:
        """Of a session that goes on, where the traffic of its alias is still split."""
        split, policies = None, stores_of(self._stores, session.project).policies
        with suppress(ServiceError):  # the alias is no more
            split = Split.of(policies, session.project, session.source)
        for role, version in split.versions.items() if split is not None else ():
            if split is not None and role is not Role.SHADOW and name_of(version) == session.version.policy:
                return Share(self._agents.traffic.lane(split), role)
        return None

    def _store(self, session: Session, new: NewRun | None) -> None:
        if new is not None:
            self._episodes.begin_run(session, new)
        try:
            self._stores.sessions.add(
                NewSession(
                    id=session.id,
                    project=session.project,
                    checkpoint_id=session.version.checkpoint,
                    run_id=session.run_id,
                    created_by=session.created_by,
                )
            )
        except ServiceError:
            if session.run_id is not None:
                self._episodes.end_run(session.run_id, SessionEnd.CLOSED)
            raise

    def _require_place(self, project: str) -> None:
        if len(self._open) + self._n_beginning < self._max:
            return
        still = [one for one in self._open.values() if not (one.pending or one.is_resetting)]
        is_over = self._clock() - EVICTABLE_S
        idle = [
            one for one in still if one.project == project and not one.listeners and one.used_at <= is_over
        ]
        counts = Counter(one.project for one in self._open.values())
        largest = max(counts, key=lambda name: counts[name], default=project)
        has_too_many = counts[largest] > counts[project] + 1  # so that no project has all places for itself
        theirs = [one for one in still if has_too_many and one.project == largest]
        oldest = min(idle or theirs, key=lambda one: one.used_at, default=None)
        if oldest is None:
            message = f"{self._max} sessions are open, as many as there may be; close some, or try again"
            raise CapacityError(message, FULL_RETRY_S)
        self._leave(oldest, SessionEnd.EVICTED)
        self._spawn(self._settle())

    def _is_late(self, session: Session) -> bool:
        return session.pending is None and self._clock() >= session.used_at + session.ttl_s

    def _require_time(self, session: Session) -> None:
        """Note a use; raises where it comes too late."""
        if session.id not in self._open:
            raise SessionGoneError(self._ended[session.id])
        if self._is_late(session):
            ended = self._leave(session, SessionEnd.EXPIRED)
            self._spawn(self._settle())
            raise SessionGoneError(ended)
        session.used_at = self._clock()

    def _leave(self, session: Session, reason: SessionEnd) -> EndedSession:
        """Take a session out; what is to be written of it is written by :meth:`_settle`."""
        known = self._ended.get(session.id)
        if known is not None:
            return known
        last = session.last
        last_seq = session.next_seq - 1 if session.next_seq else None if last is None else last.seq
        ended = EndedSession(
            id=session.id,
            project=session.project,
            reason=reason,
            last_seq=last_seq,
            ended_at=datetime.now(UTC),
        )
        self._open.pop(session.id, None)
        if session.sequence is not None and self._sequences.get(session.sequence) is session:
            del self._sequences[session.sequence]
        self._ended[session.id] = ended
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        self._unsettled.append((session, ended))
        self.metrics.ended[reason] += 1
        for listener in list(session.listeners):
            listener(reason)
        return ended

    async def _settle(self) -> None:
        """Write down what has ended; what cannot be written now is tried again with the next sweep."""
        async with self._settling:
            left, self._unsettled = self._unsettled, []
            for session, ended in left:
                try:
                    if session.pending is not None:
                        await asyncio.wait([session.pending.future])
                    await self._episodes.cut(session)
                    await asyncio.to_thread(self._write_end, session, ended)
                except StoreUnavailableError as error:
                    logger.warning("the end of session %s is not written yet: %s", session.id, error)
                    self._unsettled.append((session, ended))
                except Exception:
                    logger.exception("the end of session %s cannot be written", session.id)

    def _write_end(self, session: Session, ended: EndedSession) -> None:
        if session.run_id is not None:
            self._episodes.end_run(session.run_id, ended.reason)
        self._stores.sessions.end([ended])

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except ServiceError as error:
                logger.warning("sessions cannot be looked after now: %s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
