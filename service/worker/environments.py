"""Tells the API which environments this worker can build: a child imports them, the worker publishes what it says.

So the operator's modules, which register environments, run in children only: never in worker or API. Ids come
first; their spaces follow in batches, each by a child of its own, so that an environment which takes its process
along costs no more than its batch.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from service.domain.ports import RegistryStore
from service.domain.run import RunKind
from service.executors import Executor, RunProcess
from service.worker import frames

logger = logging.getLogger(__name__)

JOB = "service.worker.jobs:list_environments"

TICK_S = 0.2
PROBE_S = 300.0
"""Time that starting the forkserver and importing the operator's modules may take."""
_MADE = ("gymnasium", "pettingzoo")
"""Sources whose environments are made once, to look at their spaces."""
BATCH = 16
"""Environments that one child makes to look at their spaces."""

Row = dict[str, Any]


class EnvironmentPublisher:
    """Publishes what this worker can build, and remembers how that went."""

    def __init__(
        self, worker: str, executor: Executor, registry: RegistryStore, is_ended: Callable[[], bool]
    ) -> None:
        self._worker = worker
        self._executor = executor
        self._registry = registry
        self._is_ended = is_ended
        self.state = "pending"
        """``pending``, ``published``, or why nothing could be published."""

    def publish(self) -> None:
        """Ask a child for the environments and publish them, unless the worker ends meanwhile.

        Raises:
            RuntimeError: the child gave none; the message says why.
        """
        try:
            rows: list[Row] = self._ask({})["environments"]
        except RuntimeError as error:
            self.state = str(error)
            raise
        if self._is_ended():
            return
        self._registry.publish_environments(self._worker, rows)
        self.state = "published"
        logger.info("%d environments published", sum(row["is_available"] for row in rows))
        for described in self._with_spaces(rows):
            if self._is_ended():
                return
            self._registry.publish_environments(self._worker, described)

    def _with_spaces(self, rows: list[Row]) -> Iterator[list[Row]]:
        by_id = {row["id"]: row for row in rows if row["is_available"] and row["source"] in _MADE}
        ids = list(by_id)
        for env_ids in (ids[start : start + BATCH] for start in range(0, len(ids), BATCH)):
            try:
                spaces = self._ask({"spaces_of": env_ids})["spaces"]
            except RuntimeError as error:
                logger.warning("%s", error)
                continue
            yield [by_id[env_id] | found for env_id, found in spaces.items()]

    def _ask(self, tree: dict[str, Any]) -> dict[str, Any]:
        child = self._executor.launch(job=JOB)
        try:
            child.send(frames.Start(kind=RunKind.ROLLOUT, run_id="environments", attempt=1, tree=tree))
            last = self._follow(child)
        except (frames.ProtocolError, TimeoutError) as error:
            raise RuntimeError(f"environments cannot be listed: {error}") from error
        finally:
            child.close()
        if isinstance(last, frames.Result):
            return last.result
        if self._is_ended():
            return {"environments": [], "spaces": {}}
        cause = last.traceback if last else "the process ended"
        raise RuntimeError(f"environments cannot be listed: {cause}")

    def _follow(self, child: RunProcess) -> frames.Result | frames.Failure | None:
        """Log what the child says until its last frame; None when it ends without one."""
        deadline = time.monotonic() + PROBE_S
        for batch, output in child.messages(TICK_S):
            if self._is_ended():
                return None
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {PROBE_S:g} s")
            for line in output:
                logger.info("environments: %s", line)
            for frame in batch:
                if isinstance(frame, frames.Log):
                    logger.warning("environments: %s", frame.message)
                elif isinstance(frame, frames.Result | frames.Failure):
                    return frame
        return None
