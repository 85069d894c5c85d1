"""Dense nets as they learn: forward, backward and the gradients of the heads, in numpy, float32 throughout.

Arrays stand ``[feature, batch]``: a layer is ``h = φ(W x + b)`` with W ``[n_out, n_in]``, torch's layout. What is
computed forwards is answered together with its *pull*, which carries the gradient of the loss L backwards: it takes
∂L/∂result, and gives ∂L/∂argument or adds it to the gradient. A pull is called once at most, before the next call.

Every log-probability and entropy is ``[N]``, in nats and *summed* over the dimensions of the action, so that the
exponential of a difference is the true joint probability ratio.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial, reduce
from math import log, pi
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from maze_core.models.activations import ACTIVATIONS, KEEPS_INPUT, SLOPES
from maze_core.models.beta import beta_scores
from maze_core.models.graph import Concat, Dense, Flatten, OneHot, Op, Program, reading
from maze_core.models.heads import (
    LOG_STD_RANGE,
    BetaHead,
    CategoricalHead,
    GaussianHead,
    MultiCategoricalHead,
    Part,
    SquashedGaussianHead,
    StateNoiseHead,
    apply_mask,
)
from maze_core.models.squashing import mean_log_slope
from maze_core.models.state_noise import state_noise_scores
from maze_core.types import Array, FloatArray, IntArray, NamedArrays

_HALF_LOG_2PI: Final = 0.5 * log(2.0 * pi)
_INSIDE: Final = 1.0 - 2.0**-24
"""Where an action counts that lies on its bound, which tanh reaches by rounding alone: the largest float32 below it.
Before tanh that is 8.7."""
_KEPT_PLANS: Final = 16
_KEPT_ROWS: Final = 4096

NetsPull = Callable[[Sequence[FloatArray]], NamedArrays]
"""∂L/∂output of each net ``[n_out, N]`` → ∂L/∂input by name, ``[width, N]``, where it was asked for; the gradients of
the parameters grow. Rows for features may be left out, for 0."""


class DenseNets:
    """One program, or two with equal hidden layers, each of which is then one batched product."""

    def __init__(
        self,
        programs: Sequence[Program],
        weights: Sequence[NamedArrays],
        gradients: Sequence[NamedArrays] | None,
        inputs: Collection[str] = (),
    ) -> None:
        """Bind programs to their parameters.

        Args:
            programs: one, or two of which :func:`differ_at_the_end_only` is true; a dense layer ends each, or, behind
                that, a Concat with what it reads, the features, which then are part of the output.
            weights: of each program, its parameters in one buffer; they are read where they lie, at each call.
            gradients: of each program, where its gradient is added up, in one buffer as well; None for parameters that
                are constants.
            inputs: observations of numbers whose gradients the pull gives.
        """
        self._body = _body(programs[0])
        self._first_input = programs[0].inputs[0]
        self._shows_features = [isinstance(program.ops[-1], Concat) for program in programs]
        per_program = [None] * len(weights) if gradients is None else gradients
        pairs = list(zip(weights, per_program, strict=True))
        self._layers = {
            op.target: _Layer(*map(_stacked, zip(*(_layer(op, *pair) for pair in pairs), strict=True)))
            for op in self._body
            if isinstance(op, Dense)
        }
        self._ends = [_layer(program.dense[-1], *pair) for program, pair in zip(programs, pairs, strict=True)]
        self._kept_plan = lru_cache(_KEPT_PLANS)(self._plan)
        self._learnt = {*self._layers} if gradients is not None else set()
        """Slots that depend on parameters that learn, or on inputs whose gradients are asked for."""
        for op in self._body:
            sources = op.sources if isinstance(op, Concat) else (op.source,)
            if not self._learnt.isdisjoint(sources) or (isinstance(op, Flatten) and op.source in inputs):
                self._learnt.add(op.target)

    def __call__(self, observations: Mapping[str, Array]) -> tuple[list[FloatArray], NetsPull]:
        """Output ``[n_out, N]`` of each program for observations ``[N, …]``, and the pull of all of them."""
        n_rows = len(observations[self._first_input])
        plan = (self._kept_plan if n_rows <= _KEPT_ROWS else self._plan)(n_rows)
        for read in plan.reads:
            read(observations)
        for call in plan.forward:
            call()
        outputs = []
        for end, x, is_shown in zip(self._ends, plan.x, self._shows_features, strict=True):
            output = end.weight @ x
            output += end.bias[:, None]
            outputs.append(np.concatenate((output, x)) if is_shown else output)
        return outputs, partial(self._pull, plan)

    def _pull(self, plan: "_Plan", d_outputs: Sequence[FloatArray]) -> dict[str, FloatArray]:
        for (weight, _, d_weight, d_bias), d_all, x, d_x in zip(
            self._ends, d_outputs, plan.x, plan.d_x, strict=True
        ):
            d, d_features = d_all[: len(weight)], d_all[len(weight) :]
            if d_weight is not None and d_bias is not None:
                d_weight += d @ x.T
                d_bias += d @ plan.ones
            weight.T.dot(d, d_x)  # of one row, matmul takes five times as long
            if len(d_features):
                d_x += d_features
        for call in plan.backward:
            call()
        return {name: np.add.reduce(d, 0) for name, d in plan.d_inputs.items()}

    def _plan(self, n_rows: int) -> "_Plan":
        return _Plan(self._body, self._layers, self._learnt, len(self._ends), n_rows)


class _Plan:
    """Prepared calls for one number of rows, N, and the arrays in which they leave what they compute.

    For a small layer, finding its arrays costs more than its product, and fresh memory as much as what is done in it.
    """

    def __init__(
        self,
        body: Sequence[Op],
        layers: Mapping[str, "_Layer"],
        learnt: Collection[str],
        n_programs: int,
        n_rows: int,
    ) -> None:
        self.ones = np.ones(n_rows, np.float32)
        self.reads: list[Callable[[Mapping[str, Array]], None]] = []
        """Observations into slots."""
        self.forward: list[Callable[[], object]] = []
        self.backward: list[Callable[[], object]] = []
        """From ``d_x`` to the gradients of the parameters, which grow, and of the inputs."""
        self._layers, self._learnt = layers, learnt
        self._slots: dict[str, FloatArray] = {}
        """``[programs, width, N]``, or ``[1, width, N]`` where all see the same."""
        self._bent_from: dict[str, FloatArray] = {}
        """Of dense layers, what their slope follows from."""
        for op in body:
            if isinstance(op, Dense):
                self._add_dense(op, *layers[op.target])
            elif isinstance(op, Concat):
                self._add_concat(op)
            elif isinstance(op, Flatten | OneHot):
                rows = np.empty((n_rows, op.width), np.float32)
                self.reads.append(reading(op, rows))
                self._slots[op.target] = rows.T[None]
        x = self._slots[body[-1].target]
        self.d_x: FloatArray = np.empty((n_programs, *x.shape[1:]), np.float32)
        """∂L/∂x of each program."""
        self.x = [*np.broadcast_to(x, self.d_x.shape)]  # without a hidden layer, all share their one input
        """What the last layer of each program reads, ``[width, N]``."""
        self.d_inputs: dict[str, FloatArray] = {}
        """Of the inputs that were asked for, ``[programs, width, N]``."""
        self._d_slots = {body[-1].target: self.d_x}
        for op in reversed(body):
            if op.target in learnt and op.target in self._d_slots:
                self._add_way_back(op, self._d_slots[op.target])

    def _add_dense(self, op: Dense, weight: FloatArray, bias: FloatArray, *_: Any) -> None:
        x = np.empty((len(weight), op.n_out, len(self.ones)), np.float32)
        self.forward += [_product(weight, self._slots[op.source], x), partial(np.add, x, bias[..., None], x)]
        self._slots[op.target] = self._bent_from[op.target] = x
        if op.activation in KEEPS_INPUT:
            self._bent_from[op.target] = kept = np.empty_like(x)
            self.forward.append(partial(np.copyto, kept, x))
        if (activation := ACTIVATIONS[op.activation]) is not None:
            self.forward.append(partial(activation, x))

    def _add_concat(self, op: Concat) -> None:
        parts = [self._slots[source] for source in op.sources]
        x = np.empty((max(map(len, parts)), sum(part.shape[1] for part in parts), len(self.ones)), np.float32)
        self.forward += [partial(np.copyto, *pair) for pair in zip(self._split(op, x), parts, strict=True)]
        self._slots[op.target] = x

    def _split(self, op: Concat, x: FloatArray) -> list[FloatArray]:
        """The parts of a Concat within ``[programs, width, N]``."""
        widths = [self._slots[source].shape[1] for source in op.sources]
        return np.split(x, np.cumsum(widths[:-1]), axis=1)

    def _add_way_back(self, op: Op, d: FloatArray) -> None:
        if isinstance(op, Dense):
            self._add_dense_way_back(op, d, *self._layers[op.target])
        elif isinstance(op, Concat):
            for source, part in zip(op.sources, self._split(op, d), strict=True):
                self._pass_on(source, part)
        elif isinstance(op, Flatten):
            self.d_inputs[op.source] = d

    def _add_dense_way_back(
        self,
        op: Dense,
        d: FloatArray,
        weight: FloatArray,
        _: FloatArray,
        d_weight: FloatArray | None,
        d_bias: FloatArray | None,
    ) -> None:
        """∂z = ∂h · φ'(z), and with it ∂W = ∂z xᵀ, ∂b = Σ ∂z and ∂x = Wᵀ ∂z."""
        x = self._slots[op.source]
        if (slope := SLOPES[op.activation]) is not None:
            self.backward.append(partial(slope, d, self._bent_from[op.target]))
        if d_weight is not None and d_bias is not None:
            more, more_bias = np.empty_like(d_weight), np.empty_like(d_bias)
            self.backward += [
                _product(d, x.swapaxes(1, 2), more),
                partial(np.add, d_weight, more, d_weight),
                partial(np.matmul, d, self.ones, more_bias),  # a third of what a sum costs
                partial(np.add, d_bias, more_bias, d_bias),
            ]
        if op.source in self._learnt:
            d_x = np.empty((len(d), *x.shape[1:]), np.float32)
            self.backward.append(_product(weight.swapaxes(1, 2), d, d_x))
            self._pass_on(op.source, d_x)

    def _pass_on(self, source: str, d: FloatArray) -> None:
        if source not in self._learnt:
            return
        if source in self._d_slots:
            self.backward.append(partial(np.add, self._d_slots[source], d, self._d_slots[source]))
        else:
            self._d_slots[source] = d


