"""What the code of an environment gives, checked before it is believed, and its end.

``reset`` gives observation and info, ``step`` five values; a flag is a truth value and a reward one finite number.
Whatever else comes is refused by name, with what to return instead: read by truthiness or by NumPy's own rules, text
and dicts would end every episode, in silence.
"""

import contextlib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from maze_core.errors import USER_CODE_ERRORS, EnvError, MazeError, reason_of
from maze_core.notices import Notices

OLD_ENVIRONMENTS = (
    "an environment of the old gym is taken by env=legacy_gym_env, or made with "
    "maze_core.envs.legacy_gym.LegacyGymAdapter(env)."
)
_FIVE = "it must give five: observation, reward, terminated, truncated, info"
_FLAGS = frozenset({bool, np.bool_})
NUMBERS = frozenset({float, int, bool, np.bool_, np.float64, np.float32, np.int64, np.int32})
"""Classes of rewards that need no second look; a set, because this is asked at every step."""


@contextlib.contextmanager
def making(what: str, install: str = "") -> Iterator[None]:
    """Call what makes an environment, which is code of other people.

    Args:
        what: what is made, for messages.
        install: said too where a package is missing.

    Raises:
        EnvError: it raised something; what is of ours, and a want of memory, stays as it is.
    """
    try:
        yield
    except (MazeError, MemoryError):
        raise
    except USER_CODE_ERRORS as error:
        hint = install if isinstance(error, ImportError | gymnasium.error.DependencyNotInstalled) else ""
        raise EnvError(f"{what} could not be made: {reason_of(error)}{hint}", is_made=False) from error


def five_values(result: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """What ``step`` gave, where it is what it must be.

    Raises:
        EnvError: it is something else.
    """
    is_sequence = isinstance(result, (tuple, list))
    if not is_sequence or len(result) != 5:
        given = f"{len(result)} values" if is_sequence else _a(result)
        raise EnvError(f"step() gave {given}; {_FIVE}; {OLD_ENVIRONMENTS}")
    observation, reward, terminated, truncated, info = result
    if not isinstance(info, Mapping):
        raise EnvError(f"the info of step() is {_a(info)}; it must be a dict.")
    return observation, reward, terminated, truncated, dict(info)


def failure_of(error: BaseException) -> str:
    """What an environment raised, and the rule where a wrapper of gymnasium met a wrong number of values."""
    frames = traceback.extract_tb(error.__traceback__)
    is_wrapper = bool(frames) and "gymnasium" in Path(frames[-1].filename).parts and "unpack" in str(error)
    return f"{reason_of(error)}: of step(), {_FIVE}; {OLD_ENVIRONMENTS}" if is_wrapper else reason_of(error)


def first_observation(env: Any, seed: int | None, options: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Reset a gymnasium environment: its first observation and info.

    Raises:
        EnvError: ``reset`` takes or gives something else than it must.
    """
    # options only where there are some: many environments take none
    given = {} if options is None else {"options": dict(options)}
    try:
        result = env.reset(seed=seed, **given)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error) or "reset" not in str(error):
            raise
        rule = "it must be reset(*, seed=None, options=None)"
        raise EnvError(f"reset() cannot be called ({error}); {rule}; {OLD_ENVIRONMENTS}") from error
    is_pair = isinstance(result, (tuple, list)) and len(result) == 2
    if is_pair and (result[1].__class__ is dict or isinstance(result[1], Mapping)):
        return result[0], result[1]
    raise EnvError(
        f"reset() gave {_a(result)}; it must give two: observation and info, a dict; {OLD_ENVIRONMENTS}"
    )


def flag(value: Any, name: str) -> bool:
    """``terminated`` or ``truncated`` as a truth value: a bool, 0 or 1, or an array or tensor of one such.

    Raises:
        EnvError: it is something else.
    """
    if value.__class__ in _FLAGS:
        return bool(value)
    found = _single(value)
    if found is None or (found.dtype.kind != "b" and found not in (0, 1)):
        raise EnvError(f"{name} is {_a(value)}; return True or False.")
    return bool(found)


def number(value: Any) -> float:
    """A reward as a number: a Python or NumPy number, or an array or tensor of one.

    Raises:
        EnvError: it is something else.
    """
    found = _single(value)
    if found is None:
        raise EnvError(f"the reward is {_a(value)}; return one number, such as float(reward).")
    try:
        return float(found)
    except OverflowError as error:
        raise EnvError("the reward is a whole number too large for a float.") from error


def column(values: Any, n_envs: int, name: str) -> Any:
    """What a vector form gave for all environments, as an array ``[n_envs]`` of flags, or of rewards.

    Raises:
        EnvError: it is something else.
    """
    array = np.asarray(values)
    is_flag = name != "reward"
    fits = array.shape == (n_envs,) and array.dtype.kind in "biuf" and not np.ma.isMaskedArray(values)
    if not fits or (is_flag and array.dtype.kind != "b" and not np.isin(array, (0, 1)).all()):
        what = "truth values" if is_flag else "numbers"
        raise EnvError(
            f"{name} is {array.dtype} of shape {array.shape}; it must be {n_envs} {what}, one per environment."
        )
    return array


def close_all(envs: Iterable[Any]) -> list[str]:
    """Close every one of them, whatever the others do; the reasons of those that failed."""
    failures = []
    for env in envs:
        try:
            env.close()
        except USER_CODE_ERRORS as error:
            failures.append(reason_of(error))
    return failures


def say_failed_closes(failures: list[str], notices: Notices) -> None:
    """One warning for all environments that could not be closed; what they gave before counts all the same."""
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        notices.say("close", f"close() of an environment failed: {failures[0]}{more}")


def _single(value: Any) -> Any:
    """The one number that a value is, ``[]``; None where it is none."""
    if hasattr(value, "detach"):  # a tensor
        value = value.item() if value.numel() == 1 else None
    if not (isinstance(value, (bool, int, float)) or hasattr(value, "__array__")) or np.ma.isMaskedArray(
        value
    ):
        return None
    array = np.asarray(value)
    return array.reshape(()) if array.size == 1 and array.dtype.kind in "biuf" else None


def _a(value: object) -> str:
    """A value in a message: its class, its shape or the value itself where it is short."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 40 else type(value).__name__
