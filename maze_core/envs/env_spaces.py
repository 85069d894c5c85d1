"""The spaces of an environment: as a checkpoint has them, and whether they are those a policy was trained in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gymnasium import Space, spaces

from maze_core.data.flat_space import FlatSpace, form_of, usual_form
from maze_core.data.spaces import space_from_json, space_to_json
from maze_core.errors import CheckpointError, InvalidSpecificationError, Problem
from maze_core.types import StepKey, Tree

_KINDS = {"f": "floats", "i": "integers", "u": "unsigned integers", "b": "truth values"}
_MOST_DIFFERENCES = 8


class HasSpaces(Protocol):
    """An environment, a batch of them, or an agent."""

    @property
    def observation_spaces(self) -> Mapping[StepKey, spaces.Dict]:
        """What is seen, per sub-step."""

    @property
    def action_spaces(self) -> Mapping[StepKey, spaces.Dict]:
        """What is done, per sub-step."""

    @property
    def agent_counts(self) -> Mapping[StepKey, int]:
        """Number of agents per sub-step; 1 where a sub-step is not named."""


@dataclass(frozen=True, kw_only=True)
class EnvSpaces:
    """The spaces of an environment that is not there."""

    observation_spaces: Mapping[StepKey, spaces.Dict]
    action_spaces: Mapping[StepKey, spaces.Dict]
    agent_counts: Mapping[StepKey, int]


def describe_spaces(of: HasSpaces) -> list[Tree]:
    """Spaces per step key as JSON, for a checkpoint; with the form of what is not flat in the environment."""
    described = []
    for key in of.observation_spaces:
        entry: Tree = {"step_key": key, "agents": of.agent_counts.get(key, 1)}
        for what, space in (("observation", of.observation_spaces[key]), ("action", of.action_spaces[key])):
            entry[what] = space_to_json(space)
            if form_of(space) != usual_form(space):
                entry[f"{what}_form"] = form_of(space)
        described.append(entry)
    return described


def described_spaces(described: Sequence[Tree]) -> EnvSpaces:
    """The spaces that :func:`describe_spaces` described.

    Raises:
        CheckpointError: they are no spaces of an environment.
    """
    return EnvSpaces(
        observation_spaces={entry["step_key"]: _dict_space(entry, "observation") for entry in described},
        action_spaces={entry["step_key"]: _dict_space(entry, "action") for entry in described},
        agent_counts={entry["step_key"]: entry["agents"] for entry in described},
    )


def refuse_other_spaces(trained: HasSpaces, given: HasSpaces, path: str) -> None:
    """Make sure that a policy fits an environment, before it acts or learns there.

    Per sub-step, the names of observations and action heads, their shapes, kinds of number and sizes of discrete
    spaces have to agree, and the number of agents. The bounds of a Box may differ: no weight depends on them, actions
    are clipped to those of the environment that is played, and to try a policy under other limits is what such an
    environment is made for.

    Args:
        trained: where the policy comes from.
        given: where it is to act.
        path: the argument that named the environment.

    Raises:
        InvalidSpecificationError: they differ; the message says in what.
    """
    has_sub_steps = len({*trained.observation_spaces, *given.observation_spaces}) > 1
    there, here = (_described(one, has_sub_steps=has_sub_steps) for one in (trained, given))
    found = [
        f"{what} is {here.get(what, 'not there')} here and {there.get(what, 'not there')} in training"
        for what in dict.fromkeys([*there, *here])
        if here.get(what) != there.get(what)
    ]
    if not found:
        return
    more = f"; and {len(found) - _MOST_DIFFERENCES} more" if len(found) > _MOST_DIFFERENCES else ""
    message = (
        f"has other spaces than the policy was trained in: {'; '.join(found[:_MOST_DIFFERENCES])}{more}. "
        "Take an environment with the same spaces, or train a policy in this one."
    )
    raise InvalidSpecificationError([Problem(path=path, message=message, code="other_spaces")])


def _described(of: HasSpaces, *, has_sub_steps: bool) -> dict[str, str]:
    """Everything that has to agree: what it is → how it is here."""
    described: dict[str, str] = {}
    for key in of.observation_spaces:
        where = f" of sub-step {key!r}" if has_sub_steps else ""
        described |= {
            f"observation {name!r}{where}": _leaf(leaf) for name, leaf in of.observation_spaces[key].items()
        }
        described |= {f"action {name!r}{where}": _leaf(leaf) for name, leaf in of.action_spaces[key].items()}
        described[f"the number of agents{where}"] = str(of.agent_counts.get(key, 1))
    return described


def _leaf(space: Space[Any]) -> str:
    """What has to agree of one space."""
    match space:
        case spaces.Box():
            return f"Box{space.shape} of {_KINDS.get(space.dtype.kind, str(space.dtype))}"
        case spaces.Discrete():
            return f"Discrete({space.n})" + (f" from {space.start}" if space.start else "")
        case spaces.MultiDiscrete():
            start = f" from {space.start.tolist()}" if space.start.any() else ""
            return f"MultiDiscrete({space.nvec.tolist()}){start}"
    return str(space)


def _dict_space(entry: Tree, what: str) -> spaces.Dict:
    space = space_from_json(entry[what])
    if not isinstance(space, spaces.Dict):
        raise CheckpointError("The checkpoint's spaces are not Dict spaces.")
    return FlatSpace(list(space.items()), entry.get(f"{what}_form", usual_form(space)))
