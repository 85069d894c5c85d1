"""Rules by which the keys of RL-Zoo3's entries become settings of ours; see :mod:`maze_core.config.rl_zoo`."""

from collections.abc import Callable, Mapping
from typing import Any

from maze_core.config.literals import python_value
from maze_core.config.nodes import TARGET, shown

Settings = Mapping[str, Any]
Rule = Callable[[Any, Settings], dict[str, Any]]
"""Value and all that is given → dotted key → value here."""

_LAYERS = {"sac": [256, 256], "td3": [400, 300]}
"""Algorithm → its hidden layers, where they are not [64, 64]."""
_LEAST_EPOCHS, _EPOCHS, _MOST_EPOCHS = 10, 20, 40


class UnsayableError(ValueError):
    """There are no such settings here; the message says why."""


def settings_of_environment(name: str) -> dict[str, Any]:
    """Where an environment comes from, and how policies are judged in it."""
    found: dict[str, Any] = {"env.name": f"pybullet_envs_gymnasium:{name}" if "Bullet" in name else name}
    if name.startswith("MiniGrid-"):  # there as here: by what they sample
        found["algorithm.rollout_evaluator.deterministic"] = False
    return found


def unknown_key(value: Any, given: Settings) -> dict[str, Any]:
    """The rule of a key that has none.

    Raises:
        UnsayableError: always.
    """
    raise UnsayableError(f"there is nothing like it here, {shown(value)}")


def _nothing(value: Any, given: Settings) -> dict[str, Any]:
    return {}


def _to(key: str) -> Rule:
    return lambda value, given: {key: value}


def _only(expected: Any) -> Rule:
    def rule(value: Any, given: Settings) -> dict[str, Any]:
        return {} if value == expected else unknown_key(value, given)

    return rule


def _scheduled(key: str) -> Rule:
    """Of a number, or of one that falls to 0 and is written ``lin_0.001``."""

    def rule(value: Any, given: Settings) -> dict[str, Any]:
        if value is None or (isinstance(value, int | float) and value < 0):
            return {key: None}
        kind, _, start = str(value).rpartition("_")
        if kind not in ("", "lin"):
            raise UnsayableError(f"there is no schedule {shown(value)}, only constant and linear")
        return {key: float(start), f"{key}_schedule": "linear" if kind else "constant"}

    return rule


def _policy(value: Any, given: Settings) -> dict[str, Any]:
    if value not in ("MlpPolicy", "MultiInputPolicy"):
        kinds = {"Cnn": "convolutional networks", "Lstm": "recurrent networks"}
        what = next((name for word, name in kinds.items() if word in str(value)), "other policies")
        raise UnsayableError(f"{value} needs {what}, which are not here")
    return {"model.gaussian.rescale": False} if given["algorithm"] in ("ppo", "a2c") else {}


def _n_envs(value: Any, given: Settings) -> dict[str, Any]:
    return {"runner.n_envs": value} | ({"runner.evaluation_envs": "own"} if value == 1 else {})


