"""Several threads at once."""

import threading
from collections.abc import Callable


def in_threads(act: Callable[[], None], n_threads: int) -> None:
    """Run ``act`` in several threads at once and raise what any of them raised."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
