"""The contract of masks: what one may say, who is judged, and that everything which acts keeps it."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core import RunContext
from maze_core.envs.core_env import StructuredEnv
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import EnvError, SpaceMismatchError
from maze_core.models.masks import MaskCheck, mask_checks
from maze_core.models.random_policy import RandomPolicy
from maze_core.rollout.episodes import run_episodes
from maze_core.rollout.sampling import sample_observations
from maze_core.types import ActorID
from tests.maze_core.trainers.small_worlds import MaskedEnv

HEADS = spaces.Dict(
    {
        "one": spaces.Discrete(3),
        "some": spaces.MultiDiscrete([2, 3]),
        "bits": spaces.MultiBinary(2),
        "number": spaces.Box(-1, 1, (2,), np.float32),
    }
)


def masked_space(**widths):
    return spaces.Dict({f"{head}_mask": spaces.Box(-9, 9, (n,), np.float32) for head, n in widths.items()})


def seen(**masks):
    return {f"{head}_mask": np.array(rows, np.float32) for head, rows in masks.items()}


CHECK = MaskCheck("pick", masked_space(one=3, some=5, bits=2, number=7), HEADS)
FINE = {"one": [1, 0, 0], "some": [0, 1, 1, 0, 0], "bits": [0, 0], "number": [5, 5, 5, 5, 5, 5, 5]}


@pytest.mark.parametrize(
    ("head", "mask", "message"),
    [
        (
            "one",
            [0, 0, 0],
            "the mask 'one_mask' of sub-step 'pick' allows no action of the head 'one'; allow one",
        ),
        (
            "some",
            [1, 1, 0, 0, 0],
            "'some_mask' of sub-step 'pick' allows no action of the head 'some', choice 1",
        ),
        ("some", [0, 0, 1, 1, 1], "choice 0"),
        ("one", [1, 0.5, 0], "'one_mask' of sub-step 'pick' holds 0.5; it says 1 .allowed. or 0"),
        ("bits", [-1, 0], "'bits_mask' of sub-step 'pick' holds -1; it says"),
        ("number", [0] * 7, None),  # numbers have no mask, whatever stands there
        ("bits", [0, 0], None),
    ],
)
def test_what_a_mask_may_not_say_is_named(head, mask, message):
    rows = {name: [FINE[name], mask if name == head else FINE[name]] for name in FINE}
    if message is None:
        CHECK.expect(seen(**rows), np.array([0, 1]))
    else:
        with pytest.raises(EnvError, match=f"Environment 1: .*{message}"):
            CHECK.expect(seen(**rows), np.array([0, 1]))
    CHECK.expect(seen(**rows), np.array([0]))  # the other row acts not


@given(st.lists(st.lists(st.integers(0, 1), min_size=5, max_size=5), min_size=1, max_size=4))
def test_of_several_choices_each_needs_one(rows):
    fault = CHECK.fault(seen(**{name: [FINE[name]] * len(rows) for name in FINE} | {"some": rows}))
    by_definition = [i for i, row in enumerate(rows) if not (any(row[:2]) and any(row[2:]))]
    assert (fault is None) == (not by_definition)
    if fault is not None:
        assert fault.row == by_definition[0]


def test_a_mask_of_another_width_is_refused():
    with pytest.raises(
        EnvError, match="'one_mask' should be 3 wide, one number per action of the head 'one', not 4"
    ):
        MaskCheck(0, masked_space(one=4), HEADS)


def test_where_there_are_no_masks_nothing_is_looked_at():
    assert mask_checks({0: masked_space(number=2)}, {0: HEADS}) == {}


class DoorsEnv(StructuredEnv):
    """Two sub-steps; the mask of the second is wrong in step ``bad_at`` of an episode, and of no use elsewhere."""

    def __init__(self, bad=(0, 0, 0), bad_at=3):
        mask = spaces.Box(0, 2, (3,), np.int8)
        self.observation_spaces = {
            "go": spaces.Dict({"x": spaces.Box(0, 9, (1,), np.float32)}),
            "open": spaces.Dict({"x": spaces.Box(0, 9, (1,), np.float32), "door_mask": mask}),
        }
        self.action_spaces = {
            "go": spaces.Dict({"way": spaces.Discrete(2)}),
            "open": spaces.Dict({"door": spaces.Discrete(3)}),
        }
        self.agent_counts = {"go": 1, "open": 1}
        self.bad, self.bad_at = bad, bad_at

    def reset(self, *, seed=None):
        self._n = 0
        return self._see()

    def step(self, action):
        if self._n % 2:
            assert action["door"] == 1
        self._n += 1
        return self._see(), 1.0, self._n >= 8, False, {}

    def actor_id(self):
        return ActorID("open" if self._n % 2 else "go", 0)

    def _see(self):
        x = {"x": np.array([self._n % 9], np.float32)}
        if self._n % 2 == 0:
            return x
        mask = self.bad if self._n == self.bad_at else (0, 1, 0)
        return {**x, "door_mask": np.array(mask, np.int8)}


def fine():
    return DoorsEnv(bad_at=-1)


WRONG = "Environment 0: the mask 'door_mask' of sub-step 'open' allows no action of the head 'door'"


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "impala"])
def test_training_honours_masks_and_names_one_that_allows_nothing(algorithm):
    settings = {"algorithm.n_rollout_steps": 8}
    with RunContext(
        env=fine, algorithm=algorithm, configuration="test", seed=1, silent=True, overrides=settings
    ) as rc:
        rc.train()  # DoorsEnv asserts that the one open door is taken
    with (
        RunContext(
            env=DoorsEnv, algorithm=algorithm, configuration="test", seed=1, silent=True, overrides=settings
        ) as rc,
        pytest.raises(EnvError, match=WRONG),
    ):
        rc.train()


def test_episodes_and_samples_at_random_name_it_too():
    policy = RandomPolicy(DoorsEnv().action_spaces)
    assert run_episodes(PerEnvVectorEnv([fine]), policy, [1])[0].length == 4
    with pytest.raises(EnvError, match=WRONG):
        run_episodes(PerEnvVectorEnv([DoorsEnv]), policy, [1])
    with pytest.raises(EnvError, match=WRONG):
        sample_observations(PerEnvVectorEnv([DoorsEnv]), 10, 10, 0)


def test_an_episode_that_is_over_is_not_judged():
    env = PerEnvVectorEnv([lambda: DoorsEnv(bad_at=1), fine])
    policy = RandomPolicy(DoorsEnv().action_spaces)
    env.envs.reverse()
    assert len(run_episodes(env, policy, [1])) == 1  # the second row has no episode


def test_one_asked_for_an_action_is_told_where():
    with RunContext(env=fine, configuration="test", seed=1, silent=True) as rc:
        rc.train(n_epochs=1)
        x = np.zeros(1, np.float32)
        for mask, message in (([0, 0, 0], "The mask 'door_mask'"), ([0, 2, 0], "holds 2; it says")):
            with pytest.raises(SpaceMismatchError, match=message) as caught:
                rc.compute_action({"x": x, "door_mask": mask}, actor_id=("open", 0))
            assert caught.value.pointer == "/door_mask"
        assert rc.compute_action({"x": x, "door_mask": [0, 0, 1]}, actor_id=("open", 0)) == {"door": 2}


@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn", "sac", "es"])
def test_what_else_learns_discrete_actions_honours_masks_from_its_first_action_on(algorithm):
    # MaskedEnv asserts that the third action, which pays most, is never taken: in warm-up, exploring, evaluated
    with RunContext(env=MaskedEnv, algorithm=algorithm, configuration="test", seed=1, silent=True) as rc:
        rc.train()
