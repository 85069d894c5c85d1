"""How a RunContext comes by its configuration: what it does, and what its run directory already holds.

A run directory that holds a run is gone on with: its seeds are taken where none are given, and the rest has to be the
same, because a run has one configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from maze_core.agent import Agent
from maze_core.checkpoint import Checkpoint
from maze_core.config.components import canonical_target, target_name, with_public_names
from maze_core.config.compose import compose_run
from maze_core.config.difference import differences
from maze_core.config.nodes import TARGET, is_node, join, opaque_parts, shown
from maze_core.config.schema import SEEDS, Mode, RunConfig, canonical_json
from maze_core.errors import CheckpointError, InvalidSpecificationError, ProblemList
from maze_core.models.config import RandomPolicyConfig, TorchPolicyConfig
from maze_core.rollout.user_policy import refuse_other_act
from maze_core.rundir import RunDir
from maze_core.types import Tree

_ROLLOUT_POLICIES = (RandomPolicyConfig, TorchPolicyConfig)
_MOST_DIFFERENCES = 8


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """What a run directory holds."""

    tree: Tree
    """The configuration's identity."""
    resume: Checkpoint | None
    """Where training goes on; None before the first checkpoint."""
    best: Checkpoint | None
    """What acts."""
    revision: object
    """Of the directory."""


def mode_of(arguments: Mapping[str, Any]) -> Mode:
    """Whether a context trains or only plays, which a rollout policy says.

    Raises:
        InvalidSpecificationError: it is asked to do both.
    """
    policy = arguments["policy"]
    if isinstance(policy, Agent):
        message = "An agent is trained already: use its context's rollout(), or policy='torch_policy' with policy.run."
        raise InvalidSpecificationError(message, path="policy", code="wrong_type")
    if not _is_rollout_policy(policy):
        return "train"
    found = ProblemList()
    for name in ("algorithm", "model", "critic"):
        if arguments[name] is not None:
            message = (
                f"contradicts policy={shown(policy)}, which plays and does not train; leave one of them out."
            )
            found.add(name, message, code="contradiction")
    found.raise_if_any()
    return "rollout"


def specified(run_dir: RunDir | None, arguments: Mapping[str, Any]) -> tuple[RunConfig, StoredRun | None]:
    """The configuration of these arguments, and the run it goes on with.

    Args:
        run_dir: where the run is or will be written.
        arguments: those of :func:`~maze_core.config.compose.compose_run`.

    Raises:
        InvalidSpecificationError: with every problem; or the directory holds a run with another configuration.
        CheckpointError: a checkpoint in the directory is damaged.
    """
    if mode_of(arguments) == "rollout":
        return rollout_config(run_dir, arguments), None
    stored = None if run_dir is None else stored_run(run_dir)
    if stored is None:
        return compose_run("train", **arguments), None
    given = arguments["overrides"]
    if arguments["seed"] is None and (given is None or isinstance(given, Mapping)):
        seeds = {join("seeding", name): stored.tree["seeding"][name] for name in SEEDS}
        arguments = {**arguments, "overrides": {**seeds, **(given or {})}}
    config = compose_run("train", **arguments)
    assert run_dir is not None
    refuse_other_run(run_dir, stored, config)
    return config, stored


def refuse_other_run(run_dir: RunDir, stored: StoredRun, config: RunConfig) -> None:
    """Make sure that a directory's run is the one that is asked for.

    Raises:
        InvalidSpecificationError: it has another configuration.
    """
    if canonical_json(config.identity()) != canonical_json(stored.tree):
        name, found = str(run_dir.path), said_differences(stored.tree, config.identity())
        message = (
            f"{name} holds a run with another configuration: {found}. Take another run_dir, give the same "
            f"configuration to go on with it, or RunContext.load({name!r}) to take its own."
        )
        raise InvalidSpecificationError(message, path="run_dir", code="contradiction")


def rollout_config(run_dir: RunDir | None, arguments: Mapping[str, Any]) -> RunConfig:
    """The configuration of a context that plays.

    The policy of a run plays in the run's environment, unless another one is named.
    """
    config = compose_run("rollout", **arguments)
    policy = config.tree["policy"]
    if "policy" in config.objects:
        refuse_other_act(config.objects["policy"])
    if not plays_a_run(policy):
        return config
    if arguments.get("wrappers") is not None:
        message = "contradicts the policy of a run, which acts through the wrappers it was trained with; leave it out."
        raise InvalidSpecificationError(message, path="wrappers", code="contradiction")
    keys = arguments.get("overrides") or ()
    if arguments.get("env") is not None or any(str(key).startswith("env.") for key in keys):
        return config
    run = run_of(policy, None if run_dir is None else run_dir.path)
    env = acting_checkpoint(run, policy["checkpoint"]).identity["config"]["env"]
    if opaque_parts(env):
        message = (
            f"{run} was trained in an environment that a function made, which is not recorded; pass env=."
        )
        raise InvalidSpecificationError(message, path="env", code="live_object_missing")
    return compose_run("rollout", **{**arguments, "env": env})


