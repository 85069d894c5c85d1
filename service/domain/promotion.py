"""Moving an alias: through the gate where there is one, back again, and once though the request comes twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from service.domain.errors import (
    NotFoundError,
    PreconditionRequiredError,
    RevisionConflictError,
    StateConflictError,
)
from service.domain.policies import (
    AliasMove,
    MoveKind,
    PolicyAlias,
    PolicyVersion,
    Traffic,
    earlier_versions,
    moved_since,
    require_passed,
)
from service.domain.ports import PolicyStore, RunStore
from service.domain.run import Run

ANY = "*"
MOST_MOVES = 10_000
"""Of a history that a rollback looks at."""
MOST_ATTEMPTS = 20
"""To move an alias that others move as well."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a client wants of an alias."""

    name: str
    alias: str
    revision: int | str | None = None
    """That the alias has to have still; ``*`` is any, 0 says that there is no such alias, None says nothing."""
    reason: str | None = None
    by: str | None = None


def set_alias(
    policies: PolicyStore,
    runs: RunStore,
    wish: Wish,
    version: int,
    comparison: str | None,
    plays: Callable[[Run], Mapping[str, Any]],
) -> PolicyAlias:
    """Let an alias name a version.

    Args:
        policies: where policies are.
        runs: where the comparison is.
        wish: what is wanted of which alias.
        version: its number.
        comparison: id of the run that is to open the gate.
        plays: gives ``runner`` of an evaluation of a run's policy.

    Raises:
        NotFoundError: there is no such policy, version or run.
        PreconditionRequiredError: there is such an alias, and no revision was given.
        RevisionConflictError: it has moved since, or any was demanded and there is none.
        StateConflictError: the gate stays closed, and the message and ``compare`` say what opens it; or none asks for
            a comparison.
    """

    def attempt() -> PolicyAlias:
        wanted = policies.resolve(wish.name, number=version)
        present = _present(policies, wish)
        if (done := _done_before(policies, wish, present, MoveKind.SET, version)) is not None:
            return done
        _require_revision(wish, present)
        if present is not None and wish.revision is None:
            message = f"{wish.name}@{wish.alias} names version {present.version}: to move it, give its ETag as If-Match"
            raise PreconditionRequiredError(message, revision=present.revision)
        if present is not None and present.version == version:
            return present
        gate, evidence = policies.get(wish.name).gate, None
        holder = _holder(policies, wish, present)
        if gate is not None and gate.guards(wish.alias) and holder and holder.checkpoint != wanted.checkpoint:
            run = None if comparison is None else runs.get(comparison)
            evidence = require_passed(gate, run, holder, wanted, plays(runs.get(holder.run_id)))
        elif comparison is not None:
            message = (
                f"no gate asks for a comparison before {wish.name}@{wish.alias} names version {version}: "
                "leave it out"
            )
            raise StateConflictError(message)
        return _moved(policies, wish, present, version, MoveKind.SET, evidence)

    return _undisturbed(wish, attempt)


def roll_back(policies: PolicyStore, wish: Wish, to: int | None) -> PolicyAlias:
    """Let an alias name an earlier one of its versions again; it was good enough once, so no gate is asked.

    Args:
        policies: where policies are.
        wish: what is wanted of which alias.
        to: a version that it has named; None is the last one before the present version that is still there.

    Raises:
        NotFoundError: there is no such policy or alias, or ``to`` was deleted.
        RevisionConflictError: it has moved since.
        StateConflictError: there is no earlier version, or the alias never named ``to``.
    """

    def attempt() -> PolicyAlias:
        present = policies.alias(wish.name, wish.alias)
        moves = policies.history(wish.name, wish.alias, limit=MOST_MOVES).data[::-1]
        if (done := _done_before(policies, wish, present, MoveKind.ROLLBACK, to)) is not None:
            return done
        _require_revision(wish, present)
        if to == present.version:
            return present
        if to is not None and to not in {move.to_version for move in moves}:
            message = f"{wish.name}@{wish.alias} has never named version {to}; set it by PUT"
            raise StateConflictError(message)
        earlier = (one for one in earlier_versions(moves) if one != present.version)
        version = to or next((one for one in earlier if _is_there(policies, wish.name, one)), None)
        if version is None:
            message = (
                f"{wish.name}@{wish.alias} has named no version before the present one that is still there"
            )
            raise StateConflictError(message)
        return _moved(policies, wish, present, version, MoveKind.ROLLBACK)

    return _undisturbed(wish, attempt)


