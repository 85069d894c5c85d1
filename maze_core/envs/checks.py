"""Whether an environment can be trusted: gymnasium's own checker, and what training needs beyond it, in plain words."""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import gymnasium
import numpy as np

from maze_core.data.flat_space import SpaceReader
from maze_core.envs.config import CallableEnvConfig
from maze_core.envs.contract import flag, making, number
from maze_core.envs.core_env import StructuredEnv
from maze_core.errors import USER_CODE_ERRORS, EnvError, MazeError, SpaceMismatchError, reason_of
from maze_core.types import Observation, mask_name

TICKS = 2_000
"""Steps that are played."""
_LARGE = 100.0
"""Size of an observation from which networks learn badly."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found out about an environment."""

    level: Literal["error", "warning"]
    what: str
    """What is so."""
    meaning: str
    """What follows from it."""
    way_out: str
    """What to do."""


_OUTSIDE = (
    "Policies are built for the space; what lies outside of it is refused when they act, or learnt wrongly."
)
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"not within the observation space|outside the observation space|observation.*expected",
        _OUTSIDE,
        "Return what observation_space says, dtype and shape included, or widen it: Box(low, high, shape, dtype).",
    ),
    (
        r"non-deterministic|not equivalent|are not equal although|super\(\)\.reset|np_random|random generat",
        "The same seed gives other episodes: runs do not repeat, and a resumed run is not the one that was stopped.",
        "Call super().reset(seed=seed) first in reset(), and draw from self.np_random alone.",
    ),
    (
        r"share an object",
        "An observation that is changed later changes in what was recorded, too.",
        "Return a new array from step() and reset(): observation.copy().",
    ),
    (
        r"`(seed|options)` or|`seed` keyword|`options` keyword|default seed argument",
        "It cannot be reset with a seed or with options.",
        "Declare reset(self, *, seed=None, options=None).",
    ),
    (
        r"minimum value is -infinity|maximum value is infinity",
        "Nobody knows how large observations become, and networks learn badly from large ones.",
        "Give the space its real bounds, or train with wrappers=running_normalization.",
    ),
    (
        r"inherit from the gymnasium.Env|incompatible with Gymnasium",
        "It is no environment of gymnasium's.",
        "Derive it from gymnasium.Env, or take it with env=legacy_gym_env where it is one of the old gym's.",
    ),
    (
        r"render",
        "It may not be possible to film it.",
        "Say in metadata['render_modes'] what render() gives; 'rgb_array' is filmed.",
    ),
)
"""What a message speaks of → what it means, and what to do."""
_OF_OTHERS = "symmetric and normalized"
"""In advice that other libraries need; here actions are scaled to the bounds of the space."""
_UNTOLD = ("It does not keep gymnasium's rules.", "See gymnasium.farama.org/introduction/create_custom_env.")


def check_environment(make: Callable[[], Any], *, ticks: int = TICKS) -> list[Finding]:
    """Make an environment, check it, and play in it.

    Args:
        make: gives one; called several times.
        ticks: steps to play.

    Returns:
        What is wrong, the worst first; nothing where all is well.
    """
    try:
        with making("The environment"):
            env = make()
    except EnvError as error:
        return [
            _error(
                str(error), "It cannot be used at all.", "Call its class by hand, and mend what it raises."
            )
        ]
    found = list(_of_training(make, ticks))
    is_refused = any(one.level == "error" for one in found)
    if isinstance(
        env, gymnasium.Env
    ):  # others have sub-steps, agents or domain logic, for which it has no rules
        found = [*(_weighed(one, is_refused=is_refused) for one in _of_gymnasium(env)), *found]
    once = list({(one.level, one.meaning): one for one in reversed(found)}.values())
    return sorted(once, key=lambda one: one.level)


def _error(what: str, meaning: str, way_out: str) -> Finding:
    return Finding(level="error", what=what, meaning=meaning, way_out=way_out)


def _warning(what: str, meaning: str, way_out: str) -> Finding:
    return Finding(level="warning", what=what, meaning=meaning, way_out=way_out)


def _weighed(finding: Finding, *, is_refused: bool) -> Finding:
    """An observation outside of the space is no error where training takes it as it is."""
    return finding if is_refused or finding.meaning != _OUTSIDE else replace(finding, level="warning")


def _of_gymnasium(env: gymnasium.Env[Any, Any]) -> Iterator[Finding]:
    """What ``gymnasium.utils.env_checker.check_env`` says of the environment without its wrappers."""
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
        except USER_CODE_ERRORS as error:
            yield _told("error", reason_of(error))
    for warning in said:
        if _OF_OTHERS not in str(warning.message):
            yield _told("warning", str(warning.message))


