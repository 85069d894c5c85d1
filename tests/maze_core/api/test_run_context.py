"""RunContext: finite defaults, errors at construction, one agent for every verb, a directory that brings it back."""

import gymnasium
import numpy as np
import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, PPOAlgorithmConfig, RunContext
from maze_core.errors import CheckpointError, ContextClosedError, SpaceMismatchError

QUICK = {
    "env.name": "CartPole-v1",
    "algorithm.n_epochs": 2,
    "algorithm.checkpoint_every": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 32,
    "algorithm.rollout_evaluator.n_episodes": 2,
    "runner.normalization_samples": 64,
}
STACK = {"model": "vector_obs", "critic": "template_state", "wrappers": "vector_obs"}


@pytest.fixture
def trained(tmp_path):
    with RunContext(run_dir=tmp_path / "run", overrides=QUICK, seed=1, **STACK) as context:
        context.train()
        yield context


def test_the_defaults_are_ppo_and_finite():
    context = RunContext()
    assert context.config["algorithm"]["_target_"].endswith("PPOAlgorithmConfig")
    assert context.config["algorithm"]["n_epochs"] >= 1


def test_drawn_seeds_are_recorded_and_rebuild_the_same_configuration():
    first = RunContext()
    seeding = first.config["seeding"]
    again = RunContext(overrides={f"seeding.{key}": value for key, value in seeding.items()})
    assert again.config_sha256 == first.config_sha256


def test_every_problem_is_named_at_construction():
    with pytest.raises(InvalidSpecificationError) as caught:
        RunContext(algorithm="pp0", overrides={"env.nmae": "CartPole-v1"})
    message = str(caught.value)
    assert "ppo" in message
    assert "env.nmae" in message


def test_an_algorithm_config_object_equals_its_overrides():
    by_object = RunContext(algorithm=PPOAlgorithmConfig(lr=0.01), seed=1)
    by_override = RunContext(algorithm="ppo", overrides={"algorithm.lr": 0.01}, seed=1)
    assert by_object.config_sha256 == by_override.config_sha256


def test_the_callers_overrides_are_not_changed():
    overrides = dict(QUICK)
    RunContext(run_dir="somewhere", overrides=overrides)
    assert overrides == QUICK


def test_a_loaded_run_evaluates_and_acts_as_the_one_that_was_trained(trained):
    loaded = RunContext.load(trained.run_dir)
    assert loaded.evaluate(5).to_dict() == trained.evaluate(5).to_dict()
    observations = np.random.default_rng(0).uniform(-0.4, 0.4, size=(50, 4)).astype(np.float32)
    for observation in observations:
        assert loaded.compute_action(observation) == trained.compute_action({"observation": observation})


def test_a_saved_checkpoint_file_is_enough_to_act(trained, tmp_path):
    path = trained.save(tmp_path / "agent.ckpt")
    assert RunContext.load(path).evaluate(3).returns == trained.evaluate(3).returns


def test_evaluation_plays_raw_observations_of_a_bare_gymnasium_env_through_the_trained_stack(trained):
    """The report's first episode, replayed by hand with compute_action on a real environment."""
    report = trained.evaluate(1)
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=report.seeds[0])
    total, done = 0.0, False
    while not done:
        action = trained.compute_action(observation)["action"]
        observation, reward, terminated, truncated, _ = env.step(action)
        total, done = total + reward, terminated or truncated
    env.close()
    assert total == report.returns[0]


def test_processed_and_raw_environments_lead_to_the_same_actions(trained):
    raw, processed = trained.env_factory(), trained.env_factory(processed=True)
    raw.seed(3)
    processed.seed(3)
    seen, shown = raw.reset(), processed.reset()
    assert not np.allclose(seen["observation"], shown["observation"])
    for _ in range(10):
        action = trained.compute_action(seen)
        assert trained.policy.compute_action(shown) == action
        seen, shown = raw.step(action)[0], processed.step(action)[0]


def test_training_goes_on_from_a_loaded_directory(tmp_path):
    with RunContext(run_dir=tmp_path / "whole", overrides=QUICK, seed=1) as context:
        context.train(2)
        whole = context.train(1)
    with RunContext(run_dir=tmp_path / "parts", overrides=QUICK, seed=1) as context:
        context.train(2)
    with RunContext.load(tmp_path / "parts") as loaded:
        resumed = loaded.train(1)
    assert resumed.content_sha256 == whole.content_sha256


def test_the_best_checkpoint_still_acts_when_training_further_brings_no_better_one(tmp_path):
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as context:
        context.train(2)
        best = context.save(tmp_path / "best.ckpt").read_bytes()
    with RunContext.load(tmp_path) as loaded:
        loaded._held._resume.identity["counters"]["best_value"] = 1e9
        loaded.train(1)
        assert loaded.save(tmp_path / "again.ckpt").read_bytes() == best


def test_compute_action_leaves_the_observation_alone_and_refuses_one_that_does_not_fit(trained):
    observation = {"observation": np.zeros(4, np.float32)}
    trained.compute_action(observation)
    assert list(observation) == ["observation"]
    assert isinstance(observation["observation"], np.ndarray)
    with pytest.raises(SpaceMismatchError, match=r"shape \[4\], got \[3\]"):
        trained.compute_action([0.0, 0.0, 0.0])


def test_a_callable_makes_the_environments(tmp_path):
    quick = {key: value for key, value in QUICK.items() if key != "env.name"}
    with RunContext(
        run_dir=tmp_path, env=lambda: GymMazeEnv("CartPole-v0"), overrides=quick, seed=1
    ) as context:
        context.train(1)
        env = GymMazeEnv("CartPole-v0")
        observation = env.reset()
        for _ in range(10):
            observation, _reward, done, _info = env.step(context.compute_action(observation))
            if done:
                observation = env.reset()
        env.close()


def test_a_context_that_only_plays_says_so_when_asked_to_train():
    context = RunContext(policy="random_policy", overrides={"env.name": "CartPole-v1"}, seed=1)
    assert len(context.rollout(3).episodes) == 3
    with pytest.raises(InvalidSpecificationError, match="only plays"):
        context.train()


def test_a_recorded_rollout_keeps_every_step(trained):
    report = trained.rollout(2, record=True, seed=5)
    for episode in report.episodes:
        assert episode.trajectory is not None
        assert episode.length > 0


def test_a_closed_context_says_so(trained):
    trained.close()
    with pytest.raises(ContextClosedError):
        trained.train()


def test_a_directory_without_a_checkpoint_says_what_it_has(tmp_path):
    with pytest.raises(CheckpointError, match="it has none"):
        RunContext.load(tmp_path)
