"""The contract of masks, looked at where an action follows: each says 0 or 1 of every action, and allows one at least.

An observation named ``<head>_mask`` masks a head of discrete actions. Every policy honours it. A mask that allows
nothing leaves a policy no action to take, and one of other numbers is a mistake, such as a normalised one; both are
refused by name. Of several choices side by side each has to have one that is allowed; bits may all be forbidden.
Nobody judges rows that nobody reads: of a sub-step that waits, of an episode that is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from maze_core.data.masks import mask_sizes
from maze_core.errors import EnvError
from maze_core.types import Array, BoolArray, IntArray, Observation, StepKey, mask_name


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a mask."""

    row: int
    """Of those that were looked at."""
    name: str
    """Of the observation."""
    message: str
    is_empty: bool = False
    """It allows nothing."""


class MaskCheck:
    """Looks at the masks of one sub-step."""

    def __init__(self, key: StepKey, observation_space: spaces.Dict, action_space: spaces.Dict) -> None:
        """Find the masks by name.

        Raises:
            EnvError: a mask is not as wide as its head has actions.
        """
        self._key = key
        self._masks: list[tuple[str, str, Array]] = []
        """Name, head, and where its choices begin; none of bits."""
        for head, space in action_space.items():
            name, sizes = mask_name(head), mask_sizes(space)
            if name not in observation_space.spaces or sizes is None:
                continue
            width = spaces.flatdim(observation_space[name])
            if width != sum(sizes):
                raise EnvError(
                    f"The observation {name!r} should be {sum(sizes)} wide, one number per action of the head "
                    f"{head!r}, not {width}."
                )
            is_bits = isinstance(space, spaces.MultiBinary)
            starts = np.cumsum([0, *([] if is_bits else sizes)])[:-1]
            self._masks.append((name, head, starts))

    def __bool__(self) -> bool:
        """Whether there is any mask."""
        return bool(self._masks)

    @property
    def heads(self) -> dict[str, str]:
        """Head → the observation that is its mask."""
        return {head: name for name, head, _ in self._masks}

    def fault(
        self, observations: Observation, rows: "BoolArray | IntArray | slice" = slice(None)
    ) -> Fault | None:
        """The first thing that is wrong in these rows of a batch, name → ``[B, ...]``."""
        for name, head, starts in self._masks:
            mask = observations[name][rows]
            mask = mask.reshape(len(mask), -1)
            allowed = mask != 0
            of_sub_step = f"the mask {name!r} of sub-step {self._key!r}"
            if mask.dtype != np.bool_ and (wrong := allowed & (mask != 1)).any():
                row, column = np.argwhere(wrong)[0]
                says = f"holds {mask[row, column]:g}; it says 1 (allowed) or 0 for each action of the head {head!r}."
                return Fault(int(row), name, f"{of_sub_step} {says}")
            if len(starts) and not (found := np.add.reduceat(allowed, starts, 1, dtype=np.int64)).all():
                row, choice = np.argwhere(found == 0)[0]
                where = f", choice {choice}" if len(starts) > 1 else ""
                says = f"allows no action of the head {head!r}{where}; allow one, or end the episode."
                return Fault(int(row), name, f"{of_sub_step} {says}", is_empty=True)
        return None

    def expect(self, observations: Observation, acting: IntArray) -> None:
        """Look at the rows that act.

        Args:
            observations: name → ``[B, ...]``.
            acting: numbers of environments.

        Raises:
            EnvError: a mask of one of them allows nothing, or holds other numbers than 0 and 1.
        """
        fault = self.fault(observations, acting) if len(acting) else None
        if fault is not None:
            raise EnvError(f"Environment {acting[fault.row]}: {fault.message}")


def mask_checks(
    observation_spaces: Mapping[StepKey, spaces.Dict], action_spaces: Mapping[StepKey, spaces.Dict]
) -> dict[StepKey, MaskCheck]:
    """A check for every sub-step that has masks."""
    checks = {
        key: MaskCheck(key, observation_spaces[key], action_space)
        for key, action_space in action_spaces.items()
    }
    return {key: check for key, check in checks.items() if check}
