"""The nouns that every layer shares: who acts, what is seen, what is done.

Axes, everywhere: ``T`` is time, ``B`` is the environment in the batch. A *tick* is one call of a
vector environment; a *flat step* is one step of environment time, which may take several ticks
(one per sub-step or agent).
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

StepKey: TypeAlias = int | str
"""Name of a sub-step; a plain gymnasium environment has the one key 0."""

Array: TypeAlias = NDArray[Any]

Observation: TypeAlias = dict[str, Array]
"""One observation, or a batch of them: name → array, ``[...]`` or ``[B, ...]``."""

Action: TypeAlias = dict[str, Any]
"""One action, or a batch of them: head → number or array, ``[...]`` or ``[B, ...]``."""

JSON: TypeAlias = Any
"""A value that ``json.dumps`` writes and ``json.loads`` gives back unchanged."""

Tree: TypeAlias = dict[str, Any]
"""A configuration as nested plain dicts, lists and scalars; keys are strings."""

FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]


class ActorID(NamedTuple):
    """Who acts: the sub-step and the agent within it."""

    step_key: StepKey = 0
    agent_id: int = 0


Rewards: TypeAlias = Literal["team", "per_actor"]
"""Whom the steps of an environment pay: all who act in it together, or each actor its own."""


class Actors:
    """The actors of an environment, numbered: sub-step by sub-step, agent by agent.

    Args:
        agent_counts: agents per sub-step, in the order of the spaces; 1 at least.
    """

    def __init__(self, agent_counts: Mapping[StepKey, int]) -> None:
        self.ids = tuple(
            ActorID(key, agent_id) for key, count in agent_counts.items() for agent_id in range(count)
        )
        self.numbers = {actor: number for number, actor in enumerate(self.ids)}
        self.first = {key: self.numbers[ActorID(key, 0)] for key in agent_counts}
        """Sub-step → number of its agent 0."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self.ids)


MASK_SUFFIX = "_mask"
"""An observation named ``<head>_mask`` says which actions of that head are allowed (1) or not (0)."""


def mask_name(head: str) -> str:
    """Name of the observation that masks the action head ``head``."""
    return head + MASK_SUFFIX


NamedArrays: TypeAlias = Mapping[str, Array]
"""Tensors of a checkpoint: name → array."""
