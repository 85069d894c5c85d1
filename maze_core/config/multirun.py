"""The plan of a multirun: its jobs or its search, and the launcher that carries them out."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from maze_core.config.arguments import ROOTS, given_class
from maze_core.config.components import canonical_target
from maze_core.config.grid import SEED, Choices, Grid, plan_grid, repeated
from maze_core.config.instantiate import Describer, instantiate
from maze_core.config.modules import ModuleIndex, composition, module_index, unknown_name
from maze_core.config.nodes import TARGET, shown
from maze_core.config.overrides import apply_values, merged, refuse_argument
from maze_core.config.presets import MULTIRUN_PARTS, choices_fit
from maze_core.config.schema import SEEDS, Mode
from maze_core.config.settings import STRICT, dataclass
from maze_core.config.words import unknown_word
from maze_core.errors import InvalidSpecificationError, Problem, ProblemList
from maze_core.seeding import draw_seed
from maze_core.types import Tree


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

    def own(self, value: object) -> Any:
        """The value of the space that ``value`` means; 0, 0.0 and False are three choices.

        Raises:
            ValueError: it is none.
        """
        if self.choices is not None:
            alike = [one for one in self.choices if repr(one) == repr(value)] or [
                one for one in self.choices if one == value and not isinstance(one, bool)
            ]
            if not alike or (isinstance(value, bool) and repr(alike[0]) != repr(value)):
                raise ValueError(f"{shown(value)} is none of its choices, {shown(self.choices)}")
            return alike[0]
        assert self.low is not None
        assert self.high is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown(value)} is no number")
        if not self.low <= value <= self.high:
            raise ValueError(f"{shown(value)} is not between {self.low:g} and {self.high:g}")
        step = self.step or (1.0 if self.type == "int" else None)
        if step is not None and abs((value - self.low) / step - round((value - self.low) / step)) > _NEAR:
            raise ValueError(f"{shown(value)} is none of {self.low:g}, {self.low + step:g}, …")
        return round(value) if self.type == "int" else float(value)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "ParameterConfig":
        ends = [self.low, self.high]
        if self.choices is not None:
            if ends != [None, None] or self.log or self.step:
                raise ValueError("a parameter has either choices or a range, not both")
            if (twice := repeated(self.choices)) is not None:
                raise ValueError(f"choices has {shown(twice)} twice; give every value once")
        elif self.low is None or self.high is None:
            raise ValueError("a parameter needs choices, or low and high")
        else:
            self._check_range(self.low, self.high)
        return self

    def _check_range(self, low: float, high: float) -> None:
        if not low < high or (self.log and low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        if not math.isfinite(high - low):
            raise ValueError("low and high lie too far apart to draw a number between them")
        if self.log and self.step:
            raise ValueError("a logarithmic range has no step")
        if self.type == "int" and any(
            abs(value) > _LARGEST_INT or value != int(value) for value in (low, high, self.step or 1.0)
        ):
            raise ValueError(
                "low, high and step of a range of whole numbers are whole numbers, of at most 2**53; "
                "give them so, or type: float"
            )
        if self.step and not 1 <= (high - low) / self.step <= _MOST_STEPS:
            message = f"step has to fit between low and high at least once, and at most {_MOST_STEPS} times"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptunaSearchConfig:
    """A search for the values with the best ``eval/mean_return`` of a run, or the best mean over several seeds."""

    space: Annotated[dict[str, ParameterConfig], Field(min_length=1)]
    """Dotted key or group → where to search."""
    n_trials: Annotated[int, Field(ge=1)] = 20
    """Sets of values to try: one job each, or one for each seed where several are given."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Who proposes: Optuna's tree-structured Parzen estimator, or chance alone, which needs no Optuna."""
    pruner: Literal["none", "median", "successive_halving", "hyperband"] = "none"
    """When a trial is given up: where it is worse than the median of the others by then, or not among the best third
    that has come as far, after 1, 3, 9, … times ``min_epochs`` (``hyperband``: of every three trials the second begins
    at 3 and the third at 9 times)."""
    min_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs after which a trial may be given up."""
    n_startup_trials: Annotated[int, Field(ge=1)] = 8
    """Trials that are drawn at random before the sampler learns from them."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Seed of the sampler; null takes ``seeding.agent_base_seed``. One job at a time makes a search reproducible."""

    def own(self, values: Mapping[str, Any]) -> Tree:
        """The point of the space that ``values`` mean.

        Raises:
            InvalidSpecificationError: a key is missing or unknown, or a value lies outside of the space.
        """
        found = ProblemList()
        for key in {**dict.fromkeys(values), **dict.fromkeys(self.space)}:
            if key not in self.space:
                found.problems.append(unknown_word(key, "is not searched.", key, self.space))
            elif key not in values:
                found.add(key, "has no value.", code="missing_key")
        own: Tree = {}
        for key, parameter in self.space.items():
            if key in values:
                try:
                    own[key] = parameter.own(values[key])
                except ValueError as error:
                    found.add(key, f"{error}.", code="out_of_range")
        found.raise_if_any()
        return own


