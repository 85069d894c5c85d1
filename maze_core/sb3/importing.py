"""Policies of Stable-Baselines3 as checkpoints of ours: they act, are evaluated and served, and begin other trainings.

The bundle is made as any other: the configuration that says the same is composed, its environment, wrappers and
networks are built, the file's weights take the place of the first ones. Then its actions are compared with those that
the file's own layers give in torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint, section
from maze_core.config import compose_run
from maze_core.errors import CheckpointError, InvalidSpecificationError
from maze_core.models.acting import ActingPolicy, to_env_actions
from maze_core.runners.films import acting_part
from maze_core.runners.training import Training
from maze_core.sb3.files import Normalization, SavedModel, read_model, read_normalization
from maze_core.sb3.translation import Layer, Translation, refuse_other_spaces, translate
from maze_core.types import Action, Array, FloatArray, Observation, Tree

_NORMALIZES = "maze_core.ObservationNormalizationWrapper"


def import_sb3(
    model: str | PathLike[str],
    env: str | None = None,
    *,
    vecnormalize: str | PathLike[str] | None = None,
    allow_pickle: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """A checkpoint that acts as a model of Stable-Baselines3 does.

    Args:
        model: what ``model.save()`` wrote, of PPO, A2C, SAC, TD3, DDPG or DQN with MlpPolicy or MultiInputPolicy. It is
            read as JSON and tensors; nothing of it is unpickled, and Stable-Baselines3 need not be installed.
        env: the environment that it was trained in, as ``env.name``. Bounds of actions are the environment's.
        vecnormalize: what ``VecNormalize.save()`` wrote: observations are then normalised as it does.
        allow_pickle: has to be True for ``vecnormalize``, which is a pickle: it is read by names that are known,
            and refused with any other.
        overrides: of the configuration, such as ``env.kwargs``.

    Returns:
        The checkpoint; ``write`` makes a file of it, for ``RunContext.load``, ``initial.run`` and the service.

    Raises:
        InvalidSpecificationError: a file cannot be read or said here, or the environment has other spaces.
        CheckpointError: the checkpoint does not act as the file's layers do.
    """
    saved = read_model(Path(model))
    normalization = _normalization(vecnormalize, allow_pickle)
    named = {**({} if env is None else {"env.name": env}), **(overrides or {})}
    if not any(name in named for name in ("env.name", "env")):
        message = f"name the environment that {saved.path} was trained in, such as CartPole-v1; the file does not say."
        raise InvalidSpecificationError(message, path="env", code="missing")
    observations, actions = _spaces(named)
    refuse_other_spaces(saved, observations, actions)
    found = translate(saved, actions)
    config = compose_run(
        "train",
        algorithm=found.algorithm,
        model="flatten_concat",
        wrappers=_wrappers(normalization, observations),
        overrides={**found.overrides, **named, "runner.n_envs": 1},
        seed=0,
    )
    with Training(config) as training:
        world = training.world
        _fill(world.parts.policy, found, saved)
        if found.critic and world.parts.critic is not None:
            _load(world.parts.critic, found.critic, saved)
        if normalization is not None:
            world.wrappers[0].load_state_dict(_statistics(normalization))
        whole = training.checkpoint("imported")
    checkpoint = _described(acting_part(whole), saved, has_critic=bool(found.critic))
    _compare(checkpoint, found, normalization)
    return checkpoint


def _normalization(path: str | PathLike[str] | None, allow_pickle: bool) -> Normalization | None:
    if path is None:
        return None
    if allow_pickle is not True:
        message = (
            f"{path} is a pickle, which may run any code where it is loaded. It is read by names that are known alone; "
            "if you trust where it comes from, say allow_pickle=True (--allow-pickle)."
        )
        raise InvalidSpecificationError(message, path="vecnormalize", code="pickle")
    return read_normalization(Path(path))


def _spaces(named: Mapping[str, Any]) -> tuple[spaces.Dict, spaces.Dict]:
    """What the environment shows and takes."""
    config = compose_run("train", overrides=dict(named), seed=0)
    env = config.build("env").vector(1, seed=0)
    try:
        if len(env.observation_spaces) > 1 or any(count != 1 for count in env.agent_counts.values()):
            message = "has sub-steps or several agents, which no model of Stable-Baselines3 has."
            raise InvalidSpecificationError(message, path="env")
        return next(iter(env.observation_spaces.values())), next(iter(env.action_spaces.values()))
    finally:
        env.close()


def _wrappers(normalization: Normalization | None, observations: spaces.Dict) -> Tree:
    if normalization is None:
        return {}
    boxes = {name: leaf.shape for name, leaf in observations.items() if isinstance(leaf, spaces.Box)}
    shapes = {name: mean.shape for name, (mean, _) in normalization.moments.items()}
    if {name: boxes.get(name) for name in shapes} != shapes:
        message = f"the statistics are of observations {shapes}, and the environment has {boxes}."
        raise InvalidSpecificationError(message, path="vecnormalize", code="other_spaces")
    limit = normalization.limit
    return {
        _NORMALIZES: {
            "strategy": "mean_zero_std_one",
            "clip_range": [-limit, limit] if np.isfinite(limit) else None,
            "exclude": sorted(set(boxes) - set(shapes)),
            "running": False,
        }
    }


def _statistics(normalization: Normalization) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, (mean, var) in normalization.moments.items():
        found |= {f"{name}/shift": mean, f"{name}/scale": np.sqrt(var + normalization.epsilon)}
    return found


def _fill(policy: ActingPolicy, found: Translation, saved: SavedModel) -> None:
    """Put the file's weights in the place of the first ones."""
    ((_, network),) = policy.named()
    _load(policy, found.layers, saved)
    if network.parameter is not None and found.parameter is not None:
        network.parameter[...] = found.parameter


