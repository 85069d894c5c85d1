"""Ctrl-C and SIGTERM as a wish: the first one asks the run to end with a checkpoint, the second one ends it at once.

SIGTERM is what Slurm, Kubernetes and ``docker stop`` send some time before they kill.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect the signals into a list while this goes on; the second one raises ``KeyboardInterrupt``."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt(number)
        received.append(number)

    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(received: Sequence[int]) -> int:
    """128 and the number of the signal, as shells count: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + int(received[0] if received else signal.SIGINT)
