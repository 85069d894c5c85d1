"""Words of other libraries are understood by meaning, typing mistakes by letters, and a hint can be followed."""

import pytest

from maze_core import InvalidSpecificationError, PPOAlgorithmConfig, RunContext, compose_run, config_module
from maze_core.config.words import FOREIGN, closest
from maze_core.errors import Problem
from tests.maze_core.config.episodes import episodes_for

TABLE = {
    "algorithm.lr": ["learning_rate"],
    "algorithm.value_loss_coef": ["vf_coef", "critic_coef", "value_coefficient"],
    "algorithm.entropy_coef": ["ent_coef"],
    "algorithm.n_rollout_steps": ["n_steps", "num_steps", "rollouts"],
    "algorithm.n_optimization_epochs": [
        "update_epochs",
        "learning_epochs",
        "ppo_epochs",
        "num_learning_epochs",
    ],
    "algorithm.total_env_steps": [
        "n_timesteps",
        "total_timesteps",
        "total_steps",
        "total_frames",
        "num_timesteps",
    ],
    "runner.n_envs": ["n_envs", "num_envs"],
    "algorithm.batch_size": ["num_minibatches"],
    "algorithm.normalize_advantages": ["norm_adv", "normalize_advantage"],
    "algorithm.lr_schedule": ["anneal_lr"],
    "algorithm.gamma": ["discount_factor"],
    "algorithm.gae_lambda": ["lam"],
    "algorithm.target_kl": ["kl_threshold", "desired_kl"],
    "algorithm.epoch_length": ["eval_freq"],
    "algorithm.rollout_evaluator.n_episodes": ["n_eval_episodes"],
    "algorithm.checkpoint_every": ["save_freq"],
    "hidden_units": ["policy_kwargs", "net_arch"],
    "non_lin": ["activation_fn"],
    "algorithm.critic_lr": ["vf_lr"],
    "weight_init": ["ortho_init"],
    "model.gaussian.initial_log_std": ["log_std_init"],
    "model.gaussian.state_dependent_noise": ["use_sde"],
    "model.gaussian.noise_ticks": ["sde_sample_freq"],
    "algorithm.clip_range_value": ["clip_range_vf", "clip_vloss"],
}


def problem(**arguments: object) -> Problem:
    with pytest.raises(InvalidSpecificationError) as caught:
        compose_run(**arguments)
    return caught.value.problems[0]


@pytest.mark.parametrize(("ours", "word"), [(ours, word) for ours, words in TABLE.items() for word in words])
def test_a_foreign_word_leads_to_what_it_means(ours: str, word: str):
    assert problem(overrides={word: 1}).did_you_mean == ours
    inside = ours.removeprefix("algorithm.")
    assert problem(overrides={f"algorithm.{word}": 1}).did_you_mean == inside
    assert problem(algorithm={word: 1}).did_you_mean == inside
    with pytest.raises(InvalidSpecificationError, match=f"Did you mean '{inside}'"):
        PPOAlgorithmConfig(**{word: 1})


@pytest.mark.parametrize(
    "word",
    sorted(
        name
        for name, meant in FOREIGN.items()
        if meant.ours and "." in meant.ours and not meant.ours.startswith("maze_core.")
    ),
)
def test_every_hint_of_the_table_is_a_setting(word: str):
    key = FOREIGN[word].ours
    values = {"lr_schedule": "constant", "name": "CartPole-v1", "normalize_advantages": True, "gamma": 0.5}
    values |= {
        "wrappers": [],
        "exploration_noise": "normal",
        "kwargs": {},
        "rollout_evaluator": None,
        "kind": "rmsprop",
        "optimizer": {},
        "beta1": 0.5,
        "momentum": 0.5,
    }
    last = key.rpartition(".")[2]
    values |= dict.fromkeys(("double", "duelling", "prioritized", "entropy_tuning"), True)
    values |= dict.fromkeys(("state_dependent_noise", "use_expln", "uniform_warmup"), True)
    algorithm = next(
        (
            x
            for x in ("ppo", "dqn", "sac", "td3", "es", "impala", "bc")
            if last in config_module("algorithm", x)["config"]
        ),
        "bc" if key == "dataset.run" else "ppo",
    )
    elsewhere = episodes_for("bc") | {"overrides": {}} | episodes_for(algorithm)
    values["run"] = "run_1"
    overrides = elsewhere["overrides"] | {
        key: values.get(last, 0.1 if "cl" in last or last in ("lr", "gae_lambda") else 1)
    }
    if last in ("noise_ticks", "use_expln"):
        overrides["model.gaussian.state_dependent_noise"] = True
    assert compose_run(algorithm=algorithm, **elsewhere | {"overrides": overrides})