def _told(level: Literal["error", "warning"], message: str) -> Finding:
    text = " ".join(re.sub(r"\x1b\[\d*m|WARN: ", "", message).split())
    known = ((meaning, way_out) for words, meaning, way_out in _KNOWN if re.search(words, text))
    meaning, way_out = next(known, _UNTOLD)
    return Finding(level=level, what=text, meaning=meaning, way_out=way_out)


def _of_training(make: Callable[[], Any], ticks: int) -> Iterator[Finding]:
    """What comes of playing in it as a training does."""
    try:
        first, second = (_played(CallableEnvConfig(factory=make).make(), ticks) for _ in range(2))
    except MazeError as error:
        yield _error(str(error), "No policy can be trained in it.", "Mend what it says.")
        return
    except USER_CODE_ERRORS as error:
        yield _error(
            f"It raised {reason_of(error)}",
            "Training ends there.",
            "Mend it, or play fewer kinds of actions.",
        )
        return
    if first.trace != second.trace:
        yield _told("error", "The same seeds and actions gave another episode: it is non-deterministic.")
    if not np.isfinite([*first.rewards, first.largest]).all():
        what = "A reward or an observation is NaN or infinite."
        yield _error(
            what, "One such number spoils a network for good.", "Find where it is divided by 0, or clip it."
        )
    if not first.lengths:
        what = f"No episode ended within {ticks} steps of random actions."
        meaning = "Returns are known only of whole episodes, so that nothing would be measured for long."
        yield _warning(what, meaning, "Register it with max_episode_steps, or set env.max_episode_steps.")
    if first.largest > _LARGE:
        what = f"Observations are as large as {first.largest:.4g}."
        yield _warning(what, "Networks learn badly from them.", "Train with wrappers=running_normalization.")
    if len(set(first.rewards)) == 1 and len(first.lengths) > 1 and len(set(first.lengths)) == 1:
        what = f"Every step is rewarded by {first.rewards[0]:g}, and all episodes are equally long."
        yield _warning(
            what, "There may be nothing to learn from.", "See that the reward depends on the actions."
        )


@dataclass
class _Played:
    """What was seen."""

    trace: list[bytes] = field(default_factory=list)
    """Observations and rewards."""
    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """Steps of the episodes that ended."""
    largest: float = 0.0


def _played(env: StructuredEnv, ticks: int) -> _Played:
    """Play with random actions, the same ones each time; every episode is reset with a seed of its own."""
    played, began = _Played(), 0
    seen: Observation = {}
    readers = {key: SpaceReader(space, "observation") for key, space in env.observation_spaces.items()}

    def see(observation: Observation) -> None:
        nonlocal seen
        seen = observation
        _see(played, readers[env.actor_id().step_key], observation)

    for space in env.action_spaces.values():
        space.seed(0)
    try:
        see(env.reset(seed=0))
        for tick in range(1, ticks + 1):
            action = _allowed(env.action_spaces[env.actor_id().step_key], seen)
            observation, reward, terminated, truncated, _ = env.step(action)
            see(observation)
            played.rewards.append(number(reward))
            played.trace.append(np.float64(played.rewards[-1]).tobytes())
            if flag(terminated, "terminated") | flag(truncated, "truncated"):
                played.lengths.append(tick - began)
                began = tick
                see(env.reset(seed=len(played.lengths)))
    finally:
        env.close()
    return played


def _allowed(space: gymnasium.spaces.Dict, seen: Observation) -> dict[str, Any]:
    """A random action that the masks among the observations allow."""
    masks = {
        head: np.asarray(seen[mask_name(head)]).astype(np.int8)
        if isinstance(leaf, gymnasium.spaces.Discrete) and mask_name(head) in seen
        else None
        for head, leaf in space.items()
    }
    return space.sample(mask=masks if any(mask is not None for mask in masks.values()) else None)


def _see(played: _Played, reader: SpaceReader, observation: Observation) -> None:
    """Read an observation as training does.

    Raises:
        EnvError: it does not fit its space.
    """
    for name, leaf in reader.leaves.items():
        try:
            values = np.asarray(leaf.ready(observation[name]))
        except SpaceMismatchError as error:
            raise EnvError(reader.refusal(name, error)) from error
        played.trace.append(values.tobytes())
        is_measured = isinstance(reader.space[name], gymnasium.spaces.Box) and values.dtype != np.uint8
        if is_measured and values.size:
            played.largest = float(np.maximum(played.largest, np.abs(values).max()))  # NaN stays
