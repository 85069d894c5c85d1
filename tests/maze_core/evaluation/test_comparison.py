"""Policies side by side: paired differences by hand, against their definition, and where there are few of them."""

import json
import math
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_core.evaluation.comparison import ComparisonReport, PairedDifference
from maze_core.evaluation.evaluate import EvalReport, t_quantile
from maze_core.rollout.episodes import EpisodeRecord


def report(returns, seeds=None):
    return EvalReport.from_episodes(
        [
            EpisodeRecord(
                index=i, seed=seed, episode_return=value, length=1, terminated=True, truncated=False
            )
            for i, (seed, value) in enumerate(zip(seeds or range(len(returns)), returns, strict=True))
        ]
    )


def difference(first, second):
    return PairedDifference.between([report(first), report(second)], 0, 1)


def test_four_episodes_by_hand():
    """Differences 2, 1, 0, 3: mean 1.5, deviation √(5/3), t(0.975, 3) = 3.18245."""
    pair = difference([1.0, 5.0, 2.0, 10.0], [3.0, 6.0, 2.0, 13.0])
    half = 3.18245 * math.sqrt(5 / 3) / 2
    assert pair.mean_difference == 1.5
    assert pair.ci95 == pytest.approx((1.5 - half, 1.5 + half), abs=1e-4)
    assert (pair.wins, pair.ties, pair.losses, pair.n_episodes) == (3, 1, 0, 4)


def test_a_constant_difference_is_known_exactly_however_much_returns_vary():
    pair = difference([1.0, 500.0, -70.0], [2.0, 501.0, -69.0])
    assert (pair.mean_difference, pair.ci95) == (1.0, (1.0, 1.0))
    alike = difference([1.0, 500.0], [1.0, 500.0])
    assert (alike.mean_difference, alike.ci95, alike.ties) == (0.0, (0.0, 0.0), 2)


@pytest.mark.parametrize(("returns", "mean"), [([], None), ([4.0], 3.0)])
def test_fewer_than_two_episodes_have_no_interval_and_still_are_json(returns, mean):
    whole = ComparisonReport(
        policies=[report([1.0] * len(returns)), report(returns)], stop_reason="completed", config_sha256="x"
    )
    (pair,) = json.loads(json.dumps(whole.to_dict(), allow_nan=False))["pairs"]
    assert (pair["mean_difference"], pair["ci95"], pair["n_episodes"]) == (mean, None, len(returns))


def test_only_seeds_that_both_have_played_count():
    reports = [report([1.0, 2.0, 3.0], seeds=[7, 8, 9]), report([5.0, 4.0], seeds=[9, 7])]
    pair = PairedDifference.between(reports, 0, 1)
    assert (pair.n_episodes, pair.mean_difference) == (2, fmean([5.0 - 3.0, 4.0 - 1.0]))


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=2, max_size=40))
def test_the_interval_is_that_of_the_mean_of_the_differences_and_turns_with_the_pair(pairs):
    first, second = (list(values) for values in zip(*pairs, strict=True))
    there, back = difference(first, second), difference(second, first)
    differences = [b - a for a, b in pairs]
    half = t_quantile(0.975, len(pairs) - 1) * stdev(differences) / math.sqrt(len(pairs))
    middle = fmean(differences)
    assert there.ci95 == pytest.approx((middle - half, middle + half), rel=1e-9, abs=1e-6)
    assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]), rel=1e-9, abs=1e-6)
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.wins + there.ties + there.losses == there.n_episodes == len(pairs)


def test_every_pair_is_there_once_the_later_one_less_the_earlier_one():
    whole = ComparisonReport(
        policies=[report([1.0, 1.0]), report([2.0, 2.0]), report([4.0, 4.0])],
        stop_reason="completed",
        config_sha256="x",
    )
    found = [(pair.first, pair.second, pair.mean_difference) for pair in whole.pairs]
    assert found == [(0, 1, 1.0), (0, 2, 3.0), (1, 2, 2.0)]
