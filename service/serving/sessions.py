"""Sessions: the steps of episodes, one after the other, with what is carried between them.

A step names its number. The next one acts; the last one again, with the same content, gets the stored answer, so a
client that heard nothing asks once more and moves nothing; every other one is refused with the number expected. A
session with random actions has one stream: the noise of its n-th action follows from its seed and n alone.

All of this happens on one event loop; the answer to a step is stored when the action is there, whether or not
somebody still waits for it.
"""

import asyncio
import logging
import math
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

import msgspec

from maze_core.rollout.recording import Trajectory, trajectory_to_bytes
from maze_core.types import JSON
from service.domain.errors import (
    AgentGoneError,
    CapacityError,
    NotFoundError,
    ServiceError,
    StateConflictError,
    StoreUnavailableError,
)
from service.domain.policies import is_policy
from service.domain.ports import Stores
from service.domain.run import CheckpointInfo, EpisodeInfo, Lease, NewRun, RunState, StopReason
from service.domain.sessions import (
    DEFAULT_TTL_S,
    MAX_REWARD,
    RECORDER,
    EndedSession,
    NewSession,
    SequenceConflictError,
    SessionEnd,
    SessionGoneError,
)
from service.domain.sharing import DEFAULT_PROJECT, name_of
from service.domain.use_cases import acting_checkpoint, named_version, new_session_id
from service.problems import Problem
from service.serving.agents import AgentCache
from service.serving.batching import Job, Reply
from service.serving.forms import JSON as JSON_FORM
from service.serving.forms import MSGPACK, Form
from service.serving.recording import EpisodeRecorder
from service.serving.request import ActionRequest, PackedActionRequest
from service.serving.served import ServedAgent
from service.serving.traffic import Lane, Role, Split
from service.settings import Settings

logger = logging.getLogger(__name__)

EVICTABLE_S = 60.0
"""Idle for longer, a session may give its place to a new one."""
FULL_RETRY_S = 5.0
SWEEP_S = 1.0
READ_ON_LOOP_BYTES = 65_536
"""Longer observations are checked in a thread."""
MAX_RECORDED_BYTES = 256 * 2**20
"""Of observations in open episodes, of all sessions together."""
_REMEMBERED = 4096
"""Ended sessions that are known without a look at the database."""
_SEED_LIMIT = 2**32


def check_reward(reward: float) -> None:
    """Pass a number whose like can be summed up; raises :class:`ValueError`."""
    if not abs(reward) <= MAX_REWARD:
        raise ValueError(f"Expected a reward between -{MAX_REWARD:g} and {MAX_REWARD:g}")


class StepRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One step."""

    form: ClassVar[Form] = JSON_FORM
    """In which it came."""
    seq: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    """Its number in the episode, from 0."""
    observation: msgspec.Raw
    """As the environment gives it."""
    reward: float | None = None
    """What came of the action before."""
    terminated: bool = False
    """The observation is the episode's last, at which it ended by itself ..."""
    truncated: bool = False
    """... or was cut; no action is needed."""
    actor_id: tuple[int | str, Annotated[int, msgspec.Meta(ge=0)]] | None = None
    """``[step_key, agent_id]``; None is the environment's first actor."""

    def __post_init__(self) -> None:
        """What msgspec makes of this error is a problem."""
        check_reward(self.reward or 0.0)

    @property
    def is_end(self) -> bool:
        """No action follows."""
        return self.terminated or self.truncated

    def digest(self) -> bytes:
        """Equal for steps of equal content."""
        rest = repr((self.reward, self.terminated, self.truncated, self.actor_id))
        digest = blake2b(self.observation, digest_size=16)
        digest.update(rest.encode())
        return digest.digest()

    @property
    def is_long(self) -> bool:
        """To be checked in a thread."""
        return memoryview(self.observation).nbytes > READ_ON_LOOP_BYTES

    def job(self, session: "Session", served: ServedAgent, reply: Reply) -> Job:
        """The step with its observation checked; raises as :meth:`ServedAgent.job`."""
        state: Any = session.state if served.has_state else msgspec.UNSET
        kind = ActionRequest if self.form is JSON_FORM else PackedActionRequest
        action = kind(
            observation=self.observation,
            deterministic=session.deterministic,
            seed=session.noise_seed(),
            actor_id=self.actor_id,
            state=state,
        )
        return served.job(action, reply)


