"""What an experiment may search: every combination of lists of values, or a space that Optuna samples.

An experiment's file says it under ``sweep``. Such an experiment is several runs, so it needs multirun.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from maze_core.config.fields import STRICT
from maze_core.config.settings import dataclass


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GridConfig:
    """Every combination of these values, one job each; the last key varies fastest."""

    values: dict[str, Annotated[list[Any], Field(min_length=1)]]
    """Dotted key or group → its values (or module names), in order."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ParameterConfig:
    """One parameter of a search: a range, or a list of choices."""

    low: float | None = None
    """Smallest value of a range."""
    high: float | None = None
    """Largest value of a range."""
    log: bool = False
    """Sample the range's logarithm."""
    step: Annotated[float, Field(gt=0.0)] | None = None
    """Distance between values of a range; null is 1 for whole numbers and none otherwise."""
    type: Literal["float", "int"] = "float"
    """Whether a range holds numbers or whole numbers."""
    choices: Annotated[list[Any], Field(min_length=1)] | None = None
    """Values or module names to choose from, instead of a range."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "ParameterConfig":
        ends = [self.low, self.high]
        if self.choices is not None:
            if ends != [None, None] or self.log or self.step:
                raise ValueError("a parameter has either choices or a range, not both")
        elif self.low is None or self.high is None:
            raise ValueError("a parameter needs choices, or low and high")
        elif self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        elif self.log and self.step:
            raise ValueError("a logarithmic range has no step")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptunaSearchConfig:
    """A search with Optuna's tree-structured Parzen estimator for the best ``eval/mean_return`` of a run."""

    space: Annotated[dict[str, ParameterConfig], Field(min_length=1)]
    """Dotted key or group → where to search."""
    n_trials: Annotated[int, Field(ge=1)] = 20
    """Runs to make, one job each."""
    n_startup_trials: Annotated[int, Field(ge=1)] = 8
    """Trials that are drawn at random before the sampler learns from them."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Seed of the sampler; null takes ``seeding.agent_base_seed``. One job at a time makes a search reproducible."""
