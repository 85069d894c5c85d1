"""Observations and actions in the environment's own form: trained, acted, kept in a checkpoint, recorded."""

import json
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from maze_core import Checkpoint, GymMazeEnv, RunContext, load_agent
from maze_core.checkpoint import section
from maze_core.errors import EnvError, InvalidSpecificationError
from maze_core.notices import MazeWarning
from maze_core.rollout.recording import trajectory_from_bytes, trajectory_to_bytes
from tests.maze_core.api.test_forms import QUICK


class LikeGrid2Op(spaces.Discrete):
    """A subclass, as simulators bring them."""


class LikeBox(spaces.Box):
    """The same of a Box."""


class Mission(spaces.Space[str]):
    """Texts that are no Text space, as in MiniGrid."""

    def __init__(self) -> None:
        super().__init__(dtype=str)


SEEN = spaces.Dict(
    {
        "arm": spaces.Dict({"angle": LikeBox(-1, 1, (2,), np.float64), 3: spaces.Discrete(3)}),
        "list": spaces.Tuple([spaces.MultiBinary(2), spaces.Box(0, 255, (1,), np.uint8)]),
        "nothing": spaces.Dict({}),
        "mission": Mission(),
    }
)
DONE = spaces.Dict(
    {
        "legs": spaces.Tuple([LikeGrid2Op(3), spaces.Box(-1, 1, (2,))]),
        0: spaces.Discrete(28, start=100, dtype=np.int8),
    }
)


class RobotEnv(gymnasium.Env[Any, Any]):
    """Everything nested; refuses an action that is not its own, and shows what its space does not declare."""

    def __init__(self, seen: Any = SEEN, done: Any = DONE, **extra: Any) -> None:
        self.observation_space, self.action_space, self.extra = seen, done, extra

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.time += 1
        return self._see(), 1.0, self.time == 5, False, {}

    def _see(self) -> Any:
        shown = self._sample(self.observation_space)
        return {**shown, **self.extra} if isinstance(shown, dict) else shown

    def _sample(self, space: Any) -> Any:
        if isinstance(space, spaces.Dict):
            return {key: self._sample(inner) for key, inner in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self._sample(inner) for inner in space.spaces)
        return "go" if isinstance(space, Mission) else space.sample()


def make_robot() -> RobotEnv:
    return RobotEnv()


def make_beyond() -> RobotEnv:
    return RobotEnv(spaces.Dict(a=spaces.Box(-1, 1, (2,))), spaces.Discrete(2), a=[0, 1.5], b=1)


def as_json(value: Any) -> str:
    return json.dumps(value, default=lambda array: np.asarray(array).tolist())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("robot")
    context = RunContext(env=make_robot, run_dir=folder, overrides=QUICK, seed=1)
    with pytest.warns(MazeWarning, match="'mission' is a text"):
        context.train(1)
    yield context
    context.close()


@pytest.mark.filterwarnings("ignore::maze_core.notices.MazeWarning")
def test_an_environment_steps_by_the_actions_that_its_own_observations_get(trained: RunContext) -> None:
    env = RobotEnv()
    agent = load_agent(trained.run_dir / "checkpoints/best.ckpt", objects={"env": make_robot})
    observation, _ = env.reset(seed=3)
    for _ in range(4):
        action = trained.compute_action(observation)
        assert DONE.contains(action)
        for same in (json.loads(as_json(observation)), {**observation, "mission": "elsewhere"}):
            assert as_json(agent.compute_action(same)) == as_json(action)
        observation, *_ = env.step(action)


@pytest.mark.filterwarnings("ignore::maze_core.notices.MazeWarning")
def test_its_flat_form_steps_by_the_same_actions_and_its_episodes_are_told_in_its_own(
    trained: RunContext,
) -> None:
    with closing(trained.env_factory()) as env:
        observation = env.reset(seed=3)
        assert set(observation) == {"arm.angle", "arm.3", "list_0", "list_1"}
        for _ in range(4):
            observation, *_ = env.step(trained.compute_action(observation))
    played = trained.rollout(1, record=True).episodes[0].trajectory
    assert played is not None
    for trajectory in (played, trajectory_from_bytes(trajectory_to_bytes(played))):
        step = json.loads(json.dumps(trajectory.to_json()))["steps"][0]
        assert {key: list(part) for key, part in step["observation"].items() if key == "arm"} == {
            "arm": ["angle", "3"]
        }
        assert (len(step["observation"]["list"]), step["observation"]["nothing"]) == (2, {})
        assert [type(part) for part in step["action"]["legs"]] == [int, list]
        assert list(trajectory.observations[0]) == list(played.observations[0])


