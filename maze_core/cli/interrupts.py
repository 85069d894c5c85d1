"""Ctrl-C as a wish: the first one asks the run to end with a checkpoint, the second one ends it at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C into a list while this goes on; the second one raises ``KeyboardInterrupt``."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, which alone gets signals
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
