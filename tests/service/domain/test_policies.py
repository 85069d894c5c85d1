"""How policies are named, where a rollback leads, and what opens a gate."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import StateConflictError
from service.domain.policies import (
    AliasMove,
    Gate,
    MoveKind,
    PolicyVersion,
    earlier_versions,
    is_policy,
    is_reference,
    reference,
    require_passed,
)
from service.domain.run import Run, RunKind, RunState

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("walker@champion", ("walker", "champion", None)),
        ("walker:3", ("walker", None, 3)),
        ("a.b-c_D9@1.0", ("a.b-c_D9", "1.0", None)),
        ("walker", ("walker", None, None)),
        ("walker@", ("walker", None, None)),
        ("walker:x", None),
        ("walker:", None),
        ("walker:1234567890", None),
        ("@champion", None),
        ("a@b@c", None),
        ("a@b:3", None),
        ("../x@y", None),
        ("-a@b", None),
        ("a" * 65 + "@b", None),
        ("wälker@b", None),
        ("a@b\n", None),
    ],
)
def test_a_name_is_read_whole_or_not_at_all(text: str, meant: Any) -> None:
    assert reference(text) == meant
    assert is_reference(text) == (meant is not None and meant[1:] != (None, None))


@given(st.from_regex(r"\A(run|ckpt)_[0-9a-z]{1,40}\Z"))
def test_no_id_of_a_run_or_checkpoint_names_a_policy(text: str) -> None:
    assert not is_policy(text)
    assert not is_reference(text)


def moves(*steps: int | str | None) -> list[AliasMove]:
    """A history: a number sets, ``b`` rolls back as asked, None deletes."""
    history: list[AliasMove] = []
    for step in steps:
        present = history[-1].to_version if history else None
        kind = {str: MoveKind.ROLLBACK, type(None): MoveKind.DELETE}.get(type(step), MoveKind.SET)
        target = earlier_versions(history)[0] if kind is MoveKind.ROLLBACK else step
        assert not isinstance(target, str)
        facts = {"seq": len(history) + 1, "kind": kind, "from_version": present, "to_version": target}
        history.append(AliasMove(**facts, reason=None, by=None, at=NOW))
    return history


@pytest.mark.parametrize(
    ("steps", "leads_to"),
    [
        ([], []),
        ([1], []),
        ([1, 2], [1]),
        ([1, 2, "b"], []),
        ([1, 2, 3], [2, 1]),
        ([1, 2, 3, "b"], [1]),
        ([1, 2, 3, "b", "b"], []),
        ([1, 2, 1, 2, "b", "b"], [1]),
        ([1, 2, 3, "b", 4, "b"], [1]),
        ([1, 2, None, 3], [2, 1]),
        ([1, 2, None, 2], [1]),
        ([1, None, 1], []),
    ],
)
def test_a_rollback_leads_to_what_was_set_before_and_a_second_one_further_back(
    steps: list[int | str | None], leads_to: list[int]
) -> None:
    assert earlier_versions(moves(*steps)) == leads_to


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_rolling_back_on_and_on_undoes_every_move_once(versions: list[int]) -> None:
    """However often a version was set again, as many rollbacks as changes lead to the first one and no further."""
    changes = [v for i, v in enumerate(versions) if i == 0 or v != versions[i - 1]]
    history = moves(*changes)
    seen = []
    while earlier := earlier_versions(history):
        leads_to = earlier[0]
        seen.append(leads_to)
        history.append(
            AliasMove(
                seq=len(history) + 1,
                kind=MoveKind.ROLLBACK,
                from_version=history[-1].to_version,
                to_version=leads_to,
                reason=None,
                by=None,
                at=NOW,
            )
        )
    assert seen == changes[-2::-1]


def version(number: int) -> PolicyVersion:
    return PolicyVersion(
        policy="p",
        number=number,
        run_id=f"run_{number}",
        checkpoint=f"ckpt_{number}",
        content_sha256="",
        created_at=NOW,
    )


PLAYS = {"max_episode_steps": 10_000, "deterministic": True}


def comparison(first: int, second: int, mean: Any, ci95: Any, **runner: Any) -> Run:
    pair = {"first": 0, "second": 1, "mean_difference": mean, "ci95": ci95}
    return Run(
        id="run_c",
        kind=RunKind.COMPARE,
        state=RunState.SUCCEEDED,
        config={
            "compared": [{"checkpoint": f"ckpt_{number}"} for number in (first, second)],
            "runner": {"n_episodes": 20, **PLAYS, **runner},
            "env": {"name": "CartPole-v1"},
            "wrappers": [],
        },
        result={"pairs": [pair]},
        created_at=NOW,
    )


@given(st.floats(-100, 100), st.floats(0, 100))
def test_a_gate_opens_unless_the_interval_lies_wholly_below_zero(mean: float, half: float) -> None:
    low, high = mean - half, mean + half
    run = comparison(1, 2, mean, [low, high])
    try:
        evidence = require_passed(Gate(), run, version(1), version(2), PLAYS)
    except StateConflictError:
        assert high < 0
    else:
        assert high >= 0
        assert evidence["ci95"] == [low, high]


@pytest.mark.parametrize(
    ("runner", "says"),
    [
        ({"max_episode_steps": 1}, "cuts episodes after 1 steps, not 10000"),
        ({"max_episode_steps": 20_000}, "cuts episodes after 20000 steps"),
        ({"deterministic": False}, "draws its actions"),
        ({"max_episode_steps": None}, None),
    ],
)
def test_what_is_played_otherwise_than_the_holder_is_evaluated_opens_nothing(
    runner: dict[str, Any], says: str | None
) -> None:
    run = comparison(1, 2, 0.0, [0.0, 0.0], **runner)
    if says is None:
        assert require_passed(Gate(), run, version(1), version(2), PLAYS)["max_episode_steps"] is None
        return
    with pytest.raises(StateConflictError, match=says):
        require_passed(Gate(), run, version(1), version(2), PLAYS)


def test_a_comparison_in_the_environment_of_the_challenger_opens_nothing() -> None:
    with pytest.raises(StateConflictError, match="is not of p:1 and p:2, in this order"):
        require_passed(Gate(), comparison(2, 1, 0.0, [0.0, 0.0]), version(1), version(2), PLAYS)


@pytest.mark.parametrize(("mean", "ci95"), [(1.0, None), ("NaN", ["NaN", "NaN"]), (math.nan, [math.nan] * 2)])
def test_what_says_nothing_opens_nothing(mean: Any, ci95: Any) -> None:
    with pytest.raises(StateConflictError) as closed:
        require_passed(Gate(seed=7), comparison(1, 2, mean, ci95), version(1), version(2), PLAYS)
    assert closed.value.details["compare"]["seed"] == 7