@pytest.mark.parametrize(
    ("algorithm", "word", "ours"),
    [
        ("ppo", "num_sgd_iter", "n_optimization_epochs"),
        ("ppo", "K_epochs", "n_optimization_epochs"),
        ("ppo", "train_batch_size", "n_rollout_steps"),
        ("ppo", "grad_clip", "max_grad_norm"),
        ("a2c", "target_kl", None),  # no target_return
        ("a2c", "buffer_size", None),
        ("dqn", "train_freq", "n_rollout_steps"),
        ("dqn", "learning_starts", "n_warmup_steps"),
        ("td3", "target_policy_noise", "target_std"),
        ("a2c", "num_sgd_iter", None),
        ("impala", "num_actors", "runner.n_envs"),
        ("impala", "actors_batch_size", "runner.n_envs"),
        ("impala", "rho_bar", "vtrace_clip_rho_threshold"),
        ("a2c", "rho_bar", None),
    ],
)
def test_words_of_another_library_or_algorithm_are_not_taken_by_their_letters(
    algorithm: str, word: str, ours: str | None
):
    assert problem(algorithm=algorithm, overrides={f"algorithm.{word}": 1}).did_you_mean == ours


def test_a_setting_is_not_taken_for_an_argument_of_the_same_name():
    fields = ["name", "env", "runner", "n_epochs", "experiment", "algorithm"]
    assert closest("env_id", fields) == "env.name"
    assert closest("env_id", ["name", "kwargs"]) == "name"
    assert closest("n_episodes", fields) == "algorithm.rollout_evaluator.n_episodes"
    assert closest("run_name", fields) == closest("experiment_name", fields) == "name"
    assert closest("run_dir", fields) is None


def test_what_is_not_here_has_no_suggestion_and_says_so():
    for word in ("trpo", "ddpg"):
        found = problem(algorithm=word)
        assert (found.did_you_mean, "not here yet" in found.message) == (None, True)
    assert "not here yet" in problem(overrides={"algorithm.kl_coeff": 0.2}).message
    assert problem(algorithm="a2c", overrides={"algorithm.update_epochs": 4}).did_you_mean is None


def test_differences_of_meaning_are_told():
    assert "twice the number" in problem(overrides={"algorithm.vf_coef": 0.5}).message
    pasted = problem(algorithm={"n_steps": 2048, "n_epochs": 10})
    assert "Stable-Baselines3 calls n_epochs is n_optimization_epochs" in pasted.message


@pytest.mark.parametrize(
    ("word", "candidates", "expected"),
    [
        ("PPO", ["a2c", "ppo"], "ppo"),
        ("sac", ["a2c"], None),
        ("xac", ["a2c"], None),
        ("pp0", ["a2c", "ppo"], "ppo"),
        ("learning_rate", ["lr", "lr_schedule"], "lr"),
        ("n_steps", ["max_env_steps", "n_rollout_steps"], "n_rollout_steps"),
        ("gama", ["gamma"], "gamma"),
        ("n_envs", ["n_envs"], "n_envs"),
    ],
)
def test_letters_come_after_meaning(word: str, candidates: list[str], expected: str | None):
    assert closest(word, candidates) == expected


@pytest.mark.parametrize("name", ["CartPole-v1", "ALE/Pong-v5", "mylab:Corridor-v0"])
def test_an_environment_id_in_the_place_of_a_module_is_told_its_own(name: str):
    found = problem(env=name)
    assert f"overrides={{'env.name': {name!r}}}" in found.message
    assert found.did_you_mean is None


