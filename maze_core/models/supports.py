"""What each algorithm learns, in one table: the documentation shows it, and what is not in it is refused by it.

Torch-free, and below models and trainers, so that whoever refuses can name those that do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

ActionKind = Literal["Discrete", "MultiDiscrete", "MultiBinary", "Box"]
_ALL: Final[tuple[ActionKind, ...]] = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")


@dataclass(frozen=True, kw_only=True)
class Supports:
    """What one algorithm learns."""

    actions: tuple[ActionKind, ...] = _ALL
    """Kinds of action space."""
    pixels: bool = True
    """Pictures, by convolutions."""
    memory: bool = True
    """Networks that carry a state from one observation to the next."""
    sub_steps: bool = True
    """Several sub-steps in one step of environment time."""
    agents: bool = True
    """Several agents, and as many as are there."""
    own_rewards: bool = True
    """Agents that are each paid their own, each from that alone; False takes what all are paid together."""
    separate_nets: bool = True
    """A network for each agent of a sub-step."""
    masks: bool = True
    """Actions that are not always allowed."""


_ONE_ACTOR: Final = Supports(
    memory=False, sub_steps=False, agents=False, own_rewards=False, separate_nets=False
)
SUPPORTS: Final[Mapping[str, Supports]] = {
    "ppo": Supports(),
    "a2c": Supports(),
    "impala": Supports(),
    "es": Supports(own_rewards=False),
    "dqn": replace(_ONE_ACTOR, actions=("Discrete",)),
    "qrdqn": replace(_ONE_ACTOR, actions=("Discrete",), pixels=False),
    "sac": replace(_ONE_ACTOR, actions=("Discrete", "Box")),
    "sacfd": replace(_ONE_ACTOR, actions=("Discrete", "Box")),
    "td3": replace(_ONE_ACTOR, actions=("Box",), masks=False),
    "bc": Supports(),
}
"""Algorithm → what it learns."""
FROM_EPISODES: Final = ("sacfd", "bc")
"""Algorithms that need recorded episodes, which nobody is sent to who has an environment alone."""

MEANINGS: Final[Mapping[str, str]] = {
    "actions": "actions, and Dicts and Tuples of them",
    "pixels": "pictures, by convolutions",
    "memory": "networks with a state",
    "sub_steps": "sub-steps",
    "agents": "several agents, also a changing number",
    "own_rewards": "rewards of each agent's own",
    "separate_nets": "a network for each agent",
    "masks": "masks",
}
"""Field of :class:`Supports` → what a reader is told."""


def learnt_by(feature: str, kind: str | None = None) -> str:
    """The algorithms that support a feature, or of ``actions`` a kind of space, as ``ppo, a2c or impala``."""
    names = [
        name
        for name, supports in SUPPORTS.items()
        if name not in FROM_EPISODES
        and (kind in supports.actions if feature == "actions" else getattr(supports, feature))
    ]
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)


def rows() -> list[tuple[str, dict[str, str]]]:
    """The table: what is supported → algorithm → how."""
    return [
        (MEANINGS[field.name], {name: _shown(name, field.name) for name in SUPPORTS})
        for field in fields(Supports)
    ]


def _shown(name: str, feature: str) -> str:
    value = getattr(SUPPORTS[name], feature)
    if feature == "actions":
        return "all four" if value == _ALL else ", ".join(value)
    if feature == "own_rewards" and not value and SUPPORTS[name].agents:
        return "their sum"
    return "yes" if value else "–"
