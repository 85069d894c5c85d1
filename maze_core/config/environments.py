"""What is known of environments by their id alone: the package each comes with, and arguments open to clients.

Gymnasium registers ids whose packages are extras of this distribution, and some packages register theirs only
when they are imported. Nothing here imports an environment before its id is asked for.
"""

import contextlib
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Final

from maze_core.config.components import canonical_target
from maze_core.config.modules import (
    PRESET_GROUPS,
    Directories,
    ModuleIndex,
    composition,
    module_index,
    module_of,
)
from maze_core.config.nodes import TARGET, is_node
from maze_core.errors import USER_CODE_ERRORS, InvalidSpecificationError

DISTRIBUTION: Final = "maze-service"
_BUILT_IN: Final = "gymnasium.envs."
_ROOTS: Final = ("conf_train", "conf_rollout")
_PLAIN: Final = (bool, int, float, str, list, tuple, type(None))


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An extra of this distribution that brings environments."""

    name: str
    entry_point: str
    """How the entry points of its environments begin."""
    prefixes: tuple[str, ...] = ()
    """How its ids begin, where only its own package registers them."""
    module: str | None = None
    """The package that is imported first; most register their environments then."""
    register: str | None = None
    """The function of that package which registers them, where importing it is not enough."""
    open_kwargs: tuple[str, ...] = ()
    """Arguments open to clients, where they cannot be read off a constructor of gymnasium's own."""

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install '{DISTRIBUTION}[{self.name}]'"


EXTRAS: Final = (
    Extra(name="box2d", entry_point="gymnasium.envs.box2d.", module="Box2D"),
    Extra(name="mujoco", entry_point="gymnasium.envs.mujoco."),
    Extra(
        name="atari",
        entry_point="ale_py.",
        prefixes=("ALE/",),
        module="ale_py",
        open_kwargs=(
            "mode",
            "difficulty",
            "obs_type",
            "frameskip",
            "repeat_action_probability",
            "full_action_space",
        ),
    ),
    Extra(name="minigrid", entry_point="minigrid.", prefixes=("MiniGrid-", "BabyAI-"), module="minigrid"),
    Extra(
        name="minatar",
        entry_point="minatar.",
        prefixes=("MinAtar/",),
        module="minatar.gym",
        register="register_envs",
        open_kwargs=("use_minimal_action_set", "sticky_action_prob", "difficulty_ramping"),
    ),
    Extra(name="dm_control", entry_point="shimmy.dm_control", prefixes=("dm_control/",), module="shimmy"),
    Extra(
        name="pettingzoo",
        entry_point="pettingzoo.",
        prefixes=("butterfly/", "classic/", "sisl/"),
        open_kwargs=("max_cycles",),
    ),
)


_OF_ONE_FAMILY: Final = ("atari", "dm_control")
"""Extras with a module of their own whose settings make sense for their environments alone."""


def extra_of(env_id: str) -> Extra | None:
    """The extra that brings an environment; None where it is built in or comes from elsewhere."""
    import gymnasium

    spec = gymnasium.registry.get(env_id)
    entry_point = spec.entry_point if spec is not None and isinstance(spec.entry_point, str) else ""
    for extra in EXTRAS:
        if entry_point.startswith(extra.entry_point) or env_id.startswith(extra.prefixes):
            return extra
    return None


def misplaced(module: str, name: str) -> str | None:
    """Why the environment ``name`` is none of those that ``env=module`` takes; None where it may be."""
    prefixes = {extra.name: extra.prefixes for extra in EXTRAS if extra.name in _OF_ONE_FAMILY}
    env_id = name.rpartition(":")[2]
    if env_id.startswith(prefixes.get(module, "")):
        return None
    fits = next((other for other, own in prefixes.items() if env_id.startswith(own)), "gym_env")
    return f"{name!r} is none of {' or '.join(prefixes[module])}…, which env={module} takes: take env={fits}."


def register_extras() -> None:
    """Let every installed extra register its environments."""
    for extra in EXTRAS:
        _register(extra)


def register_extra_of(env_id: str) -> None:
    """Let the extra that brings this environment register it, where it is installed."""
    extra = extra_of(env_id)
    if extra is not None:
        _register(extra)


def _register(extra: Extra) -> None:
    import gymnasium

    if extra.module is None:
        return
    # what a binary package warns of while it is loaded must neither stop the load nor reach the user
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(extra.module)
        if extra.register and not any(name.startswith(extra.prefixes) for name in [*gymnasium.registry]):
            getattr(module, extra.register)()


