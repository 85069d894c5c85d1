"""From a saved model of Stable-Baselines3 to a configuration of ours and the weights of its policy.

Where its parts lie, by algorithm:

========= ============================== ===========================================================
          layers                         what acts
========= ============================== ===========================================================
PPO, A2C  mlp_extractor.policy_net, and  Categorical, MultiCategorical, Bernoulli, or a Gaussian
          action_net                     whose log_std is a parameter; numbers clipped, never scaled
SAC       actor.latent_pi, and actor.mu  tanh of a Gaussian, from -1 and 1 to the bounds of the Box
          beside actor.log_std
TD3, DDPG actor.mu                       tanh, from -1 and 1 to the bounds of the Box
DQN       q_net.q_net                    the best of the values, with the last ε where it samples
========= ============================== ===========================================================

With ``use_sde`` log_std is a matrix, features by numbers. What a network reads is the same in both: observations side
by side in the order of the space, categories as indicators, numbers as float32.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from gymnasium import spaces

from maze_core.config.nodes import shown
from maze_core.data.flat_space import form_of
from maze_core.errors import InvalidSpecificationError
from maze_core.models.activations import ACTIVATIONS, activation_name
from maze_core.models.heads import MEAN_LIMIT
from maze_core.sb3.files import SavedModel
from maze_core.types import Array, FloatArray, Tree

ALGORITHMS: Final = ("ppo", "a2c", "sac", "td3", "dqn")
_BY_MODULE = {
    "stable_baselines3.sac.policies": "sac",
    "stable_baselines3.td3.policies": "td3",
    "stable_baselines3.dqn.policies": "dqn",
}
_ACTORS = {"ppo": ("mlp_extractor.policy_net.", "action_net.", "log_std"), "sac": ("actor.",)}
_ACTORS |= {"a2c": _ACTORS["ppo"], "td3": ("actor.",), "dqn": ("q_net.",)}
_HARMLESS = {
    "net_arch", "activation_fn", "ortho_init", "log_std_init", "use_sde", "optimizer_class", "optimizer_kwargs",
    "share_features_extractor", "n_critics", "use_expln", "full_std", "normalize_images",
}  # fmt: skip
"""Settings of policies that change nothing of how one acts, or that weights and these settings tell."""
_AS_GIVEN: Mapping[str, Any] = {
    "clip_mean": MEAN_LIMIT,
    "squash_output": False,
    "features_extractor_kwargs": {},
    "dist_kwargs": None,
}
"""Settings with the one value that can be said here."""
_NO_FEATURES = ("torch_layers.FlattenExtractor", "torch_layers.CombinedExtractor")

Layer = tuple[FloatArray, FloatArray]
"""Weight ``[n_out, n_in]`` and bias ``[n_out]``."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A policy of Stable-Baselines3 as it is said here."""

    algorithm: str
    non_lin: str
    layers: Sequence[Layer]
    """Hidden ones, and the one that gives the logits."""
    parameter: FloatArray | None
    """What its heads have beside the network."""
    critic: Sequence[Layer] = ()
    """Of a value of states, where the file has one."""
    gaussian: Tree = field(default_factory=dict)
    gamma: float = 0.99

    @property
    def overrides(self) -> Tree:
        """Settings of a run whose model has these networks."""
        layers = {"non_lin": self.non_lin}
        policy = {**layers, "hidden_units": _widths(self.layers)}
        critic = {**layers, "hidden_units": _widths(self.critic or self.layers)}
        return {
            "algorithm.gamma": self.gamma,
            "model.policy.networks": [{"_target_": "maze_core.FlattenConcatPolicyNetConfig", **policy}],
            "model.critic.networks": [{"_target_": "maze_core.FlattenConcatStateValueNetConfig", **critic}],
            **{f"model.gaussian.{name}": value for name, value in self.gaussian.items()},
        }


