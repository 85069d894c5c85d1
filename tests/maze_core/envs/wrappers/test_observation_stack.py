"""Stacks of observations: what they hold in every episode and sub-step, their spaces, and that they only train."""

import copy

import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext, compose_run
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers import ObservationStackWrapper, WrappedVectorEnv
from maze_core.errors import EnvError, InvalidSpecificationError, StateError
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.envs.ticks import random_actions


def stack_of(shown, n_stack):
    """The last observations of an episode, with zeros in front."""
    return np.concatenate([np.zeros_like(shown[0])] * n_stack + list(shown), -1)[
        ..., -n_stack * shown[0].shape[-1] :
    ]


@pytest.mark.parametrize("n_stack", [2, 3, 5])
def test_each_environment_shows_the_last_observations_of_its_episode(n_stack):
    raw = PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(3)])
    env = WrappedVectorEnv(raw, [ObservationStackWrapper(n_stack=n_stack)])
    tick = env.reset([0, 0, 0])
    shown = [[row.copy()] for row in env.inner_tick.observations[0]["observation"]]
    for _ in range(30):
        for row in range(3):
            np.testing.assert_array_equal(
                tick.observations[0]["observation"][row], stack_of(shown[row], n_stack)
            )
        tick = env.step({0: {"action": np.zeros(3, dtype=np.int64)}})
        for row in range(3):
            if tick.ended[row]:
                shown[row].append(env.inner_tick.final_observations[0]["observation"][row].copy())
                final = tick.final_observations[0]["observation"][row]
                np.testing.assert_array_equal(final, stack_of(shown[row], n_stack))
                shown[row] = []
            shown[row].append(env.inner_tick.observations[0]["observation"][row].copy())


def test_every_sub_step_has_a_past_of_its_own():
    env = WrappedVectorEnv(PerEnvVectorEnv([BoxesEnv] * 3), [ObservationStackWrapper(n_stack=2)])
    tick, rng = env.reset([0, 1, 2]), np.random.default_rng(0)
    before = [{}, {}, {}]
    for _ in range(40):
        for key, name in ((0, "right_box"), (1, "wanted")):
            for row in np.flatnonzero(tick.active[key]):
                now = env.inner_tick.observations[key][name][row].copy()
                past = before[row].get(name, np.zeros_like(now))
                np.testing.assert_array_equal(tick.observations[key][name][row], [*past, *now])
                before[row][name] = now
        tick = env.step(random_actions(env, tick, rng))
        for row in np.flatnonzero(tick.ended):
            before[row] = {}


def test_boxes_grow_along_the_last_axis_and_hold_zero():
    space = spaces.Dict(
        picture=spaces.Box(1, 255, (2, 3), np.uint8),
        depth=spaces.Box(-3.0, -1.0, (), np.float64),
        alone=spaces.Box(0.0, 1.0, (1,)),
        a_mask=spaces.Box(0.0, 1.0, (2,)),
        kind=spaces.Discrete(3),
    )
    wrapper = ObservationStackWrapper(n_stack=2, exclude=["alone"])
    seen, _ = wrapper.bind({0: space}, {})
    assert seen[0]["picture"] == spaces.Box(0, 255, (2, 6), np.uint8)
    assert seen[0]["depth"] == spaces.Box(-3.0, 0.0, (2,), np.float64)
    assert {name: seen[0][name] for name in ("alone", "a_mask", "kind")} == {
        name: space[name] for name in ("alone", "a_mask", "kind")
    }
    batch = {
        "picture": np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3),
        "depth": np.array([-2.0]),
        "alone": np.array([[0.5]]),
    }
    first, state = wrapper.observation(0, batch, [None])
    second, _ = wrapper.observation(0, {name: values * 2 for name, values in batch.items()}, state)
    assert first["picture"].tolist() == [[[0, 0, 0, 1, 2, 3], [0, 0, 0, 4, 5, 6]]]
    assert second["picture"].tolist() == [[[1, 2, 3, 2, 4, 6], [4, 5, 6, 8, 10, 12]]]
    assert (first["depth"].tolist(), second["depth"].tolist()) == ([[0.0, -2.0]], [[-2.0, -4.0]])
    assert second["alone"].tolist() == [[1.0]]


def test_what_was_given_stays_as_it_was():
    wrapper = ObservationStackWrapper(n_stack=3)
    wrapper.bind({0: spaces.Dict(observation=spaces.Box(-9, 9, (1,)))}, {})
    batch, state = {"observation": np.float32([[1], [2]])}, [None, None]
    _, state = wrapper.observation(0, batch, state)
    kept = copy.deepcopy((batch, state))
    first, _ = wrapper.observation(0, batch, state)
    again, _ = wrapper.observation(0, batch, state)
    assert first["observation"].tolist() == again["observation"].tolist() == [[0, 1, 1], [0, 2, 2]]
    assert batch["observation"].tolist() == kept[0]["observation"].tolist()
    assert [list(past) for past in state] == [list(past) for past in kept[1]]
    assert [past[0, "observation"].tolist() for past in state] == [[[1]], [[2]]]


