"""One loaded agent, ready to answer: its readers, its batcher and, where it needs one, its child process.

Where it acts follows from the checkpoint: a small dense policy on the event loop (about 20 µs), a large one
in a thread, one that needs torch in a serving child.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from maze_core.agent_state import MISSING
from maze_core.config.trust import TrustPolicy, trust_policy
from maze_core.errors import NotServableError, SpaceMismatchError
from maze_core.notices import Notices
from maze_core.types import Action, ActorID
from service.domain.errors import DamagedCheckpointError, NotServableAgentError
from service.metrics import ActionMetrics
from service.problems import Problem
from service.serving.batching import Batcher, Call, Extras, Job, QueueLimits, Reply
from service.serving.child import blames_checkpoint
from service.serving.child_process import ChildProcess, could_not_load
from service.serving.observations import ObservationReader, Row
from service.serving.request import ActionRequest
from service.trust import check_checkpoint

if TYPE_CHECKING:
    from maze_core.agent import Agent

logger = logging.getLogger(__name__)

MAX_WEIGHTS_ON_LOOP = 250_000
"""Weights of a policy whose forward of 8 rows may hold up the event loop: well under a millisecond."""
MAX_READERS = 1024
"""Actors that are remembered, where an environment bounds them at no number; requests of others share no batch."""

StartChild = Callable[[bytes], Awaitable[ChildProcess]]


class ServedAgent:
    """A loaded agent; made by :meth:`load`, used from one event loop."""

    def __init__(
        self,
        checkpoint_id: str,
        agent: "Agent",
        metrics: ActionMetrics,
        *,
        on_loop: bool = True,
        child: ChildProcess | None = None,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 -- it never changes
    ) -> None:
        """Bind an agent.

        Args:
            checkpoint_id: what answers name.
            agent: acts, unless a child does; always checks observations.
            metrics: counts the batches.
            on_loop: its forward is short enough for the event loop.
            child: acts in the agent's place.
            limits: of what waits for it.
        """
        self.checkpoint_id = checkpoint_id
        self._agent = agent
        self.has_state = agent.has_state
        """It carries something through an episode."""
        self._child = child
        self._rng = np.random.default_rng()
        self._quiet = _quietly()
        self._default_reader = ObservationReader(agent, agent.default_actor)
        self._readers = {agent.default_actor: self._default_reader}
        self.is_remote = child is not None or not on_loop
        act_elsewhere = self._act_in_thread if child is None else child.act
        act = None if self.is_remote else self._act_on_loop
        self.batcher = Batcher(act, act_elsewhere, metrics, limits)
        self.statistics = self.batcher.statistics
        self._explains = Batcher(None, act_elsewhere, metrics, limits, self.statistics)
        """What a policy thought is never told on the event loop."""

    @classmethod
    async def load(
        cls,
        checkpoint_id: str,
        bundle: bytes,
        metrics: ActionMetrics,
        start_child: StartChild = ChildProcess.start,
        trust: Callable[[], TrustPolicy] = trust_policy,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 -- it never changes
    ) -> "ServedAgent":
        """Load a checkpoint's bundle; the agent has then given the recorded actions.

        Raises:
            NotServableAgentError: its wrappers have no pure form.
            DamagedCheckpointError: it is damaged, or does not act as it did when it was made.
            AgentGoneError: its child died, or it could not be loaded by no fault of the checkpoint.
        """
        agent, n_weights = await asyncio.to_thread(_load, checkpoint_id, bundle, trust())
        child = await start_child(bundle) if agent.needs_torch else None
        on_loop = n_weights <= MAX_WEIGHTS_ON_LOOP
        return cls(checkpoint_id, agent, metrics, on_loop=on_loop, child=child, limits=limits)

    @property
    def agent(self) -> "Agent":
        """What it acts with; where a child does, what checks observations."""
        return self._agent

    @property
    def is_gone(self) -> bool:
        """Its child died; it has to be loaded again."""
        return self._child is not None and self._child.is_gone

    def job(self, request: ActionRequest, reply: Reply) -> Job:
        """The request with its observations checked; ``reply`` will get the actions.

        Raises:
            Problem: 422, an observation does not fit its space, there is no such actor, a state is missing or is none
                of this agent's, a mask cannot be applied, or there are no candidates.
        """
        reader = self._default_reader if request.actor_id is None else self.reader(*request.actor_id)
        if isinstance(request.observation, msgspec.Raw):
            (mask,) = request.masks_of(1)
            rows = reader.one(request.observation, request.form, mask)
        else:
            assert isinstance(request.observations, msgspec.Raw)
            masks_of = request.masks_of if isinstance(request.action_masks, msgspec.Raw) else None
            rows = reader.many(request.observations, request.form, masks_of)
        states = self._states(request, len(rows)) if self.has_state or request.gives_state else None
        extras = None if request.is_common else self._extras(request, reader.actor)
        if extras is not None:
            extras.is_masked = any(mask is not None for mask in request.masks_of(len(rows)))
        return Job(reader, rows, request.deterministic, request.seed, reply, states, request.is_many, extras)

    def jobs(self, request: ActionRequest, new_reply: Callable[[], Reply]) -> list[Job | Problem]:
        """A job for each observation, as if it had come alone; a problem in the place of one that cannot be.

        Raises:
            Problem: 422, there is no list of observations, of states or of masks, or no such actor.
        """
        reader = self._default_reader if request.actor_id is None else self.reader(*request.actor_id)
        assert isinstance(request.observations, msgspec.Raw)
        masks_of = request.masks_of if isinstance(request.action_masks, msgspec.Raw) else None
        rows = reader.each(request.observations, request.form, masks_of)
        states = request.states_of(len(rows)) if request.gives_state else None
        masked = [mask is not None for mask in request.masks_of(len(rows))]
        self._extras(request, reader.actor)  # what all ask for is wrong of all of them
        jobs: list[Job | Problem] = []
        for index, row in enumerate(rows):
            job = row
            if not isinstance(row, Problem):
                job = self._item(request, reader, index, row, states, new_reply)
            if isinstance(job, Job) and job.extras is not None:
                job.extras.is_masked = masked[index]
            jobs.append(job)
        return jobs

    def _item(
        self,
        request: ActionRequest,
        reader: ObservationReader,
        index: int,
        row: Row,
        states: list[str | None] | None,
        new_reply: Callable[[], Reply],
    ) -> Job | Problem:
        try:
            own = None if states is None else [self._checked(states[index], f"/states/{index}")]
            if own is None and self.has_state:
                raise Problem.at("/states", "missing_field", MISSING)
        except Problem as problem:
            return problem
        extras = self._extras(request, reader.actor)
        carried = own if self.has_state else None
        return Job(reader, [row], request.deterministic, request.seed, new_reply(), carried, False, extras)

    def submit(self, job: Job) -> None:
        """Let a job join the next batch of its kind; raises as :meth:`Batcher.submit`."""
        is_explained = job.extras is not None and job.extras.wanted is not None
        (self._explains if is_explained else self.batcher).submit(job)

    def _extras(self, request: ActionRequest, actor: ActorID) -> Extras:
        if request.top_k is not None and (numbers := self._agent.heads_of_numbers(actor)):
            message = f"The head {numbers[0]!r} gives numbers, and chooses nothing: it has no candidates."
            raise Problem.at("/top_k", "no_candidates", message)
        return Extras(request.wanted, decisions=[])

    def _states(self, request: ActionRequest, n_rows: int) -> list[str | None] | None:
        """What each row carries, checked; None where this agent carries nothing."""
        name = "states" if request.is_many else "state"
        if not request.gives_state:
            raise Problem.at(f"/{name}", "missing_field", MISSING)
        places = (f"/states/{i}" if request.is_many else "/state" for i in range(n_rows))
        states = [self._checked(*each) for each in zip(request.states_of(n_rows), places, strict=True)]
        return states if self.has_state else None

    def _checked(self, state: str | None, pointer: str) -> str | None:
        try:
            self._agent.check_state(state)
        except SpaceMismatchError as error:
            raise Problem.at(pointer, "state_mismatch", str(error)) from error
        return state

    def plain_job(self, body: bytes, reply: Reply) -> Job | None:
        """The job of a body that says no more than one observation, else None; as :meth:`job` would make it."""
        rows = None if self.has_state else self._default_reader.plain(body)
        return None if rows is None else Job(self._default_reader, rows, True, None, reply)

    async def close(self) -> None:
        """Answer what was taken on, then let go of the child."""
        await asyncio.gather(self.batcher.drain(), self._explains.drain())
        if self._child is not None:
            await self._child.close()

    def reader(self, step_key: int | str | None = None, agent_id: int | None = None) -> ObservationReader:
        """What reads the observations of an actor; what is left out of its id is the first actor's.

        Raises:
            Problem: 422, there is no such actor.
        """
        first = self._default_reader.actor
        wanted = ActorID(
            first.step_key if step_key is None else step_key, first.agent_id if agent_id is None else agent_id
        )
        try:
            actor = self._agent.actor(wanted)
        except SpaceMismatchError as error:
            raise Problem.at(error.pointer or "/actor_id", "unknown_actor", str(error)) from error
        reader = self._readers.get(actor)
        if reader is None:
            reader = ObservationReader(self._agent, actor)
            if len(self._readers) < MAX_READERS:
                self._readers[actor] = reader
        return reader

    def _act(self, call: Call) -> Action:
        rng = self._rng if call.seed is None else np.random.default_rng(call.seed)
        if call.wanted is not None:
            given = call.actor, call.observations, call.states, call.deterministic, rng
            actions, call.decisions[:], after = self._agent.explain_as(*given, wanted=call.wanted)
            if call.states is not None:
                call.states[:] = after
            return actions
        if call.states is None:
            return self._agent.act_as(call.actor, call.observations, call.deterministic, rng)
        actions, call.states[:] = self._agent.advance(
            call.actor, call.observations, call.states, call.deterministic, rng
        )
        return actions

    def _act_on_loop(self, call: Call) -> Action:
        return self._quiet.run(self._act, call)

    async def _act_in_thread(self, call: Call) -> Action:
        return await asyncio.to_thread(_quietly().run, self._act, call)


def _quietly() -> Context:
    """A context in which NumPy says nothing of what overflows: it is answered as ``action_not_finite``."""
    context = copy_context()
    context.run(np.seterr, over="ignore", invalid="ignore")
    return context


def _load(checkpoint_id: str, bundle: bytes, trust: TrustPolicy) -> "tuple[Agent, int]":
    """The agent and the number of its weights; one that needs torch is replayed in its child, not here."""
    from maze_core.agent import load_agent
    from maze_core.checkpoint import Checkpoint, section

    try:
        checkpoint = Checkpoint.from_bytes(bundle)
        check_checkpoint(checkpoint, trust)
        with Notices(partial(logger.warning, "Checkpoint %s: %s", checkpoint_id)).active():
            agent = load_agent(checkpoint, check=False)
            if agent.servable and not agent.needs_torch:
                agent = load_agent(checkpoint, check=True)
    except NotServableError as error:
        raise NotServableAgentError(str(error), checkpoint=checkpoint_id) from error
    except Exception as error:
        if not blames_checkpoint(error):
            raise could_not_load(f"checkpoint {checkpoint_id}: {type(error).__name__}: {error}") from error
        raise DamagedCheckpointError(
            f"Checkpoint {checkpoint_id}: {error} Ask for another one.", checkpoint=checkpoint_id
        ) from error
    if not agent.servable:
        raise NotServableAgentError(
            f"Checkpoint {checkpoint_id} trains on, but cannot act: {agent.not_servable_reason}",
            checkpoint=checkpoint_id,
        )
    return agent, sum(array.size for array in section(checkpoint.tensors, "policy").values())
