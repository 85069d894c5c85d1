"""Types that settings of several components share: strictness, counts, and the 0 that means "off".

Where the reference framework writes 0 for "off", 0 is accepted and stored as null.
"""

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Unknown keys and numbers that are not finite are refused."""


def _zero_is_off(value: Any) -> Any:
    return None if value == 0 and not isinstance(value, bool) else value


ZeroIsOff = BeforeValidator(_zero_is_off)
"""0 means "off" and becomes null."""

MOST = 10**15
"""Largest whole number of a setting: below 2⁵³, so every reader of JSON has it exactly."""

PositiveInt: TypeAlias = Annotated[int, Field(ge=1, le=MOST)]
NonNegativeInt: TypeAlias = Annotated[int, Field(ge=0, le=MOST)]
EnvCount: TypeAlias = Annotated[int, Field(ge=1, le=65_536)]
"""Environments, each an object in memory."""
RolloutSteps: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
"""Steps of every environment that are in memory together."""
OptionalPositiveInt: TypeAlias = Annotated[PositiveInt | None, ZeroIsOff]
OptionalPositiveFloat: TypeAlias = Annotated[Annotated[float, Field(gt=0.0)] | None, ZeroIsOff]
