"""Processes of runs on a Ray cluster (the extra ``ray``).

A run is an actor, a :class:`RunHost`, with the resources of its specification. It lies where Ray has room, and
starts there, from a forkserver as on one machine, the process that runs: cut off from the database and from Ray as
well, under the same limits. Frames pass through the host unread; each batch is kept until it is asked for the next
one, so that an answer that is lost costs nothing. What ends the host (its node, its process, the driver, a
``ray.cancel``) ends the run's process as a kill does.
"""

import contextlib
import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.executors import ResourcesError
from service.executors.forkserver import MIB, WARM, ForkserverExecutor
from service.worker import frames
from service.worker.child import Rules
from service.worker.isolation import clean_environment

logger = logging.getLogger(__name__)

KILLED = -9
"""Exit code of what ended with its host."""
POLL_S = 5.0
"""For which a host waits for its process to say something before it answers that there was nothing."""
EXIT_S = 5.0
LOST_S = 60.0
"""For which a host may be out of reach before its run is given up."""
CLOSE_S = 10.0


class RunHost:
    """The actor: the worker's hands on the node that the run is on."""

    def __init__(self, rules: Mapping[str, Any], preload: Sequence[str], path: Sequence[str]) -> None:
        sys.path[:0] = [entry for entry in path if entry not in sys.path]
        executor = ForkserverExecutor(Rules(**rules), preload=preload)
        executor.start()
        self._child = executor.launch()
        self._messages = self._child.raw_messages(0.1)
        self._number = 0
        self._batch: tuple[list[bytes], list[str], bool] = ([], [], False)

    def place(self) -> str:
        """Which node and process."""
        import ray

        return f"{self._child.place} of node {ray.util.get_node_ip_address()}"

    def receive(self, number: int) -> tuple[list[bytes], list[str], bool, int | None]:
        """The batch with this number, from 1: messages, lines, whether it is the last, and then the exit code.

        Raises:
            ProtocolError: a message beyond all bounds.
        """
        if number > self._number:
            self._batch, self._number = self._next(), number
        messages, lines, is_last = self._batch
        return messages, lines, is_last, self._child.join(EXIT_S) if is_last else None

    def _next(self) -> tuple[list[bytes], list[str], bool]:
        deadline = time.monotonic() + POLL_S
        for messages, lines in self._messages:
            if messages or lines or time.monotonic() > deadline:
                return messages, lines, False
        return [], self._child.rest_of_output(), True

    def send(self, message: bytes) -> None:
        """Hand a frame to the process."""
        self._child.send_bytes(message)

    def terminate(self) -> None:
        """SIGTERM to the process."""
        self._child.terminate()

    def close(self) -> None:
        """End the process; nothing of it is left when this returns."""
        self._child.close()


class RemoteProcess:
    """The worker's end of a run's process on some node."""

    def __init__(self, host: Any, what: str) -> None:
        self._host = host
        self._what = what
        self._rest: list[str] = []
        self._exit_code: int | None = None
        self._ended = threading.Event()

    @property
    def place(self) -> str:
        """The actor; where it lies is not known before there is room for it."""
        return f"Ray actor {self._host._actor_id.hex()[:12]} ({self._what})"

    def send(self, frame: frames.WorkerFrame) -> None:
        """Send a frame, after those that were sent before."""
        self._tell("send", frames.encode(frame))

    def messages(self, timeout_s: float) -> Iterator[tuple[list[frames.ChildFrame], list[str]]]:
        """See :class:`~service.executors.RunProcess`; the host's death is the process's."""
        number, lost_at = 1, None
        while True:
            arrived = threading.Event()
            answer = self._host.receive.options(concurrency_group="reports").remote(number).future()
            answer.add_done_callback(lambda _, arrived=arrived: arrived.set())
            while not arrived.wait(timeout_s):
                yield [], []
            try:
                messages, lines, is_last, exit_code = answer.result()
            except Exception as error:
                if not _is_unreachable(error):
                    self._end(KILLED)
                    if isinstance(cause := getattr(error, "cause", None), frames.ProtocolError):
                        raise cause from error
                    logger.warning("%s has ended: %s", self.place, str(error).splitlines()[0])
                    return
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > LOST_S:
                    self.kill()
                yield [], []
                continue
            number, lost_at = number + 1, None
            yield [frames.decode_from_child(message) for message in messages], [] if is_last else lines
            if is_last:
                self._rest = lines
                self._end(exit_code)
                return

    def _end(self, exit_code: int | None) -> None:
        self._exit_code = exit_code
        self._ended.set()

    def rest_of_output(self) -> list[str]:
        """What was printed last."""
        rest, self._rest = self._rest, []
        return rest

    def join(self, timeout_s: float) -> int | None:
        """The exit code, known once :meth:`messages` is at its end."""
        self._ended.wait(timeout_s)
        return self._exit_code

    def terminate(self) -> None:
        """SIGTERM to the process, where it has one already; else its host goes."""
        self._tell("terminate")

    def kill(self) -> None:
        """End the host, and with it the process, whose pipe is then at its end."""
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self._host)

    def close(self) -> None:
        """End the process, then its host."""
        import ray

        with contextlib.suppress(Exception):
            ray.get(self._host.close.options(concurrency_group="orders").remote(), timeout=CLOSE_S)
        self.kill()

    def _tell(self, method: str, *arguments: Any) -> None:
        with contextlib.suppress(Exception):  # the host is gone, as messages() will say
            getattr(self._host, method).options(concurrency_group="orders").remote(*arguments)


