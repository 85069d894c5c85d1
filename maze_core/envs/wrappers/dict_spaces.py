"""Spaces with and without names, for code that wants one of them.

Everything here has named observations and actions: what stands alone in the environment is called ``observation`` or
``action``. So the ``Dict`` wrappers change nothing. The ``NoDict`` ones give a single one that name, by which
:func:`~maze_core.to_gymnasium` shows it without its Dict, as other libraries want it.
"""

from collections.abc import Mapping

from gymnasium import spaces

from maze_core.config.settings import dataclass
from maze_core.data.masks import masked_heads
from maze_core.envs.wrappers.wrapper import STRICT, Spaces, States, Wrapper
from maze_core.errors import EnvError
from maze_core.types import Action, Observation, StepKey, mask_name


@dataclass(kw_only=True, eq=False, config=STRICT)
class DictObservationWrapper(Wrapper):
    """Named observations, which they are anyway."""


@dataclass(kw_only=True, eq=False, config=STRICT)
class DictActionWrapper(Wrapper):
    """Named actions, which they are anyway."""


@dataclass(kw_only=True, eq=False, config=STRICT)
class NoDictObservationWrapper(Wrapper):
    """Call the one observation ``observation``."""

    def __post_init__(self) -> None:
        self._names: Mapping[StepKey, str] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find its name."""
        self._names = _only_names(type(self).__name__, observation_spaces)
        return _renamed(observation_spaces, self._names, "observation"), action_spaces

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """By the usual name."""
        return {"observation": observations[self._names[step_key]]}, state


@dataclass(kw_only=True, eq=False, config=STRICT)
class NoDictActionWrapper(Wrapper):
    """Call the one action ``action``, and its mask, where it has one, ``action_mask``."""

    def __post_init__(self) -> None:
        self._heads: Mapping[StepKey, str] = {}
        self._masks: dict[StepKey, dict[str, str]] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find its name."""
        self._heads = _only_names(type(self).__name__, action_spaces)
        masks = masked_heads(observation_spaces, action_spaces)
        self._masks = {
            key: {mask_name(head): mask_name("action") for head in masks[key] if head != "action"}
            for key in action_spaces
        }
        seen = {
            key: _with_masks(type(self).__name__, space, self._masks[key])
            for key, space in observation_spaces.items()
        }
        return seen, _renamed(action_spaces, self._heads, "action")

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """The mask by the name that fits."""
        names = self._masks[step_key]
        return {names.get(name, name): values for name, values in observations.items()}, state

    def action(self, step_key: StepKey, actions: Action) -> Action:
        """By the environment's name."""
        return {self._heads[step_key]: actions["action"]}

    def reverse_action(self, step_key: StepKey, actions: Action) -> Action:
        """By the usual name."""
        return {"action": actions[self._heads[step_key]]}


@dataclass(kw_only=True, eq=False, config=STRICT)
class NoDictSpacesWrapper(NoDictObservationWrapper, NoDictActionWrapper):
    """Call the one observation ``observation`` and the one action ``action``."""

    def __post_init__(self) -> None:
        NoDictObservationWrapper.__post_init__(self)
        NoDictActionWrapper.__post_init__(self)

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """By the usual name."""
        return NoDictObservationWrapper.observation(self, step_key, observations, state)

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find their names."""
        observation_spaces, _ = NoDictObservationWrapper.bind(self, observation_spaces, action_spaces)
        return NoDictActionWrapper.bind(self, observation_spaces, action_spaces)


def _only_names(wrapper: str, by_key: Spaces) -> dict[StepKey, str]:
    for key, space in by_key.items():
        if len(space.spaces) != 1:
            raise EnvError(f"{wrapper} needs one entry; sub-step {key!r} has {list(space.spaces)}.")
    return {key: next(iter(space)) for key, space in by_key.items()}


def _renamed(by_key: Spaces, names: Mapping[StepKey, str], name: str) -> dict[StepKey, spaces.Dict]:
    return {key: spaces.Dict({name: space[names[key]]}) for key, space in by_key.items()}


def _with_masks(wrapper: str, space: spaces.Dict, names: Mapping[str, str]) -> spaces.Dict:
    """The observations, those in ``names`` under other names."""
    if taken := sorted(set(names.values()).intersection(space.spaces)):
        raise EnvError(
            f"{wrapper} names the mask {taken[0]!r}, and so is an observation already: rename that."
        )
    return spaces.Dict([(names.get(name, name), leaf) for name, leaf in space.items()])
