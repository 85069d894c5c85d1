"""One loaded agent, ready to answer: its readers, its batcher and, where it needs one, its child process.

Where it acts follows from the checkpoint: a small dense policy on the event loop (about 20 µs), a large one
in a thread, one that needs torch in a serving child.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from maze_core.agent_state import MISSING
from maze_core.config.trust import TrustPolicy, trust_policy
from maze_core.errors import NotServableError, SpaceMismatchError, StateError
from maze_core.notices import Notices
from maze_core.types import JSON, Action, ActorID, Tree
from service.domain.errors import DamagedCheckpointError, NotServableAgentError
from service.metrics import ActionMetrics
from service.problems import Problem
from service.serving.batching import (
    NOT_FINITE,
    Batcher,
    Call,
    Job,
    Reply,
    action_rows,
    stacked,
    state_problem,
)
from service.serving.child import blames_checkpoint
from service.serving.child_process import ChildProcess, could_not_load
from service.serving.observations import ObservationReader
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
    ) -> None:
        """Bind an agent.

        Args:
            checkpoint_id: what answers name.
            agent: acts, unless a child does; always checks observations.
            metrics: counts the batches.
            on_loop: its forward is short enough for the event loop.
            child: acts in the agent's place.
        """
        self.checkpoint_id = checkpoint_id
        self.answer_tail = b',"checkpoint":' + json.dumps(checkpoint_id).encode() + b"}"
        """How every answer ends."""
        self._agent = agent
        self.has_state = agent.has_state
        """It carries something through an episode."""
        self._child = child
        self._rng = np.random.default_rng()
        self._quiet = _quietly()
        self._default_reader = ObservationReader(agent, agent.default_actor)
        self._readers = {agent.default_actor: self._default_reader}
        if child is not None:
            self.is_remote = True
            self.batcher = Batcher(None, child.act, metrics)
        else:
            self.is_remote = not on_loop
            act = self._act_on_loop if on_loop else None
            self.batcher = Batcher(act, self._act_in_thread, metrics)

    @classmethod
    async def load(
        cls,
        checkpoint_id: str,
        bundle: bytes,
        metrics: ActionMetrics,
        start_child: StartChild = ChildProcess.start,
        trust: Callable[[], TrustPolicy] = trust_policy,
    ) -> "ServedAgent":
        """Load a checkpoint's bundle; the agent has then given the recorded actions.

        Raises:
            NotServableAgentError: its wrappers have no pure form.
            DamagedCheckpointError: it is damaged, or does not act as it did when it was made.
            AgentGoneError: its child died, or it could not be loaded by no fault of the checkpoint.
        """
        agent, n_weights = await asyncio.to_thread(_load, checkpoint_id, bundle, trust())
        child = await start_child(bundle) if agent.needs_torch else None
        return cls(checkpoint_id, agent, metrics, on_loop=n_weights <= MAX_WEIGHTS_ON_LOOP, child=child)

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
            Problem: 422, an observation does not fit its space, there is no such actor, or a state is missing or is
                none of this agent's.
        """
        reader = self._default_reader if request.actor_id is None else self.reader(*request.actor_id)
        if isinstance(request.observation, msgspec.Raw):
            rows = reader.one(request.observation, request.form)
        else:
            assert isinstance(request.observations, msgspec.Raw)
            rows = reader.many(request.observations, request.form)
        states = self._states(request, len(rows)) if self.has_state or request.gives_state else None
        return Job(reader, rows, request.deterministic, request.seed, reply, states, request.is_many)

    def _states(self, request: ActionRequest, n_rows: int) -> list[str | None] | None:
        """What each row carries, checked; None where this agent carries nothing."""
        name = "states" if request.is_many else "state"
        if not request.gives_state:
            raise Problem.at(f"/{name}", "missing_field", MISSING)
        states = request.states_of(n_rows)
        for i, state in enumerate(states):
            try:
                self._agent.check_state(state)
            except SpaceMismatchError as error:
                place = f"/states/{i}" if request.is_many else "/state"
                raise Problem.at(place, "state_mismatch", str(error)) from error
        return states if self.has_state else None

    def plain_job(self, body: bytes, reply: Reply) -> Job | None:
        """The job of a body that says no more than one observation, else None; as :meth:`job` would make it."""
        rows = None if self.has_state else self._default_reader.plain(body)
        return None if rows is None else Job(self._default_reader, rows, True, None, reply)

    async def explain(self, job: Job) -> tuple[list[JSON], list[Tree]]:
        """The actions of a job, and what the policy thought of each; in no batch, and never on the event loop.

        The job's states are then the next ones.

        Raises:
            Problem: an action is not finite, or nothing can be carried on from a state.
            AgentGoneError: its child is gone.
        """
        call = stacked([job])
        try:
            if self._child is not None:
                actions, decisions = await self._child.explain(call)
            else:
                actions, decisions = await asyncio.to_thread(_quietly().run, self._explained, call)
        except StateError as error:
            raise state_problem(job, error) from error
        rows, finite = action_rows(actions, job.reader.action_form)
        if finite is not None:
            raise Problem("action_not_finite", NOT_FINITE)
        job.states = call.states
        return rows, decisions

    async def close(self) -> None:
        """Answer what was taken on, then let go of the child."""
        await self.batcher.drain()
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
        if call.states is None:
            return self._agent.act_as(call.actor, call.observations, call.deterministic, rng)
        actions, call.states[:] = self._agent.advance(
            call.actor, call.observations, call.states, call.deterministic, rng
        )
        return actions

    def _explained(self, call: Call) -> tuple[Action, list[Tree]]:
        rng = self._rng if call.seed is None else np.random.default_rng(call.seed)
        actions, decisions, after = self._agent.explain_as(
            call.actor, call.observations, call.states, call.deterministic, rng
        )
        if call.states is not None:
            call.states[:] = after
        return actions, decisions

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
