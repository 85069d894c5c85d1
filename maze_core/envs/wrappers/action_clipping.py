"""Actions within the bounds of their Box, for policies whose distribution does not know them."""

import numpy as np
from gymnasium import spaces

from maze_core.config.settings import dataclass
from maze_core.envs.wrappers.wrapper import STRICT, Spaces, Wrapper
from maze_core.types import Action, StepKey


@dataclass(kw_only=True, eq=False, config=STRICT)
class ActionClippingWrapper(Wrapper):
    """Clip Box heads to their space, also in the actions that a served agent answers."""

    def __post_init__(self) -> None:
        self._boxes: dict[StepKey, dict[str, spaces.Box]] = {}

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Remember the bounds."""
        self._boxes = {
            key: {head: leaf for head, leaf in space.items() if isinstance(leaf, spaces.Box)}
            for key, space in action_spaces.items()
        }
        return observation_spaces, action_spaces

    def action(self, step_key: StepKey, actions: Action) -> Action:
        """Box heads within their bounds, the others as they are."""
        boxes = self._boxes[step_key]
        return actions | {head: np.clip(actions[head], box.low, box.high) for head, box in boxes.items()}
