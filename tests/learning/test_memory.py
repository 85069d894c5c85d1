"""What only memory solves: a sign is shown once, and names the action that pays at the end."""

import pytest

from maze_core import RunContext
from tests.maze_core.recurrent import CueEnv

CHANCE = 0.3
"""Four standard errors of the mean of 200 returns of ±1 with mean 0."""
PPO = {
    "algorithm.n_epochs": 30,
    "algorithm.epoch_length": 4,
    "algorithm.batch_size": 240,
    "algorithm.lr": 0.003,
}
A2C = {"algorithm.n_epochs": 60, "algorithm.epoch_length": 25, "algorithm.lr": 0.003}
RNN = "model.model_builder.modality_config"


def short():
    return CueEnv(4)


def long():
    return CueEnv(10)


def trained(env, model, *, seed, algorithm="ppo", **settings):
    """The mean return over 200 episodes of a policy that learnt until it was perfect, or to the end."""
    overrides = {
        **(PPO if algorithm == "ppo" else A2C),
        "algorithm.n_rollout_steps": 30,
        "algorithm.rollout_evaluator.n_episodes": 20,
        "algorithm.target_return": 1.0,
        "runner.n_envs": 16,
        **settings,
    }
    if model == "vector_obs_rnn":
        overrides |= {
            f"{RNN}.recurrence.block_params.hidden_size": 16,
            f"{RNN}.feature.block_params.hidden_units": [16],
        }
    with RunContext(
        env=env,
        model=model,
        critic="template_state",
        algorithm=algorithm,
        overrides=overrides,
        seed=seed,
        silent=True,
    ) as context:
        context.train()
        return context.evaluate(200, seed=99).mean_return


def test_a_policy_with_a_state_remembers_what_one_without_cannot_know():
    """At the end everybody sees the same: without memory every action pays 1 or -1 with even chances."""
    quick = {
        "algorithm.n_epochs": 3,
        "algorithm.n_rollout_steps": 32,
        "algorithm.batch_size": 128,
        "algorithm.lr": 0.01,
        "runner.n_envs": 8,
    }
    assert trained(short, "vector_obs_rnn", seed=1, **quick) == 1.0
    assert abs(trained(short, "vector_obs", seed=1, **quick)) < CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("algorithm", "block"), [("ppo", "lstm"), ("ppo", "gru"), ("a2c", "lstm")])
def test_ten_steps_are_remembered_whatever_the_seed(algorithm, block, seed):
    own = {f"{RNN}.recurrence.block_type": block}
    assert trained(long, "vector_obs_rnn", seed=seed, algorithm=algorithm, **own) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_without_memory_ten_steps_leave_nothing_but_chance(seed):
    assert abs(trained(long, "vector_obs", seed=seed)) < CHANCE
