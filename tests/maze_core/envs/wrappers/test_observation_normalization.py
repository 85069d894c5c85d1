"""Normalised observations: what the statistics are and how they go on, what is left alone, that rows are apart."""

import contextlib
import warnings

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core import compose_run
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.wrappers import ObservationNormalizationWrapper, WrappedVectorEnv
from maze_core.errors import EnvError


def bound(space, samples=None, **arguments):
    wrapper = ObservationNormalizationWrapper(**arguments)
    wrapper.bind({0: space}, {0: spaces.Dict()})
    if samples is not None:
        wrapper.estimate({0: samples})
    return wrapper


def vector(n=3, **others):
    return spaces.Dict(observation=spaces.Box(-np.inf, np.inf, (n,), np.float32), **others)


def samples_of(seed=0, n=500):
    rng = np.random.default_rng(seed)
    return rng.normal([5.0, -2.0, 0.0], [0.1, 10.0, 1.0], (n, 3)).astype(np.float32)


def test_samples_come_out_with_mean_zero_and_deviation_one():
    samples = samples_of()
    wrapper = bound(vector(), {"observation": samples}, clip_range=None)
    result = wrapper.observation(0, {"observation": samples}, None)[0]["observation"]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(result.std(axis=0), 1, atol=1e-4)


def test_samples_come_out_between_zero_and_one():
    samples = samples_of()
    wrapper = bound(vector(), {"observation": samples}, strategy="range_zero_one", clip_range=None)
    result = wrapper.observation(0, {"observation": samples}, None)[0]["observation"]
    np.testing.assert_allclose(result.min(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(result.max(axis=0), 1, atol=1e-5)


def test_two_samples_by_hand():
    samples = np.array([[1.0], [5.0]], dtype=np.float32)
    wrapper = bound(vector(1), {"observation": samples}, clip_range=(-3.0, 3.0))
    result = wrapper.observation(0, {"observation": np.array([[3.0], [4.0], [99.0]])}, None)[0]
    np.testing.assert_array_equal(result["observation"], [[0.0], [0.5], [3.0]])


def test_a_feature_that_never_varies_is_shifted_and_not_scaled():
    samples = np.full((50, 3), [0.1, 0.0, 7e6], dtype=np.float32)
    wrapper = bound(vector(), {"observation": samples})
    result = wrapper.observation(0, {"observation": samples[:1] + np.float32(1)}, None)[0]["observation"]
    np.testing.assert_allclose(result, [[1.0, 1.0, 1.0]])


def test_one_statistic_for_all_elements():
    wrapper = bound(
        vector(2), {"observation": np.array([[0.0, 2.0], [4.0, 2.0]], dtype=np.float32)}, axis=None
    )
    assert wrapper.state_dict()["observation/shift"] == 2.0
    assert wrapper.state_dict()["observation/shift"].shape == ()


def test_axes_beside_the_samples_share_a_statistic():
    space = spaces.Dict(observation=spaces.Box(-9, 9, (4, 2), np.float32))
    wrapper = bound(space, {"observation": np.zeros((5, 4, 2), dtype=np.float32)}, axis=[0, 1])
    assert wrapper.state_dict()["observation/shift"].shape == (1, 2)
    with pytest.raises(EnvError, match=r"axis \[0, 3\] needs samples of 4 axes"):
        bound(space, axis=[0, 3])


def test_masks_excluded_names_and_other_spaces_stay_as_they_are():
    space = vector(
        action_mask=spaces.Box(0, 1, (2,), np.float32), raw=spaces.Box(0, 9, (1,)), kind=spaces.Discrete(3)
    )
    seen, _ = ObservationNormalizationWrapper(exclude=["raw"]).bind({0: space}, {})
    assert {name for name in space if seen[0][name] != space[name]} == {"observation"}
    batch = {
        "observation": samples_of(),
        "action_mask": np.ones((500, 2), dtype=np.float32),
        "raw": np.ones((500, 1), dtype=np.float32),
        "kind": np.ones(500, dtype=np.int64),
    }
    result, _ = bound(space, batch, exclude=["raw"]).observation(0, batch, None)
    assert {name for name in batch if result[name] is not batch[name]} == {"observation"}


def test_sub_steps_share_the_statistics_of_a_name():
    wrapper = ObservationNormalizationWrapper()
    wrapper.bind({"a": vector(1), "b": vector(1)}, {})
    wrapper.estimate({"a": {"observation": np.array([[0.0]])}, "b": {"observation": np.array([[4.0]])}})
    assert wrapper.state_dict()["observation/shift"] == [2.0]


def test_sub_steps_of_different_shapes_cannot_share_features():
    wrapper = ObservationNormalizationWrapper()
    wrapper.bind({"a": vector(1), "b": vector(2)}, {})
    samples = {"a": {"observation": np.zeros((3, 1))}, "b": {"observation": np.zeros((3, 2))}}
    with pytest.raises(EnvError, match="different shapes in different sub-steps"):
        wrapper.estimate(samples)


def test_sub_steps_of_different_shapes_share_one_statistic_of_all_elements():
    """Seen are 0, 0 and 9, 9, 9, 9: mean 6. One row of three is clipped in sub-step b, so 2 of 4 values."""
    wrapper = ObservationNormalizationWrapper(axis=None, clip_range=(-2.0, 2.0))
    wrapper.bind({"a": vector(1), "b": vector(2)}, {})
    zeros = np.zeros((2, 1), np.float32)
    wrapper.estimate({"a": {"observation": zeros}})
    wrapper.see("a", {"observation": zeros})
    wrapper.see("b", {"observation": np.full((1, 2), 9, np.float32)})
    assert wrapper.metrics() == {"train/observations_clipped": 0.5}
    wrapper.learn()
    assert wrapper.state_dict()["observation/shift"] == 3.0


def test_a_sub_step_without_samples_leaves_the_statistics_to_the_others():
    wrapper = ObservationNormalizationWrapper()
    wrapper.bind({"a": vector(1), "b": vector(1), "c": spaces.Dict(speed=vector(1)["observation"])}, {})
    wrapper.estimate({"a": {"observation": np.float32([[2]])}, "c": {"speed": np.zeros((0, 1), np.float32)}})
    assert wrapper.state_dict()["observation/shift"] == 2.0
    assert wrapper.needs_statistics(), "those of the speed"


def test_estimating_again_begins_anew():
    clock = np.int64([[2**60], [2**60 + 2]])
    wrapper = bound(spaces.Dict(observation=spaces.Box(0, 2**62, (1,), np.int64)), {"observation": clock})
    wrapper.estimate({0: {"observation": np.int64([[1], [5]])}})
    assert wrapper.state_dict()["observation/shift"] == 3.0
    assert "observation/reference" not in wrapper.state_dict()


@pytest.mark.parametrize(
    ("strategy", "samples"),
    [
        ("mean_zero_std_one", [[0, 0], [0, 1e-45]]),
        ("range_zero_one", [[0, -3e38], [1, 3e38]]),
    ],
    ids=["a deviation below the least float32", "a range beyond the largest"],
)
def test_statistics_that_float32_cannot_hold_are_refused(strategy, samples):
    with pytest.raises(EnvError, match="no finite statistics in float32; exclude it"):
        bound(vector(2), {"observation": np.float32(samples)}, strategy=strategy)


def test_bytes_become_normalised_floats():
    space = spaces.Dict(image=spaces.Box(0, 255, (2,), np.uint8))
    wrapper = bound(space, {"image": np.array([[0, 10], [20, 30]], dtype=np.uint8)})
    result = wrapper.observation(0, {"image": np.array([[10, 30]], dtype=np.uint8)}, None)[0]["image"]
    np.testing.assert_array_equal(result, np.array([[0.0, 1.0]], dtype=np.float32))


@pytest.mark.parametrize(("clip_range", "low", "high"), [((-2.0, 5.0), -2.0, 5.0), (None, -np.inf, np.inf)])
def test_the_space_becomes_the_clip_range(clip_range, low, high):
    seen, _ = ObservationNormalizationWrapper(clip_range=clip_range).bind({0: vector()}, {})
    assert seen[0]["observation"] == spaces.Box(low, high, (3,), np.float32)


def test_without_statistics_it_says_what_to_do():
    wrapper = bound(vector())
    assert wrapper.needs_statistics()
    with pytest.raises(EnvError, match=r"no statistics yet.*estimate\(\)"):
        wrapper.observation(0, {"observation": samples_of()}, None)


def test_the_state_makes_another_wrapper_give_the_same_bits():
    first = bound(vector(), {"observation": samples_of()})
    second = bound(vector())
    second.load_state_dict(first.state_dict())
    assert not second.needs_statistics()
    assert all(first.state_dict()[f"observation/{kind}"].dtype == np.float32 for kind in ("shift", "scale"))
    batch = {"observation": samples_of(1)}
    assert (
        first.observation(0, batch, None)[0]["observation"].tobytes()
        == second.observation(0, batch, None)[0]["observation"].tobytes()
    )


def test_arrays_of_another_kind_are_refused():
    with pytest.raises(EnvError, match="not the name of a normalisation statistic"):
        bound(vector()).load_state_dict({"observation/mean": np.zeros(3)})


def test_a_name_that_is_not_observed_cannot_be_excluded():
    with pytest.raises(EnvError, match=r"excludes \['speed'\], which is not observed"):
        bound(vector(), exclude=["speed"])


@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from(["mean_zero_std_one", "range_zero_one"]))
def test_a_row_has_the_same_bits_whatever_the_batch(seed, n_rows, strategy):
    wrapper = bound(vector(), {"observation": samples_of()}, strategy=strategy)
    batch = samples_of(seed, n_rows)
    together = wrapper.observation(0, {"observation": batch}, None)[0]["observation"]
    alone = [wrapper.observation(0, {"observation": row[None]}, None)[0]["observation"][0] for row in batch]
    assert together.tobytes() == np.stack(alone).tobytes()


def test_the_batch_that_was_given_is_not_written_to():
    batch = samples_of()
    kept = batch.copy()
    bound(vector(), {"observation": batch}).observation(0, {"observation": batch}, None)
    np.testing.assert_array_equal(batch, kept)


def test_a_wrapped_environment_shows_normalised_observations():
    wrapper = ObservationNormalizationWrapper()
    env = WrappedVectorEnv(GymEnvConfig(name="CartPole-v1").vector(4), [wrapper])
    wrapper.estimate({0: {"observation": np.random.default_rng(0).normal(size=(99, 4))}})
    tick = env.reset([1, 2, 3, 4])
    assert env.observation_spaces[0]["observation"].high.max() == 10.0
    expected, _ = wrapper.observation(0, env.inner_tick.observations[0], None)
    np.testing.assert_array_equal(tick.observations[0]["observation"], expected["observation"])


@pytest.mark.parametrize(
    ("dtype", "start", "step"),
    [
        (np.float64, 5_000_000.0, 0.1),
        (np.float64, 1.6e9, 1.0),
        (np.int64, 1_600_000_000, 1),
        (np.uint32, 4_000_000_000, 1),
        (np.float32, 100.0, 0.5),
        (np.uint8, 0, 50),
        (np.int64, 1_700_000_000_000_000_000, 1),
        (np.int64, -(2**63), 3),
        (np.int64, -(2**63), 2**61),
        (np.uint64, 2**64 - 5, 1),
        (np.uint64, 2**53 - 1, 1),
    ],
)
@pytest.mark.parametrize("strategy", ["mean_zero_std_one", "range_zero_one"])
def test_no_digit_of_the_spaces_dtype_is_lost(dtype, start, step, strategy):
    """Five equal steps: -√2 … √2, or 0 … 1, however far from 0 they are."""
    samples = np.array([start + step * i for i in range(5)], dtype).reshape(5, 1)
    space = spaces.Dict(observation=spaces.Box(min(0, samples.min()), samples.max(), (1,), dtype))
    wrapper = bound(space, {"observation": samples}, strategy=strategy)
    result = wrapper.observation(0, {"observation": samples}, None)[0]["observation"]
    expected = np.arange(5) / 4 if strategy == "range_zero_one" else (np.arange(5) - 2) / np.sqrt(2)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:, 0], expected, atol=2e-6)


