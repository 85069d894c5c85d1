"""What was probably meant by a word that is not there: other frameworks' words by meaning, typing mistakes by letters.

A word of Stable-Baselines3, CleanRL, Tianshou, skrl or torchrl is translated before any likeness of letters is looked
for, since the likest word often means something else: ``n_steps`` is no ``max_env_steps``.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from maze_core.errors import Problem

LONGEST_WORD = 64
_SHORT = 4


class Meant(NamedTuple):
    """What a foreign word means here."""

    ours: str | None
    """Dotted key; None where there is no such thing here."""
    note: str = ""
    """What differs, as a sentence."""


_HALF = "Here the loss has a factor ½, as in CleanRL; elsewhere give twice the number."
_NOT_HERE = "It is not here yet."
_PESSIMISTIC = "It is a number here, that of clip_range there, beside pessimistic_value_clip=true."
_PER_UPDATE = "Samples per update are n_envs × n_rollout_steps here."
_MINIBATCHES = "It is samples per gradient step: n_envs × n_rollout_steps / minibatches."
_OF_NETWORKS = "It is a setting of each network: overrides={'model.policy.networks': [{…}]}."
_SB3_EPOCHS = "What Stable-Baselines3 calls n_epochs is n_optimization_epochs here."

_STACKED = "What stacks observations is wrappers={'maze_core.ObservationStackWrapper': {'n_stack': 4}}."
_BOTH_SCALED = (
    "What normalizes observations and rewards by running statistics is wrappers=running_normalization."
)

_TABLE: tuple[tuple[str | None, str, str], ...] = (
    ("algorithm.lr", "learning_rate learning_rate_start step_size pi_lr", ""),
    (
        "algorithm.critic_lr",
        "vf_lr value_lr critic_learning_rate qf_learning_rate qf_lr q_lr",
        "",
    ),
    (
        "algorithm.lr_schedule",
        "adaptive_lr kladaptivelr kladaptiverl",
        "lr_schedule=kl_adaptive of ppo steers by target_kl.",
    ),
    ("algorithm.lr_schedule", "anneal_lr learning_rate_scheduler lr_decay", ""),
    ("algorithm.gamma", "discount_factor discount gamma_discount", ""),
    ("algorithm.gae_lambda", "lam lambda lmbda", ""),
    ("algorithm.entropy_coef", "ent_coef entropy_loss_scale entropy_coeff entropy_beta entropy_cost", ""),
    ("algorithm.value_loss_coef", "vf_coef critic_coef value_coef vf_loss_coeff value_loss_scale", _HALF),
    ("algorithm.value_loss_coef", "value_coefficient value_function_coef baseline_cost", _HALF),
    (
        "algorithm.max_grad_norm",
        "grad_norm_clip clip_grad_norm grad_clip gradient_clip gradient_clip_norm",
        "",
    ),
    ("algorithm.vtrace_clip_rho_threshold", "clip_rho_threshold rho_bar", ""),
    ("algorithm.vtrace_clip_pg_rho_threshold", "clip_pg_rho_threshold", ""),
    ("algorithm.vtrace_clip_c_threshold", "c_bar", ""),
    ("algorithm.queue_out_of_sync_factor", "learner_queue_size max_learner_queue_size", "It counts updates."),
    ("algorithm.normalize_advantages", "norm_adv normalize_advantage", ""),
    ("algorithm.clip_range", "clip_coef eps_clip clip_epsilon ratio_clip clip_param", ""),
    ("algorithm.target_kl", "target_kl", ""),
    (
        "algorithm.target_kl",
        "kl_threshold desired_kl",
        "It is compared with the mean of a whole pass, without a factor.",
    ),
    ("algorithm.n_rollout_steps", "n_steps num_steps rollouts rollout_fragment_length", ""),
    ("algorithm.n_rollout_steps", "unroll_length horizon num_steps_per_env", ""),
    ("algorithm.n_rollout_steps", "train_batch_size", _PER_UPDATE),
    ("algorithm.batch_size", "sgd_minibatch_size minibatch_size mini_batch_size", ""),
    ("algorithm.batch_size", "num_minibatches n_minibatches mini_batches nminibatches", _MINIBATCHES),
    ("algorithm.n_optimization_epochs", "update_epochs learning_epochs ppo_epochs num_epochs", ""),
    (
        "algorithm.n_optimization_epochs",
        "repeat_per_collect num_sgd_iter noptepochs k_epochs num_learning_epochs",
        "",
    ),
    ("algorithm.total_env_steps", "n_timesteps total_timesteps timesteps", ""),
    ("algorithm.total_env_steps", "total_steps total_frames max_steps num_timesteps num_env_steps", ""),
    (
        "algorithm.epoch_length",
        "eval_freq eval_interval evaluation_interval",
        "It counts updates; an evaluation follows the last one.",
    ),
    ("algorithm.checkpoint_every", "save_freq save_interval checkpoint_interval", "It counts epochs."),
    ("algorithm.rollout_evaluator", "rollout_evaluator", ""),
    ("algorithm.rollout_evaluator.n_episodes", "n_eval_episodes n_episodes", ""),
    ("runner.n_envs", "n_envs num_envs concurrency n_workers num_workers num_env_runners training_num", ""),
    ("runner.n_envs", "num_actors", ""),
    ("runner.n_envs", "actors_batch_size", "An update learns from one rollout of every environment."),
    ("hidden_units", "policy_kwargs net_arch hidden_sizes hiddens fcnet_hiddens", _OF_NETWORKS),
    ("non_lin", "activation_fn", _OF_NETWORKS),
    ("weight_init", "ortho_init", "ortho_init=False is weight_init: torch_default. " + _OF_NETWORKS),
    ("model.gaussian.initial_log_std", "log_std_init init_log_std initial_log_std", ""),
    ("env.name", "env_id env_name gym_id id", ""),
    ("env.kwargs", "env_kwargs", ""),
    ("env.wrappers", "env_wrapper additional_wrappers", ""),
    ("wrappers", "frame_stack n_stack num_stack stack_size", _STACKED),
    (
        "maze_core.ObservationStackWrapper",
        "framestack vecframestack framestackobservation historywrapper",
        "",
    ),
    ("wrappers", "normalize vecnormalize vec_normalize norm_obs norm_reward", _BOTH_SCALED),
    ("maze_core.RewardNormalizationWrapper", "normalizereward", ""),
    ("maze_core.ObservationNormalizationWrapper", "normalizeobservation", ""),
    ("dataset.run", "input_data demonstrations expert_data expert_dataset dataset_path dataset_id", ""),
    ("initial.run", "input_dir pretrained pretrained_path load_path init_checkpoint", ""),
    ("algorithm.validation_percentage", "validation_split val_fraction test_size", "It is of 100."),
    (
        "algorithm.epoch_length",
        "eval_every_k_iterations",
        "It counts updates, which are passes over the episodes for bc.",
    ),
    ("name", "run_name experiment_name", ""),
    (None, "run_dir", ""),
    ("algorithm.clip_range_value", "clip_range_vf clip_predicted_values", ""),
    ("algorithm.clip_range_value", "clip_vloss value_clip use_clipped_value_loss", _PESSIMISTIC),
    (None, "vf_clip_param", "It clips the squared error, which is not here."),
    ("algorithm.optimizer.kind", "optimizer_class optim use_rms_prop", ""),
    ("algorithm.optimizer.eps", "adam_eps adam_epsilon optimizer_eps rms_prop_eps", ""),
    ("algorithm.optimizer.beta1", "betas adam_betas adam_beta1", "beta2 is the other one."),
    ("algorithm.optimizer.weight_decay", "weight_decay l2_reg", ""),
    ("algorithm.optimizer", "optimizer_kwargs", ""),
    ("algorithm.optimizer.momentum", "momentum", ""),
    ("algorithm.noise_stddev", "noise_stdev sigma perturbation_std", ""),
    ("algorithm.l2_penalty", "l2coeff l2_coeff l2_coef", ""),
    ("algorithm.n_rollouts_per_update", "popsize population_size pop_size episodes_per_batch", ""),
    ("algorithm.n_timesteps_per_update", "timesteps_per_batch", ""),
    (None, "ddpg trpo tqc rainbow dreamer", _NOT_HERE),
    ("model.gaussian.state_dependent_noise", "use_sde gsde", ""),
    ("model.gaussian.noise_ticks", "sde_sample_freq", "-1 is null here: once per rollout."),
    ("algorithm.uniform_warmup", "use_sde_at_warmup", "It is the other way round."),
    ("model.gaussian.use_expln", "use_expln", ""),
    (None, "kl_coeff kl_target", _NOT_HERE),
    (
        "algorithm.replay_capacity",
        "buffer_size replay_size memory_size replay_buffer_size buffer_capacity",
        "",
    ),
    ("algorithm.n_warmup_steps", "learning_starts start_steps random_steps initial_collect warmup_steps", ""),
    (
        "algorithm.n_rollout_steps",
        "train_freq train_frequency",
        "It counts ticks of all environments together: 1 with 8 environments is 8 steps.",
    ),
    (
        "algorithm.n_gradient_steps",
        "gradient_steps updates_per_step update_per_step utd_ratio",
        "It counts per update; null takes one per environment step.",
    ),
    (
        "algorithm.target_update_steps",
        "target_update_interval target_network_frequency target_update_freq target_network_update_freq",
        "It counts steps of all environments together.",
    ),
    ("algorithm.initial_epsilon", "exploration_initial_eps start_e eps_start epsilon_start", ""),
    ("algorithm.final_epsilon", "exploration_final_eps end_e eps_end epsilon_end", ""),
    (
        "algorithm.exploration_std",
        "exploration_noise action_noise noise_std",
        "It is where actions go from -1 to 1.",
    ),
    ("algorithm.exploration_noise", "noise_type ou_noise", ""),
    ("algorithm.target_std", "target_policy_noise policy_noise", ""),
    ("algorithm.target_noise_limit", "target_noise_clip noise_clip", ""),
    ("algorithm.tau", "polyak soft_update_coef", "Some count the other way: tau = 1 - polyak."),
    ("algorithm.double", "double_q is_double", ""),
    ("algorithm.duelling", "dueling", ""),
    ("algorithm.prioritized", "prioritized_replay prioritized_replay_buffer per", ""),
    ("algorithm.n_step_returns", "n_step estimation_step n_step_return multi_step", ""),
    ("algorithm.entropy_coef_lr", "alpha_lr ent_coef_lr temperature_lr", ""),
    ("algorithm.entropy_tuning", "auto_alpha autotune auto_entropy", ""),
)
"""Our key, the words of others that mean it, and what differs."""
FOREIGN: Mapping[str, Meant] = {
    word: Meant(ours, note) for ours, words, note in _TABLE for word in words.split()
}
"""Word → what it means here."""


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """The word that was probably meant: by meaning, or the candidate most like it; None where none is near."""
    if len(word) > LONGEST_WORD:  # comparing is quadratic, and nobody mistypes that much
        return None
    names = [str(name) for name in candidates]
    if (meant := FOREIGN.get(word.rpartition(".")[2].lower())) is not None and word not in names:
        return None if meant.ours is None else _from_here(meant.ours, names)
    by_case = [name for name in names if name.lower() == word.lower()]
    matches = by_case or difflib.get_close_matches(word, names)
    if not by_case and len(word) <= _SHORT:  # "sac" is no "a2c", though two letters of three agree
        matches = [name for name in matches if name[:1] == word[:1]]
    return matches[0] if matches else None


def _from_here(key: str, names: list[str]) -> str | None:
    """A dotted key as it is written where these names are; None where this algorithm has no such setting."""
    first, _, rest = key.partition(".")
    if first in names or key == "name":  # at the root, where other words may be the same
        return key if rest or key in names else None
    if first == "algorithm" and "epoch_length" in names:
        return rest if rest.partition(".")[0] in names else None
    return rest if rest in names else key


def unknown_word(
    path: str,
    message: str,
    word: object,
    allowed: Iterable[str],
    *,
    code: str = "unknown_key",
    beside: Iterable[str] = (),
    is_suggested: bool = True,
) -> Problem:
    """The problem of a word that is not among the allowed ones, with what was probably meant.

    Args:
        path: where it stands.
        message: that there is no such thing.
        word: the word.
        allowed: what there is.
        code: of the problem.
        beside: other words of the same place.
        is_suggested: look for what was meant; False where there are too many problems to read.
    """
    names, text = tuple(allowed), str(word)
    near = closest(text, names) if is_suggested else None
    meant = FOREIGN.get(text.rpartition(".")[2].lower())
    notes = [meant.note] if meant is not None and meant.note else []
    if (
        meant is not None
        and meant.ours is not None
        and "n_epochs" in {key.rpartition(".")[2] for key in beside}
    ):
        notes.append(_SB3_EPOCHS)
    return Problem(
        path=path[:200], message=" ".join([message, *notes]), code=code, allowed=names, did_you_mean=near
    )