def test_what_a_run_takes_although_it_is_not_declared_is_said_once_for_all_its_environments() -> None:
    with (
        RunContext(env=make_beyond, overrides={**QUICK, "runner.n_envs": 2}, seed=1) as context,
        pytest.warns(MazeWarning) as caught,
    ):
        context.train(2)
    texts = sorted(str(warning.message) for warning in caught)
    assert len(texts) == 2
    assert "'a' oversteps its declared bounds (1.5 at [1] is outside [-1.0, 1.0])" in texts[0]
    assert "has 'b', which its space does not declare" in texts[1]


class InOrder(torch.nn.Module):
    """Puts side by side whatever comes, in the order in which it comes."""

    def __init__(self, obs_shapes: Any, output_shapes: Any = None, **_: Any) -> None:
        super().__init__()
        self.names = list(obs_shapes)
        self.layer = torch.nn.Linear(5, 2)

    def forward(self, observations: Any) -> Any:
        assert list(observations) == self.names
        return {"action": self.layer(torch.cat([value.float() for value in observations.values()], dim=-1))}


ORDERED = spaces.Dict(
    [("temp", spaces.Box(-1, 1, (2,))), ("mode", spaces.Box(-9, 9, (1,))), ("a", spaces.Box(-1, 1, (2,)))]
)


def make_ordered() -> RobotEnv:
    return RobotEnv(ORDERED, spaces.Discrete(2))


@pytest.mark.parametrize("stack", [{}, {"wrappers": "vector_obs"}])
def test_a_network_that_depends_on_the_order_acts_the_same_at_every_load(tmp_path: Any, stack: Any) -> None:
    given = {"policy": {"networks": [InOrder]}, "overrides": QUICK, "seed": 1, **stack}
    with RunContext(env=make_ordered, run_dir=tmp_path / "run", **given) as context:
        context.train(1)
        file = context.run_dir / "checkpoints/best.ckpt"
        observation = {name: leaf.sample() for name, leaf in sorted(ORDERED.spaces.items())}
        action = context.compute_action(observation)
    data = file.read_bytes()
    for _ in range(50):
        checkpoint = Checkpoint.from_bytes(data)
        recorded = section(checkpoint.tensors, "recorded")
        assert list(recorded) == sorted(recorded)
        assert load_agent(checkpoint, objects={"env": make_ordered}).compute_action(observation) == action


@pytest.mark.parametrize(
    ("seen", "done", "message"),
    [
        (spaces.Graph(spaces.Discrete(2), None), spaces.Discrete(2), "Graph space at its root"),
        (spaces.Discrete(2), spaces.Sequence(spaces.Discrete(2)), "action space holds a Sequence"),
        (spaces.Dict(a=spaces.Box(-1, 1, (0,))), spaces.Discrete(2), "'a' is Box.*holds no number"),
        (spaces.Discrete(2), spaces.Box(-1, 1, (0,)), "'action' is Box.*holds no number"),
        (
            spaces.Dict(a=spaces.Discrete(2), action_mask=spaces.MultiBinary(3)),
            spaces.Discrete(2),
            "'action_mask' should be 2 wide.* not 3",
        ),
    ],
)
def test_what_no_policy_can_see_or_do_is_refused_by_name(seen: Any, done: Any, message: str) -> None:
    with (
        RunContext(env=lambda: RobotEnv(seen, done), overrides=QUICK, silent=True) as context,
        pytest.raises((EnvError, InvalidSpecificationError), match=message),
    ):
        context.train(1)


def test_a_boolean_box_is_acted_in_by_rounding() -> None:
    done = spaces.Box(0, 1, (3,), np.bool_)
    env = GymMazeEnv(RobotEnv(spaces.Discrete(2), done))
    with RunContext(env=lambda: RobotEnv(spaces.Discrete(2), done), overrides=QUICK, silent=True) as context:
        context.train(1)
        observation = env.reset()
        assert context.compute_action(observation)["action"].dtype == np.bool_
        env.step(context.compute_action(observation))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.int8])
def test_whole_numbers_of_any_dtype_are_learnt_from(dtype: Any, tmp_path: Any) -> None:
    """Torch computes nothing with the wider unsigned ones."""
    seen = spaces.Dict(
        which=spaces.Discrete(3, start=5, dtype=dtype),
        some=spaces.MultiDiscrete([3, 4], dtype=dtype),
        box=spaces.Box(0, 100, (2,), dtype),
    )
    done = spaces.Dict(which=spaces.Discrete(3, start=5, dtype=dtype), box=spaces.Box(0, 100, (2,), dtype))
    with RunContext(env=lambda: RobotEnv(seen, done), overrides=QUICK, seed=1, silent=True) as context:
        context.train(1)
        assert done.contains(context.compute_action(seen.sample()))
