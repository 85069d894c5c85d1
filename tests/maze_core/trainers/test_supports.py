"""What each algorithm supports: every cell of the table is one tiny update, or a refusal that says what to take."""

import numpy as np
import pytest
from gymnasium import spaces

from maze_core import RunContext
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.errors import InvalidSpecificationError
from maze_core.models.random_policy import RandomPolicy
from maze_core.models.supports import FROM_EPISODES, SUPPORTS, learnt_by, rows
from maze_core.rollout.episodes import run_episodes
from tests.maze_core.envs.actors_env import CrowdEnv
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.trainers.small_worlds import MaskedEnv, OneNumberEnv, PictureEnv, SignEnv, TwoAgentsEnv


class Choices(SignEnv):
    def __init__(self):
        super().__init__(spaces.MultiDiscrete([2, 3]))

    def reward(self, action):
        return float(np.sum(action))


class Bits(Choices):
    def __init__(self):
        SignEnv.__init__(self, spaces.MultiBinary(2))


class NumberPictures(PictureEnv):
    def __init__(self):
        super().__init__()
        self.action_spaces = {0: spaces.Dict({"action": spaces.Box(-1, 1, (1,), np.float32)})}

    def reward(self, action):
        return float(action[0])


CONVOLUTIONS = {
    "block_type": "strided_convolution",
    "block_params": {
        "hidden_channels": [4],
        "hidden_kernels": [4],
        "hidden_strides": [2],
        "hidden_padding": 0,
    },
}
PIXELS = {"model": "pixel_obs", "model.model_builder.modality_config.image": CONVOLUTIONS}
LSTM = {
    "model": "vector_obs_rnn",
    "model.model_builder.modality_config.recurrence.block_params.hidden_size": 4,
}
SEPARATE = {"model.policy.substeps_with_separate_agent_nets": [0]}
TRIED = {
    "Discrete": (SignEnv, {}),
    "MultiDiscrete": (Choices, {}),
    "MultiBinary": (Bits, {}),
    "Box": (OneNumberEnv, {}),
    "pixels": (PictureEnv, PIXELS),
    "memory": (SignEnv, LSTM),
    "sub_steps": (BoxesEnv, {}),
    "agents": (TwoAgentsEnv, {}),
    "own_rewards": (CrowdEnv, {}),
    "separate_nets": (TwoAgentsEnv, SEPARATE),
    "masks": (MaskedEnv, {}),
}
"""Feature → an environment that has it, and settings."""
OF_BOXES = {"Discrete": SignEnv, "memory": OneNumberEnv, "pixels": NumberPictures}
"""Feature → an environment of numbers, for those who act in nothing else."""
SMALL = {"algorithm.n_epochs": 1, "algorithm.epoch_length": 1, "algorithm.rollout_evaluator.n_episodes": 1}


def supported(algorithm, feature):
    supports = SUPPORTS[algorithm]
    if feature == "own_rewards" and supports.agents:
        return True  # es takes their sum
    return feature in supports.actions if feature[0].isupper() else getattr(supports, feature)


def trained(algorithm, feature):
    env, settings = TRIED[feature]
    if "Discrete" not in SUPPORTS[algorithm].actions:
        env = OF_BOXES.get(feature, env)
    overrides = {**SMALL, **{key: value for key, value in settings.items() if key != "model"}}
    chosen = {"model": settings["model"], "critic": "template_state"} if "model" in settings else {}
    if algorithm in ("sac", "sacfd", "td3") and chosen:
        chosen["critic"] = "template_state_action"
    if algorithm in FROM_EPISODES:
        batch = PerEnvVectorEnv([env])
        played = run_episodes(batch, RandomPolicy(batch.action_spaces), [1, 2, 3], record=True)
        overrides["dataset.run"] = [episode.trajectory for episode in played]
    with RunContext(
        env=env, algorithm=algorithm, configuration="test", seed=1, silent=True, overrides=overrides, **chosen
    ) as rc:
        return rc.train()


@pytest.mark.parametrize("feature", TRIED)
@pytest.mark.parametrize("algorithm", SUPPORTS)
def test_every_cell_of_the_table_trains_or_says_what_to_take(algorithm, feature):
    if supported(algorithm, feature):
        assert trained(algorithm, feature).counters.updates == 1
    else:
        with pytest.raises(InvalidSpecificationError, match=r"[Tt]ake (algorithm=)?(ppo|dqn)"):
            trained(algorithm, feature)


def test_whoever_is_refused_is_told_all_who_learn_it():
    assert learnt_by("sub_steps") == "ppo, a2c, impala or es"
    assert learnt_by("own_rewards") == "ppo, a2c or impala"
    assert learnt_by("actions", "Box") == "ppo, a2c, impala, es, sac or td3"


def test_the_table_has_a_cell_for_every_algorithm():
    assert all(cells.keys() == SUPPORTS.keys() for _, cells in rows())


def test_networks_with_a_state_are_refused_where_each_agent_is_paid_its_own():
    with (
        RunContext(
            env=CrowdEnv,
            model="vector_obs_rnn",
            critic="template_state",
            configuration="test",
            seed=1,
            silent=True,
        ) as rc,
        pytest.raises(InvalidSpecificationError, match="learn where a team is paid"),
    ):
        rc.train()
