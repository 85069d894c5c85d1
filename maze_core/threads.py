"""One thread to compute with: what makes bits (initial weights, learning, playing) has the same on every machine.

Several threads add up in another order than one, so initial weights (by QR) and updates would differ between machines
of one and of two cores. Small networks are faster on one thread as well. Work on large ones is split in parts that do
not depend on the number of threads (:func:`side_by_side`), each of which is computed on one.

And on torch as it begins: an environment may set gradients, dtype and device for the whole process.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from threadpoolctl import OpenBLASController, ThreadpoolController

T = TypeVar("T")


class _Threads:
    """How many threads torch and BLAS had before somebody here took one.

    BLAS has one count for the process. Torch has one for each thread, but a thread that is new to torch begins with the
    count that was set last: that of a neighbour who computes with one, which is not the one to go back to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._torch = 1
        self._blas: Any = None
        self._blas_users = 0

    def take_torch(self, now: int) -> int:
        with self._lock:
            if not self._users:
                self._torch = now
            self._users += 1
            return now if now > 1 else self._torch

    @property
    def given(self) -> int:
        """How many threads torch may have here: of whoever owns the process, not of who computes with one now."""
        torch = sys.modules.get("torch")
        if torch is None:
            return 1
        with self._lock:
            return self._torch if self._users else torch.get_num_threads()

    def leave_torch(self) -> None:
        with self._lock:
            self._users -= 1

    def take_blas(self) -> None:
        with self._lock:
            self._blas_users += 1
            if self._blas_users == 1:
                # force: threadpoolctl obeys one thread at a time and says nothing to the others
                OpenBLASController.clear_controlling_thread(force=True)
                self._blas = ThreadpoolController().select(user_api="blas").limit(limits=1)

    def leave_blas(self) -> None:
        with self._lock:
            self._blas_users -= 1
            if not self._blas_users:
                OpenBLASController.clear_controlling_thread(force=True)
                self._blas.restore_original_limits()
                OpenBLASController.clear_controlling_thread()


_threads = _Threads()
_here = threading.local()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Compute with one thread of torch meanwhile, in this thread; takes a microsecond."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(_here, "in_torch", False):
        yield
        return
    before = _threads.take_torch(torch.get_num_threads())
    _here.in_torch = True
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _here.in_torch = False
        _threads.leave_torch()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread meanwhile, in torch and BLAS; the counts are put back afterwards."""
    with one_torch_thread():
        if getattr(_here, "in_blas", False):
            yield
            return
        _threads.take_blas()
        _here.in_blas = True
        try:
            yield
        finally:
            _here.in_blas = False
            _threads.leave_blas()


class _Helpers:
    """Threads that compute for another one; a forked process makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._n = 0

    def pool(self, n: int) -> ThreadPoolExecutor:
        """A pool of at least ``n`` threads, each of which computes with one thread of torch."""
        with self._lock:
            if self._pool is None or self._n < n:
                if self._pool is not None:
                    self._pool.shutdown(wait=False)
                one = sys.modules["torch"].set_num_threads
                self._n, self._pool = n, ThreadPoolExecutor(n, "maze-part", one, (1,))
            return self._pool

    def forget(self) -> None:
        self._lock, self._pool = threading.Lock(), None


_helpers = _Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.forget)


def side_by_side(parts: Sequence[Callable[[], T]]) -> list[T]:
    """What each of several calls gives, in their order, on as many threads as torch was given (``OMP_NUM_THREADS``).

    The calls do not know of each other, so that nothing depends on how many run at a time. They find torch as a new
    thread does: what :func:`plain_torch` sets for one thread is for them to set.
    """
    n_helpers = min(len(parts), _threads.given) - 1
    if n_helpers < 1:
        return [part() for part in parts]
    results: list[Any] = [None] * len(parts)
    waiting = iter(range(len(parts)))  # whose next one is taken under the interpreter's lock

    def work() -> None:
        for i in waiting:
            results[i] = parts[i]()

    pool = _helpers.pool(n_helpers)
    helping = [pool.submit(work) for _ in range(n_helpers)]
    try:
        work()
    finally:
        for _ in waiting:  # after an error: nobody begins another part
            pass
        errors = [helper.exception() for helper in helping if not helper.cancel()]
    if (error := next(filter(None, errors), None)) is not None:
        raise error
    return results


@contextmanager
def plain_torch(*, gradients: bool = True) -> Iterator[None]:
    """Float32 and the CPU meanwhile, as torch begins with, whatever an environment has set since.

    Args:
        gradients: whether torch keeps what a gradient needs.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    dtype = torch.get_default_dtype()
    is_moved = torch.get_default_device().type != "cpu"  # a context for it costs with every call of torch
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(gradients),
            torch.device("cpu") if is_moved else nullcontext(),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)
