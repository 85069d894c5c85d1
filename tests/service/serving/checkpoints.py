"""Real checkpoints of small random dense policies, made without torch."""

from typing import Any

import msgspec
import numpy as np
from gymnasium import spaces

from maze_core.agent import Agent, record_actions
from maze_core.checkpoint import Checkpoint, prefixed
from maze_core.envs.env_spaces import describe_spaces
from maze_core.models.acting import ActingPolicy
from maze_core.models.builders import flatten_concat, input_spaces, mask_names
from maze_core.models.config import DenseBlockParams
from maze_core.models.heads import DistributionMapper

CARTPOLE = spaces.Dict(
    observation=spaces.Box(
        np.float32([-4.8, -np.inf, -0.41887903, -np.inf]), np.float32([4.8, np.inf, 0.41887903, np.inf])
    )
)
TWO_ACTIONS = spaces.Dict(action=spaces.Discrete(2))


def make_checkpoint(
    observation_space: spaces.Dict = CARTPOLE,
    action_space: spaces.Dict = TWO_ACTIONS,
    *,
    seed: int = 0,
    agents: int = 1,
    keys: tuple[int | str, ...] = (0,),
    **identity: Any,
) -> Checkpoint:
    """A checkpoint of a small random dense policy, with recorded observations and actions."""
    rng = np.random.default_rng(seed)
    masks = mask_names({0: action_space})
    heads = DistributionMapper().heads(action_space, observation_space)
    inputs = input_spaces(observation_space, masks)
    n_logits = sum(head.logits_width for head in heads)
    program = flatten_concat(inputs, DenseBlockParams(hidden_units=(16,)), n_logits, 1.0)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    steps = []
    for key in keys:
        prefix = f"{key}/"
        for op in program.dense:
            arrays[f"{prefix}network.{op.weight}"] = rng.normal(size=(op.n_out, op.n_in)).astype(np.float32)
            arrays[f"{prefix}network.{op.bias}"] = rng.normal(size=op.n_out).astype(np.float32)
        arrays[f"{prefix}log_std"] = np.zeros(sum(head.parameter_width for head in heads), np.float32)
        network = {"prefix": prefix, "program": msgspec.to_builtins(program.ops)}
        steps.append({"step_key": key, "heads": msgspec.to_builtins(heads), "networks": [network]})
    acting = {"format": 1, "kind": "program", "steps": steps}
    observation_spaces = dict.fromkeys(keys, observation_space)
    action_spaces = dict.fromkeys(keys, action_space)
    counts = dict.fromkeys(keys, agents)
    agent = Agent(
        observation_spaces=observation_spaces,
        action_spaces=action_spaces,
        agent_counts=counts,
        wrappers=[],
        policy=ActingPolicy.from_description(acting, arrays),
        policy_action_spaces=action_spaces,
    )
    recorded = record_actions(agent, {key: sample_batch(observation_space, 8, seed) for key in keys})
    return Checkpoint(
        identity={
            "config": {"wrappers": {}},
            "spaces": describe_spaces(agent),
            "acting": acting,
            "servable": True,
            "not_servable_reason": None,
            **identity,
        },
        tensors=prefixed(arrays, "policy") | prefixed(recorded, "recorded"),
    )


def sample_batch(space: spaces.Dict, n: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """``n`` observations of the space, stacked; masks allow everything."""
    space.seed(seed)
    samples = [space.sample() for _ in range(n)]
    batch = {
        name: np.stack([np.asarray(s[name], leaf.dtype) for s in samples]) for name, leaf in space.items()
    }
    return {k: np.ones_like(v) if k.endswith("_mask") else v for k, v in batch.items()}


def action_json(action: Any) -> Any:
    """An action of ``compute_action`` as HTTP answers it."""
    if isinstance(action, dict) and list(action) == ["action"]:
        action = action["action"]
    if isinstance(action, dict):
        return {str(key): action_json(part) for key, part in action.items()}
    return (
        [action_json(part) for part in action] if isinstance(action, tuple) else np.asarray(action).tolist()
    )