@pytest.mark.parametrize("axis", [[0], [0, 1], None])
def test_a_nanosecond_clock_acts_alike_after_a_checkpoint_and_in_running_statistics(axis):
    clock = np.int64(1_700_000_000_000_000_000) + np.arange(6, dtype=np.int64).reshape(3, 2)
    space = spaces.Dict(observation=spaces.Box(0, 2**63 - 1, (2,), np.int64))
    wrapper = bound(space, {"observation": clock}, axis=axis, clip_range=(-2, 2))
    wrapper.see(0, {"observation": clock + 1000})
    wrapper.learn()
    later = ObservationNormalizationWrapper(axis=axis, clip_range=(-2, 2))
    later.bind({0: space}, {})
    later.load_state_dict(wrapper.state_dict())
    assert wrapper.state_dict()["observation/reference"].dtype == np.int64
    assert wrapper.state_dict()["observation/reference"].base is None, "a view would keep all samples"
    shown = [one.observation(0, {"observation": clock}, None)[0]["observation"] for one in (wrapper, later)]
    np.testing.assert_array_equal(*shown)
    assert len(np.unique(shown[0])) == (3 if axis == [0] else 6)
    np.testing.assert_allclose(shown[0].mean(), -1, atol=0.1)


def test_only_integers_beyond_float64_have_a_reference():
    for dtype in (np.int64, np.float64):
        samples = np.array([[0], [2**53]], dtype)
        space = spaces.Dict(observation=spaces.Box(0, 2**60, (1,), dtype))
        assert "observation/reference" not in bound(space, {"observation": samples}).state_dict()