def _length(value: Any, given: Settings) -> dict[str, Any]:
    """As many epochs, about twenty, as leave the fewest updates over."""
    ticks = given["train_freq" if "train_freq" in given else "n_steps"]
    per_update = given["n_envs"] * (ticks if isinstance(ticks, int) else 1)
    n_updates = -(-int(value) // per_update)

    def left_over(n_epochs: int) -> tuple[int, int]:
        return -n_updates % n_epochs, abs(n_epochs - _EPOCHS)

    least = min(_LEAST_EPOCHS, n_updates)
    n_epochs = min(range(least, max(least, min(_MOST_EPOCHS, n_updates)) + 1), key=left_over)
    return {"algorithm.total_env_steps": int(value), "algorithm.epoch_length": -(-n_updates // n_epochs)}


def _learning_rate(value: Any, given: Settings) -> dict[str, Any]:
    found = _scheduled("algorithm.lr")(value, given)
    if given["algorithm"] == "sac" and "auto" in str(given["ent_coef"]):
        found["algorithm.entropy_coef_lr"] = found["algorithm.lr"]
    return found


def _steps(value: Any, given: Settings) -> dict[str, Any]:
    return {"algorithm.n_step_returns" if "train_freq" in given else "algorithm.n_rollout_steps": value}


def _train_freq(value: Any, given: Settings) -> dict[str, Any]:
    if not isinstance(value, int):
        raise UnsayableError("updates that wait for the end of an episode are not here")
    return {"algorithm.n_rollout_steps": value}


def _gradient_steps(value: Any, given: Settings) -> dict[str, Any]:
    return {"algorithm.n_gradient_steps": None if value < 0 else value}


def _entropy(value: Any, given: Settings) -> dict[str, Any]:
    if given["algorithm"] != "sac":
        return {"algorithm.entropy_coef": value}
    start = str(value).removeprefix("auto").removeprefix("_") or "1.0"
    return {"algorithm.entropy_coef": float(start), "algorithm.entropy_tuning": "auto" in str(value)}


def _optimizer(kwargs: Settings, given: Settings) -> dict[str, Any]:
    algorithm, has_rms_prop = given["algorithm"], given.get("use_rms_prop", False)
    kind = kwargs.get("optimizer_class", "RMSprop" if has_rms_prop else "Adam")
    if kind not in ("Adam", "RMSprop"):
        raise UnsayableError(f"there is no optimizer {kind} here")
    eps = (
        1e-5 if algorithm in ("ppo", "a2c") else 0.01 / given["batch_size"] if algorithm == "qrdqn" else 1e-8
    )
    settings = {"kind": kind.lower(), "eps": given.get("rms_prop_eps", eps) if has_rms_prop else eps}
    settings |= {"alpha": 0.99} if kind == "RMSprop" else {}
    changed = kwargs.get("optimizer_kwargs", {})
    if others := changed.keys() - {"eps", "weight_decay", "alpha"}:
        raise UnsayableError(f"the optimizer has no setting {', '.join(sorted(others))} here")
    return {f"algorithm.optimizer.{name}": value for name, value in {**settings, **changed}.items()}


def _model(value: Any, given: Settings) -> dict[str, Any]:
    algorithm, kwargs = given["algorithm"], python_value(value)
    is_on_policy = algorithm in ("ppo", "a2c")
    known = {"net_arch", "activation_fn", "ortho_init", "log_std_init", "use_expln", "n_quantiles"}
    if others := kwargs.keys() - known - {"optimizer_class", "optimizer_kwargs"}:
        raise UnsayableError(f"networks have no setting {', '.join(sorted(others))} here")
    layers = kwargs.get("net_arch", _LAYERS.get(algorithm, [64, 64]))
    if isinstance(layers, list) and len(layers) == 1 and isinstance(layers[0], dict):
        layers = layers[0]  # as older files have it
    layers = layers if isinstance(layers, dict) else {"pi": layers, "vf": layers, "qf": layers}
    of_both = {
        "non_lin": kwargs.get("activation_fn", "Tanh" if is_on_policy else "ReLU").lower(),
        "weight_init": "orthogonal" if is_on_policy and kwargs.get("ortho_init", True) else "torch_default",
    }

    def network(name: str, units: Any) -> list[Any]:
        return [{TARGET: f"maze_core.FlattenConcat{name}NetConfig", "hidden_units": [*units], **of_both}]

    found = {**_optimizer(kwargs, given), "model.policy.networks": network("Policy", layers["pi"])}
    if "dqn" not in algorithm:
        found["model.critic.networks"] = network("StateValue", layers["vf" if is_on_policy else "qf"])
    if algorithm == "qrdqn":
        found["algorithm.n_quantiles"] = kwargs.get("n_quantiles", 200)
    if is_on_policy or given.get("use_sde"):
        noise = {"log_std_init": "initial_log_std"}
        noise |= {"use_expln": "use_expln"} if given.get("use_sde") else {}
        found |= {f"model.gaussian.{ours}": kwargs[name] for name, ours in noise.items() if name in kwargs}
    return found


def _normalize(value: Any, given: Settings) -> dict[str, Any]:
    kwargs = python_value(value)
    if isinstance(kwargs, bool):
        kwargs = {"norm_obs": kwargs, "norm_reward": kwargs}
    if others := kwargs.keys() - {"norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma"}:
        raise UnsayableError(f"normalisation has no setting {', '.join(sorted(others))} here")
    found: dict[str, Any] = {}
    if kwargs.get("norm_obs", True):
        clip = kwargs.get("clip_obs", 10.0)
        found["wrappers.maze_core.ObservationNormalizationWrapper"] = {
            "clip_range": [-clip, clip],
            "running": "always",
        }
        found["runner.normalization_samples"] = 0
    if kwargs.get("norm_reward", True):
        clip = kwargs.get("clip_reward", 10.0)
        gamma = given["gamma"]
        found["wrappers.maze_core.RewardNormalizationWrapper"] = {"clip_range": [-clip, clip], "gamma": gamma}
    return found


def _stack(value: Any, given: Settings) -> dict[str, Any]:
    return {"wrappers.maze_core.ObservationStackWrapper": {"n_stack": value}} if value and value > 1 else {}


def _env_wrapper(value: Any, given: Settings) -> dict[str, Any]:
    entries = value if isinstance(value, list) else [value]
    nodes = [
        {TARGET: name, **(kwargs or {})}
        for entry in entries
        for name, kwargs in (entry.items() if isinstance(entry, dict) else [(entry, None)])
    ]
    return {"env.wrappers": nodes}


def _noise_type(value: Any, given: Settings) -> dict[str, Any]:
    kinds = {"normal": "normal", "ornstein-uhlenbeck": "ornstein_uhlenbeck"}
    if value not in kinds:
        raise UnsayableError(f"there is no noise of the kind {value}, only {' and '.join(kinds)}")
    return {"algorithm.exploration_noise": kinds[value]}


def _state_dependent_noise(value: Any, given: Settings) -> dict[str, Any]:
    if not value:
        return {}
    ticks = given.get("sde_sample_freq", -1)
    return {
        "model.gaussian.state_dependent_noise": True,
        "model.gaussian.noise_ticks": ticks if ticks > 0 else None,
    }


RULES: Mapping[str, Rule] = {
    "batch_size": _to("algorithm.batch_size"),
    "buffer_size": _to("algorithm.replay_capacity"),
    "clip_range": _scheduled("algorithm.clip_range"),
    "clip_range_vf": _scheduled("algorithm.clip_range_value"),
    "ent_coef": _entropy,
    "env_kwargs": lambda value, given: {"env.kwargs": python_value(value)},
    "env_wrapper": _env_wrapper,
    "exploration_final_eps": _to("algorithm.final_epsilon"),
    "exploration_fraction": _to("algorithm.exploration_fraction"),
    "exploration_initial_eps": _to("algorithm.initial_epsilon"),
    "frame_stack": _stack,
    "gae_lambda": _to("algorithm.gae_lambda"),
    "gamma": _to("algorithm.gamma"),
    "gradient_steps": _gradient_steps,
    "learning_rate": _learning_rate,
    "learning_starts": _to("algorithm.n_warmup_steps"),
    "max_grad_norm": _to("algorithm.max_grad_norm"),
    "n_envs": _n_envs,
    "n_epochs": _to("algorithm.n_optimization_epochs"),
    "n_steps": _steps,
    "n_timesteps": _length,
    "noise_std": _to("algorithm.exploration_std"),
    "noise_type": _noise_type,
    "normalize": _normalize,
    "normalize_advantage": _to("algorithm.normalize_advantages"),
    "optimize_memory_usage": _only(False),
    "policy": _policy,
    "policy_delay": _to("algorithm.policy_delay"),
    "policy_kwargs": _model,
    "rms_prop_eps": _nothing,
    "sde_sample_freq": _nothing,
    "target_entropy": _only("auto"),
    "target_kl": lambda value, given: {"algorithm.target_kl": 1.5 * value if value else None},
    "target_noise_clip": _to("algorithm.target_noise_limit"),
    "target_policy_noise": _to("algorithm.target_std"),
    "target_update_interval": lambda value, given: (
        {"algorithm.target_update_steps": value, "algorithm.double": False}
        if "dqn" in given["algorithm"]
        else _only(1)(value, given)
    ),
    "tau": _to("algorithm.tau"),
    "train_freq": _train_freq,
    "use_rms_prop": _nothing,
    "use_sde": _state_dependent_noise,
    "use_sde_at_warmup": lambda value, given: {
        "algorithm.uniform_warmup": not (value and given.get("use_sde"))
    },
    "vf_coef": lambda value, given: {"algorithm.value_loss_coef": 2 * value},
}
"""Key → its rule; what others need beside their own key has nothing to say itself."""
