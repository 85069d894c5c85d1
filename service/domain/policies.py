"""Policies with names: numbered versions that never change, aliases that move between them, and the gate before a move.

``name@alias`` and ``name:3`` name a checkpoint wherever a run and its checkpoint do. A name alone does not: which
version is meant would be a guess.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.domain.errors import NotFoundError, RevisionConflictError, StateConflictError
from service.domain.run import Run, RunKind, RunState
from service.domain.sharing import DEFAULT_PROJECT

POLICY_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""Of a policy, and of an alias."""
_REFERENCE = re.compile(rf"({POLICY_NAME})(?:@({POLICY_NAME})|:(\d{{1,9}}))")
_BARE = re.compile(rf"({POLICY_NAME})@?")


class MoveKind(StrEnum):
    """How an alias moved."""

    SET = "set"
    ROLLBACK = "rollback"
    DELETE = "delete"
    TRAFFIC = "traffic"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a version has to show before an alias moves to it from another one."""

    aliases: Sequence[str] | None = None
    """Those that it guards; None guards all."""
    n_episodes: int = 20
    """Episodes of the comparison, at least."""
    seed: int | None = None
    """Of the comparison; None takes any."""

    def guards(self, alias: str) -> bool:
        """Whether the gate stands before this alias."""
        return self.aliases is None or alias in self.aliases


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A name for the versions of a policy."""

    name: str
    project: str = DEFAULT_PROJECT
    description: str | None = None
    gate: Gate | None = None
    n_versions: int = 0
    aliases: Mapping[str, int] = field(default_factory=dict)
    """Alias → number of the version that it names."""
    created_at: datetime
    created_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyVersion:
    """A checkpoint under a number; it never changes, and its checkpoint is kept as long as it is there."""

    policy: str
    number: int
    run_id: str
    checkpoint: str
    content_sha256: str
    note: str | None = None
    created_at: datetime
    created_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Which other versions the requests to an alias go to; it ends when the alias moves."""

    canary: int | None = None
    """The version that answers a part of them ..."""
    weight: float = 0.0
    """... this one, above 0 and below 1."""
    shadow: int | None = None
    """The version that acts on copies of them, whose actions are compared and never answered."""

    @property
    def versions(self) -> set[int]:
        """Those it names."""
        return {version for version in (self.canary, self.shadow) if version is not None}

    def told(self) -> dict[str, Any]:
        """As a request says it."""
        canary = {} if self.canary is None else {"canary": {"version": self.canary, "weight": self.weight}}
        return canary | ({} if self.shadow is None else {"shadow": {"version": self.shadow}})


@dataclass(frozen=True, kw_only=True)
class PolicyAlias:
    """Which version an alias names now."""

    policy: str
    alias: str
    version: int
    revision: int
    """The ``seq`` of the move that led here."""
    moved_at: datetime
    traffic: Traffic | None = None
    """None where it answers everything itself."""


@dataclass(frozen=True, kw_only=True)
class AliasMove:
    """One entry of an alias's history; ``seq`` is gapless per alias and starts at 1."""

    seq: int
    kind: MoveKind
    from_version: int | None
    to_version: int | None
    """None where the alias was deleted."""
    reason: str | None
    by: str | None
    at: datetime
    evidence: Mapping[str, Any] | None = None
    """The comparison that opened the gate; of a change of its traffic, how that is split then."""


def reference(text: str) -> tuple[str, str | None, int | None] | None:
    """Name, alias and number that ``name@alias`` or ``name:3`` says; of a name alone both are None.

    None where the text names no policy: so an id of a run with a checkpoint beside it is told apart by its writer.
    """
    if match := _REFERENCE.fullmatch(text):
        return match[1], match[2], None if match[3] is None else int(match[3])
    bare = _BARE.fullmatch(text)
    return (bare[1], None, None) if bare else None


def is_policy(source: str) -> bool:
    """Whether what acts is named by a policy: no id of a run has these characters."""
    return "@" in source or ":" in source


def is_reference(text: object) -> bool:
    """Whether this is ``name@alias`` or ``name:3``."""
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def name_version(policy: Policy) -> NotFoundError:
    """The error of a policy that was named without saying which version."""
    ways = [f"{policy.name}@{alias}" for alias in sorted(policy.aliases)]
    numbers = f"{policy.name}:1 to :{policy.n_versions}" if policy.n_versions else "it has no version yet"
    return NotFoundError(
        f"which version of policy {policy.name} is meant has to be said: {', '.join([*ways, numbers])}",
        policy=policy.name,
    )


