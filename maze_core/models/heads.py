"""Action heads: how many logits an action needs, and how numpy turns logits and noise into the action.

How likely an action was, and the gradients of that, is in :mod:`maze_core.models.dense`. One row's action
depends on its own logits, its own noise and its own mask only. Layout of the noise:

=================== ============================ =======================================
head                noise per row                 logits per row
=================== ============================ =======================================
categorical         1 uniform in [0, 1)           n
multi_categorical   1 uniform per dimension       sum of the dimensions' n, side by side
bernoulli           1 uniform per bit             1 per bit
diagonal_gaussian   1 standard normal per number  mean per number, then log-std per number
squashed_gaussian   1 standard normal per number  the same
beta                24 uniform per number         α per number, then β per number
deterministic       1 standard normal per number  1 per number
action_values       2 uniform                     n
state_noise         a normal matrix, features ×  mean per number, then the features
                    numbers
=================== ============================ =======================================

``parameter_width`` numbers stand beside the network: the log-std of a Gaussian unless ``state_dependent_std`` is set,
and how much a head explores that has no distribution of its own. A mask is an array of 0 and 1 as wide as the logits;
a masked action has probability exactly 0. A row whose mask allows nothing is drawn uniformly, so that rows nobody reads
stay finite.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from math import log, prod
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
import numpy as np
from gymnasium import spaces

from maze_core.errors import InvalidSpecificationError, Problem
from maze_core.models.beta import N_TRIES, beta_mode, beta_samples
from maze_core.models.config import (
    BY_LIKELIHOOD,
    DISTRIBUTIONS,
    DistributionName,
    DistributionRule,
    GaussianArgs,
    TemplateModelConfig,
)
from maze_core.models.supports import learnt_by
from maze_core.types import Array, BoolArray, FloatArray, IntArray, Tree, mask_name

MASKED_LOGIT: Final = float(np.finfo(np.float32).min)
"""Logit of an action that the mask forbids; its exponential is exactly 0 beside any other."""

LOG_STD_RANGE: Final = (-20.0, 2.0)
"""A network's log-std is clipped to this range, as in Haarnoja et al. 2018 (arXiv:1812.05905)."""


MEAN_LIMIT: Final = 2.0
"""Means behind tanh that have state-dependent noise are clipped to ± this, as in Stable-Baselines3."""


class _Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """What heads share; the JSON form is the fields and the tag, ``kind``."""

    normal_noise: ClassVar[bool] = False
    """The noise is normal, not uniform."""
    parameter_name: ClassVar[str] = ""
    """What its parameter is, where it has one; a checkpoint has it by this name."""
    name: str

    @property
    def noise_width(self) -> int:
        """Noise numbers per row."""
        return 1

    @property
    def parameter_width(self) -> int:
        """Numbers that are a parameter beside the network."""
        return 0

    @property
    def parameter_start(self) -> float:
        """Where its parameter starts."""
        return 0.0


class _ShapedHead(_Head, frozen=True, kw_only=True):
    """A head of several numbers, each with a noise of its own."""

    shape: tuple[int, ...]

    @property
    def noise_width(self) -> int:
        """Noise numbers per row."""
        return prod(self.shape)


