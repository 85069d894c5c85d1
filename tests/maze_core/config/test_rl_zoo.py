"""Entries of RL-Zoo3 in our words: every key, the defaults behind it, and what is refused by name.

What is expected follows from what the settings mean in Stable-Baselines3.
"""

import pytest

from maze_core.config import compose_run
from maze_core.config.rl_zoo import DEFAULTS, translate
from maze_core.config.rl_zoo_rules import RULES

NORMALIZES = "wrappers.maze_core.ObservationNormalizationWrapper"
SCALES = "wrappers.maze_core.RewardNormalizationWrapper"


def algorithm(**settings):
    return {
        f"algorithm.{name.replace('optimizer_', 'optimizer.')}": value for name, value in settings.items()
    }


def network(name, units, non_lin, weight_init):
    target = f"maze_core.FlattenConcat{name}NetConfig"
    return [{"_target_": target, "hidden_units": units, "non_lin": non_lin, "weight_init": weight_init}]


def policy(*layers):
    return {"model.policy.networks": network("Policy", *layers)}


def critic(*layers):
    return {"model.critic.networks": network("StateValue", *layers)}


def normalizes(clip):
    return {NORMALIZES: {"clip_range": [-clip, clip], "running": "always"}}


def scales(clip, gamma):
    return {SCALES: {"clip_range": [-clip, clip], "gamma": gamma}}


def said(algorithm, entry, env="Env-v0"):
    """Dotted key → value, of the entry and the defaults behind it."""
    found = translate(entry, algorithm, env)
    assert found.refused == {}
    return {
        key: value
        for values in (*found.assumed.values(), *found.said.values())
        for key, value in values.items()
    }