def _is_unreachable(error: Exception) -> bool:
    from ray.exceptions import ActorUnavailableError

    return isinstance(error, ActorUnavailableError)


class RayExecutor:
    """Starts hosts of runs on a cluster.

    Args:
        rules: the operator's, for every process.
        address: of a cluster, as ``ray.init`` takes it; None starts one on this machine, on its loopback alone.
        preload: modules that forkservers of hosts import.
    """

    def __init__(self, rules: Rules, *, address: str | None = None, preload: Sequence[str] = WARM) -> None:
        self._rules = rules
        self._address = address
        self._preload = list(preload)

    def start(self) -> None:
        """Join the cluster, or start one.

        Raises:
            ConnectionError: there is none at the address.
        """
        own = {
            name: value for name, value in os.environ.items() if name.startswith("RAY_")
        }  # tokens of clusters
        if (
            self._address is None
        ):  # otherwise it listens on every interface, whatever address it is told (2.60)
            own["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        with clean_environment():
            os.environ.update(own)
            import ray

            ray.init(
                address=self._address or "local",
                namespace="maze",
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
            )
        self._host = ray.remote(concurrency_groups={"orders": 1, "reports": 1})(RunHost)

    def is_alive(self) -> bool:
        """Whether this process still belongs to a cluster."""
        import ray

        is_joined: bool = ray.is_initialized()
        return is_joined

    def launch(
        self, *, job: str | None = None, resources: Mapping[str, float] | None = None
    ) -> RemoteProcess:
        """Start one host; its messages begin when a node has room for it.

        Raises:
            ResourcesError: no node has as much.
        """
        wanted = {"cpus": 1.0, "gpus": 0.0, **(resources or {})}
        self._check(wanted)
        rules = dataclasses.replace(self._rules, job=job or self._rules.job)
        options: dict[str, Any] = {"num_cpus": wanted["cpus"], "num_gpus": wanted["gpus"]}
        if "memory_mib" in wanted:
            options["memory"] = int(wanted["memory_mib"] * MIB)
            rules = dataclasses.replace(
                rules, memory_bytes=min(options["memory"], rules.memory_bytes or sys.maxsize)
            )
        host = self._host.options(max_restarts=0, max_task_retries=0, **options).remote(
            dataclasses.asdict(rules), self._preload, [*sys.path]
        )
        return RemoteProcess(host, ", ".join(f"{value:g} {name}" for name, value in wanted.items() if value))

    def _check(self, wanted: Mapping[str, float]) -> None:
        import ray

        names = {"cpus": "CPU", "gpus": "GPU"}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for name, resource in names.items():
            most = max((node.get(resource, 0.0) for node in nodes), default=0.0)
            if wanted[name] > most:
                message = f"No node of the cluster has {wanted[name]:g} {name}; the largest has {most:g}."
                raise ResourcesError(message)

    def close(self) -> None:
        """Leave the cluster; hosts that this process started end."""
        import ray

        ray.shutdown()