class CategoricalHead(_Head, frozen=True, kw_only=True, tag="categorical"):
    """One of ``n`` actions, numbered from ``start``."""

    n: int
    start: int = 0
    masked: bool = False
    temperature: float = 1.0

    @property
    def logits_width(self) -> int:
        """Logits per row that the network produces."""
        return self.n

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B]`` int64 by the inverse of the cumulative distribution."""
        index = _inverse_cdf(tempered(logits, self.temperature), noise)
        return index + self.start if self.start else index

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """The likeliest actions ``[B]``; of equals, the first."""
        index: IntArray = logits.argmax(1)
        return index + self.start if self.start else index


class MultiCategoricalHead(_ShapedHead, frozen=True, kw_only=True, tag="multi_categorical"):
    """Several independent choices; choice i is one of ``sizes[i]``, numbered from ``starts[i]``."""

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    masked: bool = False
    temperature: float = 1.0

    @property
    def logits_width(self) -> int:
        """Logits per row that the network produces."""
        return sum(self.sizes)

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B, *shape]`` int64."""
        parts = self._split(tempered(logits, self.temperature))
        drawn: list[Array] = [_inverse_cdf(part, noise[:, i : i + 1]) for i, part in enumerate(parts)]
        return self._joined(drawn)

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """The likeliest actions ``[B, *shape]``; of equals, the first."""
        return self._joined([part.argmax(1) for part in self._split(logits)])

    def _split(self, logits: FloatArray) -> list[FloatArray]:
        return np.split(logits, np.cumsum(self.sizes[:-1]), axis=1)

    def _joined(self, indices: list[Array]) -> Array:
        values: Array = np.stack(indices, axis=1) + np.asarray(self.starts)
        return values.reshape(-1, *self.shape)


class BernoulliHead(_ShapedHead, frozen=True, kw_only=True, tag="bernoulli"):
    """Independent bits; a masked bit is always 0."""

    masked: bool = False
    temperature: float = 1.0

    @property
    def logits_width(self) -> int:
        """Logits per row that the network produces."""
        return prod(self.shape)

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Bits ``[B, *shape]`` int8: 1 where the noise lies below σ(logit)."""
        # Beyond ±100 σ is 0 or 1 to float32, and exp(100) does not overflow float64.
        scaled = tempered(logits, self.temperature).astype(np.float64)
        probability = 1.0 / (1.0 + np.exp(-np.clip(scaled, -100.0, 100.0)))
        probability[logits == MASKED_LOGIT] = 0.0
        return (noise < probability).astype(np.int8).reshape(-1, *self.shape)

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Bits ``[B, *shape]``: 1 where it is likelier than 0."""
        return (logits > 0.0).astype(np.int8).reshape(-1, *self.shape)


class BoxHead(_ShapedHead, frozen=True, kw_only=True):
    """A head of numbers with normal noise.

    The environment is given ``center + half_range · sample``, clipped by
    :func:`~maze_core.models.acting.to_env_actions`.
    """

    normal_noise: ClassVar[bool] = True
    masked: ClassVar[bool] = False
    center: tuple[float, ...] | None = None
    """What 0 means to the environment, number by number; None leaves samples as they are."""
    half_range: tuple[float, ...] | None = None
    """What a step of 1 means to it."""

    @property
    def log_scale(self) -> float:
        """How much the logarithm of a density falls from the scale of samples to the environment's."""
        return sum(log(half) for half in self.half_range or () if half)


class GaussianHead(BoxHead, frozen=True, kw_only=True, tag="diagonal_gaussian"):
    """Numbers with independent normal noise, from about -1 to 1 where the environment's bounds are finite.

    Log-probabilities are those of the sample, before any clipping.
    """

    parameter_name: ClassVar[str] = "log_std"
    state_dependent_std: bool = False
    initial_log_std: float = 0.0

    @property
    def logits_width(self) -> int:
        """Logits per row that the network produces."""
        return prod(self.shape) * (2 if self.state_dependent_std else 1)

    @property
    def parameter_width(self) -> int:
        """Numbers that are a parameter beside the network: the log-std."""
        return 0 if self.state_dependent_std else prod(self.shape)

    @property
    def parameter_start(self) -> float:
        """The log-std at the start."""
        return self.initial_log_std

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B, *shape]`` float32: mean + std · noise."""
        width = self.noise_width
        log_std = logits[:, width:].clip(*LOG_STD_RANGE) if parameter is None else parameter
        drawn: Array = (logits[:, :width] + np.exp(log_std) * noise).astype(np.float32)
        return drawn.reshape(-1, *self.shape)

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """The means ``[B, *shape]``."""
        return logits[:, : self.noise_width].copy().reshape(-1, *self.shape)


class SquashedGaussianHead(GaussianHead, frozen=True, kw_only=True, tag="squashed_gaussian"):
    """A Gaussian behind tanh (Haarnoja et al. 2018, arXiv:1812.05905, appendix C): never beyond -1 and 1."""

    state_dependent_std: bool = True

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B, *shape]`` float32: tanh(mean + std · noise)."""
        return np.tanh(super().sample(logits, noise, parameter))

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Tanh of the means ``[B, *shape]``."""
        return np.tanh(super().mode(logits, parameter))


class BetaHead(BoxHead, frozen=True, kw_only=True, tag="beta"):
    """Numbers between -1 and 1 from a distribution that ends there; see :mod:`maze_core.models.beta`."""

    normal_noise: ClassVar[bool] = False

    @property
    def noise_width(self) -> int:
        """Two for each candidate of each number."""
        return 2 * N_TRIES * prod(self.shape)

    @property
    def logits_width(self) -> int:
        """Logits per row that the network produces."""
        return 2 * prod(self.shape)

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B, *shape]`` float32."""
        return beta_samples(logits, noise).reshape(-1, *self.shape)

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """The likeliest actions ``[B, *shape]``."""
        return beta_mode(logits).reshape(-1, *self.shape)