SAID = [
    ("ppo", {"batch_size": 32}, algorithm(batch_size=32)),
    ("ppo", {"clip_range": 0.3}, algorithm(clip_range=0.3, clip_range_schedule="constant")),
    ("ppo", {"clip_range": "lin_0.4"}, algorithm(clip_range=0.4, clip_range_schedule="linear")),
    ("ppo", {"clip_range_vf": "lin_0.4"},
     algorithm(clip_range_value=0.4, clip_range_value_schedule="linear")),
    ("ppo", {"clip_range_vf": -1}, algorithm(clip_range_value=None)),
    ("ppo", {"ent_coef": 0.01}, algorithm(entropy_coef=0.01)),
    ("sac", {"ent_coef": 0.1}, algorithm(entropy_coef=0.1, entropy_tuning=False)),
    ("sac", {"ent_coef": "auto"}, algorithm(entropy_coef=1.0, entropy_tuning=True)),
    ("sac", {"ent_coef": "auto_0.2"}, algorithm(entropy_coef=0.2, entropy_tuning=True)),
    ("ppo", {"env_kwargs": "dict(size=3)"}, {"env.kwargs": {"size": 3}}),
    ("ppo", {"env_wrapper": "a.B"}, {"env.wrappers": [{"_target_": "a.B"}]}),
    ("ppo", {"env_wrapper": [{"a.B": {"n": 2}}, "c.D"]},
     {"env.wrappers": [{"_target_": "a.B", "n": 2}, {"_target_": "c.D"}]}),
    ("dqn", {"exploration_final_eps": 0.1}, algorithm(final_epsilon=0.1)),
    ("dqn", {"exploration_fraction": 0.3}, algorithm(exploration_fraction=0.3)),
    ("dqn", {"exploration_initial_eps": 0.9}, algorithm(initial_epsilon=0.9)),
    ("ppo", {"frame_stack": 3}, {"wrappers.maze_core.ObservationStackWrapper": {"n_stack": 3}}),
    ("ppo", {"gae_lambda": 0.8}, algorithm(gae_lambda=0.8)),
    ("ppo", {"gamma": 0.9}, algorithm(gamma=0.9)),
    ("sac", {"gradient_steps": 8}, algorithm(n_gradient_steps=8)),
    ("sac", {"gradient_steps": -1}, algorithm(n_gradient_steps=None)),
    ("ppo", {"learning_rate": 0.00025}, algorithm(lr=0.00025, lr_schedule="constant")),
    ("ppo", {"learning_rate": "lin_2.5e-4"}, algorithm(lr=0.00025, lr_schedule="linear")),
    ("sac", {"learning_rate": 0.001}, algorithm(lr=0.001, entropy_coef_lr=0.001)),
    ("sac", {"learning_starts": 9}, algorithm(n_warmup_steps=9)),
    ("ppo", {"max_grad_norm": 5}, algorithm(max_grad_norm=5)),
    ("ppo", {"n_envs": 16}, {"runner.n_envs": 16}),
    ("ppo", {"n_envs": 1}, {"runner.n_envs": 1, "runner.evaluation_envs": "own"}),
    ("ppo", {"n_epochs": 20}, algorithm(n_optimization_epochs=20)),
    ("ppo", {"n_steps": 16}, algorithm(n_rollout_steps=16)),
    ("dqn", {"n_steps": 3}, algorithm(n_step_returns=3)),
    ("td3", {"noise_std": 0.2}, algorithm(exploration_std=0.2)),
    ("td3", {"noise_type": "normal"}, algorithm(exploration_noise="normal")),
    ("td3", {"noise_type": "ornstein-uhlenbeck"}, algorithm(exploration_noise="ornstein_uhlenbeck")),
    ("ppo", {"normalize_advantage": False}, algorithm(normalize_advantages=False)),
    ("dqn", {"optimize_memory_usage": False}, {}),
    ("td3", {"policy_delay": 3}, algorithm(policy_delay=3)),
    ("ppo", {"sde_sample_freq": 4}, {}),
    ("sac", {"target_entropy": "auto"}, {}),
    ("ppo", {"target_kl": 0.02}, algorithm(target_kl=0.03)),
    ("td3", {"target_noise_clip": 0.4}, algorithm(target_noise_limit=0.4)),
    ("td3", {"target_policy_noise": 0.1}, algorithm(target_std=0.1)),
    ("dqn", {"target_update_interval": 600}, algorithm(target_update_steps=600, double=False)),
    ("sac", {"target_update_interval": 1}, {}),
    ("sac", {"tau": 0.01}, algorithm(tau=0.01)),
    ("dqn", {"train_freq": 16}, algorithm(n_rollout_steps=16)),
    ("dqn", {"buffer_size": 77}, algorithm(replay_capacity=77)),
    ("sac", {"use_sde_at_warmup": False}, {"algorithm.uniform_warmup": True}),
    ("sac", {"use_sde_at_warmup": True}, {"algorithm.uniform_warmup": True}),
    ("sac", {"use_sde_at_warmup": True, "use_sde": True}, {"algorithm.uniform_warmup": False}),
    ("ppo", {"use_sde": True},
     {"model.gaussian.state_dependent_noise": True, "model.gaussian.noise_ticks": None}),
    ("ppo", {"use_sde": True, "sde_sample_freq": 4}, {"model.gaussian.noise_ticks": 4}),
    ("a2c", {"use_rms_prop": False}, algorithm(optimizer_kind="adam", optimizer_eps=1e-05)),
    ("a2c", {"rms_prop_eps": 0.001},
     algorithm(optimizer_kind="rmsprop", optimizer_eps=0.001, optimizer_alpha=0.99)),
    ("ppo", {"vf_coef": 0.25}, algorithm(value_loss_coef=0.5)),
    ("ppo", {"policy": "MlpPolicy"}, {"model.gaussian.rescale": False}),
    ("ppo", {"policy": "MultiInputPolicy"}, {"model.gaussian.rescale": False}),
    ("ppo", {},
     algorithm(optimizer_kind="adam", optimizer_eps=1e-05)
     | policy([64, 64], "tanh", "orthogonal") | critic([64, 64], "tanh", "orthogonal")),
    ("ppo", {"policy_kwargs": "dict(log_std_init=-2, ortho_init=False, activation_fn=nn.ReLU, "
     "net_arch=dict(pi=[9], vf=[8, 7]))"},
     policy([9], "relu", "torch_default") | critic([8, 7], "relu", "torch_default")
     | {"model.gaussian.initial_log_std": -2}),
    ("ppo", {"policy_kwargs": "dict(net_arch=[dict(pi=[9], vf=[8, 7])])"},
     policy([9], "tanh", "orthogonal") | critic([8, 7], "tanh", "orthogonal")),
    ("ppo", {"policy_kwargs": "dict(optimizer_class=th.optim.RMSprop, optimizer_kwargs=dict(weight_decay=0.1))"},
     algorithm(optimizer_kind="rmsprop", optimizer_weight_decay=0.1)),
    ("sac", {"policy_kwargs": "dict(net_arch=dict(pi=[9], qf=[8]))"},
     policy([9], "relu", "torch_default") | critic([8], "relu", "torch_default")),
    ("sac", {"use_sde": True, "policy_kwargs": "dict(log_std_init=-3, use_expln=True)"},
     {"model.gaussian.initial_log_std": -3, "model.gaussian.use_expln": True}
     | policy([256, 256], "relu", "torch_default")),
    ("td3", {},
     algorithm(optimizer_eps=1e-08) | policy([400, 300], "relu", "torch_default")),
    ("qrdqn", {"policy_kwargs": "dict(n_quantiles=25)"}, algorithm(n_quantiles=25, optimizer_eps=0.0003125)),
    ("qrdqn", {},
     algorithm(n_quantiles=200, max_grad_norm=None) | policy([64, 64], "relu", "torch_default")),
    ("ppo", {"normalize": True, "gamma": 0.9},
     normalizes(10.0) | scales(10.0, 0.9) | {"runner.normalization_samples": 0}),
    ("ppo", {"normalize": "dict(clip_obs=5.0, clip_reward=2.0)"},
     normalizes(5.0) | scales(2.0, 0.99)),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "entry", "expected"), SAID)
