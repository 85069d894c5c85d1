"""compare(): every policy plays the episodes that it plays when it is evaluated alone."""

import pytest

from maze_core import InvalidSpecificationError, RunContext, compare

SPEC = {"configuration": "test", "silent": True}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 1), ("b", 2)):
        with RunContext(folder / name, overrides={"env.name": "CartPole-v1"}, seed=seed, **SPEC) as rc:
            rc.train()
    return folder


def test_each_policy_scores_as_in_an_evaluation_of_its_own(runs):
    report = compare([runs / "a", runs / "b", (runs / "a", "last")], 4, seed=5)
    for name, found in zip("ab", report.policies, strict=False):
        with RunContext.load(runs / name) as rc:
            assert found == rc.evaluate(4, seed=5)
    differences = [b - a for a, b in zip(report.policies[0].returns, report.policies[1].returns, strict=True)]
    assert report.pairs[0].mean_difference == pytest.approx(sum(differences) / 4)
    assert len(report.pairs) == 3
    assert report.stop_reason == "completed"


def test_a_comparison_is_known_by_what_is_compared_and_on_what(runs):
    digests = [
        compare(policies, 2, seed=seed).config_sha256
        for policies, seed in (
            ([runs / "a", runs / "b"], 1),
            ([runs / "a", runs / "b"], 1),
            ([runs / "b", runs / "a"], 1),
            ([runs / "a", runs / "b"], 2),
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_policies_of_other_spaces_are_refused_by_place(runs):
    with RunContext(runs / "c", overrides={"env.name": "Pendulum-v1"}, seed=1, **SPEC) as rc:
        rc.train()
    with pytest.raises(InvalidSpecificationError, match=r"policies\.1"):
        compare([runs / "a", runs / "c"], 2)


def test_contexts_are_compared_as_they_act(runs):
    with RunContext.load(runs / "a") as best, RunContext.load(runs / "a", "last") as last:
        found = compare([best, last], 3, seed=2)
    assert found == compare([runs / "a", (runs / "a", "last")], 3, seed=2)


def test_what_is_no_trained_policy_is_refused_by_place(runs):
    with (
        RunContext(policy="random_policy", overrides={"env.name": "CartPole-v1"}) as player,
        pytest.raises(InvalidSpecificationError, match=r"policies\.1.*no checkpoint"),
    ):
        compare([runs / "a", player], 2)


@pytest.mark.parametrize(
    ("policies", "says"), [("a", "takes a list"), (["a"], "2 to 8"), (["a"] * 9, "2 to 8"), ([], "2 to 8")]
)
def test_a_wrong_list_of_policies_is_refused(runs, policies, says):
    named = policies if isinstance(policies, str) else [runs / name for name in policies]
    with pytest.raises(InvalidSpecificationError, match=says):
        compare(named)
