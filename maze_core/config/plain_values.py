"""What a client sent, as plain values: JSON types, of bounded size, no reserved keys, no interpolations.

The walk keeps its own stack, so that deep nesting is an answer and not a crash, and ends early when there
is too much of it.
"""

import math
import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from maze_core.config.nodes import TARGET, is_within, shown
from maze_core.errors import ProblemList

Dicts: TypeAlias = Sequence[tuple[str, Mapping[str, Any]]]

CEILINGS: Mapping[str, float] = MappingProxyType(
    {
        "n_epochs": 1_000_000,
        "epoch_length": 10_000,
        "patience": 1_000_000,
        "critic_burn_in_epochs": 1_000_000,
        "checkpoint_every": 1_000_000,
        "max_env_steps": 1_000_000_000_000,
        "total_env_steps": 1_000_000_000_000,
        "max_wall_s": 31_536_000,
        "n_rollout_steps": 65_536,
        "n_rollouts_per_update": 65_536,
        "n_timesteps_per_update": 1_000_000_000,
        "n_optimization_epochs": 1_000,
        "batch_size": 1_048_576,
        "replay_capacity": 1_000_000,
        "n_gradient_steps": 1_000,
        "n_warmup_steps": 1_000_000_000,
        "target_update_steps": 1_000_000_000,
        "policy_delay": 1_000,
        "n_envs": 64,
        "n_processes": 64,
        "normalization_samples": 1_000_000,
        "n_episodes": 10_000,
        "eval_repeats": 10_000,
        "max_episode_steps": 1_000_000,
    }
)
"""Setting → largest value a client may give, wherever the setting stands."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes of what a client sends and of what comes out of it."""

    override_keys: int = 256
    """Keys of ``overrides``."""
    depth: int = 16
    """Levels of nesting."""
    text: int = 512
    """Characters of one text."""
    values: int = 4096
    """Values and keys in total."""
    total_text: int = 65_536
    """Characters of all texts and keys together."""
    hidden_layers: int = 8
    """Entries of ``hidden_units``."""
    hidden_width: int = 4096
    """Largest entry of ``hidden_units``."""
    ceilings: Mapping[str, float] = field(default_factory=lambda: CEILINGS)
    """Setting → largest value."""


MOST_PROBLEMS = 64
"""Nobody reads more, and finding suggestions takes time."""
_LARGEST = 2**63 - 1
_NUMBERS = (bool, int, float)
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ODD_TEXT = re.compile("\\$\\{|[\x00\ud800-\udfff]")
_RESERVED = frozenset({"defaults", "hydra"})
_PATH_LIKE = re.compile(
    r"(?:^|_)(?:dir|dirs|file|files|folder|folders|path|paths|prefix|searchpath|filename)$"
)


def plain_dicts(
    value: Any, limits: Limits, found: ProblemList, granted: Collection[str] = ()
) -> Dicts | None:
    """Path and dict of every dict in a value, parents first; every problem is noted.

    Keys of ``overrides`` are paths themselves. ``granted`` are paths at and below which any key may stand.

    Returns:
        None where there is too much of it, or too much wrong with it, to be looked at further.
    """
    before, dicts, inner = len(found.problems), [], deque([(value, "", 0)])
    if not isinstance(value, (Mapping, list)):
        _check_scalar(inner.pop()[0], "", limits, found)
    seen, texts = 1, 0
    while inner:
        current, path, depth = inner.popleft()
        seen += len(current)
        if depth >= limits.depth:
            found.add(path[:200], f"is nested deeper than {limits.depth} levels.", code="too_deep")
            return None
        if seen > limits.values:
            found.add("", f"There are more than {limits.values} values.", code="too_large")
            return None
        texts += _check_items(current, path, depth, inner, limits, found, granted)
        if texts > limits.total_text:
            found.add("", f"All texts together exceed {limits.total_text} characters.", code="too_large")
            return None
        if len(found.problems) - before >= MOST_PROBLEMS:
            return None
        if isinstance(current, Mapping):
            dicts.append((path, current))
    return dicts


def _check_items(
    current: Any,
    path: str,
    depth: int,
    inner: deque[Any],
    limits: Limits,
    found: ProblemList,
    granted: Collection[str],
) -> int:
    """Check keys and scalars of a dict or list, add what has items itself to ``inner``; returns characters of text."""
    base, texts = (f"{path}." if path not in ("", "overrides") else ""), 0
    is_dict = isinstance(current, Mapping)
    for key, child in current.items() if is_dict else enumerate(current):
        where = f"{base}{key}"
        if is_dict:
            texts += len(key) if isinstance(key, str) else 0
            if not isinstance(key, str) or not (
                _is_open(key, limits.text) or any(is_within(where, path) for path in granted)
            ):
                _refuse_key(key, where, limits, found)
                continue
        if isinstance(child, (Mapping, list)):
            inner.append((child, where, depth + 1))
        elif isinstance(child, str):
            texts += len(child)
            if len(child) > limits.text or _ODD_TEXT.search(child):
                _check_text(child, where[:200], limits, found)
        elif child is not None and not (type(child) in _NUMBERS and -_LARGEST <= child <= _LARGEST):
            _check_scalar(child, where, limits, found)
    return texts


@lru_cache(maxsize=4096)
def _is_open(key: str, longest: int) -> bool:
    """Whether this is a key that may be used; a dotted key is checked part by part."""
    return len(key) <= longest and bool(_KEY.fullmatch(key)) and not any(map(is_reserved, key.split(".")))


def _refuse_key(key: Any, path: str, limits: Limits, found: ProblemList) -> None:
    if not isinstance(key, str):
        found.add(path[:200], f"{shown(key)} is no text, as a key must be.", code="wrong_type")
    elif len(key) > limits.text:
        found.add(path[:200], f"A key is longer than {limits.text} characters.", code="too_large")
    elif "${" in key:
        found.add(path, "Interpolations are not evaluated here.", code="interpolation")
    elif not _KEY.fullmatch(key):
        found.add(path, f"{shown(key)} is not a key.", code="unknown_key")
    else:
        bad = next(part for part in key.split(".") if is_reserved(part))
        found.add(path, f"{shown(bad)} belongs to the operator.", code="reserved_key")


def is_reserved(part: str) -> bool:
    """Whether this part of a key is the operator's, whatever it stands in."""
    hidden = part.startswith("_") and part != TARGET
    return hidden or part in _RESERVED or bool(_PATH_LIKE.search(part))


def _check_scalar(value: Any, path: str, limits: Limits, found: ProblemList) -> None:
    where = path[:200]
    if isinstance(value, str):
        _check_text(value, where, limits, found)
    elif isinstance(value, int):
        if abs(value) > _LARGEST:
            found.add(where, "A whole number has more than 64 bits.", code="out_of_range")
    elif isinstance(value, float):
        if not math.isfinite(value):
            found.add(where, f"{value} is not a finite number.", code="not_finite")
    elif value is not None:
        found.add(where, f"A {type(value).__name__} is no JSON value.", code="wrong_type")


def _check_text(value: str, path: str, limits: Limits, found: ProblemList) -> None:
    if len(value) > limits.text:
        message = f"A text of {len(value)} characters is longer than {limits.text}."
        found.add(path, message, code="too_large")
    elif "${" in value:
        found.add(path, "Interpolations ('$' and '{') are not evaluated here.", code="interpolation")
    elif "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        found.add(path, f"{shown(value)} holds a character that is no text.", code="invalid_value")
