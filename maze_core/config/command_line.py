"""Words of a command line → the arguments of :func:`compose_run`, read by Hydra's override grammar.

``group=module`` chooses, ``a.b=value`` sets; ``+`` and ``++`` in front mean the same here, ``~critic`` and
``~env.kwargs.x`` take away. ``seed``, ``n_epochs`` and ``run_dir`` (or ``hydra.run.dir``) are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maze_core.config.hydra_tree import own_hydra
from maze_core.config.index import GROUPS, PRESET_GROUPS
from maze_core.config.nodes import shown
from maze_core.config.overrides import REMOVED
from maze_core.errors import ProblemList

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_PLAIN_ARGUMENTS = ("seed", "n_epochs")
_RUN_DIR_KEYS = ("run_dir", "hydra.run.dir")
_OPTIONAL_GROUPS = ("critic", "launcher", *PRESET_GROUPS)


@dataclass
class CommandLine:
    """What the words of a command line say."""

    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of :func:`compose_run`."""
    run_dir: str | None = None
    """Where the run is written."""


def parse_words(words: Sequence[str]) -> CommandLine:
    """Read ``key=value`` words; a later word wins over an earlier one.

    Raises:
        InvalidSpecificationError: with every word that cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed, found = CommandLine(), ProblemList()
    with own_hydra():
        parser = OverridesParser.create()
        for word in words:
            try:
                override = parser.parse_override(word)
            except Exception as error:  # the grammar answers with errors of many kinds
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                found.add(word[:80], f"cannot be read: {reason}.", code="syntax")
                continue
            _take(parsed, override, found)
    found.raise_if_any()
    return parsed


def _take(parsed: CommandLine, override: "Override", found: ProblemList) -> None:
    key = override.key_or_group
    if override.package is not None or "/" in key:
        found.add(key, "Packages, launchers and sweepers of Hydra are not used.", code="syntax")
    elif override.is_sweep_override():
        found.add(key, "takes one value; sweeps are not available yet.", code="syntax")
    elif override.is_delete():
        _remove(parsed, key, found)
    elif "${" in str(override.value()):
        found.add(key, "Interpolations belong into a module's file; see -cd.", code="interpolation")
    elif key in _RUN_DIR_KEYS:
        parsed.run_dir = str(override.value())
    elif key in (*_PLAIN_ARGUMENTS, *GROUPS, *PRESET_GROUPS):
        parsed.arguments[key] = override.value()
    else:
        parsed.arguments.setdefault("overrides", {})[key] = override.value()


def _remove(parsed: CommandLine, key: str, found: ProblemList) -> None:
    if key in _OPTIONAL_GROUPS:
        parsed.arguments[key] = None
    elif key == "wrappers":
        parsed.arguments[key] = {}
    elif key in GROUPS:
        found.add(key, f"A run needs {shown(key)}; it cannot be taken away.", code="syntax")
    else:
        parsed.arguments.setdefault("overrides", {})[key] = REMOVED
