"""Student's t against published quantiles and against its own density."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_core.evaluation.student_t import t_distribution, t_quantile

# two-sided 95 %, as in any table of the t distribution
TABLE = {1: 12.7062, 2: 4.30265, 3: 3.18245, 4: 2.77645, 9: 2.26216, 19: 2.09302, 29: 2.04523, 120: 1.97993}


@pytest.mark.parametrize(("degrees", "expected"), TABLE.items())
def test_quantiles_are_those_of_the_tables(degrees, expected):
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=5e-5)


def test_many_degrees_are_the_normal_distribution():
    assert t_quantile(0.975, 10**7) == pytest.approx(1.959964, abs=1e-5)


def test_one_degree_is_the_cauchy_distribution():
    assert t_quantile(0.9, 1) == pytest.approx(math.tan(math.pi * 0.4), rel=1e-9)


@given(st.integers(1, 300), st.floats(0.0, 20.0))
def test_the_distribution_is_the_integral_of_its_density(degrees, t):
    x = np.linspace(0, t, 20001)
    log_front = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    density = np.exp(log_front - (degrees + 1) / 2 * np.log1p(x * x / degrees))
    assert t_distribution(t, degrees) == pytest.approx(0.5 + np.trapezoid(density, x), abs=1e-6)


@pytest.mark.parametrize(("probability", "degrees"), [(1.0, 3), (0.3, 3), (0.9, 0)])
def test_arguments_out_of_range_are_refused(probability, degrees):
    with pytest.raises(ValueError, match="out of range"):
        t_quantile(probability, degrees)