_NEAR = 1e-9
_LARGEST_INT = 2**53
"""Up to here every whole number is a float."""
_MOST_STEPS = 1_000_000
"""With more the rounding of floats comes near to a step."""
LOCAL_LAUNCHER = "maze_core.LocalLauncherConfig"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultirunPlan:
    """What a multirun does."""

    grid: Grid
    """What varies between the jobs, or what all trials of a search share."""
    search: OptunaSearchConfig | None
    """What is searched; None where the jobs are known beforehand."""
    launcher: Any
    """``LocalLauncherConfig``."""
    is_launcher_given: bool
    """Whether processes were asked for, so that running elsewhere would be wrong."""


def plan_multirun(
    mode: Mode,
    arguments: Mapping[str, Any],
    order: Sequence[str] = (),
    seeds: Mapping[str, int] = MappingProxyType({}),
) -> MultirunPlan:
    """Read the arguments of a multirun; none is changed.

    ``launcher`` is a module name, a dict or a config; overrides of ``launcher.…`` and ``sweep.…`` are applied to the
    launcher and to the experiment's search. Seeds that are not given are drawn once, for all jobs.

    Args:
        mode: what every job does.
        arguments: of :func:`~maze_core.config.compose.compose_run`, with lists where a key varies.
        order: keys in the order they were given, where that is not the order of ``arguments``.
        seeds: of ``seeding``, taken where none are given.

    Raises:
        InvalidSpecificationError: with the problems of the launcher, the search or the lists.
    """
    found = ProblemList()
    given = arguments.get("overrides")
    if given is not None and not isinstance(given, Mapping):
        found.add("overrides", f"takes a dict, not {shown(given)}.", code="wrong_type")
    found.raise_if_any()
    overrides = dict(given or {})
    if "launcher" in overrides:
        refuse_argument("launcher", found)
    own = {key: overrides.pop(key) for key in list(overrides) if str(key).partition(".")[0] in MULTIRUN_PARTS}
    index = module_index(arguments.get("config_dirs"))
    launcher = arguments.get("launcher")
    tree = _multirun_tree(mode, arguments.get("experiment"), launcher, index, found)
    found.raise_if_any()
    parts = {name: tree.get(name) for name in MULTIRUN_PARTS}
    is_launcher_given = parts["launcher"] is not None or launcher is not None
    parts["launcher"] = _launcher_node(parts["launcher"], launcher, found)
    plain = {str(key): value.values[0] if isinstance(value, Choices) else value for key, value in own.items()}
    apply_values(parts, plain, found)
    found.raise_if_any()
    rest = {key: value for key, value in arguments.items() if key != "launcher"}
    grid = plan_grid(mode, {**rest, "overrides": overrides}, order)
    search = None if parts["sweep"] is None else instantiate(parts["sweep"], "sweep")
    if isinstance(search, GridConfig):
        grid, search = grid.with_values(search.values), None
    if search is not None and not isinstance(search, OptunaSearchConfig):
        raise InvalidSpecificationError(f"sweep: {shown(search)} is neither a grid nor a search.")
    grid = _with_seeds(grid, tree.get("seeding") or {}, seeds)
    search = _checked_search(search, grid)
    return MultirunPlan(
        grid=grid if search is None else grid.without_single_values(),
        search=search,
        launcher=instantiate(parts["launcher"], "launcher"),
        is_launcher_given=is_launcher_given,
    )


