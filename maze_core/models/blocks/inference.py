"""Blocks as one network: their key names say what follows what."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from maze_core.models.blocks.block import Block, Keys, Shape, Shapes, Tensors, as_pairs
from maze_core.models.memory import BEGINS, STATE


class InferenceBlock(Block):
    """A network of blocks: ``in_keys`` → ``out_keys``, each block as soon as all that it reads is there.

    Blocks on which no output depends are left out. States of blocks that carry one stand side by side in the network's.
    """

    def __init__(
        self,
        in_keys: Keys,
        out_keys: Keys,
        in_shapes: Shapes,
        perception_blocks: Mapping[str, Block] | Sequence[Block],
    ) -> None:
        """Take the blocks, by a name of each or in any order.

        Raises:
            ValueError: names that do not lead from the inputs to the outputs, or shapes that do not meet.
        """
        super().__init__(in_keys, out_keys, in_shapes)
        given = perception_blocks
        blocks = dict(given) if isinstance(given, Mapping) else {"_".join(b.out_keys): b for b in given}
        if len(blocks) < len(given):
            raise ValueError(f"{self.kind}: two blocks have the same out_keys.")
        taken = {STATE, BEGINS} & {
            *self.in_keys,
            *(key for block in blocks.values() for key in block.out_keys),
        }
        if taken and any(block.state_width for block in blocks.values()):
            raise ValueError(
                f"{self.kind}: {min(taken)!r} is the name of what recurrent blocks carry; rename what has it."
            )
        makers = self._makers(blocks)
        plan: dict[str, None] = {}
        for key in self.out_keys:
            self._visit(key, blocks, makers, plan, ())
        self.blocks = nn.ModuleDict({name: blocks[name] for name in plan})
        self._check_shapes()

    @property
    def state_width(self) -> int:
        """Numbers of the states of all blocks."""
        return sum(block.state_width for block in self.plan)

    @property
    def state_limits(self) -> list[float]:
        """How far from 0 each of them may be."""
        return [limit for block in self.plan for limit in block.state_limits]

    @property
    def plan(self) -> list[Block]:
        """The blocks in the order in which they are computed."""
        return list(self.blocks.values())  # type: ignore[arg-type]

    def _makers(self, blocks: Mapping[str, Block]) -> dict[str, str]:
        """Key → the block that gives it."""
        makers: dict[str, str] = {}
        for name, block in blocks.items():
            for key in block.out_keys:
                other = makers.setdefault(key, name)
                if other != name or key in self.in_keys:
                    origin = "an input" if key in self.in_keys else f"given by {other!r}"
                    raise ValueError(
                        f"{self.kind}: {name!r} gives {key!r}, which is {origin} too: rename one."
                    )
        return makers

    def _visit(
        self,
        key: str,
        blocks: Mapping[str, Block],
        makers: Mapping[str, str],
        plan: dict[str, None],
        way: tuple[str, ...],
    ) -> None:
        """Put whatever a key needs into the plan, then the block that gives it."""
        if key in self.in_keys:
            return
        name = makers.get(key)
        if name is None:
            reader = f"{way[-1]!r} reads" if way else "out_keys name"
            known = sorted({*self.in_keys, *makers})
            raise ValueError(
                f"{self.kind}: {reader} {key!r}, which is no input, and no block gives it; there is {known}."
            )
        if name in way:
            raise ValueError(
                f"{self.kind}: blocks wait for each other: {' → '.join([*way[way.index(name) :], name])}."
            )
        if name not in plan:
            for needed in blocks[name].in_keys:
                self._visit(needed, blocks, makers, plan, (*way, name))
            plan[name] = None

    def _check_shapes(self) -> None:
        """Refuse a block whose in_shapes are not those that it will get; axes in front of them are folded."""
        shapes = dict(as_pairs(self.in_keys, self.in_shapes))
        for block in self.plan:
            lead: Shape = ()
            for key, shape in as_pairs(block.in_keys, block.in_shapes):
                found, n_lead = shapes[key], len(shapes[key]) - len(shape)
                if n_lead < 0 or found[n_lead:] != shape:
                    raise ValueError(
                        f"{self.kind}: {block.kind} expects {key!r} of shape {list(shape)}, it has {list(found)}."
                    )
                lead = found[:n_lead]
            for key, shape in as_pairs(block.out_keys, block.out_shapes()):
                shapes[key] = (*lead, *shape)
        self.shapes = shapes
        """Key → shape without leading dimensions, of inputs and of what blocks give."""

    def forward(self, tensors: Tensors) -> dict[str, Tensor]:
        """Outputs by name and, where blocks carry a state, the state."""
        known = {key: self.read(tensors, key) for key in self.in_keys}
        states, at = [], 0
        for block in self.plan:
            if not block.state_width:
                known |= block(known)
                continue
            carried = {BEGINS: tensors[BEGINS]} if BEGINS in tensors else {}
            if STATE in tensors:
                carried[STATE] = tensors[STATE][..., at : at + block.state_width]
                at += block.state_width
            given = block({**known, **carried})
            states.append(given.pop(STATE))
            known |= given
        outputs = {key: known[key] for key in self.out_keys}
        return outputs | ({STATE: torch.cat(states, -1)} if states else {})
