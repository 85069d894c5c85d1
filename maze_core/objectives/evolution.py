"""What evolution strategies make of episode returns (Salimans et al. 2017, arXiv:1703.03864): pure functions."""

import numpy as np

from maze_core.types import FloatArray


def centred_ranks(returns: FloatArray) -> FloatArray:
    """Ranks from -½, the worst, to ½, the best, evenly between; equal returns share the mean of their ranks.

    The shape of fitness of Salimans et al. 2017, section 2.1, which no scale of returns and no outlier changes.

    Args:
        returns: of any shape, without NaN.

    Returns:
        Of the same shape, float64; they add up to 0. A lone return has rank 0.
    """
    _, place, counts = np.unique(returns, return_inverse=True, return_counts=True)
    ranks = counts.cumsum() - (counts + 1) / 2
    centred: FloatArray = ranks[place.reshape(returns.shape)] / max(returns.size - 1, 1)
    return centred - 0.5 if returns.size > 1 else centred


def pair_weights(fitness: FloatArray) -> FloatArray:
    """Weights of perturbations ε whose sum estimates σ ∇ E[F(θ + σ ε)], ε standard normal: (F⁺ - F⁻) / 2n.

    Salimans et al. 2017, algorithm 1, with mirrored samples (section 2.1). As in the authors' code the gradient is
    not divided by σ, so that step size and L2 penalty need not follow it.

    Args:
        fitness: of θ + σ ε and of θ - σ ε, ``[n, 2]``.

    Returns:
        ``[n]``.
    """
    weights: FloatArray = (fitness[:, 0] - fitness[:, 1]) / (2 * len(fitness))
    return weights