def split_traffic(policies: PolicyStore, wish: Wish, traffic: Traffic | None) -> PolicyAlias:
    """Split the traffic of an alias, or end that by None; no gate is asked, for nothing is promoted.

    Raises:
        NotFoundError: there is no such policy, alias or version.
        PreconditionRequiredError: no revision was given.
        RevisionConflictError: it has moved since.
        StateConflictError: a version that it names would get its own traffic.
    """

    def attempt() -> PolicyAlias:
        present = policies.alias(wish.name, wish.alias)
        (last,) = policies.history(wish.name, wish.alias, limit=1).data
        is_same = present.traffic == traffic
        wished = MoveKind.TRAFFIC, wish.by, wish.reason, wish.revision
        if is_same and (last.kind, last.by, last.reason, last.seq - 1) == wished:
            return present  # its answer was lost
        _require_revision(wish, present)
        if traffic is not None and wish.revision is None:
            message = f"to split the traffic of {wish.name}@{wish.alias}, give its ETag as If-Match"
            raise PreconditionRequiredError(message, revision=present.revision)
        if is_same:
            return present
        if traffic is not None and present.version in traffic.versions:
            message = (
                f"{wish.name}@{wish.alias} names version {present.version} already; split off another one"
            )
            raise StateConflictError(message)
        return policies.split(
            wish.name, wish.alias, traffic, revision=present.revision, reason=wish.reason, by=wish.by
        )

    return _undisturbed(wish, attempt)


def remove_alias(policies: PolicyStore, wish: Wish) -> None:
    """Delete an alias; its history stays.

    Raises:
        NotFoundError: there is no such alias.
        RevisionConflictError: it has moved since.
    """

    def attempt() -> None:
        present = policies.alias(wish.name, wish.alias)
        _require_revision(wish, present)
        policies.move(
            wish.name,
            wish.alias,
            None,
            kind=MoveKind.DELETE,
            revision=present.revision,
            reason=wish.reason,
            by=wish.by,
        )

    _undisturbed(wish, attempt)


def _undisturbed(wish: Wish, attempt: Callable[[], T]) -> T:
    """Look and move again where somebody else moved in between, unless that is what the client wants to know."""
    for _ in range(MOST_ATTEMPTS - 1):
        try:
            return attempt()
        except RevisionConflictError:
            if isinstance(wish.revision, int):
                raise
    return attempt()


def _require_revision(wish: Wish, present: PolicyAlias | None) -> None:
    """That the alias is as the client has seen it (RFC 9110 §13.1.1)."""
    revision = present.revision if present else 0
    if wish.revision not in (None, revision) and not (wish.revision == ANY and present):
        raise moved_since(wish.name, wish.alias, revision or None)


def _present(policies: PolicyStore, wish: Wish) -> PolicyAlias | None:
    try:
        return policies.alias(wish.name, wish.alias)
    except NotFoundError:
        return None


def _done_before(
    policies: PolicyStore, wish: Wish, present: PolicyAlias | None, kind: MoveKind, version: int | None
) -> PolicyAlias | None:
    """The alias, where its last move is this very wish, whose answer was lost (RFC 9110 §13.1.1)."""
    if present is None or version not in (None, present.version):
        return None
    (last,) = policies.history(wish.name, wish.alias, limit=1).data
    before = last.seq - 1 if last.from_version is not None else 0
    was_so = (wish.revision or 0) == before
    return present if was_so and (last.kind, last.by, last.reason) == (kind, wish.by, wish.reason) else None


def _holder(policies: PolicyStore, wish: Wish, present: PolicyAlias | None) -> PolicyVersion | None:
    """The version that the alias names, or named until it was deleted: to delete it opens no gate."""
    try:
        if present is not None:
            return policies.resolve(wish.name, number=present.version)
        moves: Sequence[AliasMove] = policies.history(wish.name, wish.alias, limit=1).data
        return policies.resolve(wish.name, number=moves[0].from_version)
    except NotFoundError:
        return None


def _is_there(policies: PolicyStore, name: str, version: int) -> bool:
    try:
        policies.resolve(name, number=version)
    except NotFoundError:
        return False
    return True


def _moved(
    policies: PolicyStore,
    wish: Wish,
    present: PolicyAlias | None,
    version: int,
    kind: MoveKind,
    evidence: Mapping[str, Any] | None = None,
) -> PolicyAlias:
    """Move it from where it was looked at: what was judged is what moves."""
    moved = policies.move(
        wish.name,
        wish.alias,
        version,
        kind=kind,
        revision=present.revision if present else None,
        reason=wish.reason,
        by=wish.by,
        evidence=evidence,
    )
    assert moved is not None
    return moved