class TestLength:
    """``total_env_steps`` is the length of a run."""

    def test_epochs_follow_from_it(self):
        tree = compose_run(overrides={"algorithm.total_env_steps": 100_000}).tree
        assert tree["algorithm"]["n_epochs"] == 25  # of 8 × 128 × 4 steps, rounded up
        assert RunContext.from_config(tree).config["algorithm"] == tree["algorithm"]

    @pytest.mark.parametrize(
        "arguments",
        [{"n_epochs": 5}, {"algorithm": {"n_epochs": 5}}, {"overrides": {"algorithm.n_epochs": 5}}],
    )
    def test_another_number_of_epochs_contradicts_it(self, arguments: dict):
        overrides = {"algorithm.total_env_steps": 100_000, **arguments.get("overrides", {})}
        assert problem(**{**arguments, "overrides": overrides}).code == "contradiction"


class TestEvaluation:
    @pytest.mark.parametrize(
        "off",
        [
            {"algorithm.rollout_evaluator": None},
            {"algorithm.rollout_evaluator": 0},
            {"algorithm.rollout_evaluator.n_episodes": 0},
            {"algorithm.rollout_evaluator.n_episodes": None},
            {"algorithm.eval_repeats": 0},
        ],
    )
    def test_it_can_be_switched_off(self, off: dict):
        with RunContext(configuration="test", overrides=off, silent=True, seed=1) as context:
            report = context.train(n_epochs=1)
            assert "eval/mean_return" not in report.metrics
            assert context.compute_action(context.env_factory().reset())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"overrides": {"algorithm.lr": "lin_1e-3"}}, "lr=1e-3 and lr_schedule='linear'"),
        ({"overrides": {"algorithm.clip_range": "lin_0.2"}}, "clip_range_schedule='linear'"),
        ({"overrides": {"algorithm.gae_lambda": "lin_0.9"}}, "gae_lambda=0.9: schedules are there for lr,"),
        (
            {
                "algorithm": "sac",
                "env": {"name": "Pendulum-v1"},
                "overrides": {"algorithm.entropy_coef": "lin_0.1"},
            },
            "entropy_coef=0.1: schedules are there for lr.",
        ),
        (
            {
                "algorithm": "td3",
                "env": {"name": "Pendulum-v1"},
                "overrides": {"algorithm.exploration_noise": 0.1},
            },
            "exploration_std=0.1",
        ),
        (
            {
                "wrappers": "vector_obs",
                "overrides": {"wrappers.ObservationNormalizationWrapper.clip_range": 10.0},
            },
            "such as [-10.0, 10.0]",
        ),
        ({"wrappers": {"gymnasium.wrappers.TimeAwareObservation": {}}}, "belongs into the environment"),
        (
            {"wrappers": [{"_target_": "gymnasium.wrappers.FrameStackObservation", "stack_size": 4}]},
            "env=lambda: FrameStackObservation(gymnasium.make(…))",
        ),
    ],
)
def test_a_refusal_tells_the_way_out(arguments: dict, said: str):
    assert said in problem(**arguments).message


def test_networks_may_have_no_hidden_layer():
    networks = [{"_target_": "FlattenConcatPolicyNetConfig", "hidden_units": []}]
    with RunContext(
        configuration="test", overrides={"model.policy.networks": networks}, silent=True, seed=1
    ) as context:
        context.train(n_epochs=1)
        assert context.compute_action(context.env_factory().reset())


@pytest.mark.parametrize(
    ("given", "near", "said"),
    [
        ({"overrides": {"algorithm.normalize": True}}, "wrappers", "is wrappers=running_normalization"),
        ({"overrides": {"frame_stack": 4}}, "wrappers", "ObservationStackWrapper': {'n_stack': 4}"),
        ({"overrides": {"env_wrapper": "x"}}, "env.wrappers", "no setting"),
        ({"wrappers": "VecNormalize"}, "wrappers", "is wrappers=running_normalization"),
        ({"wrappers": {"VecNormalize": {}}}, "wrappers", "is wrappers=running_normalization"),
        ({"wrappers": {"NormalizeReward": {}}}, "RewardNormalizationWrapper", "names no class"),
        ({"wrappers": {"FrameStack": {}}}, "ObservationStackWrapper", "names no class"),
    ],
)
def test_what_normalises_or_stacks_elsewhere_is_told_from_a_likeness_of_letters(given, near, said):
    found = problem(**given)
    assert found.did_you_mean == near
    assert said in found.message
