"""Stacks of observations: what they hold in every episode and sub-step, their spaces, and that they only train."""

import copy

import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers import ObservationStackWrapper, WrappedVectorEnv
from maze_core.errors import NotServableError
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
    assert [past[0, "observation"].tolist() for past in state] == [[0, 1], [0, 2]]


def test_a_run_with_stacks_trains_and_is_judged_and_says_why_it_does_not_act():
    overrides = {"algorithm.total_env_steps": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 8}
    wrappers = {"maze_core.ObservationStackWrapper": {"n_stack": 2}}
    with RunContext(wrappers=wrappers, overrides=overrides, seed=1, silent=True) as rc:
        rc.train()
        assert rc.evaluate(n_episodes=2).mean_return > 0
        with pytest.raises(NotServableError, match="whole episodes can"):
            rc.compute_action(np.zeros(4, np.float32))


@pytest.mark.parametrize("n_stack", [1, 65])
def test_a_stack_holds_two_to_sixty_four(n_stack):
    with pytest.raises(ValueError, match="n_stack"):
        ObservationStackWrapper(n_stack=n_stack)
