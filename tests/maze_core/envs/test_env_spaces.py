"""Whether a policy fits an environment: everything that its weights depend on is compared, and nothing else."""

import json

import numpy as np
import pytest
from gymnasium import spaces

from maze_core.envs.env_spaces import EnvSpaces, describe_spaces, described_spaces, refuse_other_spaces
from maze_core.errors import CheckpointError, InvalidSpecificationError


def world(observation=None, action=None, agents=1, key=0):
    seen = {"position": spaces.Box(-1, 1, (3,), np.float32)} if observation is None else observation
    done = {"action": spaces.Discrete(2)} if action is None else action
    return EnvSpaces(
        observation_spaces={key: spaces.Dict(seen)},
        action_spaces={key: spaces.Dict(done)},
        agent_counts={key: agents},
    )


OTHERS = {
    "another name": (
        world({"speed": spaces.Box(-1, 1, (3,))}),
        "observation 'position' is not there here and Box(3,) of floats in training; "
        "observation 'speed' is Box(3,) of floats here and not there in training",
    ),
    "another shape": (
        world({"position": spaces.Box(-1, 1, (4,))}),
        "observation 'position' is Box(4,) of floats here and Box(3,) of floats in training",
    ),
    "another kind of number": (
        world({"position": spaces.Box(0, 255, (3,), np.uint8)}),
        "observation 'position' is Box(3,) of unsigned integers here and Box(3,) of floats in training",
    ),
    "another kind of space": (
        world({"position": spaces.MultiBinary(3)}),
        "observation 'position' is MultiBinary(3) here and Box(3,) of floats in training",
    ),
    "more actions": (
        world(action={"action": spaces.Discrete(5)}),
        "action 'action' is Discrete(5) here and Discrete(2) in training",
    ),
    "actions that are numbered otherwise": (
        world(action={"action": spaces.Discrete(2, start=1)}),
        "action 'action' is Discrete(2) from 1 here and Discrete(2) in training",
    ),
    "several choices": (
        world(action={"action": spaces.MultiDiscrete([2, 2])}),
        "action 'action' is MultiDiscrete([2, 2]) here and Discrete(2) in training",
    ),
    "more agents": (world(agents=2), "the number of agents is 2 here and 1 in training"),
    "another sub-step": (
        world(key="pick"),
        "action 'action' of sub-step 'pick' is Discrete(2) here and not there in training",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_the_weights_depend_on_has_to_agree_and_both_sides_are_named(case):
    given, message = OTHERS[case]
    with pytest.raises(InvalidSpecificationError) as caught:
        refuse_other_spaces(world(), given, "env")
    (problem,) = caught.value.problems
    assert (problem.path, problem.code) == ("env", "other_spaces")
    assert message in problem.message


@pytest.mark.parametrize(
    "given",
    [
        world({"position": spaces.Box(-9, np.inf, (3,), np.float32)}),
        world({"position": spaces.Box(-1, 1, (3,), np.float64)}),
    ],
    ids=["other bounds", "other precision"],
)
def test_bounds_and_precision_may_differ(given):
    refuse_other_spaces(world(), given, "env")


def test_the_order_of_names_does_not_matter():
    leaves = {name: spaces.Box(-1, 1, (1,)) for name in "ab"}
    one, other = (world(list(pairs)) for pairs in (leaves.items(), reversed(leaves.items())))
    assert list(one.observation_spaces[0]) != list(other.observation_spaces[0])
    refuse_other_spaces(one, other, "env")


def test_a_long_list_of_differences_is_cut():
    many = world({f"n{i}": spaces.Box(-1, 1, (1,)) for i in range(20)})
    with pytest.raises(InvalidSpecificationError, match="and 13 more"):
        refuse_other_spaces(world(), many, "env")


def test_described_spaces_are_the_same_again():
    one = world(agents=2, key="pick")
    described = json.loads(json.dumps(describe_spaces(one)))
    assert described_spaces(described) == one


def test_a_description_of_something_else_is_refused():
    described = [
        {**describe_spaces(world())[0], "action": {"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"}}
    ]
    with pytest.raises(CheckpointError, match="not Dict spaces"):
        described_spaces(described)
