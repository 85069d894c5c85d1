"""Replay against its definition: what is remembered, returns over several steps, ends, chunks and priorities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maze_core.data import replay as replay_module
from maze_core.data.prioritized import PrioritizedReplay, SumTree
from maze_core.data.replay import Replay, ReplayWithDemonstrations
from maze_core.data.trajectory import FinalObservations, Rollout, StepRecord

GAMMA = 0.9


class Ticks:
    """Makes rollouts whose observation is the number of the tick; the final one of a cut is 0.5 more than the last."""

    def __init__(self, n_envs: int, seed: int = 0, p_end: float = 0.2) -> None:
        self.n_envs, self.p_end, self.n = n_envs, p_end, 0
        self.rng = np.random.default_rng(seed)
        self.rewards, self.terminated, self.truncated = [], [], []

    def __call__(self, n: int) -> Rollout:
        shape = (n, self.n_envs)
        seen = np.repeat(np.arange(self.n, self.n + n + 1, dtype=np.float32)[:, None], self.n_envs, 1)
        self.n += n
        reward = self.rng.normal(size=shape).astype(np.float32)
        terminated, truncated = self.rng.random(shape) < self.p_end, self.rng.random(shape) < self.p_end
        self.rewards.extend(reward)
        self.terminated.extend(terminated)
        self.truncated.extend(truncated)
        t, b = np.nonzero(truncated & ~terminated)
        final = (
            {0: FinalObservations(t=t, b=b, agent_id=np.zeros_like(t), observations={"x": seen[t, b] + 0.5})}
            if t.size
            else {}
        )
        return Rollout(
            steps={
                0: StepRecord(
                    observations={"x": seen[:n]},
                    actions={"a": -seen[:n]},
                    active=np.ones(shape, bool),
                )
            },
            agent_id=np.zeros(shape, np.int64),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            flat_step=np.zeros((n + 1, self.n_envs), np.int64),
            last_observations={0: {"x": seen[n]}},
            last_active={0: np.ones(self.n_envs, bool)},
            last_agent_id=np.zeros(self.n_envs, np.int64),
            final=final,
            episode_returns=[],
            episode_lengths=[],
        )

    def expected(self, tick: int, b: int, n_steps: int) -> tuple[float, float, float]:
        """Return, discount and what follows, by the definition, one step after the other."""
        total, discount = 0.0, 1.0
        for k in range(tick, min(tick + n_steps, self.n)):
            total += discount * self.rewards[k][b]
            discount *= GAMMA
            if self.terminated[k][b]:
                return total, 0.0, float("nan")
            if self.truncated[k][b]:
                return total, discount, k + 0.5
        return total, discount, k + 1


@settings(max_examples=50, deadline=None)
@given(
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    capacity=st.integers(1, 40),
)
def test_transitions_are_those_of_the_definition_whatever_the_ring_has_forgotten(
    n_envs: int, n_steps: int, sizes: list[int], capacity: int
) -> None:
    ticks, replay = Ticks(n_envs), Replay(capacity, gamma=GAMMA, n_steps=n_steps)
    for n in sizes:
        replay.add(ticks(n), 0)
    n_kept = min(ticks.n, max(1, capacity // n_envs))
    assert len(replay) == n_kept * n_envs
    drawn = replay.sample(200, np.random.default_rng(1))
    begun = drawn.observations["x"].astype(int)
    assert begun.min() >= ticks.n - n_kept
    np.testing.assert_array_equal(drawn.actions["a"], -begun)
    for i, row in enumerate(drawn.rows):
        expected = ticks.expected(begun[i], row % n_envs, n_steps)
        np.testing.assert_allclose((drawn.returns[i], drawn.discounts[i]), expected[:2], rtol=1e-5, atol=1e-6)
        if drawn.discounts[i]:
            assert drawn.next_observations["x"][i] == expected[2]


def test_all_transitions_are_drawn_alike() -> None:
    ticks, replay = Ticks(2), Replay(100, gamma=GAMMA)
    replay.add(ticks(10), 0)
    counts = np.bincount(replay.sample(20_000, np.random.default_rng(0)).rows, minlength=20)
    assert counts.min() > 850
    assert counts.max() < 1150


def test_returns_end_where_the_environments_were_reset() -> None:
    replay, ticks = Replay(100, gamma=GAMMA, n_steps=5), Ticks(1, p_end=0.0)
    replay.add(ticks(3), 0)
    replay.cut()
    replay.add(ticks(3), 0)
    drawn = replay.sample(50, np.random.default_rng(0))
    before = drawn.observations["x"] < 3
    assert set(drawn.next_observations["x"][before]) == {3.0}
    np.testing.assert_allclose(
        drawn.discounts[before], GAMMA ** (3 - drawn.observations["x"][before]), rtol=1e-6
    )


def make_replays() -> list[Replay]:
    return [Replay(30, gamma=GAMMA), PrioritizedReplay(30, gamma=GAMMA, alpha=0.6)]


@pytest.mark.parametrize("kind", [0, 1], ids=["alike", "prioritized"])
@pytest.mark.parametrize("n", [0, 3, 40])
def test_a_restored_memory_draws_what_the_other_would_have_drawn(kind: int, n: int, monkeypatch) -> None:
    monkeypatch.setattr(replay_module, "CHUNK_ROWS", 4)
    one, other = make_replays()[kind], make_replays()[kind]
    ticks = Ticks(2)
    if n:
        one.add(ticks(n), 0)
        if isinstance(one, PrioritizedReplay):
            one.note_errors(np.arange(4), np.array([3.0, 0.1, 2.0, 0.0]))
    other.load_state_dict(one.state_dict())
    more = ticks(2)
    for memory in (one, other):
        memory.add(more, 0)
    for a, b in zip(
        *(memory.sample(9, np.random.default_rng(3)).rows for memory in (one, other)), strict=True
    ):
        assert a == b


def test_full_chunks_stay_the_same_arrays_until_they_are_written_over(monkeypatch) -> None:
    monkeypatch.setattr(replay_module, "CHUNK_ROWS", 4)
    replay, ticks = Replay(24, gamma=GAMMA), Ticks(2)
    states = []
    for n in (5, 4, 4):
        replay.add(ticks(n), 0)
        states.append({name: array.tobytes() for name, array in replay.state_dict().items()})
    chunks = [[state.get(f"{i:06d}/reward") for i in range(3)] for state in states]
    assert chunks[1][:2] == chunks[0][:2]
    assert chunks[2][0] != chunks[1][0]
    assert chunks[2][1] == chunks[1][1]


def test_what_surprised_more_is_drawn_in_proportion_and_weighs_less() -> None:
    replay = PrioritizedReplay(8, gamma=GAMMA, alpha=0.5)
    replay.add(Ticks(1)(4), 0)
    replay.note_errors(np.arange(4), np.array([-9.0, 4.0, 1.0, 0.0]))
    replay.beta = 1.0
    drawn = replay.sample(6000, np.random.default_rng(0))
    np.testing.assert_allclose(
        np.bincount(drawn.rows, minlength=4) / 6000, [3 / 6, 2 / 6, 1 / 6, 0], atol=2e-3
    )
    weight = {row: weight for row, weight in zip(drawn.rows.tolist(), drawn.weights.tolist(), strict=True)}
    np.testing.assert_allclose(weight[1] / weight[0], 3 / 2, rtol=1e-3)
    assert max(drawn.weights) == 1.0


def test_a_new_transition_counts_as_much_as_the_largest_error_ever() -> None:
    replay, ticks = PrioritizedReplay(8, gamma=GAMMA, alpha=1.0), Ticks(1)
    replay.add(ticks(2), 0)
    replay.note_errors(np.arange(2), np.array([7.0, 1.0]))
    replay.note_errors(np.arange(1), np.array([1.0]))
    replay.add(ticks(1), 0)
    shares = np.bincount(replay.sample(900, np.random.default_rng(0)).rows, minlength=3) / 900
    np.testing.assert_allclose(shares, [1 / 9, 1 / 9, 7 / 9], atol=0.01)


@given(numbers=st.lists(st.floats(0, 10), min_size=1, max_size=20), data=st.data())
def test_a_sum_tree_finds_what_adding_up_finds(numbers: list[float], data: st.DataObject) -> None:
    tree = SumTree(len(numbers))
    tree.set(np.arange(len(numbers)), np.array(numbers))
    assert tree.total == pytest.approx(sum(numbers))
    if tree.total > 1e-9:
        at = data.draw(st.floats(0, 0.999)) * tree.total
        (found,) = tree.find(np.array([at]))
        sums = np.concatenate(([0.0], np.cumsum(numbers)))
        assert sums[found] - 1e-9 <= at <= sums[found + 1] + 1e-9


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_every_batch_has_its_share_of_demonstrations_which_are_never_written_over(share, n_steps):
    given = Ticks(3, seed=1)(5)
    active = given.steps[0].active
    active[3:, 1:] = False
    own = Ticks(2)
    own.n = 100
    memory = ReplayWithDemonstrations(given, 0, share=share, capacity=4, gamma=GAMMA, n_steps=n_steps)
    alone, plain = Replay(15, gamma=GAMMA, n_steps=n_steps), Replay(4, gamma=GAMMA, n_steps=n_steps)
    alone.add(given, 0)
    for _ in range(4):
        rollout = own(1)
        memory.add(rollout, 0)
        plain.add(rollout, 0)
    batch = memory.sample(200, np.random.default_rng(3))
    n_given = int(200 * share)
    seen = batch.observations["x"]
    assert (seen[:n_given] < 100).all()
    assert (seen[n_given:] >= 102).all()
    rows = batch.rows[:n_given]
    assert set(rows) <= set(np.flatnonzero(active))
    assert share == 0 or set(rows) == set(np.flatnonzero(active))
    for part, expected in (
        (slice(None, n_given), alone._transitions(rows, np.ones(n_given, np.float32))),
        (slice(n_given, None), plain._transitions(batch.rows[n_given:], np.ones(200 - n_given, np.float32))),
    ):
        np.testing.assert_array_equal(batch.actions["a"][part], expected.actions["a"])
        np.testing.assert_array_equal(batch.next_observations["x"][part], expected.next_observations["x"])
        for name in ("returns", "discounts", "weights"):
            np.testing.assert_array_equal(getattr(batch, name)[part], getattr(expected, name))
    assert len(memory) == 4
    assert memory.state_dict().keys() == plain.state_dict().keys()
