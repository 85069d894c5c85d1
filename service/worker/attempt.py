"""One attempt of one run: a thread that starts a child, writes what it reports and settles how it ended.

Three threads meet here. The attempt's own one reads the child and writes the database, and may wait long for
either. The heartbeat renews the lease. The guard, which waits for nothing, kills the child when the lease can
no longer be trusted or when a wish to stop has not been followed in time.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from maze_core.errors import InvalidSpecificationError
from service import logs
from service.domain.errors import NotFoundError, StaleLeaseError
from service.domain.ports import Stores
from service.domain.run import ENDING_WISHES, EventType, Run, RunKind, RunState, StopReason
from service.domain.upload import upload_id_of
from service.domain.use_cases import dataset_episodes, spent_s
from service.executors import Executor, ResourcesError, RunProcess
from service.logs import trace_id
from service.tracing import AttemptSpan, attempt_span
from service.worker import frames
from service.worker.child import failure_of
from service.worker.lease_guard import STOPPED_S, Fenced, LeaseGuard
from service.worker.run_sinks import RunSinks
from service.worker.settlement import Ending, Finish, Release, Settlement, settle
from service.worker.writer import RunWriter

logger = logging.getLogger(__name__)

TICK_S = 0.1
MOST_EVENTS = 10_000
"""Of a run's history that are looked at."""
EXIT_S = 5.0
"""Time to wait for the exit code of a child that closed its pipe."""


@dataclass(frozen=True, kw_only=True)
class GracePeriods:
    """How long a run may take to follow a wish to stop."""

    cancel_s: float = 60.0
    """From the wish to SIGTERM."""
    terminate_s: float = 10.0
    """From SIGTERM to SIGKILL."""


