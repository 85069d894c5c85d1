"""What the arguments of wrappers share: strictness, and the type of a range."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
"""Unknown arguments are refused by name."""


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError(f"the lower end must be below the upper one, got [{value[0]}, {value[1]}]")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""``[low, high]`` with low < high."""
