"""What a run has to say once, however many environments and processes see it.

A :class:`Notices` belongs to one run. Objects that are made while it is :meth:`Notices.active` find it by
:meth:`Notices.current` and share it; made elsewhere, each has its own.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar


class MazeWarning(UserWarning):
    """Something is taken as it is that is probably not meant so."""


def _warn(text: str) -> None:
    warnings.warn(text, MazeWarning, stacklevel=3)


class Notices:
    """Warns of each thing once."""

    def __init__(self, say: Callable[[str], object] = _warn) -> None:
        """Take what says a text: a warning of Python's, unless it is to be logged, or said by another process."""
        self.said: dict[str, str] = {}
        """What a notice is about → its text."""
        self._say = say
        self._n_taken = 0

    def say(self, about: str, text: str) -> None:
        """Warn of something, unless that was done before."""
        if about not in self.said:
            self.said[about] = text
            self._say(text)

    def take_fresh(self) -> dict[str, str]:
        """What was said since the last call, to be passed on."""
        taken, self._n_taken = self._n_taken, len(self.said)
        return dict(list(self.said.items())[taken:]) if taken < self._n_taken else {}

    def pass_on(self, said: Mapping[str, str]) -> None:
        """Say what another process noticed."""
        for about, text in said.items():
            self.say(about, text)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be the notices of everything that is made meanwhile in this context."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @staticmethod
    def current() -> "Notices":
        """The notices of the run that is active in this context, or new ones."""
        return _current.get() or Notices()


_current: ContextVar[Notices | None] = ContextVar("maze_core.notices", default=None)
