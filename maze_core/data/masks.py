"""Masks of actions as numbers: how wide one is, and what it allows.

A mask has a number per action of a Discrete head, of a MultiDiscrete one those of its choices one after the other, and
a number per bit of a MultiBinary one; 0 forbids.
"""

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from maze_core.types import Array, BoolArray, StepKey, mask_name


def mask_sizes(space: "spaces.Space[object]") -> list[int] | None:
    """Entries of each choice in a mask; None of numbers, which have no mask."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.flat]
    return [1] * int(np.prod(space.shape or ())) if isinstance(space, spaces.MultiBinary) else None


def masked_heads(
    observation_spaces: Mapping[StepKey, spaces.Dict], action_spaces: Mapping[StepKey, spaces.Dict]
) -> dict[StepKey, list[str]]:
    """The heads of each sub-step whose masks are observed."""
    return {
        key: [
            head
            for head, leaf in space.items()
            if mask_sizes(leaf) is not None and mask_name(head) in observation_spaces[key].spaces
        ]
        for key, space in action_spaces.items()
    }


def is_allowed(space: "spaces.Space[object]", mask: Array, actions: Array) -> BoolArray:
    """``[B]``: whether masks ``[B, ...]`` allow these actions ``[B, ...]``."""
    n, sizes = len(actions), mask_sizes(space)
    assert sizes is not None
    allowed, chosen = mask.reshape(n, -1) != 0, np.asarray(actions).reshape(n, -1)
    if isinstance(space, spaces.MultiBinary):
        return np.asarray((allowed | (chosen == 0)).all(1))
    assert isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    columns = chosen - np.ravel(space.start) + np.cumsum([0, *sizes[:-1]])
    return np.asarray(np.take_along_axis(allowed, columns.astype(np.int64), 1).all(1))
