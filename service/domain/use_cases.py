"""What the service does with runs besides storing them: ids, digests, legal moves, tokens, and which checkpoint acts.

Plain Python: nothing here reads a clock but :func:`new_run_id`, nothing knows the web, and databases are asked
through the ports alone.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from maze_core.errors import InvalidSpecificationError
from service.domain.audit import about
from service.domain.errors import (
    NoCheckpointError,
    NoPolicyError,
    NotFoundError,
    NotServableAgentError,
    StateConflictError,
)
from service.domain.policies import PolicyVersion, is_policy, name_version, reference
from service.domain.ports import CheckpointStore, EpisodeStore, PolicyStore, RegistryStore, RunStore, Stores
from service.domain.run import FILMED, KINDS_WITH_POLICY, NEXT_STATES, CheckpointInfo, Event, RunState
from service.domain.sharing import ANYBODY, Caller

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's alphabet in lower case: sorts as the number does
_RANDOM_BITS = 74

BEST_METRICS = ("eval/mean_return", "train/episode_return", "validation/loss")
"""The metrics that a best checkpoint may be judged by; the first one that it carries names it."""

KEPT_LISTS = frozenset({"ci95", "policies", "pairs"})
"""Lists of a result that do not grow with episodes."""


def new_run_id() -> str:
    """``run_`` and 26 base-32 digits: 56 bits of microseconds, then 74 random bits; sorts by time."""
    return "run_" + time_sortable(time.time_ns() // 1000, secrets.randbits(_RANDOM_BITS))


def new_sweep_id() -> str:
    """``sweep_`` and digits as those of a run."""
    return "sweep_" + time_sortable(time.time_ns() // 1000, secrets.randbits(_RANDOM_BITS))


def new_session_id() -> str:
    """``session_`` and digits as those of a run."""
    return "session_" + time_sortable(time.time_ns() // 1000, secrets.randbits(_RANDOM_BITS))


def time_sortable(time_us: int, noise: int) -> str:
    """26 lower-case base-32 digits whose order is that of ``(time_us, noise)``."""
    number = (time_us << _RANDOM_BITS) | noise
    return "".join(_BASE32[(number >> shift) & 31] for shift in range(125, -1, -5))


def request_digest(kind: str, body: Mapping[str, Any]) -> str:
    """SHA-256 of a submission, equal for bodies that differ in the order of their keys only.

    It stands beside an Idempotency-Key: the same key with another digest is a mistake of the client.
    """
    text = json.dumps([str(kind), body], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def legal(current: RunState, following: RunState) -> bool:
    """Whether a run may move from one state to the other; staying is no move."""
    return following in NEXT_STATES[current]


def require_legal(run_id: str, current: RunState, following: RunState) -> None:
    """Pass a legal move.

    Raises:
        StateConflictError: the move is none of the state diagram's arrows; the message names those there are.
    """
    if legal(current, following):
        return
    ways = ", ".join(sorted(NEXT_STATES[current])) or "nowhere: it has ended"
    raise StateConflictError(
        f"run {run_id} is {current} and cannot become {following}; from here it goes to {ways}",
        state=current.value,
    )


TERMINAL_STATES = frozenset(state for state in RunState if state.is_terminal)
LEASED_STATES = frozenset({RunState.RUNNING, RunState.STOPPING})
"""The states in which a worker holds the run."""


def spent_s(history: Iterable[Event]) -> float:
    """Seconds that workers held a run in attempts which are over, from its ``state`` events in order."""
    total, since = 0.0, None
    for event in history:
        is_held = event.data["state"] in LEASED_STATES
        if since is None and is_held:
            since = event.at
        elif since is not None and not is_held:
            total += (event.at - since).total_seconds()
            since = None
    return total


ASK_AGAIN_S = 1.0
"""When to ask again for the first checkpoint of a run that is at work."""


def acting_checkpoint(stores: Stores, source: str, selector: str = "best") -> CheckpointInfo:
    """The checkpoint that is named now, and that can act; see :func:`named_checkpoint`.

    Raises:
        NotFoundError: there is no such run or policy, or it has checkpoints, but none such; the message says which.
        NoPolicyError: the run is no training.
        NoCheckpointError: it has none yet, or never will.
        NotServableAgentError: the checkpoint cannot act on raw observations.
    """
    info = named_checkpoint(stores, source, selector)
    if not info.servable:
        reason = info.not_servable_reason or "no reason was given"
        message = f"Checkpoint {info.id} trains on, but cannot act: {reason}"
        raise NotServableAgentError(message, checkpoint=info.id)
    return info


def named_checkpoint(stores: Stores, source: str, selector: str = "best") -> CheckpointInfo:
    """The checkpoint that is named now; raises as :func:`acting_checkpoint`, but for the last.

    Args:
        stores: where runs, checkpoints and policies are.
        source: the id of a run, or ``name@alias`` or ``name:3`` of a policy.
        selector: which one of a run; a version of a policy has one.
    """
    if is_policy(source):
        if selector != "best":
            raise NotFoundError(
                f"policy {source} says which checkpoint it is; leave checkpoint {selector!r} out"
            )
        return stores.checkpoints.get(named_version(stores.policies, source).checkpoint)
    try:
        return stores.checkpoints.resolve(source, selector)
    except NotFoundError:
        _explain_missing(stores.runs, stores.checkpoints, source)
        raise


def named_version(policies: PolicyStore, text: str) -> PolicyVersion:
    """The version that ``name@alias`` or ``name:3`` means now.

    Raises:
        NotFoundError: there is none such; the message says what there is.
    """
    found = reference(text)
    if found is None:
        raise NotFoundError("a policy is named as name@alias or name:3")
    name, alias, number = found
    if alias is None and number is None:
        raise name_version(policies.get(name))
    return policies.resolve(name, alias=alias, number=number)


def _explain_missing(runs: RunStore, checkpoints: CheckpointStore, run_id: str) -> None:
    """Raise what is truer than "no such checkpoint": no such run, none yet, or never any."""
    run = runs.get(run_id)
    if run.kind not in KINDS_WITH_POLICY:
        hint = f"; its policy is that of run {run.source_run}" if run.source_run else ""
        raise NoPolicyError(f"Run {run_id} is of kind {run.kind} and has no policy of its own{hint}")
    if any(info.kind != FILMED for info in checkpoints.list(run_id, limit=2).data):
        return
    state = run.state.value
    if run.state.is_terminal:
        raise NoCheckpointError(f"Run {run_id} is {state} and left no checkpoint", state=state)
    done = f", epoch {run.progress.epoch}" if run.progress.epoch is not None else ""
    message = f"Run {run_id} is {state}{done} and has no checkpoint yet; try again later"
    raise NoCheckpointError(message, state=state, retry_after_s=ASK_AGAIN_S)


MIB = 2**20
MAX_DATASET_MIB = 512
"""A worker holds them twice while it starts a run, and they have to fit into one message beside a checkpoint."""


def dataset_episodes(episodes: EpisodeStore, run_id: str) -> Mapping[int, str]:
    """Index → SHA-256 of what a run recorded, for another one to learn from.

    Raises:
        InvalidSpecificationError: it recorded nothing, or more than a training is given here.
    """
    recorded = episodes.recorded(run_id)
    n_mib = -(-sum(n_bytes for _, n_bytes in recorded.values()) // MIB)
    message = ""
    if not recorded:
        message = 'has no recorded episodes: POST /v1/rollout records them, unless "record" is false.'
    elif n_mib > MAX_DATASET_MIB:
        message = (
            f"recorded {n_mib} MiB, and a training over HTTP learns from {MAX_DATASET_MIB} MiB at most: record fewer "
            "or shorter episodes, or train in Python or by maze-run, which take any number."
        )
    if message:
        raise InvalidSpecificationError(f"Run {run_id} {message}", path="dataset.run", code="dataset")
    return {index: sha256 for index, (sha256, _) in recorded.items()}


def best_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """The metric that a best checkpoint is judged by, and its value; None without metrics."""
    named = [name for name in BEST_METRICS if name in metrics] or sorted(metrics)
    return (named[0], metrics[named[0]]) if named else None


def subject(config: Mapping[str, Any]) -> dict[str, str | None]:
    """What a configuration is about: ``environment`` and ``algorithm``, as people call them, where it says so."""
    environment, algorithm = (config.get(part) for part in ("env", "algorithm"))
    name = environment.get("name") if isinstance(environment, Mapping) else None
    target = algorithm.get("_target_") if isinstance(algorithm, Mapping) else None
    return {
        "environment": name if isinstance(name, str) else None,
        "algorithm": target.rpartition(".")[2].removesuffix("AlgorithmConfig").lower()
        if isinstance(target, str)
        else None,
    }


def result_summary(result: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A result without its arrays, which have an entry per episode; an interval is no array."""
    if result is None:
        return None
    return {
        name: _summary(value)
        for name, value in result.items()
        if not isinstance(value, list | tuple) or name in KEPT_LISTS
    }


def _summary(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_summary(item) for item in value]
    return result_summary(value) if isinstance(value, Mapping) else value


def new_token() -> tuple[str, str, str]:
    """A fresh access token: its id, the text for its owner, and the digest that is stored."""
    token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    text = f"maze_{token_id}_{secret}"
    return token_id, text, token_digest(text)


def create_token(
    registry: RegistryStore,
    name: str,
    grants: Caller = ANYBODY,
    *,
    expires_in_s: float | None = None,
    by: str | None = None,
) -> str:
    """Make an access token; returns its text, which is shown once and stored nowhere."""
    token_id, text, sha256 = new_token()
    with about(f"/v1/tokens/{token_id}"):
        registry.add_token(token_id, sha256, name, grants, expires_in_s=expires_in_s, by=by)
    return text


def token_digest(text: str) -> str:
    """SHA-256 hex of a whole token's text; a 256-bit secret needs no slow hash."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def token_id_of(text: str) -> str | None:
    """The id inside ``maze_<id>_<secret>``; None when the text is no token of ours."""
    match text.split("_"):
        case ["maze", token_id, secret] if token_id.isalnum() and secret.isalnum():
            return token_id
    return None
