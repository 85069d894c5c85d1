"""Ids sort by time, digests ignore order, moves follow the arrows, tokens are told from other text."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import StateConflictError
from service.domain.run import Event, EventType, RunKind, RunState
from service.domain.use_cases import (
    TERMINAL_STATES,
    best_metric,
    legal,
    new_run_id,
    new_token,
    request_digest,
    require_legal,
    spent_s,
    time_sortable,
    token_digest,
    token_id_of,
)

ARROWS = {
    ("queued", "running"), ("queued", "paused"), ("queued", "cancelled"), ("queued", "failed"),
    ("running", "stopping"), ("running", "queued"), ("running", "succeeded"), ("running", "failed"),
    ("stopping", "cancelled"), ("stopping", "succeeded"), ("stopping", "failed"), ("stopping", "paused"),
    ("stopping", "queued"), ("stopping", "running"),
    ("paused", "queued"), ("paused", "cancelled"),
}  # fmt: skip

moments = st.integers(min_value=0, max_value=2**56 - 1)
noises = st.integers(min_value=0, max_value=2**74 - 1)


def test_run_ids_are_26_digits_and_never_the_same() -> None:
    ids = [new_run_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(len(run_id) == 30 and run_id.startswith("run_") and run_id[4:].isalnum() for run_id in ids)
    assert all(run_id == run_id.lower() for run_id in ids)


@given(moments, moments, noises, noises)
def test_ids_sort_as_their_times_do(first: int, second: int, noise: int, other_noise: int) -> None:
    ids = time_sortable(first, noise), time_sortable(second, other_noise)
    assert (ids[0] < ids[1]) == ((first, noise) < (second, other_noise))


def test_a_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    body = {"overrides": {"a": 1, "b": [1, 2]}, "seed": 1}
    same = request_digest(RunKind.TRAIN, {"seed": 1, "overrides": {"b": [1, 2], "a": 1}})
    assert request_digest(RunKind.TRAIN, body) == same
    assert request_digest(RunKind.ROLLOUT, body) != same
    assert request_digest(RunKind.TRAIN, {**body, "overrides": {"a": 1, "b": [2, 1]}}) != same
    assert request_digest(RunKind.TRAIN, {**body, "seed": "1"}) != same


@pytest.mark.parametrize("current", RunState)
@pytest.mark.parametrize("following", RunState)
def test_a_run_moves_along_the_arrows_and_nowhere_else(current: RunState, following: RunState) -> None:
    allowed = (current.value, following.value) in ARROWS
    assert legal(current, following) is allowed
    if allowed:
        require_legal("run_1", current, following)
    else:
        with pytest.raises(StateConflictError, match=f"run_1 is {current} and cannot become {following}"):
            require_legal("run_1", current, following)


def test_a_refused_move_says_where_the_run_can_go() -> None:
    with pytest.raises(StateConflictError, match=r"it goes to cancelled, queued$"):
        require_legal("run_1", RunState.PAUSED, RunState.RUNNING)
    with pytest.raises(StateConflictError, match="nowhere: it has ended"):
        require_legal("run_1", RunState.FAILED, RunState.RUNNING)


def test_the_ends_are_ends() -> None:
    assert {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED} == TERMINAL_STATES


def test_a_checkpoint_is_judged_by_its_evaluation_before_anything_else() -> None:
    assert best_metric({"train/episode_return": 1.0, "eval/mean_return": 2.0}) == ("eval/mean_return", 2.0)
    assert best_metric({"train/loss": 9.0, "train/episode_return": 1.0}) == ("train/episode_return", 1.0)
    assert best_metric({"b": math.inf, "a": 3.0}) == ("a", 3.0)
    assert best_metric({}) is None


def test_a_token_carries_its_id_and_is_known_by_its_digest() -> None:
    token_id, text, digest = new_token()
    assert text.startswith(f"maze_{token_id}_")
    assert len(text.rsplit("_", 1)[1]) == 64  # 256 bits
    assert token_id_of(text) == token_id
    assert token_digest(text) == digest
    assert new_token()[1] != text


@pytest.mark.parametrize(
    "text", ["", "maze", "maze__", "maze_a_", "maze__b", "other_a_b", "maze_a_b_c", "maze_a/b_c", "Maze_a_b"]
)
def test_text_that_is_no_token_has_no_id(text: str) -> None:
    assert token_id_of(text) is None


@given(st.text())
def test_any_text_has_a_digest(text: str) -> None:
    assert len(token_digest(text)) == 64


def test_seconds_spent_are_those_in_which_a_worker_held_the_run_in_attempts_that_are_over() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    moves = [(0, "queued"), (5, "running"), (15, "queued"), (100, "running"), (103, "stopping"), (104, "paused"),
             (200, "queued"), (300, "running")]  # fmt: skip
    history = [
        Event(
            run_id="r", seq=seq, at=began + timedelta(seconds=s), type=EventType.STATE, data={"state": state}
        )
        for seq, (s, state) in enumerate(moves, start=1)
    ]
    assert spent_s(history) == 14.0
    assert spent_s(history[:2]) == 0.0
