"""Advantages and returns from a rollout: pure functions of arrays.

Time is axis 0, environments are axis 1: every array here is ``[T, B]``. ``terminated`` and ``truncated``
are two facts (Pardo et al. 2018, arXiv:1712.00378): after a terminal state the future is worth nothing, at a
time limit it is worth V(s'). Both cut the λ-trace; only the first cuts the bootstrap.
"""

import numpy as np

from maze_core.types import Array, BoolArray, FloatArray


def gae(
    rewards: FloatArray,
    values: FloatArray,
    next_values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    *,
    gamma: float | FloatArray,
    lam: float | FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Generalised advantage estimates and the λ-returns they imply.

    Schulman et al. 2016, arXiv:1506.02438, eq. 16, summed backwards in time.

    Args:
        rewards: r_t, ``[T, B]`` float.
        values: V(s_t), ``[T, B]`` float.
        next_values: V(s_{t+1}), ``[T, B]``; where an episode ended, the value of the *final* observation,
            not of the one after the reset.
        terminated: s_{t+1} is terminal, ``[T, B]`` bool.
        truncated: the episode was cut at t+1, ``[T, B]`` bool.
        gamma: discount per tick, in [0, 1]; or ``[T, B]``, with 1 between the sub-steps of one flat step.
        lam: λ in [0, 1]; 0 is one-step TD, 1 is Monte Carlo; or ``[T, B]``.

    Returns:
        Advantages ``[T, B]`` and λ-returns ``[T, B]`` (advantages + values), in the dtype of ``values``.

    Raises:
        ValueError: the five arrays do not share one shape ``[T, B]``.
    """
    expect_one_shape("gae", rewards, values, next_values, terminated, truncated)
    alive = ~terminated
    deltas = rewards + gamma * next_values * alive - values
    advantages = backwards(deltas, np.multiply(gamma * lam, alive & ~truncated, dtype=values.dtype))
    return advantages, advantages + values


def expect_one_shape(name: str, *arrays: Array) -> None:
    """Raise :class:`ValueError` where what ``name`` takes is not arrays of one shape ``[T, B]``."""
    shapes = [array.shape for array in arrays]
    if [len(shape) for shape in {*shapes}] != [2]:
        raise ValueError(f"{name} needs {len(arrays)} arrays of one shape [T, B], got {shapes}")


def backwards(errors: FloatArray, decay: FloatArray) -> FloatArray:
    """x_t = e_t + d_t x_{t+1}, with nothing after the last row; all ``[T, B]``."""
    sums = np.empty_like(errors)
    trace = np.zeros(errors.shape[1], dtype=errors.dtype)
    for t in range(len(errors) - 1, -1, -1):
        trace = errors[t] + decay[t] * trace
        sums[t] = trace
    return sums


def explained_variance(values: FloatArray, returns: FloatArray) -> float:
    """1 - Var(returns - values) / Var(returns); 1 is perfect, 0 as good as a constant.

    NaN where the returns are equal up to rounding: there is no variance that could be explained. As advantages plus
    values they carry the rounding of the values too.
    """
    largest = max(float(np.maximum.reduce(np.abs(array), None)) for array in (returns, values))
    deviation = _deviation(returns.astype(np.float64))
    if deviation <= 8 * np.finfo(returns.dtype).eps * largest:
        return float("nan")
    return 1.0 - (_deviation(np.subtract(returns, values, dtype=np.float64)) / deviation) ** 2


def _deviation(numbers: FloatArray) -> float:
    """Standard deviation of all, in float64."""
    flat = numbers.reshape(-1)
    flat = flat - np.add.reduce(flat) / len(flat)
    return float((flat @ flat / len(flat)) ** 0.5)
