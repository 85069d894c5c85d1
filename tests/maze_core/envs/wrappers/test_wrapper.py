"""Stacks of wrappers: their order, what they leave alone, and states that are carried through episodes."""

from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import pytest
import yaml
from gymnasium import spaces

from maze_core.config.components import target_name
from maze_core.envs.config import GymEnvConfig
from maze_core.envs.gym_env import GymEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.envs.wrappers import (
    ActionClippingWrapper,
    MonitoringWrapper,
    ObservationClippingWrapper,
    ObservationNormalizationWrapper,
    ProcessedObservation,
    RewardClippingWrapper,
    RewardNormalizationWrapper,
    RewardScalingWrapper,
    WrappedVectorEnv,
    Wrapper,
)
from maze_core.envs.wrappers.wrapper import (
    acting_wrappers,
    bind_wrappers,
    build_wrappers,
    estimate_statistics,
    why_not_servable,
)
from maze_core.errors import InvalidSpecificationError
from tests.maze_core.envs.small_envs import EpisodeNumberEnv
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.envs.ticks import random_actions, tick_bytes

CONF = Path(__file__).parents[4] / "conf" / "wrappers"


def act(n_envs, value=0):
    return {0: {"action": np.full(n_envs, value)}}


def number_envs(n_envs=3):
    return PerEnvVectorEnv([lambda i=i: GymEnv(EpisodeNumberEnv(i)) for i in range(n_envs)])


class Plus(Wrapper):
    """Adds to observations, rewards and actions, and notes what it watched."""

    def __init__(self, amount, log):
        self.amount, self.log = amount, log

    def observation(self, step_key, observations, state):
        return {name: values * 10 + self.amount for name, values in observations.items()}, state

    def action(self, step_key, actions):
        self.log.append(("action", self.amount, actions["action"].tolist()))
        return {"action": actions["action"] + 0}

    def reward(self, tick):
        return tick.reward * 10 + self.amount


class Previous(Wrapper):
    """Shows each observation minus the one before it in its episode; the first one as it is."""

    is_stateful = True

    def observation(self, step_key, observations, state):
        values = observations["observation"]
        assert state is not None
        before = np.array([np.zeros(values.shape[1:]) if s is None else s for s in state], dtype=values.dtype)
        return {"observation": values - before}, [row.tolist() for row in values]


def test_no_wrappers_change_nothing():
    bare, wrapped = GymEnvConfig().vector(3), WrappedVectorEnv(GymEnvConfig().vector(3), [])
    ticks = bare.reset([1, 2, 3]), wrapped.reset([1, 2, 3])
    for _ in range(60):
        assert tick_bytes(ticks[0]) == tick_bytes(ticks[1])
        ticks = bare.step(act(3)), wrapped.step(act(3))
    assert not wrapped.is_processed
    assert type(ticks[1].observations[0]) is dict


@pytest.mark.parametrize("is_one_stack", [True, False])
def test_the_first_wrapper_is_closest_to_the_environment(is_one_stack):
    log = []
    if is_one_stack:
        env = WrappedVectorEnv(number_envs(1), [Plus(1, log), Plus(2, log)])
    else:
        env = Plus.wrap(Plus.wrap(number_envs(1), amount=1, log=log), amount=2, log=log)
    shown = env.reset([0]).observations[0]["observation"]
    np.testing.assert_array_equal(shown, [[0 * 100 + 12, 1 * 100 + 12, 0 * 100 + 12]])
    tick = env.step(act(1))
    assert tick.reward[0] == 12
    assert [amount for _, amount, _ in log] == [2, 1], "actions pass from the policy inwards"


def test_final_observations_are_processed_and_returns_stay_raw():
    env = WrappedVectorEnv(number_envs(1), [Plus(0, []), RewardScalingWrapper(scale=5.0)])
    assert env.is_processed
    env.reset([0])
    while not (tick := env.step(act(1))).ended[0]:
        pass
    np.testing.assert_array_equal(tick.final_observations[0]["observation"][0], [0, 10, 30])
    np.testing.assert_array_equal(tick.observations[0]["observation"][0], [0, 20, 0])
    assert tick.reward[0] == 50.0
    assert tick.episode_return[0] == 1.0
    assert isinstance(tick.observations[0], ProcessedObservation)
    assert isinstance(tick.final_observations[0], ProcessedObservation)


def test_what_the_environment_showed_and_was_given_can_be_asked():
    env = WrappedVectorEnv(number_envs(1), [Plus(1, [])])
    env.reset([0])
    env.step(act(1, 1))
    np.testing.assert_array_equal(env.inner_tick.observations[0]["observation"], [[0, 1, 1]])
    np.testing.assert_array_equal(env.inner_actions[0]["action"], [1])


