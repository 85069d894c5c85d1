"""Trajectories as bytes and as JSON."""

import json

import numpy as np
import pytest

from maze_core.envs.config import GymEnvConfig
from maze_core.envs.per_env import PerEnvVectorEnv
from maze_core.rollout.episodes import run_episodes
from maze_core.rollout.recording import RecordingError, trajectory_from_bytes, trajectory_to_bytes
from tests.maze_core.envs.structured_env import BoxesEnv
from tests.maze_core.rollout.small_policies import BoxesPolicy, SwingPolicy


def recorded_boxes():
    return run_episodes(PerEnvVectorEnv([BoxesEnv]), BoxesPolicy(), [3], record=True)[0].trajectory


def test_a_trajectory_comes_back_from_its_bytes():
    trajectory = recorded_boxes()
    data = trajectory_to_bytes(trajectory)
    again = trajectory_from_bytes(data)
    assert trajectory_to_bytes(again) == data
    assert again.step_keys == trajectory.step_keys
    assert (again.terminated, again.truncated) == (True, False)
    np.testing.assert_array_equal(again.rewards, trajectory.rewards)
    for key, batch in trajectory.observations.items():
        for name, values in batch.items():
            np.testing.assert_array_equal(again.observations[key][name], values)
            assert again.observations[key][name].dtype == values.dtype
        np.testing.assert_array_equal(again.actions[key]["action"], trajectory.actions[key]["action"])


def test_string_step_keys_survive():
    trajectory = recorded_boxes()
    names = {0: "box", 1: "item"}
    renamed = type(trajectory)(
        step_keys=[names[key] for key in trajectory.step_keys],
        agent_ids=trajectory.agent_ids,
        flat_steps=trajectory.flat_steps,
        rewards=trajectory.rewards,
        observations={names[key]: batch for key, batch in trajectory.observations.items()},
        actions={names[key]: batch for key, batch in trajectory.actions.items()},
        final_step_key="box",
        final_observation=trajectory.final_observation,
        terminated=True,
        truncated=False,
    )
    again = trajectory_from_bytes(trajectory_to_bytes(renamed))
    assert again.step_keys == renamed.step_keys
    assert again.final_step_key == "box"


def test_the_json_form_is_a_list_of_steps():
    (record,) = run_episodes(
        GymEnvConfig(name="CartPole-v1").vector(1), SwingPolicy(), [1], max_episode_steps=3, record=True
    )
    shown = json.loads(json.dumps(record.trajectory.to_json(), allow_nan=False))
    assert [step["flat_step"] for step in shown["steps"]] == [0, 1, 2]
    assert [step["reward"] for step in shown["steps"]] == [1.0] * 3
    assert len(shown["steps"][0]["observation"]["observation"]) == 4
    assert shown["steps"][0]["actor_id"] == [0, 0]
    assert shown["truncated"] is True


def test_the_json_form_follows_the_sub_steps():
    trajectory = recorded_boxes()
    for step in trajectory.to_json()["steps"]:
        assert set(step["observation"]) == (
            {"right_box", "rounds_left"} if step["actor_id"][0] == 0 else {"wanted", "action_mask"}
        )


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: b"\0" * len(d)])
def test_damaged_bytes_are_refused(damage):
    with pytest.raises(RecordingError, match="no recorded trajectory"):
        trajectory_from_bytes(damage(trajectory_to_bytes(recorded_boxes())))