@pytest.mark.parametrize("value", [0.1, 0.0, 1.6e9, -7e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_is_shifted_and_not_scaled(value, dtype):
    samples = np.full((1001, 1), value, dtype)
    wrapper = bound(
        spaces.Dict(observation=spaces.Box(-np.inf, np.inf, (1,), dtype)), {"observation": samples}
    )
    assert wrapper.state_dict()["observation/scale"] == 1.0
    assert wrapper.observation(0, {"observation": samples[:1]}, None)[0]["observation"] == 0.0


@given(st.integers(0, 2**31), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_what_is_learnt_in_parts_is_what_is_learnt_at_once(seed, sizes):
    first, more = samples_of(seed, 50), samples_of(seed + 1, sum(sizes)) * 3
    parts, whole = bound(vector(), {"observation": first}), bound(vector())
    for rows in np.split(more, np.cumsum(sizes)[:-1]):
        parts.see(0, {"observation": rows})
        parts.learn()
    whole.estimate({0: {"observation": np.concatenate([first, more])}})
    for kind in ("count", "mean", "squares", "low", "high"):
        found, expected = (w.state_dict()[f"observation/running_{kind}"] for w in (parts, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_two_steps_of_learning_by_hand():
    """1 and 5, then 9 and 13: mean 7, deviation √20; the extremes are 1 and 13."""
    first, more = np.float32([[1], [5]]), np.float32([[9], [13]])
    for strategy, shift, scale in (("mean_zero_std_one", 7.0, 20**0.5), ("range_zero_one", 1.0, 12.0)):
        wrapper = bound(vector(1), {"observation": first}, strategy=strategy, clip_range=(-2.0, 2.0))
        wrapper.see(0, {"observation": more})
        assert wrapper.state_dict()["observation/shift"] == (3.0 if strategy == "mean_zero_std_one" else 1.0)
        wrapper.learn()
        assert wrapper.state_dict()["observation/shift"] == np.float32(shift)
        assert wrapper.state_dict()["observation/scale"] == np.float32(scale)


def test_statistics_stand_still_until_something_would_be_clipped():
    """±10 of a deviation of 2 around 3: 23 is not clipped, 24 is; then 1, 5, 23, 24 have mean 13.25."""
    wrapper = bound(vector(1), {"observation": np.float32([[1], [5]])})
    for value, shift in ((23.0, 3.0), (24.0, 13.25)):
        wrapper.see(0, {"observation": np.float32([[value]])})
        wrapper.learn()
        assert wrapper.state_dict()["observation/shift"] == shift


def test_statistics_that_always_run_follow_what_nothing_would_clip():
    """1 and 5, then 9: mean 5, deviation √(32 / 3)."""
    wrapper = seeing(bound(vector(1), {"observation": np.float32([[1], [5]])}, running="always"), 9.0)
    wrapper.learn()
    assert wrapper.state_dict()["observation/shift"] == 5.0
    assert wrapper.state_dict()["observation/scale"] == np.float32((32 / 3) ** 0.5)


def test_statistics_stay_fixed_when_they_are_not_running_or_come_from_0_1_0():
    first = bound(vector(), {"observation": samples_of()}, running=False)
    second = bound(vector())
    old = {name: values for name, values in first.state_dict().items() if "running" not in name}
    second.load_state_dict(old)
    for wrapper in (first, second):
        wrapper.see(0, {"observation": samples_of(1) + 100})
        wrapper.learn()
        assert all((wrapper.state_dict()[name] == values).all() for name, values in old.items())


def test_statistics_of_0_1_0_act_as_they_did_on_wide_numbers():
    """They were float32, and so was the arithmetic."""
    wrapper = bound(spaces.Dict(observation=spaces.Box(-np.inf, np.inf, (1,), np.float64)))
    wrapper.load_state_dict({"observation/shift": np.float32([5e6]), "observation/scale": np.float32([1])})
    batch = {"observation": np.array([[5e6 + 0.1]])}
    assert wrapper.observation(0, batch, None)[0]["observation"] == 0.0


def test_a_restored_wrapper_learns_the_same_bits():
    first, second = bound(vector(), {"observation": samples_of()}), bound(vector())
    second.load_state_dict(first.state_dict())
    for wrapper in (first, second):
        wrapper.see(0, {"observation": samples_of(1, 7)})
        wrapper.learn()
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])


def test_only_a_training_environment_teaches_and_only_at_fixed_ticks():
    def shifts(*, is_training):
        wrapper = ObservationNormalizationWrapper(clip_range=(-0.01, 0.01))
        env = WrappedVectorEnv(GymEnvConfig(name="CartPole-v1").vector(4), [wrapper], is_training=is_training)
        wrapper.estimate({0: {"observation": samples_of_cart()}})
        env.reset([1, 2, 3, 4], np.ones(4, bool))
        found = []
        for _ in range(260):
            env.step({0: {"action": np.zeros(4, np.int64)}})
            found.append(wrapper.state_dict()["observation/shift"].tobytes())
        env.reset([1, 2, 3, 4])
        return [*found, wrapper.state_dict()["observation/shift"].tobytes()]

    learning, fixed = shifts(is_training=True), shifts(is_training=False)
    assert len(set(fixed)) == 1
    assert [i for i in range(1, 261) if learning[i] != learning[i - 1]] == [127, 255, 260], (
        "128 ticks, and a reset of all"
    )


def samples_of_cart():
    return np.random.default_rng(0).normal(size=(99, 4)).astype(np.float32)


def seeing(wrapper, *values):
    wrapper.see(0, {"observation": np.float32(values)[:, None]})
    return wrapper


def minus_and_plus_one(**arguments):
    """Mean 0 and deviation 1, so that nothing is shifted or scaled."""
    return bound(vector(1), {"observation": np.float32([[-1], [1]])}, **arguments)


def test_what_was_seen_is_what_was_shown_then():
    rows = np.float32([[9], [13]])
    wrapper = bound(vector(1), {"observation": np.float32([[1], [5]])})
    wrapper.see(0, {"observation": rows})
    rows[:] = 0
    wrapper.learn()
    assert wrapper.state_dict()["observation/running_mean"] == 7.0


def test_no_more_than_4_mib_wait_to_be_counted():
    wrapper, mib = minus_and_plus_one(), np.zeros(2**18)
    for n in range(1, 6):
        seeing(wrapper, *mib)
        assert (wrapper.state_dict()["observation/running_count"] > 2) == (n > 4)


@pytest.mark.parametrize("value", [4.0, 24.0])
def test_loading_statistics_makes_a_used_wrapper_like_a_new_one(value):
    """24 is clipped, which changes statistics that learn, and 4 is not."""
    used, new = minus_and_plus_one(), minus_and_plus_one()
    kept = used.state_dict()
    seeing(used, 99.0).metrics()
    used.load_state_dict(kept)
    for wrapper in (used, new):
        seeing(wrapper, value).learn()
    assert used.state_dict() == new.state_dict()
    assert used.metrics() == new.metrics()
    used.load_state_dict({})
    assert used.needs_statistics()


@pytest.mark.parametrize(
    ("clip_range", "value", "is_clipped"),
    [
        ((0.0, 2.0), -1e-5, False),
        ((0.0, 2.0), -1.1e-5, True),
        ((0.0, 2.0), 2.000009, False),
        ((0.0, 2.0), 2.000011, True),
        ((0.0, np.inf), -1.0, True),
        ((0.0, np.inf), 1e9, False),
        (None, 1e9, None),
    ],
)
def test_what_lies_outside_by_rounding_is_not_clipped(clip_range, value, is_clipped):
    space = spaces.Dict(observation=spaces.Box(-np.inf, np.inf, (1,), np.float64))
    wrapper = bound(space, {"observation": np.array([[-1.0], [1.0]])}, clip_range=clip_range)
    wrapper.see(0, {"observation": np.array([[value]])})
    expected = {} if is_clipped is None else {"train/observations_clipped": float(is_clipped)}
    assert wrapper.metrics() == expected
    assert wrapper.metrics() == {}, "it is counted once"


def test_what_running_statistics_clip_is_told_only_where_it_lasts():
    wrapper = minus_and_plus_one(clip_range=(-1.0, 1.0))
    for far, lasts in ((9.0, False), (99.0, True)):
        seeing(wrapper, *[far] * 2000)
        with pytest.warns(UserWarning, match="are clipped") if lasts else contextlib.nullcontext():
            assert wrapper.metrics() == {"train/observations_clipped": 1.0}


def test_clipped_observations_are_counted_and_told_once():
    wrapper = bound(
        vector(2), {"observation": np.float32([[-1, -1], [1, 1]])}, clip_range=(-3.0, 3.0), running=False
    )
    assert wrapper.metrics() == {}
    rows = np.zeros((2000, 2), np.float32)
    rows[:500, 1] = 4.0
    wrapper.see(0, {"observation": rows})
    with pytest.warns(
        UserWarning,
        match=r"25% of the values of observation 'observation' at \[1\] are clipped to \[-3.0, 3.0\]",
    ):
        assert wrapper.metrics() == {"train/observations_clipped": 0.125}
    wrapper.see(0, {"observation": rows})
    wrapper.learn()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wrapper.metrics() == {"train/observations_clipped": 0.125}
        assert wrapper.metrics() == {}


@pytest.mark.parametrize(
    ("n_clipped", "n_rows", "is_told"), [(10, 1000, False), (11, 1000, True), (500, 999, False)]
)
def test_clipping_is_told_from_one_in_a_hundred_of_a_thousand_values(n_clipped, n_rows, is_told):
    wrapper = seeing(minus_and_plus_one(running=False), *[99.0] * n_clipped, *[0.0] * (n_rows - n_clipped))
    with pytest.warns(UserWarning, match="1% of the values") if is_told else contextlib.nullcontext():
        wrapper.metrics()


MIXED = spaces.Dict(
    far=spaces.Box(-9.0, 9.0, (2,)), near=spaces.Box(0.0, 4.0, (2,)), fixed=spaces.Box(-8.0, 8.0, (2,))
)
RULES = {
    "near": {"strategy": "range_zero_one", "clip_range": None, "axis": None},
    "fixed": {"statistics": {"mean": [1.0, -1.0], "std": 2.0}, "clip_range": [-1, 1]},
}


def mixed_samples():
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0, 4, (50, 2)).astype(np.float32) for name in MIXED}


def test_single_observations_may_have_rules_of_their_own():
    wrapper = ObservationNormalizationWrapper(manual_config=RULES)
    seen, _ = wrapper.bind({0: MIXED}, {})
    assert [tuple(seen[0][name].high) for name in ("far", "near", "fixed")] == [
        (10, 10),
        (np.inf,) * 2,
        (1, 1),
    ]
    assert wrapper.needs_statistics()
    samples = mixed_samples()
    wrapper.estimate({0: samples})
    assert not wrapper.needs_statistics()
    shown, _ = wrapper.observation(0, samples, None)
    np.testing.assert_allclose(shown["far"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose([shown["near"].min(), shown["near"].max()], [0, 1], atol=1e-6)
    expected = ((samples["fixed"] - [1, -1]) / 2).clip(-1, 1)
    np.testing.assert_allclose(shown["fixed"], expected, rtol=1e-6)


def test_given_statistics_never_move_and_come_back_from_a_checkpoint():
    wrapper = ObservationNormalizationWrapper(manual_config=RULES, running="always")
    wrapper.bind({0: MIXED}, {})
    wrapper.estimate({0: mixed_samples()})
    before = wrapper.state_dict()
    wrapper.see(0, {name: values + 3 for name, values in mixed_samples().items()})
    wrapper.learn()
    after = wrapper.state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name.partition("/")[0] for name in moved} == {"far", "near"}
    other = ObservationNormalizationWrapper(manual_config=RULES)
    other.bind({0: MIXED}, {})
    other.load_state_dict(after)
    assert {name: array.tobytes() for name, array in other.state_dict().items()} == {
        name: array.tobytes() for name, array in after.items()
    }
    for name, values in wrapper.observation(0, mixed_samples(), None)[0].items():
        assert values.tobytes() == other.observation(0, mixed_samples(), None)[0][name].tobytes()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"other": {}}, r"manual_config names \['other'\]"),
        ({"fixed": {"statistics": {"min": 0, "max": 1}}}, "have to be mean and std, not min, max"),
        ({"fixed": {"statistics": {"mean": [1, 2, 3], "std": 1}}}, r"numbers or arrays of shape \(2,\)"),
        ({"fixed": {"statistics": {"mean": 0, "std": [1, 0]}}}, "no scale is 0"),
        ({"fixed": {"axis": [0, 2]}}, "needs samples of 3 axes"),
        (
            {"fixed": {"strategy": "range_zero_one", "statistics": {"min": 1, "max": 1}}},
            "no scale is 0",
        ),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rules, message):
    with pytest.raises(EnvError, match=message):
        ObservationNormalizationWrapper(manual_config=rules).bind({0: MIXED}, {})


