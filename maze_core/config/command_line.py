"""Words of a command line → the arguments of :func:`compose_run`, read by Hydra's override grammar.

``group=module`` chooses, ``a.b=value`` sets; ``+`` and ``++`` in front mean the same here, ``~critic`` and
``~env.kwargs.x`` take away. ``seed``, what says when to stop (``n_epochs``, ``max_wall_s``, …), ``videos`` and
``run_dir`` (or ``hydra.run.dir``) are arguments.
In a multirun ``a.b=1,2``, ``choice(…)`` and ``range(…)`` are several values. ``range`` counts in decimals, as it is
written, where Hydra's adds up binary fractions: its 0.1 to 0.4 by 0.1 has a 0.30000000000000004 and the excluded 0.4.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from maze_core.config.grid import MOST_JOBS, Choices
from maze_core.config.modules import GROUPS, PRESET_GROUPS, own_hydra
from maze_core.config.nodes import shown
from maze_core.config.overrides import REMOVED
from maze_core.config.schema import BUDGETS
from maze_core.config.settings import whole_number
from maze_core.errors import ProblemList

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_PLAIN_ARGUMENTS = ("seed", *BUDGETS)
_RUN_DIR_KEYS = ("run_dir", "hydra.run.dir", "hydra.sweep.dir")
_VIDEOS = "videos"
_OPTIONAL_GROUPS = ("critic", "launcher", *PRESET_GROUPS)


@dataclass
class CommandLine:
    """What the words of a command line say."""

    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of :func:`compose_run`."""
    run_dir: str | None = None
    """Where the run is written."""
    videos: int = 0
    """Episodes to film."""
    order: list[str] = field(default_factory=list)
    """Keys in the order of their words."""


def parse_words(words: Sequence[str], *, multirun: bool = False) -> CommandLine:
    """Read ``key=value`` words; a later word wins over an earlier one with the same key.

    Args:
        words: see above.
        multirun: several values are allowed, and become :class:`Choices`; a list is one value all the same.

    Raises:
        InvalidSpecificationError: with every word that cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions

    parsed, found = CommandLine(), ProblemList()
    with own_hydra():
        functions = create_functions()
        for name, function in (("range", _range), ("shuffle", _shuffle)):
            functions.definitions[name] = inspect.signature(function)
            functions.functions[name] = function
        parser = OverridesParser(functions)
        for word in words:
            try:
                override = parser.parse_override(word)
            except Exception as error:  # the grammar answers with errors of many kinds
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                found.add(word[:80], f"cannot be read: {reason}.", code="syntax")
                continue
            _take(parsed, override, found, multirun=multirun)
    found.raise_if_any()
    return parsed


def _take(parsed: CommandLine, override: "Override", found: ProblemList, *, multirun: bool) -> None:
    key = override.key_or_group
    parsed.order = [*(known for known in parsed.order if known != key), key]
    if override.package is not None or "/" in key:
        message = (
            "Packages, launchers and sweepers of Hydra are not used; see launcher=local and experiment=…."
        )
        found.add(key, message, code="syntax")
    elif override.is_sweep_override():
        _take_values(parsed, key, override, found, multirun=multirun)
    elif override.is_delete() and override.value_type is not None:
        message = (
            "takes no value here, where Hydra would take it away only if it had that value: "
            f"write ~{key}, or {key}=… to set it."
        )
        found.add(key, message, code="syntax")
    elif override.is_delete():
        _remove(parsed, key, found)
    elif "${" in str(override.value()):
        found.add(key, "Interpolations belong into a module's file; see -cd.", code="interpolation")
    elif key in _RUN_DIR_KEYS:
        _take_run_dir(parsed, key, override.value(), found, multirun=multirun)
    elif key == _VIDEOS:
        with found.collecting():
            parsed.videos = whole_number(override.value(), _VIDEOS, least=0)
    else:
        value = override.value()
        could_be_several = isinstance(value, list) or (isinstance(value, str) and "," in value)
        _put(parsed, key, Choices((value,)) if multirun and could_be_several else value)


def _take_run_dir(parsed: CommandLine, key: str, value: Any, found: ProblemList, *, multirun: bool) -> None:
    others = [other for other in parsed.order if other in _RUN_DIR_KEYS and other != key]
    if key == "hydra.sweep.dir" and not multirun:
        message = "is where several runs are written; add --multirun, or write run_dir=… for one run."
        found.add(key, message, code="needs_multirun")
    elif others:
        message = f"and {others[0]} both say where the run is written; leave one of them out."
        found.add(key, message, code="contradiction")
    elif value is not None and not isinstance(value, (str, int, float)):
        found.add(key, f"{shown(value)} is not a path.", code="wrong_type")
    else:
        parsed.run_dir = None if value is None else str(value)


def _take_values(
    parsed: CommandLine, key: str, override: "Override", found: ProblemList, *, multirun: bool
) -> None:
    from hydra.core.override_parser.types import ChoiceSweep, ValueType

    if not multirun:
        found.add(
            key, "takes one value; several values are several runs: maze-run --multirun.", code="syntax"
        )
    elif not override.is_discrete_sweep() or key in (*_RUN_DIR_KEYS, _VIDEOS):
        message = (
            "takes values that can be counted; a range to search belongs into an experiment (optuna_search)."
        )
        found.add(key, message, code="syntax")
    elif override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        message = f"takes values one by one, such as {key}=a,b; glob(…) is not read here."
        found.add(key, message, code="syntax")
    else:
        values: list[Any] = []
        for value in override.sweep_iterator():  # range(1,3),7 has a range among its values
            values += value.list if isinstance(value, ChoiceSweep) else [value]
        if len(values) > MOST_JOBS:
            found.add(key, f"has more than {MOST_JOBS} values; at most that many are run.", code="too_large")
        _put(parsed, key, Choices(tuple(override._convert_value(value) for value in values)))


def _range(start: int | float, stop: int | float | None = None, step: int | float = 1) -> Any:
    """The numbers from ``start`` (0 where only an end is given) to before ``stop``, as decimals."""
    from hydra.core.override_parser.types import ChoiceSweep

    first, last, by = (
        Decimal(repr(number)) for number in ((0, start, step) if stop is None else (start, stop, step))
    )
    if by == 0 or not all(number.is_finite() for number in (first, last, by)):
        raise ValueError("range takes finite numbers and a step other than 0")
    count = max(0, math.ceil((last - first) / by))
    if not 0 < count <= MOST_JOBS:
        raise ValueError(f"the range has {count} values; 1 to {MOST_JOBS} are run")
    kind = (
        int if all(isinstance(number, int) for number in (start, stop, step) if number is not None) else float
    )
    return ChoiceSweep(list=[kind(first + number * by) for number in range(count)])


def _shuffle(*args: Any, **kwargs: Any) -> Any:
    """Refused: what is drawn anew each time is another specification each time."""
    raise ValueError("shuffle draws another order each time, which no run could go on with; write the values")


def _put(parsed: CommandLine, key: str, value: Any) -> None:
    if key in (*_PLAIN_ARGUMENTS, *GROUPS, *PRESET_GROUPS):
        parsed.arguments[key] = value
    else:
        parsed.arguments.setdefault("overrides", {})[key] = value


def _remove(parsed: CommandLine, key: str, found: ProblemList) -> None:
    if key in _OPTIONAL_GROUPS:
        parsed.arguments[key] = None
    elif key == "wrappers":
        parsed.arguments[key] = {}
    elif key in GROUPS:
        found.add(key, f"A run needs {shown(key)}; it cannot be taken away.", code="syntax")
    else:
        parsed.arguments.setdefault("overrides", {})[key] = REMOVED