def plays_a_run(policy: Any) -> TypeGuard[Tree]:
    """Whether a rollout policy is that of a run."""
    return is_node(policy) and "checkpoint" in policy


def acting_checkpoint(source: Path, selector: str) -> Checkpoint:
    """A checkpoint of a run directory, or that of a file.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    return Checkpoint.read(RunDir(source).checkpoint_path(selector) if source.is_dir() else source)


def stored_run(run_dir: RunDir) -> StoredRun | None:
    """What the directory holds; None for a directory without a run."""
    revision = run_dir.revision
    resume, best = resume_point(run_dir), checkpoint_of(run_dir, "best")
    known = resume or best
    if known is not None:
        return StoredRun(
            tree=with_public_names(known.identity["config"]), resume=resume, best=best, revision=revision
        )
    config = run_dir.read_config()
    if config is None:
        return None
    try:
        tree = RunConfig.from_tree(config).identity()
    except InvalidSpecificationError as error:
        file = run_dir.path / "config.yaml"
        raise CheckpointError(
            f"{file} is no configuration of a run: {error} Remove it, or take another run_dir."
        ) from error
    return StoredRun(tree=tree, resume=None, best=None, revision=revision)


def resume_point(run_dir: RunDir) -> Checkpoint | None:
    """Where training goes on: the last checkpoint; where a cancel made it, the last scheduled one.

    None begins anew: before its first scheduled checkpoint a run has no state that another process could go on from
    bit by bit.
    """
    last = checkpoint_of(run_dir, "last")
    was_cut = last is None or last.provenance.get("kind") == "continued"
    return checkpoint_of(run_dir, "scheduled") if was_cut else last


def checkpoint_of(run_dir: RunDir, selector: str) -> Checkpoint | None:
    """The checkpoint, or None where there is no such one."""
    try:
        path = run_dir.checkpoint_path(selector)
    except CheckpointError:
        return None
    return Checkpoint.read(path)


def run_of(policy: Tree, run_dir: Path | None) -> Path:
    """Where the run is whose policy plays; without a name, ``run_dir`` itself.

    A relative path lies in ``run_dir``, or where it does not exist there, in the working directory.

    Raises:
        InvalidSpecificationError: no run is named.
    """
    named = policy.get("run")
    if named is None and run_dir is None:
        message = (
            "Name the run whose policy plays: overrides={'policy.run': 'outputs/…'}, or run_dir='outputs/…'."
        )
        raise InvalidSpecificationError(message, path="policy.run", code="missing_key")
    inside = (run_dir or Path()) / (named or "")
    return inside if named is None or inside.exists() or not Path(named).exists() else Path(named)


def passed_again(path: str, value: object, config: RunConfig) -> dict[str, object]:
    """The live objects of a stored configuration, with one passed again.

    Raises:
        InvalidSpecificationError: the run had no such object.
    """
    if not callable(value):
        message = f"takes a function that makes an environment, not {shown(value)}."
        raise InvalidSpecificationError(message, path="env", code="wrong_type")
    if path not in config.undescribed:
        group = path.partition(".")[0]
        message = "The stored configuration describes it; leave it out."
        raise InvalidSpecificationError(message, path=group, code="contradiction")
    return {**config.objects, path: value}


def _is_rollout_policy(policy: Any) -> bool:
    if is_node(policy):
        names = map(target_name, _ROLLOUT_POLICIES)
        return canonical_target(str(policy[TARGET])) in names
    return isinstance(policy, (str, *_ROLLOUT_POLICIES)) or hasattr(policy, "act")


def said_differences(stored: Tree, given: Tree) -> str:
    """The values that differ, with their paths, the first few of them; nothing where none do."""
    found = differences(stored, given)
    said = [f"{one.key} is {shown(one.left)} there and {shown(one.right)} here" for one in found]
    more = [f"and {len(said) - _MOST_DIFFERENCES} more"] if len(said) > _MOST_DIFFERENCES else []
    return "; ".join([*said[:_MOST_DIFFERENCES], *more])
