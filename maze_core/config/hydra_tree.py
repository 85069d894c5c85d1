"""The chosen modules, composed by Hydra into one plain tree. The only place where Hydra composes.

Hydra keeps its state in process-wide singletons, so one lock guards a composition, and both singletons are
put back as they were found. A composition costs about 0.1 s; its result is kept per choice of modules for
as long as no file changes. Only names from the module index reach Hydra: values never meet its grammar.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from maze_core.config.index import ModuleIndex, unreadable_file
from maze_core.errors import InvalidSpecificationError
from maze_core.types import Tree

Choices: TypeAlias = Mapping[str, str]
"""Group → module name."""


class _Composed(NamedTuple):
    tree: Tree
    modules: dict[str, str | None]
    """Group → the module taken, by the caller, an experiment or the root file."""


_KEPT_TREES = 128
_lock = threading.RLock()
_trees: OrderedDict[tuple[object, ...], _Composed] = OrderedDict()


def composed_tree(root: str, choices: Choices, index: ModuleIndex) -> Tree:
    """The tree of these modules, interpolations unresolved; the caller may change it.

    Args:
        root: name of the root file, ``conf_train`` or ``conf_rollout``.
        choices: modules that are in the index, instead of the root's own choice.
        index: where the modules are.

    Raises:
        InvalidSpecificationError: a module's file cannot be read or does not fit the others.
    """
    return copy.deepcopy(_composed(root, choices, index).tree)


def composed_modules(root: str, choices: Choices, index: ModuleIndex) -> dict[str, str | None]:
    """Group → the module that :func:`composed_tree` takes for it; None where it takes none.

    Raises:
        InvalidSpecificationError: as above.
    """
    return dict(_composed(root, choices, index).modules)


def _composed(root: str, choices: Choices, index: ModuleIndex) -> _Composed:
    key = (root, tuple(sorted(choices.items())), index.directories, index.fingerprint)
    with _lock:
        if key not in _trees:
            _trees[key] = _compose(root, choices, index)
            while len(_trees) > _KEPT_TREES:
                _trees.popitem(last=False)
        _trees.move_to_end(key)
        return _trees[key]


def resolve_interpolations(tree: Tree) -> Tree:
    """Evaluate ``${…}`` that a module's file contains, with the values the tree has now.

    Raises:
        InvalidSpecificationError: an interpolation names a key that is not there.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise InvalidSpecificationError(
            f"An interpolation cannot be resolved: {_first_line(error)}."
        ) from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _compose(root: str, choices: Choices, index: ModuleIndex) -> _Composed:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    overrides = [f"{group}={name}" for group, name in sorted(choices.items())]
    if index.directories[1:]:
        places = ",".join(_quoted(f"file://{directory}") for directory in index.directories[1:])
        overrides.append(f"hydra.searchpath=[{places}]")
    try:
        with own_hydra(), initialize_config_dir(str(index.directories[0]), version_base="1.3"):
            config = compose(root, overrides=overrides, return_hydra_config=True)
            modules = dict(config.hydra.runtime.choices)
            tree = OmegaConf.to_container(config, resolve=False)
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:
        if (problem := unreadable_file(error, index)) is not None:
            raise InvalidSpecificationError([problem]) from error
        chosen = ", ".join(f"{group}={name}" for group, name in sorted(choices.items())) or "the defaults"
        message = f"The modules of {root} with {chosen} do not compose: {_first_line(error)}"
        for directory in index.directories:
            message = message.replace(str(directory), directory.name)
        raise InvalidSpecificationError(message) from error
    assert isinstance(tree, dict)
    return _Composed({str(key): value for key, value in tree.items() if key != "hydra"}, modules)


@contextmanager
def own_hydra() -> Iterator[None]:
    """Give Hydra's singletons to us for a moment, whoever else uses them in this process."""
    from hydra import version
    from hydra.core.global_hydra import GlobalHydra

    with _lock:
        found, versions = GlobalHydra.instance(), version.VersionBase.instance()
        hydra, base = found.hydra, versions.version_base
        found.hydra = None
        version.setbase("1.3")
        try:
            yield
        finally:
            GlobalHydra.set_instance(found)
            found.hydra, versions.version_base = hydra, base


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _first_line(error: Exception) -> str:
    lines: list[Any] = str(error).strip().splitlines() or [type(error).__name__]
    return str(lines[0])
