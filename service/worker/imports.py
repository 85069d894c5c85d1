"""What a child does with an uploaded checkpoint: nothing of it is believed before it has shown what it is.

It is read without pickle, its digest is checked, its configuration may name what a submission over HTTP may name, and
its agent has to give the recorded actions for the recorded observations, and to fit its environment. Only then the
worker stores it.
"""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maze_core.config.trust import check_tree, trust_policy
from maze_core.errors import CheckpointError, MazeError
from service.domain.run import Imported
from service.trust import check_checkpoint
from service.worker import frames
from service.worker.channel import PipeReporter
from service.worker.child import Rules

if TYPE_CHECKING:
    from maze_core.agent import Agent
    from maze_core.checkpoint import Checkpoint
    from maze_core.config.schema import RunConfig

KIND = "imported"
MOST_METRICS = 1000
MAX_EPOCHS, MAX_ENV_STEPS = 10**8, 10**15
"""How far a run may have come: beyond what any does, and far from what counters that go on from there can hold."""


def import_checkpoint(start: frames.Start, reporter: PipeReporter, rules: Rules) -> frames.Result:
    """Check the bundle and report it as the run's checkpoint.

    Raises:
        CheckpointError: it is no checkpoint, is damaged, or acts otherwise than when it was recorded.
        InvalidSpecificationError: its configuration names what may not be named here, or another environment than its
            policy is of.
        EnvError: the environment cannot be made.
    """
    from maze_core.agent import load_agent
    from maze_core.checkpoint import Checkpoint
    from maze_core.envs.env_spaces import refuse_other_spaces

    reporter.phase("checking")
    checkpoint = Checkpoint.from_bytes(start.agent or b"")
    config = _allowed_config(checkpoint, rules)
    try:
        agent = load_agent(checkpoint)
        _require_recorded(agent, checkpoint)
        with closing(config.build("env").vector(1)) as env:
            refuse_other_spaces(agent, env, "env")
    except (MazeError, MemoryError):
        raise
    except Exception as error:  # whatever strange values lead to, they are the bundle's
        raise CheckpointError(f"The checkpoint does not describe an agent that acts: {error!r}.") from error
    epoch, step = _counters(checkpoint)
    reporter.checkpoint(
        checkpoint,
        epoch=epoch,
        step=step,
        kind=KIND,
        metrics=_metrics(checkpoint),
        is_best=True,
        is_last=True,
        imported=Imported(
            config=config.tree,
            config_sha256=config.config_sha256,
            seed=int(config.tree["seeding"]["env_base_seed"]),
        ),
    )
    facts = {"content_sha256": checkpoint.content_sha256, "weights_sha256": checkpoint.weights_sha256}
    found = {"epoch": epoch, "env_steps": step, "servable": agent.servable}
    return frames.Result(stop_reason="completed", result=facts | found)


def _allowed_config(checkpoint: "Checkpoint", rules: Rules) -> "RunConfig":
    from maze_core.config.schema import RunConfig
    from maze_core.envs.catalogue import environments

    env_ids = frozenset(row["id"] for row in environments() if row["is_available"])
    policy = replace(trust_policy(rules.extra_targets, rules.config_dirs), env_ids=env_ids)
    check_checkpoint(checkpoint, policy)
    config = RunConfig.from_tree(checkpoint.identity["config"], "train")
    check_tree(config.tree, policy)
    return config


def _require_recorded(agent: "Agent", checkpoint: "Checkpoint") -> None:
    from maze_core.checkpoint import section

    places = range(len(agent.observation_spaces))
    if agent.servable and not any(section(checkpoint.tensors, f"recorded/{i}/observation") for i in places):
        message = "The checkpoint has no recorded observations and actions, which show how its agent acts."
        raise CheckpointError(message)


def _counters(checkpoint: "Checkpoint") -> tuple[int, int]:
    counters: Any = checkpoint.identity.get("counters")
    said = counters if isinstance(counters, dict) else {}
    epoch, step = said.get("epoch"), said.get("env_steps")
    if type(epoch) is not int or type(step) is not int or epoch < 0 or step < 0:
        raise CheckpointError("The checkpoint does not say how far its run came.")
    if epoch > MAX_EPOCHS or step > MAX_ENV_STEPS:
        message = (
            f"The checkpoint says that its run came further than epoch {MAX_EPOCHS} or step {MAX_ENV_STEPS}."
        )
        raise CheckpointError(message)
    return epoch, step


def _metrics(checkpoint: "Checkpoint") -> Mapping[str, float]:
    """What the bundle says of itself, outside its digest: numbers alone are taken."""
    said: Any = checkpoint.provenance.get("metrics")
    if not isinstance(said, dict):
        return {}
    numbers = {name: value for name, value in said.items() if _is_number(value)}
    return dict(list(numbers.items())[:MOST_METRICS])


def _is_number(value: object) -> bool:
    """Whether a float holds it; JSON has integers that none does."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False