def test_observations_and_actions_can_be_left_raw_while_rewards_apply():
    class Hides(Plus):
        def bind(self, observation_spaces, action_spaces):
            return {}, {}

    raw, log = number_envs(1), []
    env = WrappedVectorEnv(raw, [Hides(1, log)], processed=False)
    np.testing.assert_array_equal(env.reset([0]).observations[0]["observation"], [[0, 1, 0]])
    assert env.step(act(1)).reward[0] == 1
    assert log == []
    assert (env.observation_spaces, env.action_spaces) == (raw.observation_spaces, raw.action_spaces)
    assert not env.is_processed


def test_a_state_is_carried_within_an_episode_and_begins_anew_with_the_next():
    env = WrappedVectorEnv(number_envs(2), [Previous()])
    tick = env.reset([0, 0])
    np.testing.assert_array_equal(tick.observations[0]["observation"], [[0, 1, 0], [1, 1, 0]])
    for _ in range(30):
        tick = env.step(act(2))
        for row in range(2):
            if tick.ended[row]:
                np.testing.assert_array_equal(tick.final_observations[0]["observation"][row], [0, 0, 1])
                assert tick.observations[0]["observation"][row][0] == row, "the first one as it is"
            else:
                np.testing.assert_array_equal(tick.observations[0]["observation"][row], [0, 0, 1])