def test_given_limits_are_a_range():
    rules = {"fixed": {"strategy": "range_zero_one", "statistics": {"min": [-2, 0], "max": 2}}}
    wrapper = ObservationNormalizationWrapper(manual_config=rules)
    wrapper.bind({0: spaces.Dict(fixed=MIXED["fixed"])}, {})
    assert not wrapper.needs_statistics()
    shown, _ = wrapper.observation(0, {"fixed": np.float32([[0, 1]])}, None)
    assert shown["fixed"].tolist() == [[0.5, 0.5]]


def test_published_rules_for_single_observations_are_ours():
    name = "maze.core.wrappers.observation_normalization.observation_normalization_wrapper"
    published = {
        f"{name}.ObservationNormalizationWrapper": {
            "default_strategy": "maze.normalization_strategies.MeanZeroStdOneObservationNormalizationStrategy",
            "default_strategy_config": {"clip_range": [-3, 3], "axis": 0},
            "manual_config": {
                "observation": {
                    "strategy": "maze.normalization_strategies.RangeZeroOneObservationNormalizationStrategy",
                    "strategy_config": {"clip_range": [0, 1], "axis": 0},
                    "statistics": {"min": 0, "max": 255},
                }
            },
        }
    }
    rule = {
        "strategy": "range_zero_one",
        "clip_range": [0, 1],
        "axis": [0],
        "statistics": {"min": 0, "max": 255},
    }
    ours = {"clip_range": [-3, 3], "manual_config": {"observation": rule}}
    expected = compose_run(wrappers={"maze_core.ObservationNormalizationWrapper": ours}, seed=1).tree
    assert compose_run(wrappers=published, seed=1).tree == expected


@pytest.mark.parametrize("shape", [(1, 50, 50), (2, 33, 47)])
def test_one_statistic_of_large_observations_follows_all_places_in_turn(shape):
    wrapper = ObservationNormalizationWrapper(axis=None, running="always")
    wrapper.bind({0: spaces.Dict(x=spaces.Box(0, 255, shape, np.uint8))}, {})
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 50, (64, 4, *shape), dtype=np.uint8)
    frames[..., :7, :] += 150
    wrapper.estimate({0: {"x": frames[0]}})
    for batch in frames[1:]:
        wrapper.see(0, {"x": batch})
    wrapper.learn()
    state = wrapper.state_dict()
    assert state["x/running_count"][0] < 0.6 * frames.size
    assert state["x/shift"] == pytest.approx(frames.mean(), rel=0.01)
    assert state["x/scale"] == pytest.approx(frames.std(), rel=0.01)