def moved_since(name: str, alias: str, revision: int | None) -> RevisionConflictError:
    """The error of a client that has seen another revision than the present one, which is None without an alias."""
    if revision is None:
        return RevisionConflictError(f"policy {name} has no alias {alias}; leave If-Match out to make it")
    message = f'{name}@{alias} has moved since: look where it is, then give If-Match: "{revision}"'
    return RevisionConflictError(message, revision=revision)


def earlier_versions(history: Sequence[AliasMove]) -> list[int]:
    """Where rollbacks lead, the next one first: to what was set before the present version, and further back.

    Args:
        history: moves of the alias, oldest first.
    """
    held: list[int] = []
    for move in history:
        if move.to_version is None:
            continue
        if move.kind is MoveKind.ROLLBACK and move.to_version in held:
            while held[-1] != move.to_version:
                held.pop()
        elif move.to_version not in held[-1:]:
            held.append(move.to_version)
    return held[-2::-1]


def require_passed(
    gate: Gate,
    comparison: Run | None,
    holder: PolicyVersion,
    version: PolicyVersion,
    plays: Mapping[str, Any],
) -> Mapping[str, Any]:
    """The evidence that a version is not worse than the present holder at 95 %.

    A comparison is played in the environment and behind the wrappers of the first policy's run: that has to be the
    holder. Episodes that were cut short or played otherwise than the holder is evaluated prove nothing of it.

    Args:
        gate: what it asks for.
        comparison: the run that was given.
        holder: the present one.
        version: the one that is to take its place.
        plays: ``runner`` of an evaluation of the holder.

    Returns:
        The comparison, its difference with the interval, and what was played.

    Raises:
        StateConflictError: there is none, it is of something else, or it says that the version is worse; with the
            request that makes it.
    """
    seed = {} if gate.seed is None else {"seed": gate.seed}
    pair = [{"run": one.run_id, "checkpoint": one.checkpoint} for one in (holder, version)]
    way_out = {"compare": {"policies": pair, "n_episodes": gate.n_episodes, **seed}}
    wanted = f"of {holder.policy}:{holder.number} and {version.policy}:{version.number}, in this order"
    if comparison is None:
        ways = "POST what compare says to /v1/compare, and give its run as comparison"
        raise StateConflictError(f"the gate asks for a comparison {wanted}: {ways}", **way_out)
    if comparison.kind is not RunKind.COMPARE or comparison.state is not RunState.SUCCEEDED:
        is_now = f"its kind is {comparison.kind}, and it is {comparison.state}"
        message = f"run {comparison.id} is no comparison that has succeeded: {is_now}"
        raise StateConflictError(message, **way_out)
    compared = [node["checkpoint"] for node in comparison.config["compared"]]
    runner = comparison.config["runner"]
    n_episodes = runner["n_episodes"]
    limit, most = (one["max_episode_steps"] for one in (runner, plays))
    wrong = [
        *([] if compared == [holder.checkpoint, version.checkpoint] else [f"is not {wanted}, alone"]),
        *([] if n_episodes >= gate.n_episodes else [f"has {n_episodes} episodes of {gate.n_episodes}"]),
        *([] if gate.seed in (None, comparison.seed) else [f"has not the seed {gate.seed}"]),
        *([] if limit in (None, most) else [f"cuts episodes after {limit} steps, not {most}"]),
        *([] if runner["deterministic"] == plays["deterministic"] else ["draws its actions"]),
    ]
    if wrong:
        message = f"comparison {comparison.id} {', and '.join(wrong)}: POST what compare says to /v1/compare"
        raise StateConflictError(message, **way_out)
    (found,) = (comparison.result or {})["pairs"]
    low, high = (-float("nan"),) * 2 if found["ci95"] is None else map(float, found["ci95"])
    mean = float(found["mean_difference"])
    if not high >= 0:
        message = (
            f"version {version.number} is worse than version {holder.number}: in comparison {comparison.id} its return "
            f"is {mean:+.4g} on the same seeds, with the 95 % interval from {low:.4g} to {high:.4g}"
        )
        raise StateConflictError(message, **way_out)
    return {
        "comparison": comparison.id,
        "mean_difference": mean,
        "ci95": [low, high],
        "n_episodes": n_episodes,
        "seed": comparison.seed,
        "max_episode_steps": limit,
        "deterministic": runner["deterministic"],
        "env": comparison.config["env"],
        "wrappers": comparison.config["wrappers"],
    }