def _product(a: FloatArray, b: FloatArray, out: FloatArray) -> Callable[[], object]:
    """``a @ b`` of each of a stack, prepared; of a single one, dot is the same and called at less cost."""
    return partial(np.matmul, a, b, out) if len(out) > 1 else partial(a[0].dot, b[0], out[0])


class _Layer(NamedTuple):
    """Parameters and gradients of a dense layer, ``[n_out, n_in]`` and ``[n_out]``, or stacks of them."""

    weight: FloatArray
    bias: FloatArray
    d_weight: FloatArray | None
    d_bias: FloatArray | None


def _layer(op: Dense, weights: NamedArrays, gradients: NamedArrays | None) -> _Layer:
    of_both = (None, None) if gradients is None else (gradients[op.weight], gradients[op.bias])
    return _Layer(weights[op.weight], weights[op.bias], *of_both)


def differ_at_the_end_only(first: Program, second: Program) -> bool:
    """Whether two programs read the same and have the same layers, but for the last one."""
    bodies = [
        [msgspec.structs.replace(op, gain=0.0) if isinstance(op, Dense) else op for op in _body(program)]
        for program in (first, second)
    ]
    return bodies[0] == bodies[1]


def _body(program: Program) -> tuple[Op, ...]:
    """What stands before the last dense layer."""
    return program.ops[: program.ops.index(program.dense[-1])]


