"""Moving an alias: through the gate where there is one, back again, and once though the request comes twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.errors import NotFoundError, PreconditionRequiredError, StateConflictError
from service.domain.policies import (
    AliasMove,
    MoveKind,
    PolicyAlias,
    PolicyVersion,
    moved_since,
    previous_version,
    require_passed,
)
from service.domain.ports import PolicyStore, RunStore

ANY = "*"
MOST_MOVES = 10_000
"""Of a history that a rollback looks at."""


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
    policies: PolicyStore, runs: RunStore, wish: Wish, version: int, comparison: str | None
) -> PolicyAlias:
    """Let an alias name a version.

    Raises:
        NotFoundError: there is no such policy, version or run.
        PreconditionRequiredError: there is such an alias, and no revision was given.
        RevisionConflictError: it has moved since.
        StateConflictError: the gate stays closed; the message and ``compare`` say what opens it.
    """
    wanted = policies.resolve(wish.name, number=version)
    present = _present(policies, wish)
    if present is not None and wish.revision is None:
        message = (
            f"{wish.name}@{wish.alias} names version {present.version}: to move it, give its ETag as If-Match"
        )
        raise PreconditionRequiredError(message, revision=present.revision)
    if (done := _done_before(policies, wish, present, MoveKind.SET, version)) is not None:
        return done
    if isinstance(wish.revision, int) and wish.revision != (present.revision if present else 0):
        raise moved_since(wish.name, wish.alias, present.revision if present else None)
    if present is not None and present.version == version:
        return present
    gate, evidence = policies.get(wish.name).gate, None
    holder = _holder(policies, wish, present)
    if gate is not None and gate.guards(wish.alias) and holder and holder.checkpoint != wanted.checkpoint:
        run = None if comparison is None else runs.get(comparison)
        evidence = require_passed(gate, run, holder, wanted)
    return _moved(policies, wish, present, version, MoveKind.SET, evidence)


def roll_back(policies: PolicyStore, wish: Wish, to: int | None) -> PolicyAlias:
    """Let an alias name an earlier one of its versions again; it was good enough once, so no gate is asked.

    Raises:
        NotFoundError: there is no such policy or alias, or the version was deleted.
        RevisionConflictError: it has moved since.
        StateConflictError: there is no earlier version, or the alias never named ``to``.
    """
    moves = policies.history(wish.name, wish.alias, limit=MOST_MOVES).data[::-1]
    present = policies.alias(wish.name, wish.alias)
    if (done := _done_before(policies, wish, present, MoveKind.ROLLBACK, to)) is not None:
        return done
    if to is not None and to not in {move.to_version for move in moves}:
        message = f"{wish.name}@{wish.alias} has never named version {to}; set it by PUT"
        raise StateConflictError(message)
    if (version := to or previous_version(moves)) is None:
        raise StateConflictError(f"{wish.name}@{wish.alias} has named no version before the present one")
    return _moved(policies, wish, present, version, MoveKind.ROLLBACK)


def remove_alias(policies: PolicyStore, wish: Wish) -> None:
    """Delete an alias; its history stays.

    Raises:
        NotFoundError: there is no such alias.
        RevisionConflictError: it has moved since.
    """
    present = policies.alias(wish.name, wish.alias)
    revision = present.revision if wish.revision in (ANY, None) else wish.revision
    policies.move(
        wish.name,
        wish.alias,
        None,
        kind=MoveKind.DELETE,
        revision=_number(revision),
        reason=wish.reason,
        by=wish.by,
    )


def _present(policies: PolicyStore, wish: Wish) -> PolicyAlias | None:
    try:
        return policies.alias(wish.name, wish.alias)
    except NotFoundError:
        return None


def _done_before(
    policies: PolicyStore, wish: Wish, present: PolicyAlias | None, kind: MoveKind, version: int | None
) -> PolicyAlias | None:
    """The alias, where its last move is this very wish, whose answer was lost (RFC 9110 §13.1.1)."""
    if present is None or wish.revision != present.revision - 1 or version not in (None, present.version):
        return None
    (last,) = policies.history(wish.name, wish.alias, limit=1).data
    return present if (last.kind, last.by, last.reason) == (kind, wish.by, wish.reason) else None


def _holder(policies: PolicyStore, wish: Wish, present: PolicyAlias | None) -> PolicyVersion | None:
    """The version that the alias names, or named until it was deleted: to delete it opens no gate."""
    try:
        if present is not None:
            return policies.resolve(wish.name, number=present.version)
        moves: Sequence[AliasMove] = policies.history(wish.name, wish.alias, limit=1).data
        return policies.resolve(wish.name, number=moves[0].from_version)
    except NotFoundError:
        return None


def _moved(
    policies: PolicyStore,
    wish: Wish,
    present: PolicyAlias | None,
    version: int,
    kind: MoveKind,
    evidence: Mapping[str, Any] | None = None,
) -> PolicyAlias:
    """Move it from where it was looked at: what was judged is what moves."""
    revision = wish.revision
    if revision == ANY or (revision is None and kind is MoveKind.ROLLBACK):
        present = present or policies.alias(wish.name, wish.alias)
        revision = present.revision
    moved = policies.move(
        wish.name,
        wish.alias,
        version,
        kind=kind,
        revision=_number(revision),
        reason=wish.reason,
        by=wish.by,
        evidence=evidence,
    )
    assert moved is not None
    return moved


def _number(revision: int | str | None) -> int | None:
    """As the store takes it."""
    return revision if isinstance(revision, int) and revision else None
