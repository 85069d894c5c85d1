"""The policy of a checkpoint whose networks are torch modules: built again from its configuration.

A checkpoint carries no code. It names the classes of such networks and has their weights, so they are built when the
policy first acts; until then nothing of the user's is imported, and torch neither.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from maze_core.checkpoint import Checkpoint, section
from maze_core.config.schema import RunConfig
from maze_core.errors import CheckpointError, InvalidSpecificationError
from maze_core.models.acting import ActingPolicy, PolicyDescription, StepPolicy
from maze_core.models.config import SpacesByKey
from maze_core.models.networks import ActionCritic, Critic
from maze_core.types import StepKey


class RebuiltPolicy(ActingPolicy):
    """Acts with networks that are built at the first action."""

    def __init__(self, build: Callable[[], ActingPolicy], state_widths: dict[StepKey, int]) -> None:
        """``build`` makes the policy, which carries so many numbers per sub-step; it is called once."""
        self._build, self._state_widths = build, state_widths
        self.needs_noise = False

    @property
    def needs_torch(self) -> bool:
        """True, and nothing is built to find out."""
        return True

    @property
    def state_widths(self) -> dict[StepKey, int]:
        """Sub-step → numbers that its policy carries; nothing is built to find out."""
        return self._state_widths

    @functools.cached_property
    def steps(self) -> dict[StepKey, StepPolicy]:  # type: ignore[override]
        """Sub-step → its policy."""
        return self._build().steps


def stored_policy(
    checkpoint: Checkpoint,
    objects: Mapping[str, object],
    observation_spaces: SpacesByKey,
    action_spaces: SpacesByKey,
    agent_counts: Mapping[StepKey, int],
) -> ActingPolicy:
    """The policy of a checkpoint.

    Args:
        checkpoint: has the policy's description and weights; its configuration names networks that are modules.
        objects: networks that the configuration only names, by path.
        observation_spaces: what the policy sees.
        action_spaces: what it does.
        agent_counts: agents per sub-step.

    Raises:
        CheckpointError: the description is damaged, or a network was a live object and is not there; or, at the first
            action, the networks cannot be built or do not fit the weights.
    """
    acting, arrays = checkpoint.identity["acting"], section(checkpoint.tensors, "policy")
    described = PolicyDescription.read(acting)
    if described.kind == "program":
        return ActingPolicy.from_description(acting, arrays)
    config = RunConfig(mode="train", tree=checkpoint.identity["config"], objects=objects)
    for path, name in config.undescribed.items():
        if path.split(".")[0] == "model" and path not in config.objects:
            raise CheckpointError(
                f"{path} was a live object ({name}), which a checkpoint does not carry and no configuration describes; "
                "pass it again: RunContext(run_dir=…) with the arguments of the run."
            )

    def build() -> ActingPolicy:
        try:
            model = _model(config, observation_spaces, action_spaces, agent_counts)
            model.policy.load_state_dict(arrays)
        except (InvalidSpecificationError, CheckpointError) as error:
            raise CheckpointError(f"The checkpoint's networks cannot be built again: {error}") from error
        # what a sample means to the environment is what it meant when the checkpoint was written
        steps = zip(described.steps, model.policy.steps.items(), strict=True)
        return ActingPolicy({key: StepPolicy(then.heads, step.networks) for then, (key, step) in steps})

    return RebuiltPolicy(
        build, {step.step_key: step.state_width for step in described.steps if step.state_width}
    )


def _model(
    config: RunConfig,
    observation_spaces: SpacesByKey,
    action_spaces: SpacesByKey,
    agent_counts: Mapping[StepKey, int],
) -> Any:
    """The networks of a configuration; their weights are loaded over whatever they begin with."""
    needs = config.build("algorithm").model_needs
    build = config.build("model").build
    return build(observation_spaces, action_spaces, agent_counts, generator_seed=0, needs=needs)


def stored_critic(
    checkpoint: Checkpoint,
    objects: Mapping[str, object],
    observation_spaces: SpacesByKey,
    action_spaces: SpacesByKey,
    agent_counts: Mapping[StepKey, int],
) -> Callable[[], Critic | ActionCritic | None]:
    """What makes the critic of a checkpoint, where it has one; nothing is built before that is called.

    Beside a dense policy, a critic that is a class of the user's is left alone: whoever acts imports no code for it.

    Args:
        checkpoint: has the critic's weights; nothing else of it is kept.
        objects: networks that the configuration only names, by path.
        observation_spaces: what the policy sees.
        action_spaces: what it does.
        agent_counts: agents per sub-step.
    """
    arrays, tree = section(checkpoint.tensors, "critic"), checkpoint.identity["config"]
    of_policy = section(checkpoint.tensors, "policy")  # which a critic of the same module refers to
    is_dense = PolicyDescription.read(checkpoint.identity["acting"]).kind == "program"

    @functools.cache
    def build() -> Critic | ActionCritic | None:
        if is_dense and (not arrays or not _is_ours(tree.get("model"))):
            return None
        config = RunConfig(mode="train", tree=tree, objects=objects)
        try:
            model = _model(config, observation_spaces, action_spaces, agent_counts)
            critic: Critic | ActionCritic | None = model.critic
            if critic is None:
                return None
            critic.load_state_dict(arrays)
            if not arrays:
                model.policy.load_state_dict(of_policy)
        except (InvalidSpecificationError, CheckpointError, KeyError):  # what acts, acts without it
            return None
        return critic

    return build


def _is_ours(node: object) -> bool:
    """Whether a part of a configuration names classes of this library alone."""
    if isinstance(node, Mapping):
        target = node.get("_target_", "maze_core.")
        return str(target).startswith("maze_core.") and all(map(_is_ours, node.values()))
    return all(map(_is_ours, node)) if isinstance(node, list) else True
