"""What sessions record: a run for each session, in which its episodes are stored as they end."""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maze_core.rollout.recording import Trajectory, trajectory_to_bytes
from service.domain.errors import StoreUnavailableError
from service.domain.ports import Stores
from service.domain.run import EpisodeInfo, Lease, NewRun, RunState, StopReason
from service.domain.sessions import RECORDER, SessionEnd
from service.serving.sessions.recorder import EpisodeRecorder
from service.serving.sessions.session import Session

if TYPE_CHECKING:
    from maze_core.agent import Agent

logger = logging.getLogger(__name__)

MAX_RECORDED_BYTES = 256 * 2**20
"""Of observations in open episodes, of all sessions together."""
_RUN_REASONS = {
    reason: "completed" if reason is SessionEnd.CLOSED else f"session_{reason.value}" for reason in SessionEnd
}
"""How a session ended → why its run has."""


class Episodes:
    """Stores the episodes of sessions; methods that are not awaited, but for :meth:`is_full`, may block."""

    def __init__(self, stores: Stores, n_open: Callable[[], int]) -> None:
        """Bind the stores, and how many sessions share the memory."""
        self._stores, self._n_open = stores, n_open

    def begin_run(self, session: Session, new: NewRun) -> None:
        """Begin the run that a session records to."""
        self._stores.runs.begin(replace(new, project=session.project), RECORDER, by=session.created_by)
        session.run_id = new.id

    def is_full(self, session: Session, agent: "Agent") -> bool:
        """Whether the episode is too long to be kept whole; before its first step, its recorder is made."""
        if session.run_id is None:
            return False
        if session.recorder is None:
            session.recorder = EpisodeRecorder(agent, session.next_seq)
        return session.recorder.n_bytes > MAX_RECORDED_BYTES / max(16, self._n_open())

    async def split(self, session: Session, final: Any, agent: "Agent") -> None:
        """Store what there is of an episode, and begin its next part."""
        await self.finish(session, final, terminated=False, truncated=True)
        session.recorder = EpisodeRecorder(agent, session.next_seq)

    async def finish(self, session: Session, final: Any, *, terminated: bool, truncated: bool) -> int | None:
        """Store the episode that is recorded; its index, None where there is nothing to store."""
        async with session.storing:
            recorder, session.recorder = session.recorder, None
            if recorder is None:
                return None
            try:
                episode = recorder.finish(final, terminated=terminated, truncated=truncated)
                if episode is None:
                    return None
                await asyncio.to_thread(self._add, session, episode)
            except BaseException:  # it is tried again with what comes next
                session.recorder = recorder
                raise
            session.n_recorded += 1
            return session.n_recorded - 1

    async def cut(self, session: Session) -> None:
        """Store the episode that is open; where that can never be, the session ends without it."""
        try:
            await self.finish(session, None, terminated=False, truncated=True)
        except StoreUnavailableError:
            raise
        except Exception:
            logger.exception("the last episode of session %s cannot be kept", session.id)

    def end_run(self, run_id: str, reason: SessionEnd) -> None:
        """End a recording run, with the returns of what was recorded; nothing where it has ended."""
        from maze_core.evaluation.evaluate import EvalReport

        run = self._stores.runs.get(run_id)
        if run.state.is_terminal:
            return
        page = self._stores.episodes.list(run_id, limit=200)
        episodes = [*page.data]
        while page.next_cursor is not None:
            page = self._stores.episodes.list(run_id, limit=200, cursor=page.next_cursor)
            episodes += page.data
        returns, lengths = [one.episode_return for one in episodes], [one.length for one in episodes]
        report = EvalReport.of_returns(returns, lengths, seeds=[])
        is_cancelled = run.stop_wish is StopReason.CANCEL
        self._stores.runs.finish(
            _lease(run_id),
            RunState.CANCELLED if is_cancelled else RunState.SUCCEEDED,
            reason=StopReason.CANCEL.value if is_cancelled else _RUN_REASONS[reason],
            result={**report.to_dict(), "n_episodes": len(episodes)},
        )

    def _add(self, session: Session, episode: Trajectory) -> None:
        info = EpisodeInfo(
            index=session.n_recorded,
            seed=None,
            episode_return=float(math.fsum(episode.rewards.tolist())),
            length=int(episode.flat_steps[-1]) + 1,
            terminated=episode.terminated,
            truncated=episode.truncated,
            has_trajectory=True,
        )
        assert session.run_id is not None
        self._stores.episodes.add(_lease(session.run_id), info, trajectory_to_bytes(episode))


def _lease(run_id: str) -> Lease:
    """The right to write a run."""
    return Lease(run_id=run_id, worker=RECORDER, epoch_token=1)