def constructor_arguments(env_id: str) -> dict[str, Any]:
    """Keyword arguments of a registered environment with their defaults, those of its registration first.

    Raises:
        Exception: whatever importing its module raises, most often a missing package.
    """
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    spec = gymnasium.registry[env_id]
    creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    taken = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    defaults = {
        name: None if parameter.default is parameter.empty else parameter.default
        for name, parameter in inspect.signature(creator).parameters.items()  # type: ignore[arg-type]
        if parameter.kind in taken and name != "render_mode"
    }
    return defaults | {name: value for name, value in spec.kwargs.items() if name in defaults}


@lru_cache(maxsize=1024)
def open_kwargs(env_id: str) -> frozenset[str]:
    """The arguments of an environment that clients may give: plain values of gymnasium's own constructors.

    A text that names a file, as ``xml_file`` of MuJoCo's does, is the operator's.
    """
    import gymnasium

    spec = gymnasium.registry.get(env_id)
    if spec is None and (extra := extra_of(env_id)) is not None:  # registered elsewhere
        return frozenset(extra.open_kwargs)
    if spec is None or not isinstance(spec.entry_point, str):
        return frozenset()
    if not spec.entry_point.startswith(_BUILT_IN):
        extra = extra_of(env_id)
        return frozenset(extra.open_kwargs if extra is not None else ())
    try:
        arguments = constructor_arguments(env_id)
    except USER_CODE_ERRORS:  # its package is missing: it cannot be made either
        return frozenset()
    return frozenset(name for name, default in arguments.items() if _is_open(default))


def _is_open(default: Any) -> bool:
    names_a_file = isinstance(default, str) and PurePath(default).suffix != ""
    return isinstance(default, _PLAIN) and not names_a_file


def env_kwargs_of_modules(config_dirs: Directories = ()) -> Mapping[str, frozenset[str]]:
    """Environment id → arguments that modules, the operator's and those that are built in, name beside it."""
    found: dict[str, frozenset[str]] = {}
    for env in _envs_of_modules(config_dirs):
        if isinstance(kwargs := env.get("kwargs"), Mapping):
            env_id = str(env.get("name"))
            found[env_id] = found.get(env_id, frozenset()) | {str(key) for key in kwargs}
    return found


def wrapper_kwargs_of_modules(config_dirs: Directories = ()) -> Mapping[str, frozenset[str]]:
    """Wrapper inside an environment → arguments that modules name beside it; no others are open."""
    found: dict[str, frozenset[str]] = {}
    for env in _envs_of_modules(config_dirs):
        wrappers = env.get("wrappers")
        for node in filter(is_node, wrappers if isinstance(wrappers, list) else ()):
            target = canonical_target(str(node[TARGET]))
            found[target] = found.get(target, frozenset()) | {str(key) for key in node if key != TARGET}
    return found


def _envs_of_modules(config_dirs: Directories) -> Iterator[Mapping[str, Any]]:
    """What modules say of their environments."""
    index = module_index(config_dirs)
    for group in ("env", *PRESET_GROUPS):
        for name in index.files.get(group, {}):
            if isinstance(env := _env_of(index, group, name), Mapping):
                yield env


def _env_of(index: ModuleIndex, group: str, name: str) -> Any:
    """What a module says of its environment, together with the modules it begins from."""
    config = module_of(index, group, name)["config"]
    if not isinstance(config, Mapping):
        return None
    env = config if group == "env" else config.get("env")
    bases = [entry for entry in config.get("defaults") or () if entry != "_self_"]
    if any(map(_brings_env, bases)) or (
        bases and (_has_arguments(env) or _has_arguments(_default_env(index)))
    ):
        for root in _ROOTS:
            # one that composes nowhere is refused where it is chosen
            with contextlib.suppress(InvalidSpecificationError):
                return composition(root, {group: name}, index).tree.get("env")
    return env


def _brings_env(entry: Any) -> bool:
    """Whether an entry of a defaults list may change the environment: only then is Hydra's slow composition needed."""
    return isinstance(entry, str) or any(
        group in re.findall(r"\w+", str(key)) for key in entry for group in ("env", *PRESET_GROUPS)
    )


def _has_arguments(env: Any) -> bool:
    return isinstance(env, Mapping) and bool(env.get("kwargs") or env.get("wrappers"))


def _default_env(index: ModuleIndex) -> Any:
    with contextlib.suppress(InvalidSpecificationError):
        return composition(_ROOTS[0], {}, index).tree.get("env")
    return None
