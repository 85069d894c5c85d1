"""One watcher for all who wait: it asks the database ten times a second whether anything was written.

Event streams and ``Prefer: wait`` sleep here instead of polling each for itself. The watcher runs only while
somebody waits.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from starlette.concurrency import run_in_threadpool

from service.domain.errors import StoreUnavailableError

logger = logging.getLogger(__name__)

SHORTEST_POLL_S = 0.1


class ChangeWatcher:
    """Counts changes of the database; used from one event loop.

    To miss nothing, take :attr:`version`, then read the database, then :meth:`wait` beyond that version.
    """

    def __init__(self, marker: Callable[[], int], poll_s: float) -> None:
        """Take what changes with the database, and how often to look, at most ten times a second."""
        self._marker = marker
        self._poll_s = max(poll_s, SHORTEST_POLL_S)
        self._changed = asyncio.Event()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self.version = 0
        self.n_streams = 0
        """Event streams that are open."""
        self.is_stopping = False

    async def wait(self, version: int, timeout_s: float) -> bool:
        """Sleep until something newer than ``version`` was written, the time is up, or the service stops.

        Returns:
            Whether something may have been written.
        """
        if self.version != version or self.is_stopping:
            return True
        self._waiting += 1
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._watch())
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def counted(self, stream: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        """A stream, counted for as long as it is open."""
        self.n_streams += 1
        try:
            async with aclosing(stream):
                async for piece in stream:
                    yield piece
        finally:
            self.n_streams -= 1

    def stop(self) -> None:
        """Wake everybody for good; safe to call more than once, from the event loop."""
        self.is_stopping = True
        self._changed.set()

    async def _watch(self) -> None:
        """Look until nobody waits. What happened before the first look is unknown: it counts as a change."""
        seen: int | None = None
        while self._waiting and not self.is_stopping:
            try:
                marker = await run_in_threadpool(self._marker)
            except StoreUnavailableError as error:
                logger.warning("cannot look for changes: %s", error)
            else:
                if marker != seen:
                    seen = marker
                    self._notify()
            await asyncio.sleep(self._poll_s)

    def _notify(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()
