"""Comparisons as runs: progress of the whole, an end in the middle, and checkpoints that are others."""

import pytest

from maze_core import InvalidSpecificationError, RunContext
from maze_core.metrics import SilentReporter
from maze_core.runners.comparison import comparison_config, run_comparison


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The configuration of a comparison of three policies, and the policies."""
    folder = tmp_path_factory.mktemp("run")
    spec = {"overrides": {"env.name": "CartPole-v1"}, "configuration": "test", "seed": 1, "silent": True}
    with RunContext(folder, **spec) as rc:
        rc.train()
        agents = [rc.policy] * 3
        nodes = [{"sha256": agent.checkpoint_sha256} for agent in agents]
        return comparison_config(rc.config, nodes, seed=4, n_episodes=4, n_envs=2), agents


class Told(SilentReporter):
    def __init__(self):
        self.all = []

    def tell(self, method, *args, **kwargs):
        self.all.append((method, kwargs.get("fraction", args)))


def test_progress_is_that_of_the_whole_and_episodes_are_not_told(played):
    told = Told()
    run_comparison(*played, reporter=told)
    assert {method for method, _ in told.all} == {"phase", "progress"}
    fractions = [fraction for method, fraction in told.all if method == "progress"]
    assert fractions == sorted(fractions)
    assert len(fractions) == 12
    assert fractions[-1] == 1.0


def test_one_that_is_cancelled_has_what_was_played_by_then(played):
    config, agents = played
    told = Told()
    report = run_comparison(config, agents, reporter=told, cancelled=lambda: len(told.all) > 6)
    assert report.stop_reason == "cancelled"
    assert len(report.policies) == 2
    (pair,) = report.pairs
    assert pair.n_episodes == len(report.policies[1].returns) < 4


def test_a_checkpoint_that_is_not_the_one_that_was_named_plays_nothing(played):
    config, agents = played
    tree = {**config.tree, "compared": [{"sha256": "0" * 64}, *config.tree["compared"][1:]]}
    other = type(config).from_tree(tree, "rollout")
    with pytest.raises(InvalidSpecificationError, match=r"policies\.0.*another checkpoint"):
        run_comparison(other, agents)


@pytest.mark.parametrize(
    "compared", [{}, ["x"], [{"run": "r"}], [{"sha256": 1}], [{"sha256": "x", "path": "y"}]]
)
def test_what_is_compared_is_checked_where_a_tree_is_read(played, compared):
    config, _ = played
    with pytest.raises(InvalidSpecificationError, match="compared"):
        type(config).from_tree({**config.tree, "compared": compared}, "rollout")