class Attempt:
    """Runs one claimed run in a thread of its own."""

    def __init__(
        self,
        run: Run,
        guard: LeaseGuard,
        stores: Stores,
        executor: Executor,
        *,
        max_attempts: int,
        graces: GracePeriods,
        on_end: Callable[["Attempt"], None],
        sinks: Sequence[str] = (),
        tracer: Any = None,
    ) -> None:
        self.run = run
        self.guard = guard
        self._stores = stores
        self._executor = executor
        self._max_attempts = max_attempts
        self._graces = graces
        self._on_end = on_end
        self._writer = RunWriter(guard, stores)
        self._sinks = sinks if run.kind is RunKind.TRAIN else ()
        self._tracer, self._span = tracer, AttemptSpan(None, None)
        self._lock = threading.Lock()
        self._child: RunProcess | None = None
        self._wish: StopReason | None = None
        self._wished_at: float | None = None
        self._checked_at = time.monotonic()
        self._terminated = False
        self._usage: frames.Usage | None = None
        self._thread = threading.Thread(target=self._main, name=f"attempt-{run.id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False when it is not over yet."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def request_stop(self, reason: StopReason) -> None:
        """Ask the run to store a checkpoint and end; asking again changes nothing but the reason."""
        with self._lock:
            if self._wish not in ENDING_WISHES or reason is StopReason.CANCEL:
                self._wish = reason
            is_first, self._wished_at = self._wished_at is None, self._wished_at or time.monotonic()
            child = self._child
        if is_first and child is not None:
            child.send(frames.Cancel())

    def kill(self) -> None:
        """End the child at once; the attempt then settles without it."""
        with self._lock:
            child = self._child
        if child is not None:
            child.kill()

    def check(self) -> None:
        """Kill what may no longer run. Called several times a second; never waits."""
        if not self.guard.look():
            self.kill()
            return
        now = time.monotonic()
        stood_still_s, self._checked_at = now - self._checked_at, now
        child = self._child
        if child is None or self._wished_at is None:
            return
        if stood_still_s > STOPPED_S:  # so did the child: nobody's grace time passed
            self._wished_at += stood_still_s
        waited_s = now - self._wished_at
        if waited_s > self._graces.cancel_s + self._graces.terminate_s:
            child.kill()
        elif waited_s > self._graces.cancel_s and not self._terminated:
            self._terminated = True
            child.terminate()

    def _main(self) -> None:
        told = {
            "run_id": self.run.id,
            "attempt": self.run.attempt,
            "trace_id": trace_id(self.run.traceparent),
        }
        logs.attempt.set({name: value for name, value in told.items() if value is not None})
        carrier = {"traceparent": self.run.traceparent, "tracestate": self.run.tracestate}
        facts = {"run_id": self.run.id, "attempt": self.run.attempt}
        with attempt_span(self._tracer, f"run {self.run.kind}", carrier, **facts) as self._span:
            self._work()

    def _work(self) -> None:
        try:
            try:
                self._settle(self._outcome())
            except (Fenced, StaleLeaseError):
                raise
            except Exception as error:
                self._fail(error)
        except (Fenced, StaleLeaseError) as error:
            logger.warning("run %s: dropped: %s", self.run.id, error)
        except Exception:
            # The lease lapses by itself and the run is taken up again; this worker goes on with its others.
            logger.exception("run %s: dropped", self.run.id)
        finally:
            self.guard.fence()
            self._end_child()
            self._on_end(self)

    def _outcome(self) -> Settlement:
        if self.run.stop_wish is not None:  # an earlier attempt did not live to see it
            self.request_stop(self.run.stop_wish)
        if self._is_wished():
            return settle(self._ending(None))
        try:
            start = self.guard.persist(self._start_frame)
        except NotFoundError as error:  # another attempt would not find it either
            described = {"code": "checkpoint_missing", "message": str(error)}
            return Finish(state=RunState.FAILED, reason="checkpoint_missing", error=described)
        except InvalidSpecificationError as error:
            return settle(self._ending(failure_of(error)))
        try:
            child = self._launch()
        except ResourcesError as error:
            return settle(self._ending(frames.Failure(code="resources_unavailable", message=str(error))))
        except OSError as error:
            self._writer.log("error", f"no process could be started: {error}")
            return settle(self._ending(None))
        child.send(start)
        if self._is_wished():  # it came while there was no child to tell
            child.send(frames.Cancel())
        try:
            with RunSinks(self._sinks, self.run, self._writer) as sinks:
                last = self._follow(child)
                sinks.outcome = (
                    "finished" if isinstance(last, frames.Result) else "failed" if last else "killed"
                )
        except frames.ProtocolError as error:
            return settle(self._ending(frames.Failure(code="protocol_error", message=str(error))))
        return settle(self._ending(last, None if last else child.join(EXIT_S)))

    def _start_frame(self) -> frames.Start:
        """The frame that starts the run's child.

        Raises:
            NotFoundError: the policy that is to act, or what is to be imported, is gone.
            InvalidSpecificationError: there are no episodes to learn from, or too many.
        """
        run, agent, episodes = self.run, None, self._stores.episodes
        resume = self._resume_bundle() if run.kind is RunKind.TRAIN else None
        if run.source_checkpoint is not None and resume is None:
            agent = self._stores.checkpoints.read(run.source_checkpoint)
        if run.kind is RunKind.IMPORT:
            agent = self._stores.uploads.read(upload_id_of(run.id))
        source = (run.config.get("dataset") or {}).get("run")
        recorded = [] if source is None else [(source, index) for index in dataset_episodes(episodes, source)]
        if run.kind is RunKind.REPLAY:
            recorded = [(run.arguments["run"], run.arguments["episode"])]
        return frames.Start(
            kind=run.kind,
            run_id=run.id,
            attempt=run.attempt,
            tree=dict(run.config),
            resume=resume,
            best=None if resume is None else self._best_bundle(),
            continues=run.continues,
            spent_s=spent_s(self._stores.runs.events(run.id, types=[EventType.STATE], limit=MOST_EVENTS)),
            agent=agent,
            compared=tuple(
                self._stores.checkpoints.read(node["checkpoint"]) for node in run.config.get("compared") or ()
            ),
            episodes=tuple(episodes.trajectory(*place) for place in recorded),
            arguments=dict(run.arguments),
        )

    def _best_bundle(self) -> bytes | None:
        """The best policy so far, which the child of a training that is filmed cannot know."""
        best = self.run.best
        if best is None or not self.run.arguments.get("videos"):
            return None
        try:
            return self._stores.checkpoints.read(best.checkpoint)
        except NotFoundError:
            return None

    def _resume_bundle(self) -> bytes | None:
        """The newest scheduled checkpoint that can be read, or the one that another run left; None starts anew."""
        checkpoints, cursor = self._stores.checkpoints, None
        begins_at = self.run.continues and self.run.continues.checkpoint
        while True:
            page = checkpoints.list(self.run.id, cursor=cursor)
            for info in page.data:
                if info.kind != "scheduled" and info.id != begins_at:
                    continue
                try:
                    bundle = checkpoints.read(info.id)
                except NotFoundError as error:
                    text = f"checkpoint {info.id} of epoch {info.epoch} cannot be used: {error}"
                    self._writer.log("warning", text)
                    continue
                self._writer.log("info", f"goes on from the checkpoint of epoch {info.epoch}")
                return bundle
            cursor = page.next_cursor
            if cursor is None:
                break
        if begins_at is not None:  # it began elsewhere: to begin anew would be another run
            raise NotFoundError(f"checkpoint {begins_at}, which the run goes on from, cannot be read")
        return None

    def _launch(self) -> RunProcess:
        child = self._executor.launch(resources=self.run.resources)
        trace = f" (traceparent {self.run.traceparent})" if self.run.traceparent else ""
        logger.info("run %s: attempt %d in %s%s", self.run.id, self.run.attempt, child.place, trace)
        with self._lock:
            self._child = child
        return child

    def _follow(self, child: RunProcess) -> frames.Result | frames.Failure | None:
        """Write what the child says until its last frame; None when it ends without one."""
        for batch, output in child.messages(TICK_S):
            if not self.guard.holds():
                raise Fenced("the lease is gone")
            self._writer.write(batch, output)
            for frame in batch:
                match frame:
                    case frames.Usage():
                        self._usage = frame
                    case frames.Metrics(points=points):
                        self._span.epochs([point.epoch for point in points])
                    case frames.Result() | frames.Failure():
                        self._write_rest(child, frame)
                        return frame
        self._write_rest(child, None)
        return None

    def _write_rest(self, child: RunProcess, last: frames.Result | frames.Failure | None) -> None:
        """Store what was printed last, and for a failure where it came from."""
        output = child.rest_of_output()
        if isinstance(last, frames.Failure) and last.traceback:
            self._writer.write((frames.Log(level="error", message=last.traceback),), output)
        else:
            self._writer.write((), output)

    def _is_wished(self) -> bool:
        return self._wish is not None

    def _ending(self, last: frames.Result | frames.Failure | None, exit_code: int | None = None) -> Ending:
        return self._ending_as(
            self.guard.persist(lambda: self._stores.runs.get(self.run.id)), last, exit_code
        )

    def _ending_as(
        self, run: Run, last: frames.Result | frames.Failure | None, exit_code: int | None = None
    ) -> Ending:
        return Ending(
            last=last,
            exit_code=exit_code,
            wish=self._wish,
            attempt=run.counted_attempts,
            max_attempts=self._max_attempts,
            usage=self._usage,
        )

    def _fail(self, error: Exception) -> None:
        """End a run whose reports cannot be stored: another attempt would report the same."""
        logger.error("run %s: a report could not be stored", self.run.id, exc_info=error)
        self._end_child()
        name = type(error).__name__
        message = f"{name}: what the run reported could not be stored; the worker's log says more."
        self._settle(settle(self._ending_as(self.run, frames.Failure(code="not_stored", message=message))))

    def _settle(self, settlement: Settlement) -> None:
        """Write how the attempt ended; its checkpoints and reports are stored by now."""
        runs, lease = self._stores.runs, self.guard.lease
        match settlement:
            case Finish(state=state, reason=reason, result=result, error=error):
                self.guard.persist(
                    lambda: runs.finish(lease, state, reason=reason, result=result, error=error)
                )
                self._span.ended(state, reason)
                logger.info("run %s: %s (%s)", self.run.id, state, reason)
                if self.run.kind is RunKind.IMPORT:
                    self._stores.uploads.sweep()
            case Release(reason=reason, charge_attempt=charge, notes=notes):
                for note in notes:
                    self._writer.log("warning", note)
                self._writer.flush()
                self._end_child()  # another worker may start the run the moment it is released
                self.guard.persist(lambda: runs.release(lease, reason=reason, charge_attempt=charge))
                self._span.ended(RunState.QUEUED, reason)
                logger.info("run %s: back to the queue (%s)", self.run.id, reason)

    def _end_child(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()
