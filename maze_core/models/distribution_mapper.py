"""Which distribution an action head gets: by its space, unless a rule says otherwise. Free of torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from gymnasium import spaces
from pydantic import TypeAdapter, ValidationError

from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.config import DistributionRule, DistributionRules, GaussianArgs
from maze_core.models.heads import BernoulliHead, CategoricalHead, GaussianHead, Head, MultiCategoricalHead
from maze_core.types import BoolArray, Tree, mask_name

_DEFAULTS: Final[dict[type[spaces.Space[Any]], str]] = {
    spaces.Discrete: "categorical",
    spaces.MultiDiscrete: "multi_categorical",
    spaces.MultiBinary: "bernoulli",
    spaces.Box: "diagonal_gaussian",
}
_RULES: TypeAdapter[tuple[DistributionRule, ...]] = TypeAdapter(DistributionRules)


class DistributionMapper:
    """Maps the heads of action spaces to distributions.

    Defaults: Discrete → categorical, MultiDiscrete → multi_categorical, MultiBinary → bernoulli, Box →
    diagonal_gaussian.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any] | Mapping[Any, spaces.Dict] | None = None,
        distribution_mapper_config: Sequence[Tree | DistributionRule] | Tree | None = None,
    ) -> None:
        """Take the exceptions to the defaults.

        Args:
            action_space: an action space, or one per sub-step, to check the rules against; None checks later.
            distribution_mapper_config: rules ``{action_space | action_head, distribution, args}``; None or
                empty has none.

        Raises:
            InvalidSpecificationError: a rule is malformed or does not fit the action space.
        """
        try:
            self.rules = _RULES.validate_python(distribution_mapper_config)
        except ValidationError as error:
            raise InvalidSpecificationError(
                [
                    Problem(
                        path=".".join(map(str, ("model.distribution_mapper_config", *e["loc"]))),
                        message=e["msg"],
                    )
                    for e in error.errors()
                ]
            ) from error
        for space in _dict_spaces(action_space):
            self.heads(space, {})

    def heads(self, action_space: spaces.Dict, observations: Mapping[str, Any]) -> tuple[Head, ...]:
        """The heads of one sub-step, in the order of its action space.

        Args:
            action_space: head → space.
            observations: what the policy sees; a head whose mask is among them is masked.

        Raises:
            InvalidSpecificationError: a space has no distribution, a rule names one that does not fit it,
                or a mask does not have as many entries as its head has logits.
        """
        return tuple(self._head(name, space, observations) for name, space in action_space.spaces.items())

    def _head(self, name: str, space: spaces.Space[Any], observations: Mapping[str, Any]) -> Head:
        kind = next((kind for kind in _DEFAULTS if isinstance(space, kind)), None)
        if kind is None:
            raise _problem(
                f"the action head {name!r} is a {type(space).__name__}, which has no distribution.",
                tuple(kind.__name__ for kind in _DEFAULTS),
            )
        default = _DEFAULTS[kind]
        rule = self._rule(name, kind.__name__)
        if rule is not None and rule.distribution != default:
            message = f"{rule.distribution} does not fit the action head {name!r} ({type(space).__name__})."
            raise _problem(message, (default,))
        args = rule.args if rule is not None and rule.args is not None else GaussianArgs()
        mask = observations.get(mask_name(name))
        head = _head_of(name, space, args, masked=mask is not None)
        if head.masked and isinstance(mask, spaces.Space) and _size(mask) != head.logits_width:
            raise _problem(
                f"the observation {mask_name(name)!r} should be {head.logits_width} wide, one per action "
                f"of the head {name!r}, not {_size(mask)}."
            )
        return head

    def _rule(self, name: str, kind: str) -> DistributionRule | None:
        by_head = (rule for rule in self.rules if rule.action_head == name)
        by_space = (rule for rule in self.rules if rule.action_space == kind)
        return next((*by_head, *by_space).__iter__(), None)


def _dict_spaces(space: spaces.Space[Any] | Mapping[Any, spaces.Dict] | None) -> list[spaces.Dict]:
    if space is None:
        return []
    if isinstance(space, spaces.Dict):
        return [space]
    if isinstance(space, spaces.Space):
        return [spaces.Dict({"action": space})]
    return list(space.values())


def _head_of(name: str, space: spaces.Space[Any], args: GaussianArgs, *, masked: bool) -> Head:
    if isinstance(space, spaces.Discrete):
        return CategoricalHead(name=name, n=int(space.n), start=int(space.start), masked=masked)
    if isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(n) for n in space.nvec.flat)
        starts = tuple(int(n) for n in space.start.flat)
        return MultiCategoricalHead(
            name=name, shape=space.nvec.shape, sizes=sizes, starts=starts, masked=masked
        )
    shape = tuple(int(n) for n in space.shape or ())
    if isinstance(space, spaces.MultiBinary):
        return BernoulliHead(name=name, shape=shape, masked=masked)
    assert isinstance(space, spaces.Box)
    center, half_range = _scale_of(space) if args.rescale else (None, None)
    return GaussianHead(
        name=name,
        shape=shape,
        state_dependent_std=args.state_dependent_std,
        initial_log_std=args.initial_log_std,
        center=center,
        half_range=half_range,
    )


def bounded_numbers(space: spaces.Box) -> BoolArray:
    """``[*shape]``: the numbers with two finite bounds; the largest number a dtype holds stands for no bound."""
    if space.dtype.kind == "f":
        limit = np.finfo(np.float32 if space.dtype.itemsize >= 4 else np.float16).max
        unbounded = (np.abs(space.low) >= limit) | (np.abs(space.high) >= limit)
    elif space.dtype.itemsize >= 4:
        info = np.iinfo(space.dtype.str)
        unbounded = (space.low == info.min) & (space.high == info.max)
    else:
        unbounded = np.zeros(space.shape, dtype=np.bool_)
    bounded: BoolArray = space.bounded_below & space.bounded_above & ~unbounded
    return bounded


def _scale_of(space: spaces.Box) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """Middle and half the width of the bounds, number by number; 0 and 1 where they are not finite."""
    bounded = bounded_numbers(space)
    low = np.where(bounded, space.low.astype(np.float64), -1.0)
    high = np.where(bounded, space.high.astype(np.float64), 1.0)
    center, half_range = low / 2 + high / 2, high / 2 - low / 2
    if not center.any() and (half_range == 1).all():
        return None, None
    return tuple(center.ravel().tolist()), tuple(half_range.ravel().tolist())


def _size(space: spaces.Space[Any]) -> int:
    return int(spaces.flatdim(space))


def _problem(message: str, allowed: tuple[str, ...] = ()) -> InvalidSpecificationError:
    path = "model.distribution_mapper_config"
    return InvalidSpecificationError([Problem(path=path, message=message, allowed=allowed)])
