"""The policy that knows nothing: uniform over the actions that the masks allow.

It needs noise even when asked to act deterministically, because it has no likeliest action.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces

from maze_core.data.values import fit_to_box
from maze_core.errors import EnvError
from maze_core.models.acting import ActingPolicy, StepPolicy
from maze_core.models.heads import DistributionMapper, Head, apply_mask
from maze_core.types import Action, Array, FloatArray, IntArray, Observation, StepKey, mask_name


class RandomPolicy(ActingPolicy):
    """Draws actions uniformly; a Box without bounds from N(0, 1), with one bound from Exp(1) beside it."""

    ignores_observations = True
    """Only masks matter to it, so it plays without the statistics that a wrapper would need to show the rest."""

    def __init__(self, action_spaces: Mapping[StepKey, spaces.Dict]) -> None:
        """Act in these spaces; masks are found among the observations by name.

        Raises:
            InvalidSpecificationError: a space is not one that a policy can act in.
        """
        super().__init__({key: _RandomStep(space) for key, space in action_spaces.items()})
        self.needs_noise = True


class _RandomStep(StepPolicy):
    """Samples are a function of the noise and the masks alone, on the environment's scale."""

    def __init__(self, action_space: spaces.Dict) -> None:
        super().__init__(DistributionMapper().heads(action_space, {}), [])
        self._action_space = action_space
        self.noise_width = sum(_noise_width(head, action_space[head.name]) for head in self.heads)

    def noise(self, rng: np.random.Generator, n_rows: int) -> FloatArray:
        return rng.random((n_rows, self.noise_width))

    def sample(
        self, observations: Observation, noise: FloatArray | None, agent_id: IntArray | None
    ) -> Action:
        """Samples ``[B, ...]`` per head.

        Raises:
            ValueError: there is no noise.
            EnvError: a mask has another width than its head.
        """
        if noise is None:
            raise ValueError("a random action needs noise: pass policy.noise(step_key, rng, n_rows)")
        action: Action = {}
        at = 0
        for head in self.heads:
            space = self._action_space[head.name]
            drawn = noise[:, at : (at := at + _noise_width(head, space))]
            if isinstance(space, spaces.Box):
                action[head.name] = _draw_box(space, drawn)
                continue
            logits = np.zeros((len(noise), head.logits_width), np.float32)
            mask = observations.get(mask_name(head.name))
            if mask is not None and mask.size != logits.size:
                raise EnvError(
                    f"The observation {mask_name(head.name)!r} should be {head.logits_width} wide, one number per "
                    f"action of the head {head.name!r}, not {mask[0].size}."
                )
            action[head.name] = head.sample(logits if mask is None else apply_mask(logits, mask), drawn)
        return action

    def in_env_units(self, samples: Action) -> Action:
        return samples


def _noise_width(head: Head, space: spaces.Space[Any]) -> int:
    # A Box has two columns per number: a normal number takes two uniform ones (Box and Muller 1958).
    return 2 * prod(space.shape) if isinstance(space, spaces.Box) else head.noise_width


def _draw_box(space: spaces.Box, noise: FloatArray) -> Array:
    """Numbers ``[B, *shape]`` from uniform noise ``[B, 2 * size]``."""
    first, second = (half.reshape(-1, *space.shape) for half in np.split(noise, 2, axis=1))
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    below, above = space.bounded_below, space.bounded_above
    tail = -np.log1p(-first)
    normal = np.sqrt(2.0 * tail) * np.cos(2.0 * np.pi * second)
    whole = space.dtype.kind in "iub"
    finite_low, finite_high = np.where(below, low, 0.0), np.where(above, high, 0.0)
    within = finite_low + first * (finite_high - finite_low + whole)
    drawn = np.select([below & above, below, above], [within, low + tail, high - tail], normal)
    return fit_to_box(np.floor(drawn) if whole else drawn, space)