def _multirun_tree(
    mode: Mode, experiment: object, launcher: object, index: ModuleIndex, found: ProblemList
) -> Tree:
    """What the root file says with this experiment and launcher alone."""
    choices = {}
    for group, name in (("experiment", experiment), ("launcher", launcher)):
        if isinstance(name, str) and name not in index.files.get(group, {}):
            found.problems.append(unknown_name(f"{group} module", name, index.names(group), path=group))
        elif isinstance(name, str):
            choices[group] = name
        elif group == "experiment" and name is not None:
            found.add(group, f"takes one module name, not {shown(name)}.", code="wrong_type")
    if "experiment" in choices:
        choices_fit(choices["experiment"], mode, index, found)
    return {} if found.problems else composition(ROOTS[mode], choices, index).tree


def _launcher_node(node: Any, given: object, found: ProblemList) -> Any:
    """The launcher's node: that of the module or experiment, with what the caller gave on top."""
    base = node or {TARGET: LOCAL_LAUNCHER}
    if given is None or isinstance(given, str):
        return base
    if isinstance(given, type):
        found.add("launcher", given_class(given), code="wrong_type")
        return base
    described = Describer().tree(given, "launcher")
    if not isinstance(described, Mapping):
        found.add(
            "launcher", f"takes a module name, a dict or a config, not {shown(given)}.", code="wrong_type"
        )
        return base
    changed = merged(base, described)
    if canonical_target(str(changed.get(TARGET))) != LOCAL_LAUNCHER:
        message = f"{shown(changed.get(TARGET))} is no launcher of this library; jobs run in local processes."
        found.add("launcher", message, code="wrong_kind", allowed=(LOCAL_LAUNCHER,))
    return changed


def _with_seeds(grid: Grid, configured: Mapping[str, Any], known: Mapping[str, int]) -> Grid:
    """Draw the seeds that nobody gave, once: jobs then differ in what was varied and in nothing else."""
    overrides = grid.fixed.get("overrides", {})
    given = {*grid.dimensions, *grid.fixed, *overrides}
    if "seed" in given:
        return grid
    drawn = {
        f"seeding.{name}": known[name] if name in known else draw_seed()
        for name in SEEDS
        if f"seeding.{name}" not in given and configured.get(name) is None
    }
    return replace(grid, fixed={**grid.fixed, "overrides": {**overrides, **drawn}})


def _checked_search(search: OptunaSearchConfig | None, grid: Grid) -> OptunaSearchConfig | None:
    if search is None:
        return None
    varied = [key for key, values in grid.dimensions.items() if len(values) > 1 and key != SEED]
    if varied:
        message = "A search chooses the values itself; give one value, or use a grid."
        raise InvalidSpecificationError(
            [Problem(path=key, message=message, code="contradiction") for key in varied]
        )
    if search.pruner != "none" and len(grid.dimensions.get(SEED, ())) > 1:
        message = "A pruner looks at one run of each trial; give one seed, or leave sweep.pruner out."
        raise InvalidSpecificationError(message, path="sweep.pruner", code="contradiction")
    given = {*grid.dimensions, *grid.fixed, *grid.fixed.get("overrides", {})}
    space = {key: parameter for key, parameter in search.space.items() if key not in given}
    if not space:
        raise InvalidSpecificationError("sweep.space: every parameter of the search has a value already.")
    return replace(search, space=space)


def lowest(search: OptunaSearchConfig) -> Tree:
    """One point of the space, to see whether the rest of the specification is sound."""
    values: Tree = {}
    for key, parameter in search.space.items():
        low = parameter.low if parameter.choices is None else parameter.choices[0]
        values[key] = int(low) if parameter.type == "int" and isinstance(low, float) else low
    return values
