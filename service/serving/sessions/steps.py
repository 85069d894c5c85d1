"""A step of a session becomes a job of the agent's batches, and its actions the answer that is kept.

A step names its number. The next one acts; the last one again, with the same content, gets the stored answer, so a
client that heard nothing asks once more and moves nothing; every other one is refused with the number expected. The
answer is kept when the action is there, whether or not somebody still waits for it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

from maze_core.types import JSON
from service.domain.errors import AgentGoneError
from service.metrics import SessionMetrics
from service.problems import Problem
from service.serving.agents import AgentCache
from service.serving.batching import Job
from service.serving.served import ServedAgent
from service.serving.sessions.episodes import Episodes
from service.serving.sessions.session import Answer, EpisodeEnd, Session, Stepped, StepRequest


class PendingStep:
    """A step that acts: the reply of its job."""

    __slots__ = ("_future", "_metrics", "_submitted_at", "digest", "is_told", "job", "request", "session")

    def __init__(
        self, session: Session, request: StepRequest, digest: bytes, metrics: SessionMetrics
    ) -> None:
        self.session, self.request, self.digest = session, request, digest
        self.job: Job | None = None
        self._submitted_at: float | None = None
        self.is_told = False
        self._metrics = metrics
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
        """As of :meth:`Steps.step`."""
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
        session, reward = self.session, self.request.reward
        if reward is None or not self.request.seq:
            return
        before: float | None = math.nan
        if session.recorder is not None:
            before = session.recorder.pay(self.request.seq - 1, reward)
        if session.share is not None and before is not None:
            session.share.counts.add_reward(reward, before)

    def set_exception(self, error: Exception) -> None:
        """Leave the session where it was."""
        self.is_told, self.session.pending = True, None
        if (share := self.session.share) is not None and self._submitted_at:
            share.lane.failed(share.role)
        self.future.set_exception(error)

    def tell(self, stepped: Stepped) -> None:
        """Keep the answer."""
        session = self.session
        session.last, session.last_digest, session.pending = stepped, self.digest, None
        self.is_told = True
        self._metrics.steps += 1
        if self._future is not None:
            self._future.set_result(stepped)

    def _moved(self, action: JSON) -> Stepped:
        session, request, job = self.session, self.request, self.job
        assert job is not None
        self.pay()
        if session.share is not None:
            session.share.counts.steps += 1
        if session.recorder is not None:
            seen = job.reader.stack(job.rows)
            leaves = {name: values[0] for name, values in seen.items()}
            session.recorder.act(job.reader.actor, leaves, action)
        if job.states is not None:
            (session.state,) = job.states
        session.n_drawn += 1
        session.next_seq = request.seq + 1
        return Stepped(action, request.seq, session.next_seq, session.version)


class Steps:
    """Takes the steps of all sessions; used from one event loop."""

    def __init__(
        self,
        agents: AgentCache,
        episodes: Episodes,
        metrics: SessionMetrics,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """Bind the loaded agents, where episodes are recorded, what is counted, and who runs what takes time."""
        self._agents, self._episodes, self._metrics, self._spawn = agents, episodes, metrics, spawn

    def step(self, session: Session, request: StepRequest) -> Answer:
        """Act, or give the answer of the same step again.

        Raises:
            SequenceConflictError: it is neither the next step nor the last one again.
            Problem: the observation does not fit its space.
            ServiceError: the agent cannot act now; the step may come again.
        """
        digest = request.digest()
        pending, last = session.pending, session.last
        if pending is not None and request.seq == pending.request.seq and digest == pending.digest:
            return pending.future
        if request.seq != session.next_seq or pending is not None or session.is_resetting:
            if last is not None and request.seq == last.seq and digest == session.last_digest:
                return last
            raise session.conflict(request.seq)
        step = session.pending = PendingStep(session, request, digest, self._metrics)
        try:
            served = self._agents.loaded(session.version.checkpoint)
            if served is not None and self._acts_at_once(session, request, served):
                step.submit(served, step.read(served))
                return step.answer
        except AgentGoneError:  # evicted a moment ago
            pass
        except BaseException:
            session.pending = None
            raise
        self._spawn(self._step_slowly(step))
        return step.future

    def _acts_at_once(self, session: Session, request: StepRequest, served: ServedAgent) -> bool:
        return not (request.is_end or request.is_long or self._episodes.is_full(session, served.agent))

    async def _step_slowly(self, step: PendingStep) -> None:
        """The way with detours: the agent has to be loaded, the observation is long, or an episode ends."""
        session = step.session
        try:
            served = await self._agents.of(session.version.checkpoint)
            is_full = not step.request.is_end and self._episodes.is_full(session, served.agent)
            is_long = step.request.is_long
            job = await asyncio.to_thread(step.read, served) if is_long else step.read(served)
            if step.request.is_end:
                step.tell(await self._end_episode(step, job))
                return
            if is_full:
                step.pay()
                await self._episodes.split(session, _final(job), served.agent)
            step.submit(served, job)
        except Exception as error:
            step.set_exception(error)

    async def _end_episode(self, step: PendingStep, job: Job) -> Stepped:
        session, request = step.session, step.request
        if not session.next_seq:
            pointer = "/terminated" if request.terminated else "/truncated"
            raise Problem.at(
                pointer, "invalid_value", "No action was given yet in this episode; there is none to end."
            )
        step.pay()
        index = await self._episodes.finish(
            session, _final(job), terminated=request.terminated, truncated=request.truncated
        )
        ended = EpisodeEnd(session.episode, session.next_seq, index)
        session.begin_episode()
        return Stepped(None, request.seq, 0, session.version, ended)


def _final(job: Job) -> tuple[Any, Any]:
    """The observation of a job, as the last one of an episode."""
    return job.reader.actor.step_key, {name: rows[0] for name, rows in job.reader.stack(job.rows).items()}