class StateNoiseHead(BoxHead, frozen=True, kw_only=True, tag="state_noise"):
    """Numbers whose noise is a function of the state: features of the state times a random matrix.

    Generalised state-dependent exploration (Raffin et al. 2021, arXiv:2005.05719): a = μ(s) + h(s) · (σ ∘ ε), with σ
    and ε of shape [features, numbers]. Whoever keeps ε for several ticks explores smoothly; every single action is one
    of a Gaussian with variance h² · σ². How likely it is: :mod:`maze_core.models.state_noise`.
    """

    parameter_name: ClassVar[str] = "log_std"
    n_features: int = 0
    """Width of the last hidden layer, which the network gives beside the means."""
    squashed: bool = False
    """Behind tanh; means then stay within ±:data:`MEAN_LIMIT`."""
    use_expln: bool = False
    """σ is exp(log σ) up to 1 and 1 + log(1 + log σ) above."""
    noise_ticks: int | None = None
    """Ticks for which rollouts in training keep a matrix; None keeps it for a whole rollout."""
    initial_log_std: float = 0.0

    @property
    def n_numbers(self) -> int:
        """Numbers of an action."""
        return prod(self.shape)

    @property
    def logits_width(self) -> int:
        """Logits per row that the network produces."""
        return self.n_numbers + self.n_features

    @property
    def noise_width(self) -> int:
        """Numbers of a matrix."""
        return self.n_features * self.n_numbers

    @property
    def parameter_width(self) -> int:
        """Numbers of log σ, feature by feature."""
        return self.noise_width

    @property
    def parameter_start(self) -> float:
        """The log-std at the start."""
        return self.initial_log_std

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B, *shape]`` float32; noise is a matrix per row, feature by feature."""
        assert parameter is not None
        shape = self.n_features, self.n_numbers
        matrices = noise.reshape(-1, *shape) * deviation(parameter, self.use_expln)[0].reshape(shape)
        features = logits[:, self.n_numbers :, None]
        drawn: Array = (self._mean(logits) + (features * matrices).sum(1)).astype(np.float32)
        return (np.tanh(drawn) if self.squashed else drawn).reshape(-1, *self.shape)

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """The means ``[B, *shape]``, or tanh of them."""
        mean = self._mean(logits)
        return (np.tanh(mean) if self.squashed else mean.copy()).reshape(-1, *self.shape)

    def _mean(self, logits: FloatArray) -> FloatArray:
        mean = logits[:, : self.n_numbers]
        return mean.clip(-MEAN_LIMIT, MEAN_LIMIT) if self.squashed else mean


class DeterministicHead(BoxHead, frozen=True, kw_only=True, tag="deterministic"):
    """Numbers between -1 and 1; the parameter is the deviation of the noise by which it explores."""

    parameter_name: ClassVar[str] = "noise_std"

    @property
    def logits_width(self) -> int:
        """Logits per row that the network produces."""
        return prod(self.shape)

    @property
    def parameter_width(self) -> int:
        """One deviation for all numbers."""
        return 1

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B, *shape]`` float32: tanh(logit) + std · noise, clipped."""
        std = 0.0 if parameter is None else parameter
        drawn: Array = np.minimum(np.maximum(np.tanh(logits) + std * noise, -1.0), 1.0).astype(np.float32)
        return drawn.reshape(-1, *self.shape)

    def mode(self, logits: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Tanh of the logits ``[B, *shape]``."""
        return np.tanh(logits).reshape(-1, *self.shape)


class ActionValuesHead(CategoricalHead, frozen=True, kw_only=True, tag="action_values"):
    """One of ``n`` actions, of which the logits are the values; the parameter is ε, the share of uniform ones."""

    parameter_name: ClassVar[str] = "epsilon"

    @property
    def noise_width(self) -> int:
        """Whether to explore, and where to."""
        return 2

    @property
    def parameter_width(self) -> int:
        """ε."""
        return 1

    def sample(self, logits: FloatArray, noise: FloatArray, parameter: FloatArray | None = None) -> Array:
        """Actions ``[B]`` int64: the best one, or with probability ε any that is allowed."""
        best = self.mode(logits, parameter)
        explores = noise[:, 0] < (0.0 if parameter is None else parameter)
        if not np.count_nonzero(explores):
            return best
        alike = np.where(logits == np.float32(MASKED_LOGIT), logits, np.float32(0.0))
        return np.where(explores, super().sample(alike, noise[:, 1:]), best)


Head = (
    CategoricalHead
    | MultiCategoricalHead
    | BernoulliHead
    | GaussianHead
    | SquashedGaussianHead
    | BetaHead
    | StateNoiseHead
    | DeterministicHead
    | ActionValuesHead
)


class Part(NamedTuple):
    """Where one head finds its logits, its noise, its parameter and its mask."""

    head: Head
    logits: slice | None
    """Columns of the logits; None takes them all."""
    noise: slice
    parameter: slice | None
    mask: str | None
    """Name of the observation that is its mask."""


def parts_of(heads: Sequence[Head]) -> tuple[Part, ...]:
    """The heads of one sub-step, which stand side by side in logits, noise and parameters."""
    columns = (
        _columns(head.logits_width for head in heads),
        _columns(head.noise_width for head in heads),
        _columns(head.parameter_width for head in heads),
    )
    return tuple(
        Part(
            head=head,
            logits=None if len(heads) == 1 else logits,
            noise=noise,
            parameter=parameter if head.parameter_width else None,
            mask=mask_name(head.name) if head.masked else None,
        )
        for head, logits, noise, parameter in zip(heads, *columns, strict=True)
    )


def parameter_name(heads: Sequence[Head]) -> str:
    """What the parameters of the heads of one sub-step are; empty where they have none."""
    return next((head.parameter_name for head in heads if head.parameter_width), "")


def deviation(log_std: FloatArray, use_expln: bool) -> tuple[FloatArray, FloatArray]:
    """σ of log σ, and its slope: the exponential, or what grows as a logarithm above 1."""
    if not use_expln:
        std = np.exp(log_std)
        return std, std
    std, above = np.exp(np.minimum(log_std, 0)), np.maximum(log_std, 0)
    is_above = log_std > 0
    return np.where(is_above, 1 + np.log1p(above), std), np.where(is_above, 1 / (1 + above), std)


def _columns(widths: Iterable[int]) -> list[slice]:
    return [slice(*edges) for edges in pairwise(accumulate(widths, initial=0))]


def apply_mask(logits: FloatArray, mask: Array) -> FloatArray:
    """Logits with :data:`MASKED_LOGIT` where the mask ``[B, n]`` is 0."""
    return np.where(mask.reshape(logits.shape) != 0, logits, np.float32(MASKED_LOGIT))


def tempered(logits: FloatArray, temperature: float) -> FloatArray:
    """Logits over a temperature: above 1 a policy is less decided; what a mask forbids stays forbidden."""
    if temperature == 1.0:
        return logits
    found: FloatArray = np.divide(
        logits, np.float32(temperature), out=logits.copy(), where=logits != np.float32(MASKED_LOGIT)
    )
    return found


def _inverse_cdf(logits: FloatArray, noise: FloatArray) -> IntArray:
    """First index whose cumulative probability exceeds the noise ``[B, 1]`` in [0, 1).

    Noise below 1 times the total stays below the total in float64, so the index always exists, and it has a
    probability above 0, because the cumulative sum rises there.
    """
    peak = np.maximum.reduce(logits, 1, keepdims=True)
    cumulative = np.add.accumulate(np.exp(logits - peak), 1, np.float64)
    found: IntArray = (cumulative > cumulative[:, -1:] * noise).argmax(1)
    return found


_KINDS: Final = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)


class DistributionMapper:
    """Maps the heads of action spaces to distributions.

    Defaults: Discrete → categorical, MultiDiscrete → multi_categorical, MultiBinary → bernoulli, Box →
    diagonal_gaussian; an algorithm may ask for others. Rules choose among what the algorithm learns, head by head.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any] | Mapping[Any, spaces.Dict] | None = None,
        distribution_mapper_config: Sequence[Tree | DistributionRule] | Tree | None = None,
        *,
        distributions: Mapping[str, DistributionName] = DISTRIBUTIONS,
        gaussian: GaussianArgs | None = None,
        by_likelihood: bool = True,
    ) -> None:
        """Take the exceptions to the defaults.

        Args:
            action_space: an action space, or one per sub-step, to check the rules against; None checks later.
            distribution_mapper_config: rules ``{action_space | action_head, distribution, args}``; None or
                empty has none.
            distributions: the defaults, by kind of space; a space of another kind is refused.
            gaussian: settings of Gaussian heads that no rule gives args; None has their defaults.
            by_likelihood: rules may choose among all distributions of :data:`~maze_core.models.config.BY_LIKELIHOOD`;
                else the defaults are the only ones that are learnt.

        Raises:
            InvalidSpecificationError: a rule is malformed or does not fit the action space.
        """
        rules: Any = distribution_mapper_config
        self._distributions, self._gaussian = distributions, gaussian or GaussianArgs()
        self._by_likelihood = by_likelihood
        self.rules = TemplateModelConfig(distribution_mapper_config=rules).distribution_mapper_config
        heads = [head for space in _dict_spaces(action_space) for head in self.heads(space, {})]
        if self._gaussian.state_dependent_noise and heads and not any(isinstance(h, BoxHead) for h in heads):
            message = "state_dependent_noise explores with numbers, of which no action of this environment consists."
            raise _problem(message, path="model.gaussian")

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
        kind = next((kind.__name__ for kind in _KINDS if isinstance(space, kind)), type(space).__name__)
        default = self._distributions.get(kind)
        if default is None:
            others = f": take algorithm={learnt_by('actions', kind)}" if kind in DISTRIBUTIONS else ""
            raise _problem(
                f"the action head {name!r} is a {kind}, in which this algorithm does not act{others}.",
                tuple(self._distributions),
            )
        rule = self._rule(name, kind) or DistributionRule(action_head=name, distribution=default)
        rivals = BY_LIKELIHOOD[kind] if self._by_likelihood else ()
        allowed: set[str] = {default, *(rivals if default in rivals else ())}
        if rule.distribution not in allowed:
            message = f"{rule.distribution} does not fit the action head {name!r} ({type(space).__name__})."
            raise _problem(message, tuple(sorted(allowed)))
        args = rule.args or self._gaussian
        if isinstance(space, spaces.Box):
            path = "model.gaussian" if rule.args is None else _RULES
            _refuse_args(rule.distribution, name, args, path=path)
        mask = observations.get(mask_name(name))
        head = _head_of(rule, name, space, args, masked=mask is not None)
        if head.masked and isinstance(mask, spaces.Space) and spaces.flatdim(mask) != head.logits_width:
            raise _problem(
                f"the observation {mask_name(name)!r} should be {head.logits_width} wide, one per action "
                f"of the head {name!r}, not {spaces.flatdim(mask)}."
            )
        return head

    def _rule(self, name: str, kind: str) -> DistributionRule | None:
        by_head = [rule for rule in self.rules if rule.action_head == name]
        by_space = [rule for rule in self.rules if rule.action_space == kind]
        return next(iter(by_head + by_space), None)