def test_a_key_means_here_what_it_means_there(algorithm, entry, expected):
    found = said(algorithm, entry)
    assert found | expected == found


def test_every_key_with_a_rule_is_tried():
    assert {key for _, entry, _ in SAID for key in entry} | {"n_timesteps"} == set(RULES)


@pytest.mark.parametrize(
    ("entry", "absent"),
    [
        ({"normalize": False}, [NORMALIZES, SCALES]),
        (
            {"normalize": "{'norm_obs': False, 'norm_reward': True}"},
            [NORMALIZES, "runner.normalization_samples"],
        ),
        ({"normalize": {"norm_obs": True, "norm_reward": False}}, [SCALES]),
        ({"frame_stack": 1}, ["wrappers.maze_core.ObservationStackWrapper"]),
        ({"use_sde": False, "sde_sample_freq": 4}, ["model.gaussian.noise_ticks"]),
        ({"n_envs": 2}, ["runner.evaluation_envs"]),
    ],
)
def test_what_is_off_there_is_left_out(entry, absent):
    assert not said("ppo", entry).keys() & set(absent)


def test_settings_of_gaussians_count_for_sac_only_with_its_noise():
    assert "model.gaussian.initial_log_std" not in said("sac", {"policy_kwargs": "dict(log_std_init=-3)"})
    assert "model.critic.networks" not in said("dqn", {})
    assert "model.gaussian.rescale" not in said("td3", {})


