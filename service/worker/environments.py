"""Tells the API which environments this worker can build: a child imports them, the worker publishes the ids.

So the operator's modules, which register environments, run in children only: never in worker or API.
"""

import logging
import time
from collections.abc import Callable, Sequence

from service.domain.ports import RegistryStore
from service.domain.run import RunKind
from service.worker import frames
from service.worker.launcher import Child, ChildLauncher

logger = logging.getLogger(__name__)

JOB = "service.worker.jobs:list_environments"

TICK_S = 0.2
PROBE_S = 300.0
"""Time that starting the forkserver and importing the operator's modules may take."""


def publish_environments(
    launcher: ChildLauncher, registry: RegistryStore, is_ended: Callable[[], bool]
) -> None:
    """Ask a child for environment ids and publish them, unless the worker ends meanwhile.

    Raises:
        RuntimeError: the child gave none; the message says why.
    """
    env_ids = probe_environments(launcher, is_ended)
    if is_ended():
        return
    registry.publish_envs(env_ids)
    logger.info("%d environments published", len(env_ids))


def probe_environments(launcher: ChildLauncher, is_ended: Callable[[], bool]) -> Sequence[str]:
    """Environment ids that a child of this worker can build; none when the worker ends meanwhile."""
    child = launcher.launch(job=JOB)
    try:
        child.send(frames.Start(kind=RunKind.ROLLOUT, run_id="environments", attempt=1, tree={}))
        last = _follow(child, is_ended)
    except (frames.ProtocolError, TimeoutError) as error:
        raise RuntimeError(f"environments cannot be listed: {error}") from error
    finally:
        child.close()
    if is_ended():
        return ()
    if not isinstance(last, frames.Result):
        cause = last.traceback if last else "the process ended"
        raise RuntimeError(f"environments cannot be listed: {cause}")
    return [str(env_id) for env_id in last.result["env_ids"]]


def _follow(child: Child, is_ended: Callable[[], bool]) -> frames.Result | frames.Failure | None:
    """Log what the child says until its last frame; None when it ends without one."""
    deadline = time.monotonic() + PROBE_S
    while time.monotonic() < deadline:
        child.wait(TICK_S)
        if is_ended():
            return None
        is_finished = child.is_finished()
        batch = child.receive()
        for line in child.output_lines():
            logger.info("environments: %s", line)
        for frame in batch:
            if isinstance(frame, frames.Log):
                logger.warning("environments: %s", frame.message)
            elif isinstance(frame, frames.Result | frames.Failure):
                return frame
        if is_finished and not batch:
            return None
    raise TimeoutError(f"no answer within {PROBE_S:g} s")