def _stacked(arrays: Sequence[Array | None]) -> Any:
    """Arrays of one shape that lie in one buffer as one ``[n, …]``, without a copy; None where they are None."""
    first = arrays[0]
    if first is None:
        return None
    places = [array.__array_interface__["data"][0] for array in arrays if array is not None]
    step = places[-1] - places[0]
    return np.lib.stride_tricks.as_strided(first, (len(arrays), *first.shape), (step, *first.strides))


class SquashedSamples(NamedTuple):
    """Samples of a Gaussian behind tanh that know how they hang together with the network's output."""

    action: FloatArray
    """tanh(μ + σ ε), ``[n, N]``."""
    log_prob: FloatArray
    """``[N]``, summed over dimensions."""
    pull: Callable[[FloatArray, FloatArray], FloatArray]
    """∂L/∂action ``[n, N]`` and ∂L/∂log_prob ``[N]`` → ∂L/∂output ``[2 n, N]``."""


def squashed_samples(output: FloatArray, noise: FloatArray) -> SquashedSamples:
    """Reparametrised samples from means and log-stds ``[2 n, N]`` and standard normal noise ``[n, N]``.

    Haarnoja et al. 2018, arXiv:1812.05905, appendix C. For the heads with one distribution per row see :func:`scores`.
    """
    # u = μ + σ ε     a = tanh u     log π(a) = -Σ (ε²/2 + log σ + log(2π)/2 + log(1 - a²))
    # log(1 - tanh² u) = 2 (log 2 - |u| - log(1 + e^-2|u|)) is exact in both tails
    # ∂a/∂u = 1 - a²     ∂log π/∂u = 2 a     ∂log π/∂log σ = 2 a σ ε - 1
    n = len(noise)
    log_sigma = output[n:].clip(*LOG_STD_RANGE)
    spread = np.exp(log_sigma) * noise
    u = output[:n] + spread
    action, size = np.tanh(u), np.abs(u)
    log_slope = 2.0 * (log(2.0) - size - np.log1p(np.exp(-2.0 * size)))
    log_prob = -np.add.reduce(0.5 * noise * noise + log_sigma + _HALF_LOG_2PI + log_slope, 0)

    def pull(d_action: FloatArray, d_log_prob: FloatArray) -> FloatArray:
        d_u = d_action * (1.0 - action * action) + 2.0 * action * d_log_prob
        d_log_sigma = (d_u * spread - d_log_prob) * (log_sigma == output[n:])
        return np.concatenate((d_u, d_log_sigma))

    return SquashedSamples(action, log_prob, pull)