class PackedStepRequest(StepRequest):
    """The same in msgpack."""

    form = MSGPACK


class EpisodeEnd(msgspec.Struct, frozen=True):
    """An episode that was played to its end, or cut."""

    episode: int
    length: int
    """Steps."""
    recorded: int | None = None
    """Its index among the episodes of the session's run; None where it is not recorded."""


class Stepped(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a step."""

    action: JSON
    """None at the end of an episode."""
    seq: int
    next_seq: int
    checkpoint: str
    ended: EpisodeEnd | None = None


Answer: TypeAlias = "Stepped | asyncio.Future[Stepped]"
"""Of a step: at once, or when it is there."""


@dataclass(frozen=True)
class Pin:
    """What a session acts with."""

    run_id: str
    checkpoint_id: str
    checkpoint_sha256: str
    version: str | None
    """As ``name:3``, where a policy was named."""


class Share(NamedTuple):
    """What a session is of the traffic of an alias."""

    lane: Lane
    role: Role


@dataclass(kw_only=True, eq=False)
class Session:
    """An open session; used from one event loop."""

    id: str
    project: str
    created_by: str | None
    created_at: datetime
    source: str
    """Id of the run, or the name of the policy, that a later pin asks for again ..."""
    selector: str
    """... and which checkpoint of it."""
    pin: Pin
    deterministic: bool
    seed: int
    ttl_s: float
    run_id: str | None
    """That it records to."""
    next_seq: int = 0
    episode: int = 0
    """Episodes before this one."""
    n_drawn: int = 0
    """Actions drawn since the seed was set."""
    state: str | None = None
    n_recorded: int = 0
    used_at: float = 0.0
    """On the clock of :class:`Sessions`."""
    last: Stepped | None = None
    last_digest: bytes = b""
    pending: "_Step | None" = None
    recorder: EpisodeRecorder | None = None
    is_resetting: bool = False
    sequence: Sequence[Any] | None = None
    """What :meth:`Sessions.in_sequence` finds it by."""
    share: Share | None = None
    """Where the alias's traffic was split when the session was pinned."""
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an episode is stored."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who steps without numbers, in the order in which they came."""
    listeners: "set[Callable[[SessionEnd | None], None]]" = field(default_factory=set)
    """Told when it ends, and with None when the service does."""

    @property
    def expires_at(self) -> datetime:
        """When it ends unless it is used; on the clock of the wall, right after a use."""
        return datetime.now(UTC) + timedelta(seconds=self.ttl_s)

    @property
    def lease(self) -> Lease:
        """The right to write its run."""
        assert self.run_id is not None
        return _lease(self.run_id)

    def noise_seed(self) -> int | None:
        """Of the next action."""
        if self.deterministic:
            return None
        digest = blake2b(b"%d/%d" % (self.seed, self.n_drawn), digest_size=8).digest()
        return int.from_bytes(digest) >> 1

    def begin_episode(self) -> None:
        """Carry nothing on."""
        self.episode += 1
        self.next_seq, self.state, self.recorder = 0, None, None


class _Step:
    """A step that acts: the reply of its job."""

    __slots__ = ("_future", "_submitted_at", "digest", "is_told", "job", "request", "session")

    def __init__(self, session: Session, request: StepRequest, digest: bytes) -> None:
        self.session, self.request, self.digest = session, request, digest
        self.job: Job | None = None
        self._submitted_at: float | None = None
        self.is_told = False
        self._future: asyncio.Future[Stepped] | None = None

    @property
    def future(self) -> "asyncio.Future[Stepped]":
        """Gets the answer; made where somebody has to wait."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
            self._future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._future

    @property
    def answer(self) -> Answer:
        """As of :meth:`Sessions.step`."""
        last = self.session.last
        return last if last is not None and self.is_told and self._future is None else self.future

    def done(self) -> bool:
        """It is taken to its end, whoever waits for it."""
        return self.is_told

    def read(self, served: ServedAgent) -> Job:
        """The job of the step; raises as :meth:`StepRequest.job`."""
        self.job = self.request.job(self.session, served, self)
        return self.job

    def submit(self, served: ServedAgent, job: Job) -> None:
        """Let the job join the agent's next batch; raises as :meth:`Batcher.submit`."""
        self._submitted_at = time.perf_counter()
        served.submit(job)

    def set_result(self, actions: list[JSON]) -> None:
        """Move the session on."""
        try:
            stepped = self._moved(actions[0])
        except Exception as error:
            self.set_exception(error)
            return
        if (share := self.session.share) is not None and self.job is not None and self._submitted_at:
            share.lane.answered(share.role, self.job, actions, time.perf_counter() - self._submitted_at)
        self.tell(stepped)

    def pay(self) -> None:
        """Keep what came of the action before, in place of what was known of it."""
        if self.session.recorder is not None and self.request.reward is not None:
            self.session.recorder.pay(self.request.seq - 1, self.request.reward)

    def set_exception(self, error: Exception) -> None:
        """Leave the session where it was."""
        self.is_told, self.session.pending = True, None
        if (share := self.session.share) is not None and self._submitted_at:
            share.lane.failed(share.role)
        self.future.set_exception(error)

    def tell(self, stepped: Stepped) -> None:
        """Store the answer."""
        session = self.session
        if session.share is not None and self.request.reward is not None:
            session.share.lane.rewarded(session.share.role, self.request.reward)
        session.last, session.last_digest, session.pending = stepped, self.digest, None
        self.is_told = True
        if self._future is not None:
            self._future.set_result(stepped)

    def _moved(self, action: JSON) -> Stepped:
        session, request, job = self.session, self.request, self.job
        assert job is not None
        if session.recorder is not None:
            seen = job.reader.stack(job.rows)
            leaves = {name: values[0] for name, values in seen.items()}
            self.pay()
            session.recorder.act(job.reader.actor, leaves, action)
        if job.states is not None:
            (session.state,) = job.states
        session.n_drawn += 1
        session.next_seq = request.seq + 1
        return Stepped(action, request.seq, session.next_seq, session.pin.checkpoint_id)


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
        self._sequences: dict[Sequence[Any], Session] = {}
        self._n_beginning = 0
        self._ended: OrderedDict[str, EndedSession] = OrderedDict()
        self._unsettled: list[tuple[Session, EndedSession]] = []
        self._settling = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.n_steps = 0
        self.n_ended = dict.fromkeys(SessionEnd, 0)

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
            pin, info, share = await self._pinned(stores, project, source, selector, session_id)
            session = Session(
                id=session_id,
                project=project,
                created_by=by,
                created_at=datetime.now(UTC),
                source=source,
                selector=selector,
                pin=pin,
                deterministic=deterministic,
                seed=secrets.randbelow(_SEED_LIMIT) if seed is None else seed,
                ttl_s=ttl_s,
                run_id=None,
                used_at=self._clock(),
                sequence=sequence,
                share=share,
            )
            await asyncio.to_thread(self._store, session, record and record(info))
        finally:
            self._n_beginning -= 1
        self._begin(session)
        return session

    def in_sequence(self, sequence: Sequence[Any]) -> Session | None:
        """The open session that was made with this name last."""
        return self._sequences.get(sequence)

    def step(self, session: Session, request: StepRequest) -> Answer:
        """Act, or give the answer of the same step again.

        Raises:
            SequenceConflictError: it is neither the next step nor the last one again.
            Problem: the observation does not fit its space.
            ServiceError: the session has ended, or its agent cannot act now; the step may come again.
        """
        self._require_time(session)
        digest = request.digest()
        pending, last = session.pending, session.last
        if pending is not None and request.seq == pending.request.seq and digest == pending.digest:
            return pending.future
        if request.seq != session.next_seq or pending is not None or session.is_resetting:
            if last is not None and request.seq == last.seq and digest == session.last_digest:
                return last
            raise _conflict(session, request.seq)
        step = session.pending = _Step(session, request, digest)
        self.n_steps += 1
        served = self._agents.loaded(session.pin.checkpoint_id)
        if served is None or request.is_end or request.is_long or self._is_full(session, served):
            self._spawn(self._step_slowly(step))
            return step.future
        try:
            step.submit(served, step.read(served))
        except AgentGoneError:  # evicted a moment ago
            self._spawn(self._step_slowly(step))
        except BaseException:
            session.pending = None
            raise
        return step.answer

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
            raise _conflict(session, None)
        session.is_resetting = True
        try:
            pin, share = session.pin, session.share
            if repin_in is not None:
                asked = session.project, session.source, session.selector, session.id
                pin, _, share = await self._pinned(repin_in, *asked)
                await asyncio.to_thread(self._stores.sessions.repin, session.id, pin.checkpoint_id)
            await self._finish(session, None, terminated=False, truncated=True)
        finally:
            session.is_resetting = False
        if session.next_seq:
            session.begin_episode()
        session.pin, session.share, session.last = pin, share, None
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
        if session.recorder is None or not session.recorder.pay(seq, reward):
            message = f"The open episode has no step {seq} to reward."
            raise Problem.at("/seq", "invalid_value", message)

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
        for session_id, (snapshot, run_id) in left.snapshots.items():
            try:
                session = await self._restored(snapshot)
            except Exception as error:
                logger.warning("session %s cannot go on: %s", session_id, error)
                lost = EndedSession(id=session_id, project="", reason=SessionEnd.RESTARTED, last_seq=None)
                await asyncio.to_thread(self._stores.sessions.end, [lost])
                lost_runs += [] if run_id is None else [run_id]
            else:
                self._begin(session)
        for lost_run in lost_runs:
            await asyncio.to_thread(_end_run, self._stores, lost_run, SessionEnd.RESTARTED)
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
        snapshots = {session.id: self._snapshot(session) for session in self._open.values()}
        if snapshots:
            await asyncio.to_thread(self._stores.sessions.suspend, snapshots)

    def _begin(self, session: Session) -> None:
        self._open[session.id] = session
        if session.sequence is not None:
            self._sequences[session.sequence] = session

    async def _pinned(
        self, stores: Stores, project: str, source: str, selector: str, session_id: str
    ) -> tuple[Pin, CheckpointInfo, Share | None]:
        """What a session acts with, loaded; where a canary cannot be, the version that the alias names."""
        split = await asyncio.to_thread(Split.of, stores.policies, project, source)
        if split is None:
            return *await self._loaded(stores, source, selector), None
        lane = self._agents.traffic.lane(split)
        if (role := lane.choose(session_id)) is Role.CANARY:
            try:
                found = await self._loaded(stores, name_of(split.versions[role]), selector)
                return *found, Share(lane, role)
            except ServiceError:
                lane.failed(role)
        holder = name_of(split.versions[Role.HOLDER])
        return *await self._loaded(stores, holder, selector), Share(lane, Role.HOLDER)

    async def _loaded(self, stores: Stores, source: str, selector: str) -> tuple[Pin, CheckpointInfo]:
        pin, info = await asyncio.to_thread(_pinned, stores, source, selector)
        await self._agents.of(pin.checkpoint_id)
        return pin, info

    def _store(self, session: Session, new: NewRun | None) -> None:
        if new is not None:
            ours = replace(new, project=session.project)
            self._stores.runs.begin(ours, RECORDER, by=session.created_by)
            session.run_id = new.id
        try:
            self._stores.sessions.add(
                NewSession(
                    id=session.id,
                    project=session.project,
                    checkpoint_id=session.pin.checkpoint_id,
                    run_id=session.run_id,
                    created_by=session.created_by,
                )
            )
        except ServiceError:
            if session.run_id is not None:
                _end_run(self._stores, session.run_id, SessionEnd.CLOSED)
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

    def _is_full(self, session: Session, served: ServedAgent) -> bool:
        """Whether the episode is too long to be kept whole; before its first step, its recorder is made."""
        if session.run_id is None:
            return False
        if session.recorder is None:
            session.recorder = EpisodeRecorder(served.agent, session.next_seq)
        return session.recorder.n_bytes > MAX_RECORDED_BYTES / max(16, len(self._open))

    async def _step_slowly(self, step: _Step) -> None:
        """The way with detours: the agent has to be loaded, the observation is long, or an episode ends."""
        session = step.session
        try:
            served = await self._agents.of(session.pin.checkpoint_id)
            is_full = not step.request.is_end and self._is_full(session, served)
            is_long = step.request.is_long
            job = await asyncio.to_thread(step.read, served) if is_long else step.read(served)
            step.pay()
            if step.request.is_end:
                step.tell(await self._end_episode(step, job))
                return
            if is_full:
                await self._finish(session, self._final(job), terminated=False, truncated=True)
                session.recorder = EpisodeRecorder(served.agent, session.next_seq)
            step.submit(served, job)
        except Exception as error:
            step.set_exception(error)

    async def _end_episode(self, step: _Step, job: Job) -> Stepped:
        session, request = step.session, step.request
        if not session.next_seq:
            pointer = "/terminated" if request.terminated else "/truncated"
            raise Problem.at(
                pointer, "invalid_value", "No action was given yet in this episode; there is none to end."
            )
        index = await self._finish(
            session, self._final(job), terminated=request.terminated, truncated=request.truncated
        )
        ended = EpisodeEnd(session.episode, session.next_seq, index)
        session.begin_episode()
        return Stepped(None, request.seq, 0, session.pin.checkpoint_id, ended)

    @staticmethod
    def _final(job: Job) -> tuple[Any, Any]:
        return job.reader.actor.step_key, {name: rows[0] for name, rows in job.reader.stack(job.rows).items()}

    async def _finish(self, session: Session, final: Any, *, terminated: bool, truncated: bool) -> int | None:
        """Store the episode that is recorded; its index, None where there is nothing to store."""
        async with session.storing:
            recorder, session.recorder = session.recorder, None
            if recorder is None:
                return None
            try:
                episode = recorder.finish(final, terminated=terminated, truncated=truncated)
                if episode is None:
                    return None
                await asyncio.to_thread(self._add_episode, session, episode)
            except BaseException:  # it is tried again with what comes next
                session.recorder = recorder
                raise
            session.n_recorded += 1
            return session.n_recorded - 1

    def _add_episode(self, session: Session, episode: Trajectory) -> None:
        info = EpisodeInfo(
            index=session.n_recorded,
            seed=None,
            episode_return=float(math.fsum(episode.rewards.tolist())),
            length=int(episode.flat_steps[-1]) + 1,
            terminated=episode.terminated,
            truncated=episode.truncated,
            has_trajectory=True,
        )
        self._stores.episodes.add(session.lease, info, trajectory_to_bytes(episode))

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
        self.n_ended[reason] += 1
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
                    await self._cut(session)
                    await asyncio.to_thread(self._write_end, session, ended)
                except StoreUnavailableError as error:
                    logger.warning("the end of session %s is not written yet: %s", session.id, error)
                    self._unsettled.append((session, ended))
                except Exception:
                    logger.exception("the end of session %s cannot be written", session.id)

    async def _cut(self, session: Session) -> None:
        """Store the episode that is open; where that can never be, the session ends without it."""
        try:
            await self._finish(session, None, terminated=False, truncated=True)
        except StoreUnavailableError:
            raise
        except Exception:
            logger.exception("the last episode of session %s cannot be kept", session.id)

    def _write_end(self, session: Session, ended: EndedSession) -> None:
        if session.run_id is not None:
            _end_run(self._stores, session.run_id, ended.reason)
        self._stores.sessions.end([ended])

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except ServiceError as error:
                logger.warning("sessions cannot be looked after now: %s", error)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _snapshot(self, session: Session) -> bytes:
        kept = {name: getattr(session, name) for name in _KEPT}
        recorder = session.recorder
        if recorder is not None and len(recorder):
            kept["recorded"] = [recorder.first_seq, recorder.dump()]
        return msgspec.msgpack.encode(kept)

    async def _restored(self, snapshot: bytes) -> Session:
        kept = msgspec.msgpack.decode(snapshot)
        recorded = kept.pop("recorded", None)
        kept["pin"] = Pin(**kept["pin"])
        kept["last"] = kept["last"] and msgspec.convert(kept["last"], Stepped)
        kept["sequence"] = (sequence := kept.get("sequence")) and tuple(sequence)
        session = Session(**kept, used_at=self._clock())
        if recorded is not None:
            served = await self._agents.of(session.pin.checkpoint_id)
            session.recorder = EpisodeRecorder(served.agent, recorded[0])
            session.recorder.restore(recorded[1])
        return session


_KEPT = (
    *(
        "id",
        "project",
        "created_by",
        "created_at",
        "source",
        "selector",
        "pin",
        "deterministic",
        "seed",
        "ttl_s",
    ),
    *("run_id", "next_seq", "episode", "n_drawn", "state", "n_recorded", "last", "last_digest", "sequence"),
)
"""What a snapshot has of a session."""


_RUN_REASONS = {
    reason: "completed" if reason is SessionEnd.CLOSED else f"session_{reason.value}" for reason in SessionEnd
}
"""How a session ended → why its run has."""


def _pinned(stores: Stores, source: str, selector: str) -> tuple[Pin, CheckpointInfo]:
    version = None
    if is_policy(source):
        found = named_version(stores.policies, source)
        source = version = f"{found.policy}:{found.number}"
    info = acting_checkpoint(stores, source, selector)
    return Pin(info.run_id, info.id, info.content_sha256, version), info


def _conflict(session: Session, seq: int | None) -> SequenceConflictError:
    what = "a step is under way" if seq is None else f"step {seq} is not the next one, {session.next_seq}"
    message = (
        f"{what}, of session {session.id}; only the last step is answered again, and with the same content"
    )
    last_seq = None if session.last is None else session.last.seq
    return SequenceConflictError(message, expected=session.next_seq, last_seq=last_seq)


def _lease(run_id: str) -> Lease:
    return Lease(run_id=run_id, worker=RECORDER, epoch_token=1)


def _end_run(stores: Stores, run_id: str, reason: SessionEnd) -> None:
    """End a recording run, with the returns of what was recorded; nothing where it has ended."""
    from maze_core.evaluation.evaluate import EvalReport

    run = stores.runs.get(run_id)
    if run.state.is_terminal:
        return
    episodes: list[EpisodeInfo] = []
    cursor = None
    while not episodes or cursor:
        page = stores.episodes.list(run_id, limit=200, cursor=cursor)
        episodes += page.data
        cursor = page.next_cursor
        if cursor is None:
            break
    report = EvalReport.of_returns(
        [one.episode_return for one in episodes], [one.length for one in episodes], seeds=[]
    )
    is_cancelled = run.stop_wish is StopReason.CANCEL
    stores.runs.finish(
        _lease(run_id),
        RunState.CANCELLED if is_cancelled else RunState.SUCCEEDED,
        reason=StopReason.CANCEL.value if is_cancelled else _RUN_REASONS[reason],
        result={**report.to_dict(), "n_episodes": len(episodes)},
    )
