"""What only memory solves: a sign is shown once, and names the action that pays at the end."""

import pytest

from maze_core import RunContext
from tests.maze_core.recurrent import CueEnv

CHANCE = 0.3
"""Four standard errors of the mean of 200 returns of ±1 with mean 0."""


def short():
    return CueEnv(4)


def long():
    return CueEnv(16)


def trained(env, model, *, n_epochs, seed, algorithm="ppo", block="lstm", n_steps=32):
    """The mean return over 200 episodes of a policy that learnt from ``n_epochs`` × 1,024 steps or more."""
    overrides = {
        "algorithm.n_epochs": n_epochs,
        "algorithm.epoch_length": 1024 // (8 * n_steps),
        "algorithm.n_rollout_steps": n_steps,
        "algorithm.lr": 0.01,
        "algorithm.rollout_evaluator.n_episodes": 20,
        "runner.n_envs": 8,
    }
    if algorithm == "ppo":
        overrides["algorithm.batch_size"] = 128
    if model == "vector_obs_rnn":
        template = "model.model_builder.modality_config"
        overrides[f"{template}.recurrence.block_type"] = block
        overrides[f"{template}.recurrence.block_params.hidden_size"] = 8
        overrides[f"{template}.feature.block_params.hidden_units"] = [8]
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
    assert trained(short, "vector_obs_rnn", n_epochs=3, seed=1) == 1.0
    assert abs(trained(short, "vector_obs", n_epochs=3, seed=1)) < CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("algorithm", "block"), [("ppo", "lstm"), ("ppo", "gru"), ("a2c", "lstm")])
def test_sixteen_steps_are_remembered_whatever_the_seed(algorithm, block, seed):
    n_epochs = 30 if algorithm == "ppo" else 60
    assert (
        trained(long, "vector_obs_rnn", n_epochs=n_epochs, seed=seed, algorithm=algorithm, block=block) == 1.0
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_without_memory_sixteen_steps_leave_nothing_but_chance(seed):
    assert abs(trained(long, "vector_obs", n_epochs=30, seed=seed)) < CHANCE
