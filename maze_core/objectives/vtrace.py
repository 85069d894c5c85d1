"""V-trace: advantages and targets where another policy acted than the one that learns. All arrays are ``[T, B]``.

Espeholt et al. 2018, arXiv:1802.01561. The axes and the two ends of an episode are those of
:mod:`maze_core.objectives.returns`.
"""

import numpy as np

from maze_core.objectives.returns import backwards, expect_one_shape
from maze_core.types import BoolArray, FloatArray


def vtrace(
    log_ratios: FloatArray,
    rewards: FloatArray,
    values: FloatArray,
    next_values: FloatArray,
    terminated: BoolArray,
    truncated: BoolArray,
    *,
    gamma: float | FloatArray,
    lam: float | FloatArray,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Advantages, which the policy gradient has yet to weigh, and V-trace targets of the critic.

    Targets are v_t = V(s_t) + δ_t + γ c_t (v_{t+1} − V(s_{t+1})), with δ_t = ρ_t (r_t + γ V(s_{t+1}) − V(s_t)),
    ρ_t = min(ρ̄, π/μ) and c_t = λ min(c̄, π/μ) (eq. 1, remarks 1 and 2). Advantages are
    r_t + γ v_{t+1} − V(s_t), without the importance weight min(ρ̄, π/μ) of section 4.2: a baseline is subtracted before
    it, or the gradient is biased.

    Args:
        log_ratios: log π(a_t|s_t) − log μ(a_t|s_t), of the policy that learns and the one that acted, ``[T, B]``.
        rewards: as in :func:`~maze_core.objectives.returns.gae`, and so are the next four.
        values: V(s_t).
        next_values: V(s_{t+1}), of the *final* observation where an episode ended.
        terminated: s_{t+1} is terminal: it is worth nothing.
        truncated: the episode was cut at t+1: it is worth V(s_{t+1}), and no later error reaches back.
        gamma: discount per tick, in [0, 1]; or ``[T, B]``, with 1 between the sub-steps of one flat step.
        lam: λ in [0, 1], or ``[T, B]``; 1 is the paper's.
        clip_rho: ρ̄ ≥ 0, which decides between the values of μ (towards 0) and of π (infinite); infinity does not clip.
        clip_c: c̄ ≥ 0, how far errors reach back; it changes the speed of learning, not what is learnt.

    Returns:
        Advantages and targets, each ``[T, B]``, in the dtype of ``values``.

    Raises:
        ValueError: the arrays do not share one shape ``[T, B]``.
    """
    expect_one_shape("vtrace", log_ratios, rewards, values, next_values, terminated, truncated)
    with np.errstate(over="ignore"):  # infinity is clipped like any large ratio
        ratios = np.exp(log_ratios)
    discount = np.multiply(gamma, ~terminated, dtype=values.dtype)
    deltas = np.minimum(ratios, clip_rho) * (rewards + discount * next_values - values)
    reach = lam * np.minimum(ratios, clip_c) * ~truncated
    errors = backwards(deltas, discount * reach)
    next_targets = next_values.copy()
    next_targets[:-1] += np.where(truncated[:-1], 0, errors[1:])  # beyond a terminal state the discount is 0
    return rewards + discount * next_targets - values, values + errors
