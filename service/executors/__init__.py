"""Where the processes of runs are: on this machine, or on a cluster. A worker knows the two classes here alone."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from service.worker import frames


class ResourcesError(Exception):
    """A run asks for more than any machine has."""


class RunProcess(Protocol):
    """The worker's end of one run's process. Safe to call from several threads, but for the reading."""

    @property
    def place(self) -> str:
        """Where it runs, for the log."""

    def send(self, frame: frames.WorkerFrame) -> None:
        """Send a frame; a process that has ended takes none, which its exit code tells better than an error."""

    def messages(self, timeout_s: float) -> Iterator[tuple[list[frames.ChildFrame], list[str]]]:
        """What the process says and prints until nothing will come any more, and nothing when a timeout passes.

        Raises:
            ProtocolError: it sent what is no frame.
        """

    def rest_of_output(self) -> list[str]:
        """Everything printed that was not returned yet, the last line as it is."""

    def join(self, timeout_s: float) -> int | None:
        """Wait for the end; its exit code, negative for the signal that killed it, or None when it still runs."""

    def terminate(self) -> None:
        """Ask the process to end by SIGTERM."""

    def kill(self) -> None:
        """End the process at once, with everything it started."""

    def close(self) -> None:
        """Kill what is left of it; returns when nothing of it runs."""


class Executor(Protocol):
    """Starts processes of runs."""

    def start(self) -> None:
        """Come first, in the main thread, before any database engine exists."""

    def is_alive(self) -> bool:
        """Whether processes can be started; the worker ends when not."""

    def launch(self, *, job: str | None = None, resources: Mapping[str, float] | None = None) -> RunProcess:
        """Start one process; it waits for its Start frame.

        Args:
            job: what it does; by default the rules' job.
            resources: what it takes: ``cpus``, ``gpus``, ``memory_mib``.

        Raises:
            OSError: no process could be started.
            ResourcesError: no machine has so much.
        """

    def close(self) -> None:
        """Give back what was taken for all processes; those that still run end."""