def translate(model: SavedModel, action_space: spaces.Dict) -> Translation:
    """Say a saved model's policy here.

    Args:
        model: as it was read.
        action_space: of the environment that it is to act in.

    Raises:
        InvalidSpecificationError: it has a policy that cannot be said here.
    """
    algorithm = _algorithm(model)
    kwargs = _policy_kwargs(model)
    _refuse_settings(model, kwargs)
    tensors = dict(model.tensors)
    strange = [name for name in tensors if "features_extractor." in name]
    if strange:
        raise _problem(
            model, f"its features are made by a network of their own ({strange[0]}), as CnnPolicy has"
        )
    uses_sde, gaussian = model.data.get("use_sde") or False, {}
    if uses_sde not in (True, False):
        raise _problem(model, f"its use_sde is {shown(uses_sde)}, which is neither true nor false")
    if isinstance(next(iter(action_space.values())), spaces.Box) and algorithm != "td3":
        gaussian["rescale"] = algorithm == "sac"
        if uses_sde:
            gaussian |= {"state_dependent_noise": True, "use_expln": bool(kwargs.get("use_expln", False))}
    parts = _Parts(model, tensors, uses_sde=uses_sde)
    layers, parameter = getattr(parts, algorithm.replace("a2c", "ppo"))()
    parts.refuse_the_rest(_ACTORS[algorithm])
    return Translation(
        algorithm=algorithm,
        non_lin=_activation(model, kwargs, "tanh" if algorithm in ("ppo", "a2c") else "relu"),
        layers=layers,
        parameter=parameter,
        critic=parts.critic() if algorithm in ("ppo", "a2c") else (),
        gaussian=gaussian,
        gamma=_share(model, "gamma", 0.99),
    )


class _Parts:
    """Takes the layers of a policy out of the tensors of a file."""

    def __init__(self, model: SavedModel, tensors: dict[str, Array], *, uses_sde: bool) -> None:
        self._model, self._tensors, self._uses_sde = model, tensors, uses_sde

    def ppo(self) -> tuple[list[Layer], FloatArray | None]:
        """Layers and log-std of PPO and A2C."""
        layers = [*self._layers("mlp_extractor.policy_net"), self._layer("action_net")]
        return layers, self._log_std("log_std", layers) if "log_std" in self._tensors else None

    def sac(self) -> tuple[list[Layer], FloatArray | None]:
        """Layers of SAC: means, and beside them the log-std, or behind the network those of its noise."""
        hidden = self._layers("actor.latent_pi")
        if self._uses_sde:
            layers = [*hidden, self._layer("actor.mu.0")]
            return layers, self._log_std("actor.log_std", layers)
        mean, log_std = self._layer("actor.mu"), self._layer("actor.log_std")
        both = [np.concatenate(pair) for pair in zip(mean, log_std, strict=True)]
        return [*hidden, (both[0], both[1])], None

    def td3(self) -> tuple[list[Layer], FloatArray | None]:
        """Layers of TD3 and DDPG; ``predict`` explores with none of their noise."""
        return self._layers("actor.mu"), np.zeros(1, np.float32)

    def dqn(self) -> tuple[list[Layer], FloatArray | None]:
        """Layers of DQN, and its ε."""
        epsilon = _share(self._model, "exploration_rate", 0.0)
        return self._layers("q_net.q_net"), np.array([epsilon], np.float32)

    def critic(self) -> list[Layer]:
        """Layers of what values states."""
        if "value_net.weight" not in self._tensors:
            return []
        return [*self._layers("mlp_extractor.value_net"), self._layer("value_net")]

    def refuse_the_rest(self, prefixes: Sequence[str]) -> None:
        """Refuse weights of the actor that nobody took."""
        rest = [name for name in self._tensors if name.startswith(tuple(prefixes))]
        if rest:
            raise _problem(self._model, f"its policy has weights that no MlpPolicy has ({min(rest)})")

    def _layers(self, name: str) -> list[Layer]:
        found = {re.fullmatch(rf"{re.escape(name)}\.(\d+)\.weight", key) for key in self._tensors} - {None}
        numbers = sorted(int(match[1]) for match in found if match is not None)
        if numbers != [2 * i for i in range(len(numbers))]:
            raise _problem(self._model, f"there is more than layers and activations between them in {name}")
        return [self._layer(f"{name}.{number}") for number in numbers]

    def _layer(self, name: str) -> Layer:
        weight, bias = (self._tensors.pop(f"{name}.{part}", np.empty(0)) for part in ("weight", "bias"))
        is_layer = weight.ndim == 2 and bias.shape == weight.shape[:1] and weight.size
        if not is_layer or weight.dtype != np.float32 or bias.dtype != np.float32:
            raise _problem(self._model, f"{name} is no layer of float32 with a bias")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise _problem(self._model, f"{name} has weights that are not finite")
        return weight, bias

    def _log_std(self, name: str, layers: Sequence[Layer]) -> FloatArray:
        n_out, n_in = layers[-1][0].shape
        shape = (n_in, n_out) if self._uses_sde else (n_out,)
        log_std = self._tensors.pop(name)
        try:
            return np.array(np.broadcast_to(log_std, shape), np.float32).ravel()
        except ValueError as error:
            raise _problem(self._model, f"{name} is {list(log_std.shape)}, not {list(shape)}") from error


