"""What wrappers that change Box observations share: which ones they touch, and how the spaces change with them."""

from abc import abstractmethod

from gymnasium import spaces

from maze_core.envs.wrappers.wrapper import Spaces, States, Wrapper
from maze_core.errors import EnvError
from maze_core.types import MASK_SUFFIX, Array, Observation, StepKey


class BoxObservationWrapper(Wrapper):
    """Changes Box observations one by one; masks and those named in ``exclude`` stay as they are."""

    exclude: list[str]

    def __post_init__(self) -> None:
        self._names: dict[StepKey, list[str]] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find the observations to change, and change their spaces."""
        known = {name for space in observation_spaces.values() for name in space.spaces}
        if unknown := sorted(set(self.exclude) - known):
            raise EnvError(f"{type(self).__name__} excludes {unknown}, which is not observed.")
        changed = {}
        for key, space in observation_spaces.items():
            boxes = {
                name: leaf
                for name, leaf in space.items()
                if isinstance(leaf, spaces.Box)
                and name not in self.exclude
                and self.is_changed(name)
                and not name.endswith(MASK_SUFFIX)
            }
            self._names[key] = list(boxes)
            leaves = space.spaces | {name: self.box(name, box) for name, box in boxes.items()}
            changed[key] = spaces.Dict(list(leaves.items()))  # of a dict it would sort them
        return changed, action_spaces

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """Change each of the observations."""
        changed = {name: self.values(name, observations[name]) for name in self._names[step_key]}
        return observations | changed, state

    def is_changed(self, name: str) -> bool:
        """Whether a Box that is not excluded is changed."""
        return True

    @abstractmethod
    def box(self, name: str, box: spaces.Box) -> spaces.Box:
        """The space of an observation as it is seen through this wrapper."""

    @abstractmethod
    def values(self, name: str, values: Array) -> Array:
        """A batch ``[B, ...]`` of an observation as it is seen through this wrapper; a new array."""