def test_a_reset_of_some_rows_leaves_the_states_of_the_others():
    env = WrappedVectorEnv(number_envs(2), [Previous()])
    env.reset([0, 0])
    env.step(act(2))
    tick = env.reset([None, None], np.array([True, False]))
    np.testing.assert_array_equal(tick.observations[0]["observation"], [[0, 2, 0], [0, 0, 1]])
    tick = env.step(act(2))
    np.testing.assert_array_equal(tick.observations[0]["observation"], [[0, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize("others", [[], [RewardScalingWrapper()]], ids=["alone", "among others"])
def test_watchers_are_told_the_actions_of_those_who_acted(others):
    seen = []

    class Watch(Wrapper):
        def on_tick(self, tick, actions):
            seen.append({key: len(batch["action"]) for key, batch in actions.items()})

    env = WrappedVectorEnv(PerEnvVectorEnv([BoxesEnv] * 3), [Watch(), *others])
    for _, stood_at in playing(env):
        assert seen[-1] == stood_at


def playing(env, n_steps=20):
    """A reset and random steps: the tick, and how many environments stood at each sub-step before it."""
    tick, rng = env.reset(list(range(env.n_envs))), np.random.default_rng(0)
    for _ in range(n_steps):
        stood_at = standing(tick)
        tick = env.step(random_actions(env, tick, rng))
        yield tick, stood_at


def standing(tick):
    """How many environments stand at each sub-step."""
    return {key: int(active.sum()) for key, active in tick.active.items()}


class Learner(Wrapper):
    """Notes how many rows it sees of which sub-step."""

    def __init__(self):
        self.seen = []

    def observation(self, step_key, observations, state):
        return observations, state

    def see(self, step_key, observations):
        self.seen.append((step_key, len(next(iter(observations.values())))))

    def learn(self):
        pass


def test_learners_see_each_observation_of_those_who_act_next_once():
    learner = Learner()
    env = WrappedVectorEnv(PerEnvVectorEnv([BoxesEnv] * 3), [learner], is_training=True)
    expected = [(0, 3), *(pair for tick, _ in playing(env) for pair in standing(tick).items() if pair[1])]
    assert learner.seen == expected
    assert (0, 1) in expected
    env.reset([None] * 3, np.array([True, False, False]))
    assert learner.seen == [*expected, (0, 1)]


def test_a_wrapper_that_overrides_nothing_needs_nothing_and_changes_nothing():
    plain = Wrapper()
    assert not plain.needs_statistics()
    assert acting_wrappers([plain]) == []
    assert why_not_servable([plain]) is None


def test_what_changes_observations_or_actions_acts_and_what_changes_rewards_does_not():
    see, do = ObservationClippingWrapper(), ActionClippingWrapper()
    assert acting_wrappers([see, RewardScalingWrapper(), do, MonitoringWrapper()]) == [see, do]


def test_a_stack_that_steps_itself_is_not_servable_and_says_which_wrapper_it_is_but_one_that_carries_states_is():
    class Steps(Wrapper):
        servable = False

    reason = why_not_servable([RewardScalingWrapper(), Previous(), Steps()])
    assert reason is not None
    assert reason.startswith("Steps needs more than observations")
    assert why_not_servable([Previous()]) is None


def test_a_wrapper_may_be_generic():
    T = TypeVar("T")

    class Of(Wrapper, Generic[T]):
        pass

    assert Of[int]().overridden == frozenset()


def test_statistics_are_estimated_as_if_every_sample_began_an_episode():
    wrappers = [Previous(), ObservationNormalizationWrapper()]
    bind_wrappers(wrappers, {0: spaces.Dict(observation=spaces.Box(-9, 9, (1,), np.float32))}, {})
    estimate_statistics(wrappers, {0: {"observation": np.float32([[1], [5]])}})
    assert wrappers[1].state_dict()["observation/shift"] == 3.0


def test_wrappers_are_built_in_order_and_live_ones_copied():
    live, node = RewardScalingWrapper(scale=3.0), {"_target_": "maze_core.RewardScalingWrapper", "scale": 2.0}
    built = build_wrappers([{"_opaque_": "mine"}, node], {"wrappers.0": live})
    assert [wrapper.scale for wrapper in built] == [3.0, 2.0]
    assert built[0] is not live
    assert build_wrappers([]) == []


def test_what_is_no_wrapper_is_refused_where_it_stands():
    with pytest.raises(InvalidSpecificationError, match=r"wrappers\.0.*int is not a Wrapper"):
        build_wrappers([{"_opaque_": "mine"}], {"wrappers.0": 3})


def test_statistics_are_estimated_on_what_the_wrapper_below_gives():
    wrappers = [
        ObservationClippingWrapper(clip_range=(0.0, 1.0)),
        ObservationNormalizationWrapper(clip_range=None),
    ]
    space = {0: spaces.Dict(observation=spaces.Box(-9, 9, (1,), np.float32))}
    for wrapper in wrappers:
        wrapper.bind(space, {})
    samples = {0: {"observation": np.array([[-9.0], [9.0]], dtype=np.float32)}}
    assert wrappers[1].needs_statistics()
    estimate_statistics(wrappers, samples)
    state = wrappers[1].state_dict()
    assert state["observation/shift"] == 0.5
    assert state["observation/scale"] == 0.5


@pytest.mark.parametrize(
    ("wrapper", "arguments", "where"),
    [
        (ObservationNormalizationWrapper, {"clip_range": [3, -3]}, r"clip_range[^$]*, got \[3.0, -3.0\]"),
        (ObservationNormalizationWrapper, {"clip_range": [3, 3]}, "clip_range"),
        (ObservationNormalizationWrapper, {"axis": [1]}, "axis"),
        (ObservationNormalizationWrapper, {"axis": [0, 0]}, "axis"),
        (ObservationNormalizationWrapper, {"axis": [0, -1]}, "axis"),
        (ObservationNormalizationWrapper, {"strategy": "whiten"}, "strategy"),
        (ObservationClippingWrapper, {"clip": [0, 1]}, "clip"),
        (RewardClippingWrapper, {"min_val": 1.0, "max_val": 0.0}, "min_val must be below max_val"),
        (RewardClippingWrapper, {"min_val": 1.0, "max_val": 1.0}, "min_val must be below max_val"),
        (ObservationNormalizationWrapper, {"running": "sometimes"}, "running"),
        (RewardNormalizationWrapper, {"gamma": 1.5}, "gamma"),
        (RewardNormalizationWrapper, {"clip_range": [1, 0]}, "clip_range"),
        (RewardScalingWrapper, {"scale": 0.0}, "scale"),
        (RewardScalingWrapper, {"scale": float("nan")}, "scale"),
        (MonitoringWrapper, {"reward_logging": "perhaps"}, "reward_logging"),
        (ActionClippingWrapper, {"low": 0}, "low"),
    ],
)
def test_wrong_arguments_are_refused_by_name(wrapper, arguments, where):
    with pytest.raises(ValueError, match=where):
        wrapper(**arguments)


@pytest.mark.parametrize(
    ("name", "classes", "others"),
    [
        ("vector_obs", [ObservationNormalizationWrapper, MonitoringWrapper], {}),
        (
            "running_normalization",
            [ObservationNormalizationWrapper, RewardNormalizationWrapper],
            {"running": "always", "gamma": "${oc.select:algorithm.gamma,0.99}"},
        ),
    ],
)
def test_a_module_spells_out_the_defaults_of_its_wrappers_but_for_what_it_is_there_for(name, classes, others):
    module = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert list(module) == [target_name(c) for c in classes]
    for wrapper, arguments in zip(classes, module.values(), strict=True):
        fields = wrapper.__dataclass_fields__
        default = wrapper(**{name: value for name, value in arguments.items() if name not in others})
        assert arguments.keys() == fields.keys()
        assert vars(default).items() >= {name: getattr(wrapper(), name) for name in fields}.items()
        assert {name: arguments[name] for name in arguments.keys() & others} == {
            name: others[name] for name in arguments.keys() & others
        }


def test_the_no_wrappers_module_is_empty():
    assert yaml.safe_load((CONF / "no_wrappers.yaml").read_text()) == {}
