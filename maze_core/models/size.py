"""How large the networks of a model may be, told before memory is taken for them; no torch."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from maze_core.errors import InvalidSpecificationError, Problem

MOST_PARAMETERS: Final = 60_000_000
"""Of all networks of a model. A checkpoint holds up to four numbers for each, itself, two moments and a target's: below
1 GiB, the most that a run's process may send."""
MOST_NUMBERS: Final = 2**24
"""Of one observation, in all that the blocks of a network give."""


class Size:
    """Counts the parameters of the networks of a model while they are made."""

    def __init__(self) -> None:
        self._n = 0

    def add(self, n: int, path: str) -> None:
        """Add those of a network, or of a block, that is about to be made.

        Raises:
            InvalidSpecificationError: they are too many.
        """
        self._n += n
        if self._n > MOST_PARAMETERS:
            figures = f"come to {self._n:,} parameters or more, and the most is {MOST_PARAMETERS:,}"
            raise _too_large(path, f"the networks of this model {figures}")


def check_widths(widths: Iterable[int], path: str) -> None:
    """Refuse dense layers that have too many weights whatever they read.

    Raises:
        InvalidSpecificationError: they have.
    """
    Size().add(sum(n_in * n_out for n_in, n_out in pairwise(widths)), path)


def check_tensor(n: int, path: str) -> None:
    """Refuse one tensor of a block: a weight, or what a layer gives of two observations.

    Raises:
        InvalidSpecificationError: it is larger than all parameters may be.
    """
    if n > MOST_PARAMETERS:
        raise _too_large(path, f"a tensor within it has {n:,} numbers, and the most is {MOST_PARAMETERS:,}")


def check_given(n: int, path: str) -> None:
    """Refuse blocks that give too many numbers together.

    Raises:
        InvalidSpecificationError: they do.
    """
    if n > MOST_NUMBERS:
        raise _too_large(
            path,
            f"the blocks up to here give {n:,} numbers of one observation, and the most is {MOST_NUMBERS:,}",
        )


def _too_large(path: str, figures: str) -> InvalidSpecificationError:
    message = (
        f"{figures}: take fewer or narrower layers and concatenations, or show them less (strides, pooling, smaller "
        "pictures, fewer categories)."
    )
    return InvalidSpecificationError([Problem(path=path, message=message, code="out_of_range")])
