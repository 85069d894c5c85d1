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
from maze_core.types import StepKey


class RebuiltPolicy(ActingPolicy):
    """Acts with networks that are built at the first action."""

    def __init__(self, build: Callable[[], ActingPolicy]) -> None:
        """``build`` makes the policy; it is called once."""
        self._build = build
        self.needs_noise = False

    @property
    def needs_torch(self) -> bool:
        """True, and nothing is built to find out."""
        return True

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
            model: Any = config.build("model").build(
                observation_spaces,
                action_spaces,
                agent_counts,
                generator_seed=0,
                needs=config.build("algorithm").model_needs,
            )
            model.policy.load_state_dict(arrays)
        except (InvalidSpecificationError, CheckpointError) as error:
            raise CheckpointError(f"The checkpoint's networks cannot be built again: {error}") from error
        # what a sample means to the environment is what it meant when the checkpoint was written
        steps = zip(described.steps, model.policy.steps.items(), strict=True)
        return ActingPolicy({key: StepPolicy(then.heads, step.networks) for then, (key, step) in steps})

    return RebuiltPolicy(build)