def played(space, batches, **settings):
    """What a stack of three shows of batches of one row, after each other, and the spaces it tells."""
    wrapper, state, shown = ObservationStackWrapper(n_stack=3, **settings), [None], []
    seen, _ = wrapper.bind({0: space}, {})
    for batch in batches:
        observations, state = wrapper.observation(0, batch, state)
        assert all(seen[0][name].contains(np.asarray(values[0])) for name, values in observations.items())
        shown.append(observations)
    return shown, seen[0]


ONE = spaces.Dict(x=spaces.Box(0, 250, (2,), np.uint8), y=spaces.Box(-9.0, 9.0, ()), kind=spaces.Discrete(3))
FOUR = [
    {"x": np.uint8([[10 * t, t * t]]), "y": np.float32([-t]), "kind": np.array([t % 3])} for t in range(1, 5)
]


def test_a_stack_may_be_along_a_new_first_axis():
    shown, seen = played(ONE, FOUR, new_axis=True)
    assert shown[1]["x"].tolist() == [[[0, 0], [10, 1], [20, 4]]]
    assert shown[3]["x"].tolist() == [[[20, 4], [30, 9], [40, 16]]]
    assert shown[3]["y"].tolist() == [[-2, -3, -4]]
    assert (seen["x"].shape, seen["x"].dtype, seen["y"].shape) == ((3, 2), np.uint8, (3,))


def test_changes_stand_in_place_of_the_past_and_of_what_was_not_there_nothing():
    shown, seen = played(ONE, FOUR, delta=True)
    assert shown[0]["x"].tolist() == [[0, 0, 0, 0, 10, 1]]
    assert shown[1]["x"].tolist() == [[0, 0, 10, 3, 20, 4]]
    assert shown[3]["x"].tolist() == [[10, 5, 10, 7, 40, 16]]
    assert shown[3]["y"].tolist() == [[-1, -1, -4]]
    assert seen["x"] == spaces.Box(-250, 250, (6,), np.float32)
    falling, _ = played(ONE, FOUR[::-1], delta=True)
    assert falling[3]["x"].tolist() == [[-10, -5, -10, -3, 10, 1]], "no unsigned number wraps around"


def test_a_tag_names_the_stack_and_the_original_may_stay():
    shown, seen = played(ONE, FOUR, tag="past", keep_original=True, observations=["x"])
    assert list(seen) == ["x", "y", "kind", "x-past"]
    assert {name: values.tolist() for name, values in shown[1].items()} == {
        "x": [[20, 4]],
        "y": [-2],
        "kind": [2],
        "x-past": [[0, 0, 10, 1, 20, 4]],
    }
    alone, seen = played(ONE, FOUR, tag="past", observations=["x"])
    assert list(seen) == list(alone[0]) == ["y", "kind", "x-past"]


def test_the_original_beside_a_stack_needs_a_tag():
    with pytest.raises(ValueError, match="keep_original needs a tag"):
        ObservationStackWrapper(keep_original=True)


def test_a_stack_of_what_is_not_observed_is_refused():
    for name in ("z", "kind"):
        with pytest.raises(EnvError, match=f"stacks \\['{name}'\\], and no such Box"):
            ObservationStackWrapper(observations=["x", name]).bind({0: ONE}, {})


def test_published_stacks_are_ours_along_a_new_axis():
    entry = {"keep_original": False, "tag": None, "delta": False, "stack_steps": 4}
    name = "maze.core.wrappers.observation_stack_wrapper.ObservationStackWrapper"
    published = {name: {"stack_config": [{"observation": "observation", **entry}]}}
    ours = {"maze_core.ObservationStackWrapper": {"observations": ["observation"], "new_axis": True}}
    assert compose_run(wrappers=published, seed=1).tree == compose_run(wrappers=ours, seed=1).tree
    other = {"observation": "more", **entry, "delta": True}
    published[name]["stack_config"].append(other)
    with pytest.raises(InvalidSpecificationError, match="stack_config"):
        compose_run(wrappers=published, seed=1)


def test_a_run_with_stacks_trains_and_is_judged_and_acts_with_the_past_in_its_state():
    overrides = {"algorithm.total_env_steps": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 8}
    wrappers = {"maze_core.ObservationStackWrapper": {"n_stack": 2}}
    with RunContext(wrappers=wrappers, overrides=overrides, seed=1, silent=True) as rc:
        rc.train()
        assert rc.evaluate(n_episodes=2).mean_return > 0
        with pytest.raises(StateError, match="with the first observation"):
            rc.compute_action(np.zeros(4, np.float32))
        (episode,) = rc.rollout(1, record=True).episodes
        state = rc.initial_state()
        shown, did = (
            episode.trajectory.observations[0]["observation"],
            episode.trajectory.actions[0]["action"],
        )
        for observation, expected in zip(shown, did, strict=True):
            action, state = rc.compute_action(observation, state=state)
            assert action == {"action": expected}


@pytest.mark.parametrize("n_stack", [1, 65])
def test_a_stack_holds_two_to_sixty_four(n_stack):
    with pytest.raises(ValueError, match="n_stack"):
        ObservationStackWrapper(n_stack=n_stack)