def _load(networks: Any, layers: Sequence[Layer], saved: SavedModel) -> None:
    """Copy layers, in order, into the one network of a policy or critic."""
    ((_, network),) = networks.named()
    program = getattr(network, "logits", network)
    for op, (weight, bias) in zip(program.program.dense, layers, strict=True):
        for name, values in ((op.weight, weight), (op.bias, bias)):
            array = program.parameters[name]
            if array.shape != values.shape:
                message = (
                    f"{saved.path}: its layer is {list(values.shape)} where the environment's spaces ask for "
                    f"{list(array.shape)}."
                )
                raise InvalidSpecificationError(message, path="env", code="other_spaces")
            array[...] = values


def _described(checkpoint: Checkpoint, saved: SavedModel, *, has_critic: bool) -> Checkpoint:
    """The checkpoint, which says where it comes from, without the first weights of a critic that the file lacks."""
    tensors = {n: x for n, x in checkpoint.tensors.items() if has_critic or not n.startswith("critic/")}
    n_steps = saved.data.get("num_timesteps", 0)
    is_count = type(n_steps) is int and 0 <= n_steps < 1 << 63
    counters = {**checkpoint.identity["counters"], "env_steps": n_steps if is_count else 0}
    origin = {"imported_from": f"stable_baselines3 {saved.version}", "file": saved.path.name}
    return replace(
        checkpoint,
        identity={**checkpoint.identity, "counters": counters},
        tensors=tensors,
        provenance={**checkpoint.provenance, **origin},
    )


def _compare(checkpoint: Checkpoint, found: Translation, normalization: Normalization | None) -> None:
    agent = load_agent(checkpoint)
    (key,) = agent.observation_spaces
    observations = section(checkpoint.tensors, "recorded/0/observation")
    seen = _normalized(observations, normalization)
    space = agent.action_spaces[key]
    logits = _forward(_inputs(seen, agent.observation_spaces[key]), found)
    expected = to_env_actions(_decided(logits, found, space), space)
    given = agent.compute_actions(observations)
    for head, values in expected.items():
        if not np.allclose(np.asarray(given[head], np.float64), values, rtol=1e-5, atol=1e-5):
            raise CheckpointError(f"The checkpoint does not act as the file's layers do (head {head!r}).")


def _normalized(observations: Observation, by: Normalization | None) -> Observation:
    changed = dict(observations)
    if by is None:
        return changed
    for name, (mean, var) in by.moments.items():
        scaled = (observations[name] - mean) / np.sqrt(var + by.epsilon)
        changed[name] = np.clip(scaled, -by.limit, by.limit).astype(np.float32)
    return changed


def _inputs(seen: Observation, space: spaces.Dict) -> FloatArray:
    """What Stable-Baselines3 makes of a batch: ``[N, n_in]``."""
    parts = []
    for name, leaf in space.items():
        values = seen[name].reshape(len(seen[name]), -1)
        if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
            sizes = np.ravel(leaf.nvec) if isinstance(leaf, spaces.MultiDiscrete) else [int(leaf.n)]
            parts += [np.eye(n, dtype=np.float32)[column] for n, column in zip(sizes, values.T, strict=True)]
        else:
            parts.append(values.astype(np.float32))
    return np.concatenate(parts, 1)


def _forward(inputs: FloatArray, found: Translation) -> FloatArray:
    import torch

    functional: Any = torch.nn.functional
    bend = torch.nn.Identity() if found.non_lin == "identity" else getattr(functional, found.non_lin)
    x = torch.from_numpy(inputs)
    with torch.no_grad():
        for i, (weight, bias) in enumerate(found.layers):
            x = functional.linear(x if i == 0 else bend(x), torch.from_numpy(weight), torch.from_numpy(bias))
    output: FloatArray = x.numpy()
    return output


def _decided(logits: FloatArray, found: Translation, space: spaces.Dict) -> Action:
    """The likeliest actions, as ``predict(deterministic=True)`` of Stable-Baselines3 finds them."""
    ((head, leaf),) = space.items()
    if isinstance(leaf, spaces.Discrete):
        return {head: logits.argmax(1)}
    if isinstance(leaf, spaces.MultiDiscrete):
        edges = np.cumsum(np.ravel(leaf.nvec))[:-1]
        return {head: np.stack([part.argmax(1) for part in np.split(logits, edges, 1)], 1)}
    if isinstance(leaf, spaces.MultiBinary):
        return {head: logits > 0}
    assert isinstance(leaf, spaces.Box)
    numbers: Array = logits[:, : prod(leaf.shape)].reshape(-1, *leaf.shape)
    if found.algorithm in ("ppo", "a2c"):
        return {head: numbers}
    is_clipped = found.gaussian.get("state_dependent_noise", False)
    scaled = np.tanh(np.clip(numbers, -2.0, 2.0) if is_clipped else numbers)
    return {head: leaf.low + 0.5 * (scaled + 1.0) * (leaf.high - leaf.low)}