class Scores(NamedTuple):
    """How likely actions were, and how undecided the policy is."""

    log_prob: FloatArray
    """``[N]``."""
    entropy: FloatArray
    """``[N]``."""
    pull: Callable[[FloatArray, FloatArray | None], FloatArray]
    """∂L/∂log_prob and ∂L/∂entropy, both ``[N]``, None for 0 → ∂L/∂output ``[width, N]``."""


def scores(
    parts: Sequence[Part],
    output: FloatArray,
    observations: Mapping[str, Array],
    actions: Mapping[str, Array],
    log_std: FloatArray | None = None,
    d_log_std: FloatArray | None = None,
) -> Scores:
    """Log-probabilities and entropies of all heads of a sub-step together.

    Args:
        parts: the heads, and where in the output each finds its own.
        output: of the network, ``[width, N]``.
        observations: name → ``[N, …]``; the masks are read.
        actions: head → ``[N, …]``, as the heads sample them.
        log_std: parameter of the Gaussian heads that do not leave it to the network.
        d_log_std: its gradient, to which the pull adds.
    """
    found = [
        _head_scores(
            part,
            output if part.logits is None else output[part.logits],
            observations,
            actions[part.head.name],
            _of(part, log_std),
            _of(part, d_log_std),
        )
        for part in parts
    ]
    if len(found) == 1:
        return found[0]
    return Scores(
        reduce(np.add, [head.log_prob for head in found]),
        reduce(np.add, [head.entropy for head in found]),
        lambda d_log_prob, d_entropy: np.concatenate([head.pull(d_log_prob, d_entropy) for head in found]),
    )


def _of(part: Part, parameter: FloatArray | None) -> FloatArray | None:
    return None if part.parameter is None or parameter is None else parameter[part.parameter]


