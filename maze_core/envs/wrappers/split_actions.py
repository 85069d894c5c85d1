"""One action head of several dimensions as several heads, each with a distribution of its own."""

from typing import Annotated, Any

import numpy as np
from gymnasium import spaces
from pydantic import BeforeValidator, Field

from maze_core.config.settings import dataclass
from maze_core.data.masks import mask_sizes, masked_heads
from maze_core.envs.wrappers.wrapper import STRICT, Spaces, States, Wrapper
from maze_core.errors import EnvError
from maze_core.types import Action, Observation, StepKey, mask_name

_Indices = Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(min_length=1),
    BeforeValidator(lambda value: value.get("indices", value) if isinstance(value, dict) else value),
]


@dataclass(kw_only=True, eq=False, config=STRICT)
class SplitActionsWrapper(Wrapper):
    """Split heads of one axis (Box, MultiDiscrete, MultiBinary) into named parts, and their masks with them."""

    split_config: dict[str, Annotated[dict[str, _Indices], Field(min_length=1)]]
    """Head → part → the dimensions it has, each in one part."""

    def __post_init__(self) -> None:
        self._split: dict[StepKey, dict[str, spaces.Space[Any]]] = {}
        self._masks: dict[StepKey, dict[str, dict[str, list[int]]]] = {}
        """Sub-step → mask → the mask of each part → its entries in the whole."""

    def bind(self, observation_spaces: Spaces, action_spaces: Spaces) -> tuple[Spaces, Spaces]:
        """Find the heads, and put their parts in their places."""
        changed = {}
        for key, space in action_spaces.items():
            heads: list[tuple[str, spaces.Space[Any]]] = []
            self._split[key] = {head: space[head] for head in self.split_config if head in space.spaces}
            for head, leaf in space.items():
                split = head in self._split[key]
                heads += self._parts(head, leaf) if split else [(head, leaf)]
            if len({name for name, _ in heads}) < len(heads):
                raise EnvError(
                    f"SplitActionsWrapper gives two heads one name: {[name for name, _ in heads]}."
                )
            changed[key] = spaces.Dict(heads)
        if missing := sorted(set(self.split_config).difference(*self._split.values())):
            known = sorted({head for space in action_spaces.values() for head in space})
            raise EnvError(f"SplitActionsWrapper splits {missing}, and the actions are {known}.")
        masked = masked_heads(observation_spaces, action_spaces)
        for key, leaves in self._split.items():
            self._masks[key] = {
                mask_name(head): self._entries(head, leaf)
                for head, leaf in leaves.items()
                if head in masked[key]
            }
        return {key: self._seen(key, space) for key, space in observation_spaces.items()}, changed

    def observation(
        self, step_key: StepKey, observations: Observation, state: States
    ) -> tuple[Observation, States]:
        """The masks of the parts."""
        if not (masks := self._masks[step_key]):
            return observations, state
        seen = {name: values for name, values in observations.items() if name not in masks}
        for mask, parts in masks.items():
            whole = observations[mask].reshape(len(observations[mask]), -1)
            seen |= {part: whole[:, entries] for part, entries in parts.items()}
        return seen, state

    def action(self, step_key: StepKey, actions: Action) -> Action:
        """The parts together again."""
        joined = dict(actions)
        for head, leaf in self._split[step_key].items():
            parts = self.split_config[head]
            values = [np.asarray(joined.pop(part)) for part in parts]
            whole = np.zeros((len(values[0]), *(leaf.shape or ())), leaf.dtype)
            for indices, value in zip(parts.values(), values, strict=True):
                whole[:, indices] = value.reshape(len(value), len(indices))
            joined[head] = whole
        return joined

    def reverse_action(self, step_key: StepKey, actions: Action) -> Action:
        """The parts of the heads."""
        split = dict(actions)
        for head, leaf in self._split[step_key].items():
            whole = split.pop(head)
            for (part, space), indices in zip(
                self._parts(head, leaf), self.split_config[head].values(), strict=True
            ):
                split[part] = whole[:, indices].reshape(-1, *(space.shape or ()))
        return split

    def _entries(self, head: str, leaf: spaces.Space[Any]) -> dict[str, list[int]]:
        """The mask of each part, and its entries in the mask of the head."""
        sizes = mask_sizes(leaf) or []
        ends = np.cumsum(sizes).tolist()
        return {
            mask_name(part): [i for of in indices for i in range(ends[of] - sizes[of], ends[of])]
            for part, indices in self.split_config[head].items()
        }

    def _seen(self, key: StepKey, space: spaces.Dict) -> spaces.Dict:
        """What is observed, with the masks of the parts."""
        masks = self._masks.get(key, {})
        leaves = [(name, leaf) for name, leaf in space.items() if name not in masks]
        for mask, parts in masks.items():
            leaf, width = space[mask], sum(map(len, parts.values()))
            if spaces.flatdim(leaf) != width:
                raise EnvError(
                    f"SplitActionsWrapper: the mask {mask!r} should be {width} wide, and is {leaf}."
                )
            leaves += [(part, _mask_part(leaf, entries)) for part, entries in parts.items()]
        names = [name for name, _ in leaves]
        if len(set(names)) < len(names):
            raise EnvError(f"SplitActionsWrapper gives two observations one name: {names}.")
        return spaces.Dict(leaves)

    def _parts(self, head: str, leaf: spaces.Space[Any]) -> list[tuple[str, spaces.Space[Any]]]:
        """The spaces of the parts of a head."""
        indices = [i for part in self.split_config[head].values() for i in part]
        if leaf.shape is None or len(leaf.shape) != 1 or sorted(indices) != list(range(leaf.shape[0])):
            raise EnvError(
                f"SplitActionsWrapper: the parts of {head!r} have the dimensions {indices}; the head is {leaf}, of "
                "which each dimension has to be in one part."
            )
        return [(name, _part(leaf, part)) for name, part in self.split_config[head].items()]


def _part(leaf: spaces.Space[Any], indices: list[int]) -> spaces.Space[Any]:
    if isinstance(leaf, spaces.Box):
        return spaces.Box(leaf.low[indices], leaf.high[indices], dtype=leaf.dtype.type)
    if isinstance(leaf, spaces.MultiBinary):
        return spaces.MultiBinary(len(indices))
    assert isinstance(leaf, spaces.MultiDiscrete)
    sizes, starts = leaf.nvec[indices], leaf.start[indices]
    if len(indices) == 1:
        return spaces.Discrete(int(sizes[0]), start=int(starts[0]))
    return spaces.MultiDiscrete(sizes, start=starts)


def _mask_part(leaf: spaces.Space[Any], entries: list[int]) -> spaces.Space[Any]:
    if isinstance(leaf, spaces.Box):
        return spaces.Box(leaf.low.ravel()[entries], leaf.high.ravel()[entries], dtype=leaf.dtype.type)
    return spaces.MultiBinary(len(entries))