def _algorithm(model: SavedModel) -> str:
    module, data = model.policy_module, model.data
    if module == "stable_baselines3.common.policies" and "gae_lambda" in data:
        return "ppo" if "clip_range" in data else "a2c"
    if module in _BY_MODULE:
        return _BY_MODULE[module]
    known = "PPO, A2C, SAC, TD3 and DQN with MlpPolicy or MultiInputPolicy"
    raise _problem(model, f"its policy is of {shown(module)}; what comes in are {known}")


def _share(model: SavedModel, name: str, usual: float) -> float:
    """A setting from 0 to 1."""
    given = model.data.get(name)
    if given is None:
        return usual
    if type(given) not in (int, float) or not 0 <= given <= 1:
        raise _problem(model, f"its {name} is {shown(given)}, not a number from 0 to 1")
    return float(given)


def _policy_kwargs(model: SavedModel) -> Tree:
    given = model.data.get("policy_kwargs") or {}
    if not isinstance(given, dict):
        raise _problem(model, "its policy_kwargs are no object")
    return {name: value for name, value in given.items() if not name.startswith(":")}


def _refuse_settings(model: SavedModel, kwargs: Tree) -> None:
    for name, value in kwargs.items():
        if name == "features_extractor_class" and str(value).rstrip("'>").endswith(_NO_FEATURES):
            continue
        if name not in _HARMLESS and (name not in _AS_GIVEN or value != _AS_GIVEN[name]):
            raise _problem(model, f"its policy_kwargs have {name}={shown(value)}, which cannot be said here")


def _activation(model: SavedModel, kwargs: Tree, usual: str) -> str:
    given = kwargs.get("activation_fn")
    if given is None:
        return usual
    name = activation_name(re.sub(r"^<class '|'>$", "", str(given)))
    if name not in ACTIVATIONS:
        raise _problem(model, f"its activation is {shown(given)}; known are {', '.join(ACTIVATIONS)}")
    return str(name)


def _widths(layers: Sequence[Layer]) -> list[int]:
    return [len(bias) for _, bias in layers[:-1]]


def refuse_other_spaces(model: SavedModel, observations: spaces.Dict, actions: spaces.Dict) -> None:
    """Make sure that the environment has the spaces that the file tells of, as far as it tells.

    Raises:
        InvalidSpecificationError: it has not, or a space that Stable-Baselines3 reads otherwise.
    """
    for what, flat in (("observation", observations), ("action", actions)):
        for leaf in flat.values():
            _refuse_leaf(leaf, what)
        told = model.data.get(f"{what}_space")
        is_bare = list(flat) == [what] and not isinstance(form_of(flat), dict)
        space: Any = flat[what] if is_bare else flat
        if not isinstance(told, dict):
            raise _problem(model, f"it has no {what}_space")
        kind = re.sub(r".*\.|'>$", "", str(told.get(":type:", "")))
        here = _facts(space) if is_bare else {"spaces": str(flat.spaces)}
        is_old = str(told.get("spaces", "")).startswith("OrderedDict")
        there = {name: told.get(name) for name in here if not (is_old and name == "spaces")}
        here = {name: value for name, value in here.items() if there.get(name) is not None}
        there = {name: there[name] for name in here}
        if kind != ("Dict" if not is_bare else type(space).__name__) or str(here) != str(there):
            raise InvalidSpecificationError(
                f"the environment's {what} space is {space}, and {model.path} was trained with {kind} {shown(there)}: "
                "name the environment that it was trained in.",
                path="env",
                code="other_spaces",
            )


def _facts(space: spaces.Space[Any]) -> dict[str, Any]:
    match space:
        case spaces.Box():
            facts: dict[str, Any] = {"dtype": str(space.dtype), "_shape": list(space.shape)}
            return facts | {"low": str(space.low), "high": str(space.high)}
        case spaces.Discrete():
            return {"n": str(space.n)}
        case spaces.MultiDiscrete():
            return {"nvec": str(space.nvec)}
    return {"_shape": list(space.shape or ())}


def _refuse_leaf(leaf: spaces.Space[Any], what: str) -> None:
    is_image = isinstance(leaf, spaces.Box) and leaf.dtype == np.uint8 and len(leaf.shape) == 3
    if what == "observation" and is_image:
        reason = f"shows images, {leaf}, which Stable-Baselines3 scales and transposes"
    elif np.any(np.asarray(getattr(leaf, "start", 0)) != 0):
        reason = f"has the {what} {leaf}, which does not count from 0 as Stable-Baselines3 does"
    else:
        return
    raise InvalidSpecificationError(f"the environment {reason}.", path="env", code="sb3_file")


def _problem(model: SavedModel, reason: str) -> InvalidSpecificationError:
    return InvalidSpecificationError(f"{model.path}: {reason}.", path="model", code="sb3_file")