def _head_scores(
    part: Part,
    logits: FloatArray,
    observations: Mapping[str, Array],
    action: Array,
    log_std: FloatArray | None,
    d_log_std: FloatArray | None,
) -> Scores:
    head = part.head
    n_rows = logits.shape[1]
    if isinstance(head, GaussianHead | StateNoiseHead):
        numbers = action.reshape(n_rows, -1).T
        is_squashed = (
            head.squashed if isinstance(head, StateNoiseHead) else isinstance(head, SquashedGaussianHead)
        )
        return (_squashed if is_squashed else _numbers)(head, logits, numbers, log_std, d_log_std)
    if isinstance(head, BetaHead):
        return _beta(head, logits, action.reshape(n_rows, -1).T)
    if (temperature := getattr(head, "temperature", 1.0)) != 1.0:
        cooled = msgspec.structs.replace(head, temperature=1.0)
        found = _head_scores(
            part._replace(head=cooled), logits / temperature, observations, action, log_std, d_log_std
        )
        return found._replace(pull=lambda *d: found.pull(*d) / temperature)
    if part.mask is not None:
        allowed = observations[part.mask].reshape(n_rows, -1).T != 0
        logits = apply_mask(logits, allowed)
    if isinstance(head, CategoricalHead):
        of_head = _categorical(logits, action.reshape(n_rows) - head.start)
    elif isinstance(head, MultiCategoricalHead):
        of_head = _multi_categorical(head, logits, action.reshape(n_rows, -1))
    else:
        of_head = _bernoulli(logits, action.reshape(n_rows, -1).T)
    if part.mask is None:
        return of_head
    # a masked logit is a constant, and a row whose mask allows nothing learns nothing
    return of_head._replace(pull=lambda *d: of_head.pull(*d) * allowed)


def _categorical(logits: FloatArray, chosen: IntArray) -> Scores:
    # p = softmax(l)      log π(a) = log p_a                   H = −Σ p log p
    #                     ∂log π(a)/∂l_j = [j = a] − p_j       ∂H/∂l_j = −p_j (log p_j + H)
    log_p = logits - np.maximum.reduce(logits, 0)
    p = np.exp(log_p)
    total = np.add.reduce(p, 0)
    p /= total
    log_p -= np.log(total)
    p_log_p = p * log_p  # exactly 0 where p is
    entropy = -np.add.reduce(p_log_p, 0)

    def pull(d_log_prob: FloatArray, d_entropy: FloatArray | None) -> FloatArray:
        d_logits: FloatArray = (chosen == np.arange(len(p))[:, None]) - p
        d_logits *= d_log_prob
        if d_entropy is not None:
            d_logits -= p * (d_entropy * entropy) + p_log_p * d_entropy
        return d_logits

    return Scores(log_p[chosen, np.arange(len(chosen))], entropy, pull)


def _multi_categorical(head: MultiCategoricalHead, logits: FloatArray, action: Array) -> Scores:
    # independent choices: logarithms and entropies are sums, each choice has its own logits
    columns = np.split(logits, np.cumsum(head.sizes)[:-1])
    parts = [
        _categorical(part, action[:, i] - start)
        for i, (part, start) in enumerate(zip(columns, head.starts, strict=True))
    ]
    return Scores(
        reduce(np.add, [part.log_prob for part in parts]),
        reduce(np.add, [part.entropy for part in parts]),
        lambda *d: np.concatenate([part.pull(*d) for part in parts]),
    )


def _bernoulli(logits: FloatArray, bits: Array) -> Scores:
    # y = ±l, + where the bit is 1; σ(−y) = 1 − σ(y) and log σ(y) = min(y, 0) − log(1 + e^−|y|) are exact in both tails
    # log π(a) = Σ log σ(y)      ∂/∂l = ±σ(−y)
    # H = Σ log(1 + e^−|l|) + |l| σ(−|l|), even in l      ∂H/∂l = −l σ(l) σ(−l)
    sign = np.where(bits != 0, logits.dtype.type(1), logits.dtype.type(-1))
    y, size = sign * logits, np.abs(logits)
    tail = np.exp(-size)
    rest = tail / (1 + tail)
    softplus = np.log1p(tail)

    def pull(d_log_prob: FloatArray, d_entropy: FloatArray | None) -> FloatArray:
        d_logits: FloatArray = sign * np.where(y >= 0, rest, 1 - rest) * d_log_prob
        if d_entropy is not None:
            d_logits -= logits * (rest * (1 - rest)) * d_entropy
        return d_logits

    log_prob = np.add.reduce(np.minimum(y, 0) - softplus, 0)
    return Scores(log_prob, np.add.reduce(softplus + size * rest, 0), pull)


