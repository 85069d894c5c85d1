"""Which observations a wrapper touches, and how it changes their spaces."""

from collections.abc import Callable, Collection, Mapping

from gymnasium import spaces

from maze_core.types import MASK_SUFFIX, StepKey


def box_names(space: spaces.Dict, exclude: Collection[str]) -> list[str]:
    """Names of the Box observations that may be changed: not excluded, and never a mask."""
    return [
        name
        for name, leaf in space.items()
        if isinstance(leaf, spaces.Box) and name not in exclude and not name.endswith(MASK_SUFFIX)
    ]


def replace_boxes(
    observation_spaces: Mapping[StepKey, spaces.Dict],
    exclude: Collection[str],
    replace: Callable[[str, spaces.Box], spaces.Box],
) -> dict[StepKey, spaces.Dict]:
    """The same spaces with ``replace(name, box)`` for every Box that may be changed."""
    result = {}
    for key, space in observation_spaces.items():
        leaves = dict(space.spaces)
        for name in box_names(space, exclude):
            box = leaves[name]
            assert isinstance(box, spaces.Box)
            leaves[name] = replace(name, box)
        result[key] = spaces.Dict(leaves)
    return result


def unknown_names(observation_spaces: Mapping[StepKey, spaces.Dict], names: Collection[str]) -> list[str]:
    """Those of ``names`` that no sub-step observes."""
    known = {name for space in observation_spaces.values() for name in space.spaces}
    return sorted(set(names) - known)