def _dict_spaces(space: spaces.Space[Any] | Mapping[Any, spaces.Dict] | None) -> list[spaces.Dict]:
    if space is None:
        return []
    if isinstance(space, spaces.Dict):
        return [space]
    if isinstance(space, spaces.Space):
        return [spaces.Dict({"action": space})]
    return list(space.values())


def _head_of(
    rule: DistributionRule, name: str, space: spaces.Space[Any], args: GaussianArgs, *, masked: bool
) -> Head:
    distribution = rule.distribution
    if isinstance(space, spaces.Box):
        return _box_head(distribution, name, space, tuple(int(n) for n in space.shape), args)
    of_choices: Any = {"name": name, "masked": masked, "temperature": rule.temperature}
    if isinstance(space, spaces.Discrete):
        kind = ActionValuesHead if distribution == "action_values" else CategoricalHead
        return kind(**of_choices, n=int(space.n), start=int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(n) for n in space.nvec.flat)
        starts = tuple(int(n) for n in space.start.flat)
        return MultiCategoricalHead(**of_choices, shape=space.nvec.shape, sizes=sizes, starts=starts)
    assert isinstance(space, spaces.MultiBinary)
    return BernoulliHead(**of_choices, shape=tuple(int(n) for n in space.shape))


def _box_head(
    distribution: str, name: str, space: spaces.Box, shape: tuple[int, ...], args: GaussianArgs
) -> Head:
    """The head of a Box; what its distribution cannot do is refused."""
    if distribution != "diagonal_gaussian" and not bounded_numbers(space).all():
        raise _problem(f"the action head {name!r} has no bounds, which {distribution} needs.")
    center, half_range = _scale_of(space) if args.rescale else (None, None)
    place: Any = {"name": name, "shape": shape, "center": center, "half_range": half_range}
    start = args.initial_log_std
    if distribution in _CAN_BE_SMOOTH and args.state_dependent_noise:
        is_squashed = distribution == "squashed_gaussian"
        return StateNoiseHead(
            **place,
            squashed=is_squashed,
            use_expln=args.use_expln,
            noise_ticks=args.noise_ticks,
            initial_log_std=(-3.0 if is_squashed else 0.0) if start is None else start,
        )
    if distribution == "diagonal_gaussian":
        return GaussianHead(
            **place, state_dependent_std=args.state_dependent_std, initial_log_std=start or 0.0
        )
    if distribution == "beta":
        return BetaHead(**place)
    return (SquashedGaussianHead if distribution == "squashed_gaussian" else DeterministicHead)(**place)


_CAN_BE_SMOOTH = ("diagonal_gaussian", "squashed_gaussian")


def _refuse_args(distribution: str, name: str, args: GaussianArgs, *, path: str) -> None:
    """Refuse settings that the distribution of a Box has no use for."""
    can_be_smooth = distribution in _CAN_BE_SMOOTH
    if distribution == "diagonal_gaussian" or (args.state_dependent_noise and can_be_smooth):
        return
    if args != GaussianArgs(rescale=args.rescale):
        others = " and state_dependent_noise" if can_be_smooth else ""
        message = (
            f"of model.gaussian and args, {distribution} takes rescale{others} alone (action head {name!r})."
        )
        raise _problem(message, path=path)


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


_RULES = "model.distribution_mapper_config"


def _problem(message: str, allowed: tuple[str, ...] = (), *, path: str = _RULES) -> InvalidSpecificationError:
    return InvalidSpecificationError([Problem(path=path, message=message, allowed=allowed)])