def _gaussian(
    output: FloatArray, action: Array, log_std: FloatArray | None, d_log_std: FloatArray | None
) -> Scores:
    # z = (a − μ)/σ      log π(a) = −Σ (z²/2 + log σ + log(2π)/2)             H = Σ (log σ + 1/2 + log(2π)/2)
    #                    ∂/∂μ = z/σ      ∂/∂log σ = z² − 1                    ∂H/∂log σ = 1
    # From a network log σ is clipped; beyond the range it is a constant.
    n = len(action)
    raw = output[n:] if log_std is None else np.broadcast_to(log_std[:, None], (n, output.shape[1]))
    log_sigma = raw.clip(*LOG_STD_RANGE) if log_std is None else raw
    inverse = np.exp(-log_sigma)
    z = (action.astype(output.dtype, copy=False) - output[:n]) * inverse

    def pull(d_log_prob: FloatArray, d_entropy: FloatArray | None) -> FloatArray:
        d_mean: FloatArray = z * inverse * d_log_prob
        d_log_sigma: FloatArray = (z * z - 1) * d_log_prob
        if d_entropy is not None:
            d_log_sigma += d_entropy
        if log_std is None:
            return np.concatenate((d_mean, d_log_sigma * (log_sigma == raw)))
        assert d_log_std is not None
        d_log_std[...] += np.add.reduce(d_log_sigma, 1)
        return d_mean

    log_prob = -np.add.reduce(0.5 * z * z + log_sigma + _HALF_LOG_2PI, 0)
    return Scores(log_prob, np.add.reduce(log_sigma + (0.5 + _HALF_LOG_2PI), 0), pull)


def _numbers(
    head: GaussianHead | StateNoiseHead,
    output: FloatArray,
    action: Array,
    log_std: FloatArray | None,
    d_log_std: FloatArray | None,
) -> Scores:
    if isinstance(head, GaussianHead):
        return _gaussian(output, action, log_std, d_log_std)
    assert log_std is not None
    assert d_log_std is not None
    return Scores(*state_noise_scores(head, output, action, log_std, d_log_std))


def _squashed(
    head: GaussianHead | StateNoiseHead,
    output: FloatArray,
    action: Array,
    log_std: FloatArray | None,
    d_log_std: FloatArray | None,
) -> Scores:
    # u = tanh⁻¹ a      log π(a) = log N(u) − Σ log(1 − a²) − Σ log h, of which only the first part has parameters;
    # h is what 1 means to the environment
    inside = action.astype(output.dtype, copy=False).clip(-_INSIDE, _INSIDE)
    found = _numbers(head, output, np.arctanh(inside), log_std, d_log_std)
    log_prob = found.log_prob - np.add.reduce(np.log1p(-inside * inside), 0) - head.log_scale
    if isinstance(head, StateNoiseHead):  # the entropy of N(u) stands for its own
        return found._replace(log_prob=log_prob)
    return _with_slope_entropy(found._replace(log_prob=log_prob), head, output)


def _with_slope_entropy(found: Scores, head: GaussianHead, output: FloatArray) -> Scores:
    # H(a) = H(u) + Σ E log(1 − tanh² u) + Σ log h
    n = len(output) // 2
    raw = output[n:]
    log_sigma = raw.clip(*LOG_STD_RANGE)
    slope, d_mean, d_log_sigma = mean_log_slope(output[:n], log_sigma)
    entropy = found.entropy + np.add.reduce(slope, 0) + head.log_scale

    def pull(d_log_prob: FloatArray, d_entropy: FloatArray | None) -> FloatArray:
        d_output = found.pull(d_log_prob, d_entropy)
        if d_entropy is not None:
            d_output[:n] += d_mean * d_entropy
            d_output[n:] += d_log_sigma * d_entropy * (log_sigma == raw)
        return d_output

    return found._replace(entropy=entropy, pull=pull)


def _beta(head: BetaHead, output: FloatArray, action: Array) -> Scores:
    inside = action.astype(np.float64, copy=False).clip(-_INSIDE, _INSIDE)
    found, dtype = beta_scores(output, inside), output.dtype

    def pull(d_log_prob: FloatArray, d_entropy: FloatArray | None) -> FloatArray:
        d_output = found.d_log_prob * d_log_prob
        if d_entropy is not None:
            d_output += found.d_entropy * d_entropy
        return d_output.astype(dtype)

    log_prob, entropy = found.log_prob - head.log_scale, found.entropy + head.log_scale
    return Scores(log_prob.astype(dtype), entropy.astype(dtype), pull)
