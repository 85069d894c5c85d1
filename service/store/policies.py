"""The policy store over SQLAlchemy. Who changes a policy locks its row, so that numbers and histories have no gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, String, delete, func, insert, select, update

from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.errors import NotFoundError, StateConflictError
from service.domain.policies import (
    AliasMove,
    Gate,
    MoveKind,
    Policy,
    PolicyAlias,
    PolicyVersion,
    Traffic,
    moved_since,
)
from service.domain.run import Page
from service.domain.sharing import DEFAULT_PROJECT, key_of, name_of
from service.store.engine import Database
from service.store.tables import checkpoint, policy, policy_alias, policy_move, policy_version, run
from service.store.types import clean_text, now, upsert

MOST_ALIASES = 64


class SqlPolicyStore:
    """:class:`~service.domain.ports.PolicyStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        *,
        description: str | None = None,
        gate: Gate | None = None,
        by: str | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> tuple[Policy, bool]:
        """Make a policy."""
        key = key_of(project, name)
        facts = {"description": description, "gate": gate and asdict(gate)}
        with self._database.writing() as connection:
            row = {
                "name": key,
                "project": project,
                **facts,
                "n_versions": 0,
                "created_at": now(),
                "created_by": by,
            }
            statement = upsert(connection)(policy).values(**row).on_conflict_do_nothing()
            is_new = connection.execute(statement.returning(policy.c.name)).one_or_none() is not None
            found = _locked(connection, key)
            same = (found.gate, found.description) == (facts["gate"], description and clean_text(description))
            if not (is_new or same):
                raise StateConflictError(
                    f"there is a policy {name} already, with another description or gate"
                )
            return _policy(connection, found), is_new

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Policy:
        """The policy."""
        key = key_of(project, name)
        with self._database.reading() as connection:
            return _policy(connection, _row(connection, key))

    def list(
        self,
        *,
        name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> Page:
        """Policies by name."""
        query = select(policy).where(policy.c.project == project).order_by(policy.c.name).limit(limit + 1)
        if name is not None:
            own = func.substr(policy.c.name, len(key_of(project, "")) + 1, type_=String)
            query = query.where(own.icontains(name, autoescape=True))
        if cursor is not None:
            (after,) = decode_cursor(cursor, "policies", str)
            query = query.where(policy.c.name > key_of(project, after))
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            aliases = _aliases(connection, [row.name for row in rows])
        return page_of(
            rows,
            limit,
            lambda row: _policy_of(row, aliases[row.name]),
            lambda row: encode_cursor("policies", name_of(row.name)),
        )

    def edit(self, name: str, changes: Mapping[str, Any], *, project: str = DEFAULT_PROJECT) -> Policy:
        """Change a policy."""
        key = key_of(project, name)
        gate = changes.get("gate")
        values = {**changes} | ({"gate": gate and asdict(gate)} if "gate" in changes else {})
        with self._database.writing() as connection:
            _locked(connection, key)
            if values:
                connection.execute(update(policy).where(policy.c.name == key).values(**values))
            return _policy(connection, _row(connection, key))

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Forget a policy."""
        key = key_of(project, name)
        with self._database.writing() as connection:
            _locked(connection, key)
            held = select(policy_version.c.number).where(policy_version.c.policy == key).limit(1)
            if (number := connection.execute(held).scalar_one_or_none()) is not None:
                raise StateConflictError(f"policy {name} has version {number}; delete its versions first")
            connection.execute(delete(policy_move).where(policy_move.c.policy == key))
            connection.execute(delete(policy).where(policy.c.name == key))

    def add_version(
        self,
        name: str,
        checkpoint: str,
        *,
        note: str | None = None,
        by: str | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> tuple[PolicyVersion, bool]:
        """Give a checkpoint a number."""
        key = key_of(project, name)
        with self._database.writing() as connection:
            found = _locked(connection, key)
            table = policy_version.c
            known = select(policy_version).where(table.policy == key, table.checkpoint_id == checkpoint)
            if (row := connection.execute(known).one_or_none()) is not None:
                return _version(row), False
            source = _kept_checkpoint(connection, checkpoint)
            number = found.n_versions + 1
            connection.execute(update(policy).where(policy.c.name == key).values(n_versions=number))
            values = {"policy": key, "number": number, "run_id": source.run_id, "checkpoint_id": checkpoint}
            values |= {"content_sha256": source.content_sha256, "note": note, "created_by": by}
            made = insert(policy_version).values(**values, created_at=now()).returning(policy_version)
            return _version(connection.execute(made).one()), True

    def resolve(
        self,
        name: str,
        *,
        alias: str | None = None,
        number: int | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> PolicyVersion:
        """A version by alias or number, in one look."""
        key = key_of(project, name)
        table = policy_version.c
        query = select(policy_version).where(table.policy == key)
        if alias is None:
            query = query.where(table.number == number)
        else:
            held = policy_alias.c
            query = query.join(policy_alias, (held.policy == table.policy) & (held.version == table.number))
            query = query.where(held.alias == alias)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                raise _none_such(connection, key, alias, number)
        return _version(row)

    def versions(
        self, name: str, *, limit: int = 50, cursor: str | None = None, project: str = DEFAULT_PROJECT
    ) -> Page:
        """Versions, newest first."""
        key = key_of(project, name)
        table = policy_version.c
        query = select(policy_version).where(table.policy == key).order_by(table.number.desc())
        if cursor is not None:
            query = query.where(table.number < decode_cursor(cursor, "versions", int)[0])
        with self._database.reading() as connection:
            _row(connection, key)
            rows = connection.execute(query.limit(limit + 1)).all()
        return page_of(rows, limit, _version, lambda row: encode_cursor("versions", row.number))

    def delete_version(self, name: str, number: int, *, project: str = DEFAULT_PROJECT) -> None:
        """Forget a version."""
        key = key_of(project, name)
        with self._database.writing() as connection:
            found = _locked(connection, key)
            all_named = (
                select(policy_alias).where(policy_alias.c.policy == key).order_by(policy_alias.c.alias)
            )
            held = [_named(row) for row in connection.execute(all_named)]
            if sent := [one.alias for one in held if one.traffic and number in one.traffic.versions]:
                message = (
                    f"version {number} of policy {name} gets traffic of {', '.join(sent)}; end that first"
                )
                raise StateConflictError(message)
            if ways := ", ".join(one.alias for one in held if one.version == number):
                raise StateConflictError(
                    f"version {number} of policy {name} is {ways}; move or delete that first"
                )
            if aliases := _awaited(connection, found, number):
                message = (
                    f"version {number} of policy {name} was {', '.join(aliases)}, and the gate compares with it "
                    "whichever takes that name next: set the alias to another version first, or take the gate away"
                )
                raise StateConflictError(message)
            ours = policy_version.c.policy == key, policy_version.c.number == number
            if connection.execute(delete(policy_version).where(*ours)).rowcount == 0:
                raise _none_such(connection, key, None, number)

    def alias(self, name: str, alias: str, *, project: str = DEFAULT_PROJECT) -> PolicyAlias:
        """What an alias names."""
        key = key_of(project, name)
        with self._database.reading() as connection:
            if (row := connection.execute(_alias(key, alias)).one_or_none()) is None:
                raise _none_such(connection, key, alias, None)
        return _named(row)

    def move(
        self,
        name: str,
        alias: str,
        version: int | None,
        *,
        kind: MoveKind,
        revision: int | None,
        reason: str | None = None,
        by: str | None = None,
        evidence: Mapping[str, Any] | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> PolicyAlias | None:
        """Move an alias and write it down."""
        key = key_of(project, name)
        with self._database.writing() as connection:
            _locked(connection, key)
            present = connection.execute(_alias(key, alias)).one_or_none()
            holds = None if present is None else present.revision
            if holds != revision:
                raise moved_since(name, alias, holds)
            if present is None:
                _require_room(connection, key)
            if version is not None and not _has(connection, key, version):
                raise _none_such(connection, key, None, version)
            move = {
                "kind": kind.value,
                "to_version": version,
                "reason": reason,
                "by": by,
                "evidence": evidence,
            }
            seq = _noted(connection, key, alias, {**move, "from_version": present and present.version})
            here = policy_alias.c.policy == key, policy_alias.c.alias == alias
            if version is None:
                connection.execute(delete(policy_alias).where(*here))
                return None
            values = {"version": version, "revision": seq, "moved_at": now(), "traffic": None}
            if present is None:
                connection.execute(insert(policy_alias).values(policy=key, alias=alias, **values))
            else:
                connection.execute(update(policy_alias).where(*here).values(**values))
            return _named(connection.execute(_alias(key, alias)).one())

    def split(
        self,
        name: str,
        alias: str,
        traffic: Traffic | None,
        *,
        revision: int,
        reason: str | None = None,
        by: str | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> PolicyAlias:
        """Split the traffic of an alias."""
        key = key_of(project, name)
        with self._database.writing() as connection:
            _locked(connection, key)
            if (present := connection.execute(_alias(key, alias)).one_or_none()) is None:
                raise _none_such(connection, key, alias, None)
            if present.revision != revision:
                raise moved_since(name, alias, present.revision)
            for version in sorted(traffic.versions if traffic else ()):
                if not _has(connection, key, version):
                    raise _none_such(connection, key, None, version)
            move: dict[str, Any] = {"kind": MoveKind.TRAFFIC.value, "reason": reason, "by": by}
            move |= {"from_version": present.version, "to_version": present.version}
            move["evidence"] = {"traffic": traffic.told()} if traffic else None
            values = {
                "revision": _noted(connection, key, alias, move),
                "traffic": traffic and asdict(traffic),
            }
            here = policy_alias.c.policy == key, policy_alias.c.alias == alias
            connection.execute(update(policy_alias).where(*here).values(**values))
            return _named(connection.execute(_alias(key, alias)).one())

    def history(
        self,
        name: str,
        alias: str,
        *,
        limit: int = 50,
        cursor: str | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> Page:
        """Moves of an alias, newest first."""
        key = key_of(project, name)
        table = policy_move.c
        query = (
            select(policy_move).where(table.policy == key, table.alias == alias).order_by(table.seq.desc())
        )
        if cursor is not None:
            query = query.where(table.seq < decode_cursor(cursor, "moves", int)[0])
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
            if not rows and cursor is None:
                raise _none_such(connection, key, alias, None)
        return page_of(rows, limit, _move, lambda row: encode_cursor("moves", row.seq))


def _row(connection: Connection, name: str, *, locks: bool = False) -> Row[Any]:
    query = select(policy).where(policy.c.name == name)
    row = connection.execute(query.with_for_update() if locks else query).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no policy {name_of(name)}", policy=name_of(name))
    return row


def _locked(connection: Connection, name: str) -> Row[Any]:
    return _row(connection, name, locks=True)


def _kept_checkpoint(connection: Connection, checkpoint_id: str) -> Row[Any]:
    """The row of a checkpoint. Its run is locked, as it is by whoever prunes it: the version is written first."""
    wanted = checkpoint.c.id == checkpoint_id
    of_run = select(checkpoint.c.run_id).where(wanted).scalar_subquery()
    connection.execute(select(run.c.id).where(run.c.id == of_run).with_for_update())
    row = connection.execute(select(checkpoint).where(wanted)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no checkpoint {checkpoint_id}", checkpoint=checkpoint_id)
    return row


def _alias(name: str, alias: str) -> Select[Any]:
    return select(policy_alias).where(policy_alias.c.policy == name, policy_alias.c.alias == alias)


def _named(row: Row[Any]) -> PolicyAlias:
    traffic = row.traffic and Traffic(**row.traffic)
    return PolicyAlias(**{**row._mapping, "policy": name_of(row.policy), "traffic": traffic})


def _noted(connection: Connection, name: str, alias: str, move: Mapping[str, Any]) -> int:
    """Write a move down; gives its number."""
    table = policy_move.c
    ours = table.policy == name, table.alias == alias
    seq: int = (connection.execute(select(func.max(table.seq)).where(*ours)).scalar_one() or 0) + 1
    connection.execute(insert(policy_move).values(policy=name, alias=alias, seq=seq, at=now(), **move))
    return seq


def _has(connection: Connection, name: str, number: int) -> bool:
    table = policy_version.c
    known = select(table.number).where(table.policy == name, table.number == number)
    return connection.execute(known).first() is not None


def _awaited(connection: Connection, found: Row[Any], number: int) -> Sequence[str]:
    """Aliases that were deleted while they named a version, and that a gate guards."""
    table = policy_move.c
    last = select(table.alias, func.max(table.seq).label("seq")).where(table.policy == found.name)
    last_of = last.group_by(table.alias).subquery()
    is_last = (table.alias == last_of.c.alias) & (table.seq == last_of.c.seq)
    query = select(table.alias).join(last_of, is_last).where(table.policy == found.name)
    deleted = query.where(table.to_version.is_(None), table.from_version == number).order_by(table.alias)
    gate = found.gate and Gate(**found.gate)
    return [alias for alias in connection.execute(deleted).scalars() if gate and gate.guards(alias)]


def _require_room(connection: Connection, name: str) -> None:
    many = select(func.count()).where(policy_alias.c.policy == name)
    if connection.execute(many).scalar_one() >= MOST_ALIASES:
        raise StateConflictError(
            f"policy {name_of(name)} has {MOST_ALIASES} aliases already; delete one first"
        )


def _aliases(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    query = select(policy_alias).where(policy_alias.c.policy.in_(names)).order_by(policy_alias.c.alias)
    for row in connection.execute(query):
        found[row.policy][row.alias] = row.version
    return found


def _policy(connection: Connection, row: Row[Any]) -> Policy:
    return _policy_of(row, _aliases(connection, [row.name])[row.name])


def _policy_of(row: Row[Any], aliases: Mapping[str, int]) -> Policy:
    facts = {**row._mapping, "name": name_of(row.name), "gate": row.gate and Gate(**row.gate)}
    return Policy(**facts, aliases=aliases)


def _version(row: Row[Any]) -> PolicyVersion:
    facts = {**row._mapping, "policy": name_of(row.policy)}
    return PolicyVersion(checkpoint=facts.pop("checkpoint_id"), **facts)


def _move(row: Row[Any]) -> AliasMove:
    facts = {name: value for name, value in row._mapping.items() if name not in ("policy", "alias")}
    return AliasMove(**facts | {"kind": MoveKind(row.kind)})


def _none_such(connection: Connection, name: str, alias: str | None, number: int | None) -> NotFoundError:
    """What there is instead."""
    found = _policy(connection, _row(connection, name))
    wanted = f"alias {alias}" if number is None else f"version {number}"
    aliases = ", ".join(f"{alias} (version {version})" for alias, version in found.aliases.items())
    numbers = select(policy_version.c.number).where(policy_version.c.policy == name)
    some = connection.execute(numbers.order_by(policy_version.c.number.desc()).limit(20)).scalars().all()
    has = f"versions {', '.join(map(str, some)) or 'none yet'}; aliases {aliases or 'none yet'}"
    return NotFoundError(f"policy {found.name} has no {wanted}; it has {has}", policy=found.name)
