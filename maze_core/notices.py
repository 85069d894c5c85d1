"""What a run has to say once, however many environments and processes see it.

A :class:`Notices` belongs to one run. Objects that are made while it is :meth:`Notices.active` find it by
:meth:`Notices.current` and share it; made elsewhere, each has its own.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar


class MazeWarning(UserWarning):
    """Something is taken as it is that is probably not meant so."""


class Notices:
    """Warns of each thing once."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        """Warn; where ``is_quiet``, only keep the texts, for a process that passes them on."""
        self.said: dict[str, str] = {}
        """What the notice is about → its text."""
        self._is_quiet = is_quiet

    def say(self, about: str, text: str) -> None:
        """Warn of something, unless that was done before."""
        if about not in self.said:
            self.said[about] = text
            if not self._is_quiet:
                warnings.warn(text, MazeWarning, stacklevel=2)

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