@pytest.mark.parametrize(
    ("algorithm", "entry", "n_updates", "n_left_over"),
    [
        ("ppo", {"n_timesteps": 1e5, "n_envs": 8, "n_steps": 32}, 391, 0),  # 17 · 23
        ("a2c", {"n_timesteps": 5e5, "n_envs": 8}, 12_500, 0),
        ("ppo", {"n_timesteps": 1e6, "n_envs": 16, "n_steps": 16}, 3907, 3),  # a prime but for 3
        ("dqn", {"n_timesteps": 5e4, "train_freq": 256}, 196, 0),
        ("ppo", {"n_timesteps": 6000, "n_envs": 1, "n_steps": 2000}, 3, 0),
    ],
)
def test_a_run_is_as_long_as_there_up_to_whole_epochs(algorithm, entry, n_updates, n_left_over):
    found = said(algorithm, entry)
    assert found["algorithm.total_env_steps"] == entry["n_timesteps"]
    per_epoch = found["algorithm.epoch_length"]
    n_epochs = -(-n_updates // per_epoch)
    assert n_epochs * per_epoch - n_updates == n_left_over
    assert min(10, n_updates) <= n_epochs <= 40


def test_of_equally_long_runs_the_one_of_about_twenty_epochs_is_taken():
    assert said("a2c", {"n_timesteps": 5 * 4800})["algorithm.epoch_length"] == 4800 // 20


def test_environments_are_named_where_they_come_from_and_judged_as_there():
    assert said("ppo", {}, "AntBulletEnv-v0")["env.name"] == "pybullet_envs_gymnasium:AntBulletEnv-v0"
    assert said("ppo", {}, "MiniGrid-Empty-v0")["algorithm.rollout_evaluator.deterministic"] is False
    assert "algorithm.rollout_evaluator.deterministic" not in said("ppo", {}, "Ant-v4")
    assert said("ppo", {}, "Ant-v4")["env.name"] == "Ant-v4"


@pytest.mark.parametrize(
    ("algorithm", "entry", "key", "reason"),
    [
        ("ppo", {"policy": "CnnPolicy"}, "policy", "CnnPolicy needs convolutional networks"),
        ("ppo", {"policy": "MlpLstmPolicy"}, "policy", "recurrent networks"),
        ("ppo", {"policy": "mine.Policy"}, "policy", "other policies"),
        ("ppo", {"callback": "x"}, "callback", "nothing like it here, 'x'"),
        ("ppo", {"learning_rate": "cos_0.1"}, "learning_rate", "no schedule 'cos_0.1'"),
        ("sac", {"train_freq": [1, "episode"]}, "train_freq", "the end of an episode"),
        ("sac", {"target_update_interval": 2}, "target_update_interval", "nothing like it here, 2"),
        ("td3", {"noise_type": "pink"}, "noise_type", "no noise of the kind pink"),
        ("ppo", {"normalize": "dict(epsilon=1)"}, "normalize", "no setting epsilon"),
        ("ppo", {"policy_kwargs": "dict(b=1, a=2)"}, "policy_kwargs", "no setting a, b"),
        ("ppo", {"policy_kwargs": "dict(optimizer_class=Lion)"}, "policy_kwargs", "no optimizer Lion"),
        ("ppo", {"policy_kwargs": "dict(optimizer_kwargs=dict(lr=1))"}, "policy_kwargs", "no setting lr"),
        ("ppo", {"policy_kwargs": "dict(net_arch=dict(pi=[8]))"}, "policy_kwargs", "cannot be read"),
        ("ppo", {"policy_kwargs": "exec('x')"}, "policy_kwargs", "is more than a value"),
        ("ppo", {"vf_coef": None}, "vf_coef", "None cannot be read"),
        ("ppo", {"n_envs": 0}, "n_timesteps", "cannot be read"),
        ("ppo", {"learning_rate": "fast"}, "learning_rate", "could not convert"),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_key(algorithm, entry, key, reason):
    refused = translate(entry, algorithm, "Env-v0").refused
    assert list(refused) == [key]
    assert reason in refused[key]


def test_a_stack_is_put_above_normalisation():
    tree = translate({"frame_stack": 4, "normalize": True}, "ppo", "Env-v0").tree()
    assert [name.rpartition(".")[2] for name in tree["wrappers"]] == [
        "ObservationNormalizationWrapper",
        "RewardNormalizationWrapper",
        "ObservationStackWrapper",
    ]


@pytest.mark.parametrize("algorithm", DEFAULTS)
def test_an_empty_entry_is_what_stable_baselines3_does_by_default(algorithm):
    """And nothing that only this library has is on."""
    run = compose_run(algorithm=algorithm, overrides=said(algorithm, {}, "CartPole-v1"), seed=1)
    found = run.tree["algorithm"]
    assert found["total_env_steps"] == 1_000_000
    off = {"duelling": False, "double": False, "prioritized": False, "n_step_returns": 1, "target_kl": None,
           "clip_range_value": None, "critic_lr": None, "policy_loss_coef": 1.0, "critic_burn_in_epochs": 0,
           "entropy_coef_schedule": "constant", "target_entropy_multiplier": 1.0, "patience": None}  # fmt: skip
    assert {name: found[name] for name in off if name in found} == {
        name: value for name, value in off.items() if name in found
    }
    assert run.tree["wrappers"] == []
