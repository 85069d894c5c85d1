"""Nodes as the reference framework's published module files have them, in the words of this library.

Only what means something else there is translated: names are aliases (:mod:`components`), and most settings are the
same. What says nothing here, because it happens anyway, is left out; everything else stays, and is checked.
"""

from collections.abc import Mapping
from typing import Any

from maze_core.config.components import canonical_target
from maze_core.config.nodes import TARGET

RENAMED: Mapping[str, str] = {"runner.concurrency": "n_envs"}
"""Published key → ours beside it; 0 or null, the number of cores there, leaves it as it is."""

_SAYS_NOTHING: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "maze_core.TrainingRunnerConfig": {
        "state_dict_dump_file": ("state_dict.pt",),
        "spaces_config_dump_file": ("spaces_config.pkl",),
        "dump_interval": (None,),
    },
    "maze_core.RolloutRunnerConfig": {"record_event_logs": (True, False), "render": (False,)},
    "maze_core.ObservationNormalizationWrapper": {
        "default_statistics": (None,),
        "statistics_dump": ("statistics.pkl",),
        "manual_config": (None, {}),
        "exclude": (None,),
    },
}
"""Component → setting → the values that describe what happens here anyway."""
_EXECUTIONS = ("sequential", "parallel", "local", "dev")
_STRATEGIES = {
    "MeanZeroStdOneObservationNormalizationStrategy": "mean_zero_std_one",
    "RangeZeroOneObservationNormalizationStrategy": "range_zero_one",
}


def in_our_words(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A node in the words of this library; the same one where nothing in it is published."""
    name = node.get(TARGET)
    if not (isinstance(name, str) and name.startswith("maze.")):
        return node
    target = canonical_target(name)
    silent = _SAYS_NOTHING.get(target, {})
    given = {key: value for key, value in node.items() if value not in silent.get(key, ())}
    given[TARGET] = target
    if target.endswith("RunnerConfig"):
        given = {**_execution(name), **with_our_keys("runner", given)}
        given.pop("trainer_class", None)
        given.pop("eval_concurrency", None)
    elif target == "maze_core.ObservationNormalizationWrapper":
        given = _normalization(given)
    return given


def with_our_keys(path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The dict that stands at a path, its keys renamed."""
    renamed = {key: RENAMED.get(f"{path}.{key}", key) for key in node}
    return {renamed[key]: value for key, value in node.items() if renamed[key] == key or value}


def _execution(name: str) -> dict[str, str]:
    last = name.rpartition(".")[2].lower()
    word = next((word for word in _EXECUTIONS if word in last), None)
    return {} if word is None else {"execution": word}


def _normalization(given: dict[str, Any]) -> dict[str, Any]:
    config = given.pop("default_strategy_config", None) or {}
    if not isinstance(config, Mapping):
        return given
    if (strategy := given.pop("default_strategy", None)) is not None:
        last = str(strategy).rpartition(".")[2]
        given["strategy"] = _STRATEGIES.get(last, last)
    policy = given.get("sampling_policy")
    if (
        isinstance(policy, Mapping)
        and canonical_target(str(policy.get(TARGET))) == "maze_core.RandomPolicyConfig"
    ):
        del given["sampling_policy"]
    config = {**config}
    if config.get("clip_range") in ([None, None], (None, None)):
        config["clip_range"] = None
    if isinstance(config.get("axis"), int):
        config["axis"] = [config["axis"]]
    return {**given, **config}
