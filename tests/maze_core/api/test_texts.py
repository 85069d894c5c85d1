"""Texts among observations, read by choice: the same texts go in in training, acting, evaluation and rollout."""

import json
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext, load_agent
from maze_core.errors import EnvError, InvalidSpecificationError, SpaceMismatchError

WORDS = ("go", "stay", "")


class ObeyEnv(gymnasium.Env[Any, Any]):
    """Pays for doing what the word says, which nothing else shows."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            order=spaces.Tuple([spaces.Text(4, min_length=0, charset="gostay")]),
            noise=spaces.Box(-1, 1, (1,)),
        )
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._see(), {}

    def step(self, action: Any) -> Any:
        reward = float(action == self.wanted)
        self.time += 1
        return self._see(), reward, self.time == 8, False, {}

    def _see(self) -> Any:
        self.wanted = int(self.np_random.integers(3))
        return {"order": (WORDS[self.wanted],), "noise": np.zeros(1, np.float32)}


@pytest.fixture
def registered() -> Iterator[None]:
    gymnasium.register("Obey-v0", ObeyEnv)
    yield
    del gymnasium.registry["Obey-v0"]


@pytest.mark.usefixtures("registered")
def test_a_policy_learns_to_read_and_is_given_texts_on_every_face(tmp_path: Any) -> None:
    values = {"env.name": "Obey-v0", "algorithm.lr": 0.01, "algorithm.n_epochs": 3}
    with RunContext(
        env="gym_text_env", overrides=values, wrappers="vector_obs", seed=1, run_dir=tmp_path / "run"
    ) as context:
        context.train()
        report = context.evaluate(n_episodes=5)
        assert report.mean_return > 6
        played = context.rollout(1, record=True).episodes[0].trajectory
        agent = load_agent(tmp_path / "run/checkpoints/best.ckpt")
        for step in json.loads(json.dumps(played.to_json()))["steps"]:
            assert step["observation"]["order"][0] in WORDS
            actions = [one.compute_action(step["observation"])["action"] for one in (context, agent)]
            assert actions == [step["action"], step["action"]]
    for text, said in (("stay!", "at most 4"), ("no", "'n' is none of the characters"), (None, "null")):
        with pytest.raises(SpaceMismatchError, match=said) as refused:
            agent.compute_action({"order": [text], "noise": [0]})
        assert refused.value.pointer == "/order/0"


@pytest.mark.usefixtures("registered")
def test_texts_have_no_vectorization_of_their_own() -> None:
    with pytest.raises(InvalidSpecificationError, match="vectorization"):
        RunContext(env="gym_text_env", overrides={"env.name": "Obey-v0", "env.vectorization": "native"})


def test_a_text_that_is_an_action_is_refused() -> None:
    from maze_core.envs.gym_env import GymEnv

    env = ObeyEnv()
    env.action_space = spaces.Dict(say=spaces.Text(3), do=spaces.Discrete(2))
    with pytest.raises(EnvError, match="action space holds a Text"):
        GymEnv(env, reads_texts=True)
