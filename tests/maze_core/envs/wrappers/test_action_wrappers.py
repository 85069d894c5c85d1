"""Wrappers that give a policy other actions: what the environment gets, the way back, and what they refuse."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from maze_core import GymMazeEnv, RunContext, compose_run, to_gymnasium
from maze_core.config.trust import check_arguments, trust_policy
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.wrappers import (
    DictActionWrapper,
    DictObservationWrapper,
    DiscretizeActionsWrapper,
    NoDictActionWrapper,
    NoDictObservationWrapper,
    NoDictSpacesWrapper,
    SplitActionsWrapper,
    Wrapper,
)
from maze_core.envs.wrappers.wrapper import bind_wrappers
from maze_core.errors import EnvError

BOX = spaces.Box(np.float32([-2, 0, 10]), np.float32([2, 1, 20]))


def bound(wrapper, **heads):
    """A wrapper bound to these heads, and the space that a policy acts in."""
    _, done = wrapper.bind({0: spaces.Dict()}, {0: spaces.Dict(list(heads.items()))})
    return wrapper, done[0]


def test_choices_are_evenly_spaced_numbers_with_both_bounds():
    wrapper, space = bound(DiscretizeActionsWrapper(num_bins=5), action=BOX, other=spaces.Discrete(3))
    assert space == spaces.Dict([("action", spaces.MultiDiscrete([5, 5, 5])), ("other", spaces.Discrete(3))])
    chosen = {"action": np.array([[0, 0, 0], [4, 4, 4], [1, 2, 3]]), "other": np.array([0, 1, 2])}
    numbers = wrapper.action(0, chosen)
    assert numbers["action"].tolist() == [[-2, 0, 10], [2, 1, 20], [-1, 0.5, 17.5]]
    assert numbers["action"].dtype == np.float32
    assert numbers["other"] is chosen["other"]


def test_one_number_becomes_one_choice_of_any_shape():
    wrapper, space = bound(
        DiscretizeActionsWrapper(num_bins=3), a=spaces.Box(-1, 1, (1,)), b=spaces.Box(0, 4, (), np.float64)
    )
    assert space == spaces.Dict([("a", spaces.Discrete(3)), ("b", spaces.Discrete(3))])
    numbers = wrapper.action(0, {"a": np.array([0, 2]), "b": np.array([1, 1])})
    assert numbers["a"].tolist() == [[-1], [1]]
    assert numbers["b"].tolist() == [2, 2]


def test_bins_and_bounds_may_be_given_for_each_dimension():
    wrapper, space = bound(DiscretizeActionsWrapper(num_bins=[2, 3, 11], low=[-1, 0, 0], high=1), action=BOX)
    assert space["action"] == spaces.MultiDiscrete([2, 3, 11])
    numbers = wrapper.action(0, {"action": np.array([[1, 1, 3]])})
    np.testing.assert_allclose(numbers["action"], [[1, 0.5, 0.3]], rtol=1e-6)


def test_the_way_back_takes_the_nearest_choice():
    wrapper, space = bound(DiscretizeActionsWrapper(num_bins=4), action=BOX)
    space.seed(0)
    for _ in range(20):
        chosen = np.stack([space["action"].sample() for _ in range(3)])
        numbers = wrapper.action(0, {"action": chosen})["action"]
        np.testing.assert_array_equal(wrapper.reverse_action(0, {"action": numbers + 0.1})["action"], chosen)
    wrapper, _ = bound(DiscretizeActionsWrapper(num_bins=2), action=spaces.Box(0, 1, (1,)))
    assert wrapper.reverse_action(0, {"action": np.array([[0.4], [0.6]])})["action"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "head", "message"),
    [
        ({}, spaces.Box(-np.inf, np.inf, (2,)), "finite bounds"),
        ({"low": 3.0}, spaces.Box(-1, 1, (2,)), "low below high"),
        ({"num_bins": [2, 3]}, BOX, "do not fit"),
        ({}, spaces.Box(-1, 1, (2, 2)), "one axis at most"),
        ({}, spaces.Discrete(3), "no Box among"),
    ],
)
def test_what_has_no_grid_is_refused(settings, head, message):
    with pytest.raises(EnvError, match=message):
        bound(DiscretizeActionsWrapper(**settings), action=head)


@pytest.mark.parametrize("num_bins", [1, 4097, [3, 1]])
def test_a_choice_is_among_two_or_more(num_bins):
    with pytest.raises(ValueError, match="num_bins"):
        DiscretizeActionsWrapper(num_bins=num_bins)


def test_dqn_learns_and_acts_where_numbers_are_wanted():
    wrappers = {"maze_core.DiscretizeActionsWrapper": {"num_bins": 3}}
    overrides = {"algorithm.total_env_steps": 64, "algorithm.epoch_length": 1, "runner.n_envs": 2}
    overrides["algorithm.rollout_evaluator.n_episodes"] = 1
    with RunContext(
        env="gym_env", algorithm="dqn", wrappers=wrappers, overrides={"env.name": "Pendulum-v1", **overrides},
        seed=1, silent=True,
    ) as rc:  # fmt: skip
        rc.train()
        action = rc.compute_action(np.zeros(3, np.float32))["action"]
        assert action.tolist() in ([-2.0], [0.0], [2.0])


SPLIT = {"action": {"legs": [0, 2], "arm": [1]}}


@pytest.mark.parametrize(
    ("space", "legs", "arm"),
    [
        (
            BOX,
            spaces.Box(np.float32([-2, 10]), np.float32([2, 20])),
            spaces.Box(np.float32([0]), np.float32([1])),
        ),
        (spaces.MultiBinary(3), spaces.MultiBinary(2), spaces.MultiBinary(1)),
        (
            spaces.MultiDiscrete([2, 3, 4], start=[0, 5, 1]),
            spaces.MultiDiscrete([2, 4], start=[0, 1]),
            spaces.Discrete(3, start=5),
        ),
    ],
)
def test_parts_are_put_together_where_they_belong_and_taken_apart_again(space, legs, arm):
    wrapper, parts = bound(SplitActionsWrapper(split_config=SPLIT), action=space, other=spaces.Discrete(2))
    assert list(parts.items()) == [("legs", legs), ("arm", arm), ("other", spaces.Discrete(2))]
    space.seed(3)
    whole = np.stack([space.sample() for _ in range(4)])
    split = wrapper.reverse_action(0, {"action": whole, "other": np.zeros(4)})
    assert set(split) == {"legs", "arm", "other"}
    np.testing.assert_array_equal(split["legs"], whole[:, [0, 2]])
    joined = wrapper.action(0, split)
    assert list(joined) == ["other", "action"]
    np.testing.assert_array_equal(joined["action"], whole)
    assert joined["action"].dtype == space.dtype


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"action": {"a": [0, 1]}}, "each dimension has to be in one part"),
        ({"action": {"a": [0, 1], "b": [1, 2]}}, "each dimension"),
        ({"action": {"a": [0, 1, 2], "b": [3]}}, "each dimension"),
        ({"leg": {"a": [0, 1, 2]}}, r"splits \['leg'\], and the actions are \['action', 'other'\]"),
        ({"action": {"other": [0], "b": [1, 2]}}, "two heads one name"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(config, message):
    with pytest.raises(EnvError, match=message):
        bound(SplitActionsWrapper(split_config=config), action=BOX, other=spaces.Discrete(2))


def test_a_split_policy_trains_and_clients_may_ask_for_it():
    class Two(gymnasium.Env):
        observation_space = spaces.Box(-1, 1, (2,))
        action_space = spaces.Box(-1, 1, (2,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), float(action[0] - action[1]), False, True, {}

    published = {
        "maze.core.wrappers.split_actions_wrapper.SplitActionsWrapper": {
            "split_config": {"action": {"up": {"indices": [1]}, "down": {"indices": [0]}}}
        }
    }
    ours = {"maze_core.SplitActionsWrapper": {"split_config": {"action": {"up": [1], "down": [0]}}}}
    check_arguments({"wrappers": published}, trust_policy())
    assert compose_run(wrappers=published, seed=1).tree == compose_run(wrappers=ours, seed=1).tree
    overrides = {"algorithm.total_env_steps": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 4}
    with RunContext(env=Two, wrappers=ours, overrides=overrides, seed=1, silent=True) as rc:
        rc.train()
        assert rc.compute_action(np.zeros(2, np.float32))["action"].shape == (2,)


def test_names_are_there_anyway():
    env = DictActionWrapper.wrap(DictObservationWrapper.wrap(GymMazeEnv("CartPole-v1")))
    assert list(env.observation_space) == ["observation"]
    assert list(env.action_space) == ["action"]


class Named(gymnasium.Env):
    """One named observation and one named action."""

    observation_space = spaces.Dict(speed=spaces.Box(-1, 1, (2,)))
    action_space = spaces.Dict(force=spaces.Discrete(3))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"speed": np.float32([0.5, -0.5])}, {}

    def step(self, action):
        return {"speed": np.float32([0, 0])}, float(action["force"]), True, False, {}


@pytest.mark.parametrize(
    ("wrapper", "seen", "done"),
    [
        (NoDictObservationWrapper, spaces.Box, spaces.Dict),
        (NoDictActionWrapper, spaces.Dict, spaces.Discrete),
        (NoDictSpacesWrapper, spaces.Box, spaces.Discrete),
    ],
)
def test_a_single_entry_is_shown_to_gymnasium_without_its_dict(wrapper, seen, done):
    env = to_gymnasium(wrapper.wrap(GymMazeEnv(lambda: Named())))
    assert isinstance(env.observation_space, seen)
    assert isinstance(env.action_space, done)
    observation, _ = env.reset(seed=1)
    values = observation if seen is spaces.Box else observation["speed"]
    np.testing.assert_array_equal(values, np.float32([0.5, -0.5]))
    _, reward, *_ = env.step(2 if done is spaces.Discrete else {"force": 2})
    assert reward == 2
    bare, _ = bound(NoDictActionWrapper(), force=spaces.Discrete(3))
    assert bare.reverse_action(0, {"force": 1}) == {"action": 1}


def test_several_entries_keep_their_dict():
    two = spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2))
    with pytest.raises(EnvError, match=r"needs one entry; sub-step 0 has \['a', 'b'\]"):
        NoDictActionWrapper().bind({0: two}, {0: two})
    with pytest.raises(EnvError, match="NoDictSpacesWrapper needs one entry"):
        NoDictSpacesWrapper().bind({0: two}, {0: two})


def test_a_wrapped_batch_is_given_numbers():
    env = DiscretizeActionsWrapper.wrap(GymEnvConfig(name="Pendulum-v1").vector(2), num_bins=3)
    env.reset([1, 2])
    env.step({0: {"action": np.array([0, 2])}})
    assert env.inner_actions[0]["action"].tolist() == [[-2.0], [2.0]]


class Forbidding(gymnasium.Env):
    """Refuses what its mask forbids; which bits or choices that are is drawn anew with each step."""

    def __init__(self, leaf):
        self.leaf = leaf
        self.width = spaces.flatdim(leaf)
        self.action_space = spaces.Dict(pick=leaf)
        self.observation_space = spaces.Dict(
            at=spaces.Box(-1, 1, (2,)), pick_mask=spaces.Box(0, 1, (self.width,), np.int8)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._shown(), {}

    def step(self, action):
        chosen = np.ravel(action["pick"])
        if isinstance(self.leaf, spaces.MultiBinary):
            assert (chosen <= self.mask).all()
        else:
            starts = np.cumsum([0, *self._sizes()[:-1]])
            assert self.mask[starts + chosen - np.ravel(self.leaf.start)].all()
        self.time += 1
        return self._shown(), 1.0, self.time >= 10, False, {}

    def _sizes(self):
        return np.ravel(self.leaf.nvec if isinstance(self.leaf, spaces.MultiDiscrete) else self.leaf.n)

    def _shown(self):
        self.mask = np.zeros(self.width, np.int8)
        if isinstance(self.leaf, spaces.MultiBinary):
            self.mask[self.np_random.integers(self.width)] = 1
        else:
            start = 0
            for n in self._sizes():
                self.mask[start + self.np_random.integers(n)] = 1
                start += n
        return {"at": np.zeros(2, np.float32), "pick_mask": self.mask.copy()}


PICKS = {
    "one of three": spaces.Discrete(3, start=4),
    "several": spaces.MultiDiscrete([3, 2, 4], start=[0, 5, 1]),
    "bits": spaces.MultiBinary(3),
}
MASKED_SPLIT = {"SplitActionsWrapper": {"split_config": {"pick": {"a": [2, 0], "b": [1]}}}}


@pytest.mark.parametrize(
    ("pick", "wrappers"),
    [
        *[(pick, {"NoDictActionWrapper": {}}) for pick in PICKS],
        *[(pick, {"StepSkipWrapper": {"n_steps": 4}}) for pick in PICKS],
        ("several", {"StepSkipWrapper": {"n_steps": 4, "skip_mode": "noop"}}),
        *[(pick, {"RandomResetWrapper": {"max_initial_steps": 3}}) for pick in PICKS],
        ("bits", MASKED_SPLIT),
        ("several", {**MASKED_SPLIT, "StepSkipWrapper": {"n_steps": 3}}),
    ],
)
def test_no_forbidden_action_reaches_the_environment(pick, wrappers):
    overrides = {"algorithm.n_epochs": 1, "algorithm.epoch_length": 1, "algorithm.n_rollout_steps": 16,
                 "algorithm.rollout_evaluator.n_episodes": 1, "runner.n_envs": 2}  # fmt: skip
    stack = {f"maze_core.{name}": settings for name, settings in sorted(wrappers.items(), reverse=True)}
    with RunContext(
        env=lambda: Forbidding(PICKS[pick]), wrappers=stack, overrides=overrides, seed=1, silent=True
    ) as rc:
        rc.train()
        assert min(rc.evaluate(n_episodes=2, seed=3).returns) >= 7
        env = Forbidding(PICKS[pick])
        observation, _ = env.reset(seed=5)
        for _ in range(10):
            observation, *_ = env.step(rc.compute_action(observation))


def test_a_mask_of_a_split_head_has_the_entries_of_each_part():
    env = Forbidding(PICKS["several"])
    wrapper = SplitActionsWrapper(split_config={"pick": {"a": [2, 0], "b": [1]}})
    seen, _ = wrapper.bind({0: env.observation_space}, {0: env.action_space})
    assert [(name, spaces.flatdim(leaf)) for name, leaf in seen[0].items()] == [
        ("at", 2), ("a_mask", 7), ("b_mask", 2),
    ]  # fmt: skip
    shown, _ = wrapper.observation(0, {"at": np.zeros((1, 2)), "pick_mask": np.arange(9)[None]}, None)
    assert shown["a_mask"].tolist() == [[5, 6, 7, 8, 0, 1, 2]]
    assert shown["b_mask"].tolist() == [[3, 4]]
    with pytest.raises(EnvError, match="should be 9 wide"):
        wrapper.bind({0: spaces.Dict(pick_mask=spaces.MultiBinary(8))}, {0: env.action_space})
    taken = spaces.Dict(pick_mask=spaces.MultiBinary(9), a_mask=spaces.Discrete(2))
    with pytest.raises(EnvError, match="two observations one name"):
        wrapper.bind({0: taken}, {0: env.action_space})


def test_a_wrapper_that_parts_a_mask_from_its_head_is_refused_with_the_way_out():
    class Renames(Wrapper):
        def bind(self, observation_spaces, action_spaces):
            return observation_spaces, {0: spaces.Dict(other=action_spaces[0]["pick"])}

    env = Forbidding(spaces.Discrete(3))
    alone = {0: spaces.Dict(pick_mask=spaces.MultiBinary(3))}
    for wrapper, seen in ((Renames(), {0: env.observation_space}), (NoDictObservationWrapper(), alone)):
        with pytest.raises(
            EnvError, match=f"{type(wrapper).__name__} parts the action 'pick' from its mask 'pick_mask'.*<action>_mask"
        ):  # fmt: skip
            bind_wrappers([wrapper], seen, {0: env.action_space})
    taken = spaces.Dict(pick_mask=spaces.MultiBinary(3), action_mask=spaces.Discrete(2))
    with pytest.raises(EnvError, match="names the mask 'action_mask', and so is an observation"):
        NoDictActionWrapper().bind({0: taken}, {0: env.action_space})
