"""What a policy thought when it acted: how likely each action was, how likely the one that it took, what was allowed.

Numbers are plain JSON, row by row of a batch. By kind of head:

=================== ============================================================================
head                what is told
=================== ============================================================================
categorical         ``probabilities`` of the ``n`` actions
multi_categorical   ``probabilities``, a list per choice
bernoulli           ``probabilities`` of 1, in the shape of the action
action_values       ``values`` of the ``n`` actions; null where the mask forbids one
Gaussian heads      ``mean`` and ``std`` of the sample (before tanh, where it is squashed)
beta                ``mean`` and ``std`` of the sample, between -1 and 1
deterministic       ``mean``
=================== ============================================================================

Heads of numbers also say ``action``, the likeliest one, and ``low`` and ``high``, one deviation around it (of beta,
around the mean), as the environment sees them: within its bounds. Log-probabilities are those of the sample, as
training has them; behind tanh and of beta they are densities on the environment's scale.

Candidates are whole actions, the best ones first. Where heads choose, each has the probability of its choices together;
where values were learnt, the value. Heads of numbers have none.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from maze_core.models.acting import ActorNetwork, StepPolicy
from maze_core.models.beta import beta_mean_and_std
from maze_core.models.dense import scores
from maze_core.models.heads import (
    LOG_STD_RANGE,
    MASKED_LOGIT,
    ActionValuesHead,
    BernoulliHead,
    BetaHead,
    BoxHead,
    CategoricalHead,
    DeterministicHead,
    GaussianHead,
    MultiCategoricalHead,
    Part,
    SquashedGaussianHead,
    StateNoiseHead,
    apply_mask,
    deviation,
    tempered,
)
from maze_core.models.memory import STATE, parted
from maze_core.models.networks import ActionCritic, Critic, action_input
from maze_core.types import Action, Array, FloatArray, IntArray, Observation, StepKey, Tree

MEMBERS: Final = ("distribution", "log_prob", "value", "mask")
"""What can be told of a decision."""
MAX_CANDIDATES: Final = 32


class Wanted(NamedTuple):
    """What is to be told of a decision."""

    members: tuple[str, ...] = MEMBERS
    """Some of :data:`MEMBERS`."""
    top_k: int = 0
    """How many candidates, at most :data:`MAX_CANDIDATES`; 0 for none of heads of numbers."""


def decide(
    step: StepPolicy,
    network: ActorNetwork,
    observations: Observation,
    noise: FloatArray | None,
    critic: Critic | ActionCritic | None,
    key: StepKey,
    taken: Callable[[Action], Action],
    wanted: Wanted = Wanted(),  # noqa: B008 -- it never changes
) -> tuple[Action, list[Tree], FloatArray | None]:
    """Samples ``[B, ...]`` per head, as :meth:`StepPolicy.sample` gives them, a decision for each row, the next states.

    Args:
        step: the policy of the sub-step.
        network: of who acts.
        observations: name → ``[B, ...]``, as the policy sees them.
        noise: None takes the likeliest actions.
        critic: None where there is none.
        key: the sub-step.
        taken: turns samples into what the environment is given.
        wanted: what is told; candidates are here the scores, and samples ``[n, …]`` per head.
    """
    output, parameter, after = network.logits(observations), network.parameter, None
    logits = output
    if step.state_width:
        logits, after = parted(output, step.state_width)
        observations = {name: values for name, values in observations.items() if name != STATE}
    samples = step.decoded(logits, observations, noise, parameter)

    def as_taken(head: str, sample: Array) -> Array:
        fitted: Array = taken(samples | {head: sample})[head]
        return fitted

    tell: dict[str, Callable[[], Sequence[Any]]] = {
        "distribution": lambda: _by_row(
            {p.head.name: _distribution(p, logits, observations, parameter, as_taken) for p in step.parts}
        ),
        "log_prob": lambda: _log_probs(step.parts, logits, observations, samples, parameter),
        "value": lambda: _values(step.parts, logits, observations, samples, critic, key),
        "mask": lambda: _masks(step.parts, observations, len(logits)),
    }
    columns: dict[str, Sequence[Any]] = {name: tell[name]() for name in MEMBERS if name in wanted.members}
    if wanted.top_k:
        columns["candidates"] = _candidates(step.parts, logits, observations, wanted.top_k)
    decisions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return samples, decisions, after


def _candidates(
    parts: Sequence[Part], logits: FloatArray, observations: Observation, n: int
) -> list[tuple[list[float], Action]]:
    """Scores and samples of the ``n`` best actions of each row; of equals the first, and none that cannot be."""
    heads: list[Any] = [part.head for part in parts]
    is_of_values = isinstance(heads[0], ActionValuesHead)
    choices: list[FloatArray] = []
    for part, head in zip(parts, heads, strict=True):
        own = _masked(part, logits, observations)
        if is_of_values:
            values = tempered(own, head.temperature).astype(np.float64)
            choices.append(np.where(own == MASKED_LOGIT, -np.inf, values))
        else:
            with np.errstate(divide="ignore"):
                choices += [np.log(each) for each in _probabilities(head, own)]
    totals, picked = np.zeros((len(logits), 1)), np.zeros((len(logits), 1, 0), np.int64)
    for choice in choices:
        best = np.argsort(-choice, axis=1, kind="stable")[:, :n]
        together = totals[:, :, None] + np.take_along_axis(choice, best, 1)[:, None]
        order = np.argsort(-together.reshape(len(logits), -1), axis=1, kind="stable")[:, :n]
        before, option = np.divmod(order, best.shape[1])
        totals = np.take_along_axis(together.reshape(len(logits), -1), order, 1)
        chosen = np.take_along_axis(best, option, 1)[:, :, None]
        picked = np.concatenate([np.take_along_axis(picked, before[:, :, None], 1), chosen], axis=2)
    told, can_be = totals if is_of_values else np.exp(totals), totals > -np.inf
    return [
        (told[row, kept].tolist(), _as_samples(heads, picked[row, kept])) for row, kept in enumerate(can_be)
    ]


def _as_samples(heads: Sequence[Any], picked: IntArray) -> Action:
    """Choices ``[n, of all heads]`` as samples ``[n, …]`` per head."""
    samples: Action = {}
    start = 0
    for head in heads:
        width = int(np.prod(getattr(head, "shape", ()), dtype=int))
        own = picked[:, start : start + width]
        start += width
        if isinstance(head, MultiCategoricalHead):
            own = own + np.asarray(head.starts)
        samples[head.name] = (
            own.reshape(-1, *head.shape) if hasattr(head, "shape") else own[:, 0] + head.start
        )
    return samples


def _masked(part: Part, logits: FloatArray, observations: Observation) -> FloatArray:
    """The logits of one head, as its mask leaves them."""
    if part.logits is not None:
        logits = logits[:, part.logits]
    return logits if part.mask is None else apply_mask(logits, observations[part.mask])


def _probabilities(head: Any, logits: FloatArray) -> list[FloatArray]:
    """Of each choice ``[B, n]``: one of a categorical, several of others; bits are a choice of 0 and 1."""
    logits = tempered(logits, head.temperature)
    if isinstance(head, MultiCategoricalHead):
        return [_softmax(choice) for choice in head._split(logits)]
    if isinstance(head, BernoulliHead):
        ones = _ones(logits)
        return [np.stack([1.0 - ones[:, i], ones[:, i]], axis=1) for i in range(ones.shape[1])]
    return [_softmax(logits)]


def _ones(logits: FloatArray) -> FloatArray:
    """How likely each bit is 1."""
    ones: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -700.0, 700.0)))
    ones[logits == MASKED_LOGIT] = 0.0
    return ones


def _distribution(
    part: Part,
    logits: FloatArray,
    observations: Observation,
    parameters: FloatArray | None,
    as_taken: Callable[[str, Array], Array],
) -> list[Tree]:
    head, own = part.head, None
    logits = _masked(part, logits, observations)
    if part.parameter is not None and parameters is not None:
        own = parameters[part.parameter]
    if isinstance(head, BoxHead):
        return _of_numbers(head, logits, own, as_taken)
    told: dict[str, list[Any]]
    if isinstance(head, ActionValuesHead):
        logits = tempered(logits, head.temperature)
        told = {"values": [[None if v == MASKED_LOGIT else v for v in row] for row in logits.tolist()]}
    elif isinstance(head, MultiCategoricalHead):
        choices = [choice.tolist() for choice in _probabilities(head, logits)]
        told = {"probabilities": [list(row) for row in zip(*choices, strict=True)]}
    elif isinstance(head, BernoulliHead):
        ones = _ones(tempered(logits, head.temperature))
        told = {"probabilities": ones.reshape(-1, *head.shape).tolist()}
    else:
        told = {"probabilities": _probabilities(head, logits)[0].tolist()}
    fixed: Tree = {"kind": _kind(head)}
    if isinstance(head, CategoricalHead):
        fixed["start"] = head.start
    elif isinstance(head, MultiCategoricalHead):
        fixed["start"] = list(head.starts)
    return _rows(told, fixed)


def _of_numbers(
    head: BoxHead, logits: FloatArray, own: FloatArray | None, as_taken: Callable[[str, Array], Array]
) -> list[Tree]:
    """Of a head of numbers."""
    n = int(np.prod(head.shape, dtype=int))
    mean: FloatArray = logits[:, :n].astype(np.float64)
    std: FloatArray | None = None
    is_squashed = isinstance(head, SquashedGaussianHead | DeterministicHead)
    if isinstance(head, StateNoiseHead):
        assert own is not None
        is_squashed = head.squashed
        mean = head._mean(logits).astype(np.float64)
        sigma = deviation(own, head.use_expln)[0].reshape(head.n_features, n).astype(np.float64)
        std = np.sqrt(logits[:, n:].astype(np.float64) ** 2 @ sigma**2)
    elif isinstance(head, BetaHead):
        mean, std = beta_mean_and_std(logits)
    elif isinstance(head, GaussianHead):
        log_std = logits[:, n:].clip(*LOG_STD_RANGE) if own is None else own
        std = np.broadcast_to(np.exp(log_std.astype(np.float64)), mean.shape)
    around = {"action": head.mode(logits).reshape(mean.shape) if isinstance(head, BetaHead) else mean}
    if std is not None:
        around |= {"low": mean - std, "high": mean + std}
    told = {"mean": mean.reshape(-1, *head.shape).tolist()}
    if std is not None:
        told["std"] = std.reshape(-1, *head.shape).tolist()
    for name, values in around.items():
        sample = (np.tanh(values) if is_squashed else values).reshape(-1, *head.shape)
        told[name] = as_taken(head.name, sample).tolist()
    return _rows(told, {"kind": _kind(head)})


def _log_probs(
    parts: Sequence[Part],
    logits: FloatArray,
    observations: Observation,
    samples: Action,
    parameter: FloatArray | None,
) -> list[float | None]:
    if any(isinstance(part.head, ActionValuesHead | DeterministicHead) for part in parts):
        return [None] * len(logits)
    found: list[float] = scores(parts, logits.T, observations, samples, parameter).log_prob.tolist()
    return [*found]


def _values(
    parts: Sequence[Part],
    logits: FloatArray,
    observations: Observation,
    samples: Action,
    critic: Critic | ActionCritic | None,
    key: StepKey,
) -> list[float | None]:
    """Of the state, or of the action that is taken in it; None of a critic that would need more than an observation."""
    (head, *_) = (part.head for part in parts)
    if isinstance(head, ActionValuesHead):
        return [*_taken(logits, samples[head.name] - head.start).tolist()]
    if isinstance(critic, Critic) and not (
        critic.by_key[key].state_width or critic.n_stacked or key in critic.of_changes
    ):
        return [*critic.by_key[key](dict(critic.filled(observations)))[:, 0].tolist()]
    if isinstance(critic, ActionCritic):
        numbers = (part.head.name for part in parts if isinstance(part.head, BoxHead))
        done = {action_input(name): samples[name].astype(np.float32) for name in numbers}
        judged = [network({**observations, **done}) for network in critic.networks]
        if isinstance(head, CategoricalHead):
            judged = [_taken(values, samples[head.name] - head.start) for values in judged]
        return [*np.minimum.reduce([values.reshape(len(logits)) for values in judged]).tolist()]
    return [None] * len(logits)


def _masks(parts: Sequence[Part], observations: Observation, n_rows: int) -> Sequence[Tree | None]:
    """Head → whether each of its actions is allowed; None where no head is masked."""
    masks = {
        part.head.name: (observations[part.mask].reshape(n_rows, -1) != 0).tolist()
        for part in parts
        if part.mask is not None
    }
    return _by_row(masks) if masks else [None] * n_rows


def _taken(values: FloatArray, index: Array) -> FloatArray:
    taken: FloatArray = np.take_along_axis(values, np.asarray(index).reshape(-1, 1), 1)[:, 0]
    return taken


def _softmax(logits: FloatArray) -> FloatArray:
    weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    found: FloatArray = weights / weights.sum(1, keepdims=True)
    return found


def _kind(head: Any) -> str:
    kind: str = head.__struct_config__.tag
    return kind


def _rows(told: dict[str, Any], fixed: Tree) -> list[Tree]:
    return [{**fixed, **row} for row in _by_row(told)]


def _by_row(columns: dict[str, Any]) -> list[Tree]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
