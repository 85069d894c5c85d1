"""What can go wrong, as a tree; the class says which mistake, the message where, what and the way out.

MazeError
├── InvalidSpecificationError     the configuration cannot work; carries every problem found
├── SpaceMismatchError            an observation or action does not fit its space
│   └── StateError                what an agent carries through an episode is missing, or not its own
├── CheckpointError               a checkpoint is missing, damaged or of another kind
│   └── NotServableError          a checkpoint trains on, but cannot act on raw observations
├── EnvError                      an environment broke its contract
├── DivergedError                 training produced a number that is not finite
├── JobFailedError                one job of a multirun failed; stands in its place among the results
└── ContextClosedError            a RunContext was used after close()
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class MazeError(Exception):
    """Base of every error raised by this library on purpose."""


USER_CODE_ERRORS = (Exception, SystemExit)
"""What is a failure of the user code that raised it: ``sys.exit()`` there ends no program of ours; Ctrl-C does."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a specification."""

    path: str
    """Dotted key path, such as ``algorithm.gamma``; empty for the specification as a whole."""
    message: str
    """What is wrong and the way out, in one sentence."""
    code: str = "invalid_value"
    """Stable snake_case name of the kind of problem, such as ``unknown_key``."""
    allowed: tuple[str, ...] = ()
    """The values that would be accepted, where they can be listed."""
    did_you_mean: str | None = None
    """The closest allowed value."""

    def __str__(self) -> str:
        """``path: message``, with the suggestion and the allowed values where there are any."""
        text = f"{self.path}: {self.message}" if self.path else self.message
        if self.did_you_mean:
            text += f" Did you mean {self.did_you_mean!r}?"
        if self.allowed:
            text += f" Allowed: {', '.join(self.allowed)}."
        return text


class InvalidSpecificationError(MazeError, ValueError):
    """A configuration that cannot work, found before anything was built."""

    def __init__(self, problems: Sequence[Problem] | str, *, path: str = "", **details: Any) -> None:
        """Take every problem found; or one sentence, with the other fields of its :class:`Problem`."""
        if isinstance(problems, str):
            problems = [Problem(path=path, message=problems, **details)]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


class SpaceMismatchError(MazeError, ValueError):
    """An observation or action does not fit its space.

    Attributes:
        pointer: JSON pointer of the offending leaf within the value, such as ``/observation/2``.
    """

    def __init__(self, message: str, pointer: str = "") -> None:
        """Say what does not fit and where."""
        self.pointer = pointer
        super().__init__(message)


class MaskError(SpaceMismatchError):
    """A mask beside an observation cannot be applied.

    Attributes:
        code: ``mask_unsupported``, ``mask_empty``, or ``space_mismatch`` for other numbers or another shape.
    """

    def __init__(self, message: str, pointer: str = "", code: str = "space_mismatch") -> None:
        """Say what is wrong with the mask, and where in it."""
        self.code = code
        super().__init__(message, pointer)


class StateError(SpaceMismatchError):
    """What an agent carries through an episode is missing, damaged, or that of another one."""


class CheckpointError(MazeError):
    """A checkpoint is missing, damaged or of another kind."""


class NotServableError(CheckpointError):
    """The checkpoint's wrapper stack has no pure form, so it cannot act on raw observations."""


class EnvError(MazeError):
    """An environment broke its contract, or cannot be made.

    Attributes:
        is_made: False where there is no such environment, or it cannot be made with these arguments.
    """

    def __init__(self, message: str = "", *, is_made: bool = True) -> None:
        """Say what is wrong."""
        self.is_made = is_made
        super().__init__(message)


class DivergedError(MazeError):
    """Training produced a number that is not finite."""


class JobFailedError(MazeError):
    """One job of a multirun failed; it stands in the job's place among the results, and is raised by none of them.

    Attributes:
        job: the job's number, from 0.
        choices: key → what the job had there.
        error_type: name of the class of what went wrong.
        details: where it went wrong, for a log.
    """

    def __init__(
        self, job: int, choices: Mapping[str, object], error_type: str, message: str, details: str = ""
    ) -> None:
        """Say which job failed and why."""
        self.job, self.choices, self.error_type, self.details = job, dict(choices), error_type, details
        self.message = message
        chosen = ", ".join(f"{key}={value}" for key, value in choices.items())[:300]
        super().__init__(f"Job {job}{f' ({chosen})' if chosen else ''} failed: {error_type}: {message}")


class ContextClosedError(MazeError):
    """The RunContext was closed."""


def reason_of(error: BaseException) -> str:
    """What went wrong, in a sentence: class and text of an error, or where it has no text, the line that raised it."""
    try:
        text = str(error).strip()
    except Exception:  # an exception of user code may not even be able to say what it is
        text = ""
    if isinstance(error, MazeError) and text:
        return text
    if text:
        return f"{type(error).__name__}: {text}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}{where}"


@dataclass(slots=True)
class ProblemList:
    """Collects problems so that one error can name them all."""

    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, message: str, **details: Any) -> None:
        """Note one problem; ``details`` are the other fields of :class:`Problem`."""
        self.problems.append(Problem(path=path, message=message, **details))

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note what an :class:`InvalidSpecificationError` raised meanwhile has to say, and go on."""
        try:
            yield
        except InvalidSpecificationError as error:
            self.problems += error.problems

    def raise_if_any(self) -> None:
        """Raise :class:`InvalidSpecificationError` when anything was noted."""
        if self.problems:
            raise InvalidSpecificationError(self.problems)
