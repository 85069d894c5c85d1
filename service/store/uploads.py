"""The store of uploads over SQLAlchemy."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    delete,
    func,
    insert,
    literal,
    select,
    type_coerce,
)

from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.errors import CapacityError, NotFoundError, StateConflictError
from service.domain.run import Page
from service.domain.upload import EXPIRES_AFTER_S, NewUpload, Upload, run_id_of
from service.domain.use_cases import TERMINAL_STATES
from service.store.blobs import Blobs, storing
from service.store.engine import Database
from service.store.tables import run, upload, upload_part
from service.store.types import after_now, in_project, now, upsert

FULL_RETRY_S = 60.0

_PREFIX = len(run_id_of(""))
_run_id = type_coerce(literal(run_id_of("")) + func.substr(upload.c.id, _PREFIX + 1), String)
"""Of the run that an upload makes."""
_made = select(run.c.id).where(run.c.id == _run_id).exists()
_is_open = upload.c.expires_at > now(), ~_made
_BEGIN_LOCK = 0x6D617A75
"""Of whoever begins an upload, in PostgreSQL: what is counted stays true until it is there."""


class SqlUploadStore:
    """:class:`~service.domain.ports.UploadStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    def begin(self, new: NewUpload, *, max_open: int, max_open_of_one: int) -> tuple[Upload, bool]:
        """Begin an upload, or go on with the same one."""
        with self._database.writing() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has one writer
                connection.execute(select(func.pg_advisory_xact_lock(_BEGIN_LOCK)))
            same = (
                select(upload.c.id)
                .where(upload.c.digest == new.digest, upload.c.project == new.project, *_is_open)
                .limit(1)
            )
            if (known := connection.execute(same).scalar_one_or_none()) is not None:
                return _read(connection, known), False
            _require_room(connection, "", max_open)
            _require_room(connection, " of yours", max_open_of_one, _is_of(new.created_by))
            times = {"created_at": now(), "expires_at": after_now(EXPIRES_AFTER_S)}
            connection.execute(insert(upload).values(**asdict(new), **times))
            return _read(connection, new.id), True

    def list(
        self,
        created_by: str | None,
        *,
        project: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Uploads of one token that are not complete, newest first."""
        query = (
            select(upload)
            .where(_is_of(created_by), *in_project(upload, project), *_is_open)
            .order_by(upload.c.id.desc())
        )
        if cursor is not None:
            query = query.where(upload.c.id < decode_cursor(cursor, "uploads", str)[0])
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
            return page_of(
                rows, limit, partial(_with_parts, connection), lambda row: encode_cursor("uploads", row.id)
            )

    def get(self, upload_id: str) -> Upload:
        """An upload."""
        with self._database.reading() as connection:
            return _read(connection, upload_id)

    def put_part(self, upload_id: str, number: int, data: bytes) -> Upload:
        """Store a part."""
        stored = self._blobs.prepare(data)
        with storing(self._database) as connection:
            _require_open(connection, upload_id)
            self._blobs.insert(connection, stored)
            self._name_part(connection, upload_id, number, stored.sha256)
            return _read(connection, upload_id)

    def _name_part(self, connection: Connection, upload_id: str, number: int, sha256: str) -> None:
        key = {"upload_id": upload_id, "number": number}
        known = select(upload_part.c.blob_sha256).filter_by(**key)
        replaced = connection.execute(known).scalar_one_or_none()
        statement = upsert(connection)(upload_part).values(**key, blob_sha256=sha256)
        taking = {"index_elements": upload_part.primary_key, "set_": {"blob_sha256": sha256}}
        connection.execute(statement.on_conflict_do_update(**taking))
        if replaced not in (None, sha256):
            self._blobs.drop_unreferenced(connection, {replaced})

    def sha256(self, upload_id: str) -> str:
        """Digest of the parts, one at a time."""
        digest = hashlib.sha256()
        with self._database.reading() as connection:
            parts = connection.execute(_parts(upload_id)).all()
        for part in parts:
            with self._database.reading() as connection:
                digest.update(self._blobs.read(connection, part.blob_sha256))
        return digest.hexdigest()

    def read(self, upload_id: str) -> bytes:
        """The parts, put together."""
        with self._database.reading() as connection:
            sha256 = _row(connection, upload_id).sha256
            parts = connection.execute(_parts(upload_id)).all()
            data = b"".join(self._blobs.read(connection, part.blob_sha256) for part in parts)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise NotFoundError(f"the parts of upload {upload_id} are not what was announced; begin anew")
        return data

    def drop(self, upload_id: str) -> None:
        """Forget one."""
        with self._database.writing() as connection:
            _require_open(connection, upload_id)
            self._delete(connection, [upload_id])

    def sweep(self) -> int:
        """Forget what is over."""
        ended = select(run.c.id).where(run.c.id == _run_id, run.c.state.in_(TERMINAL_STATES)).exists()
        over = select(upload.c.id).where(ended | ((upload.c.expires_at <= now()) & ~_made))
        with self._database.reading() as connection:
            if connection.execute(over.limit(1)).first() is None:
                return 0
        with self._database.writing() as connection:
            ids = connection.execute(over).scalars().all()
            self._delete(connection, ids)
        return len(ids)

    def _delete(self, connection: Connection, ids: Sequence[str]) -> None:
        parts = delete(upload_part).where(upload_part.c.upload_id.in_(ids))
        digests = connection.execute(parts.returning(upload_part.c.blob_sha256)).scalars().all()
        connection.execute(delete(upload).where(upload.c.id.in_(ids)))
        self._blobs.drop_unreferenced(connection, digests)


def _require_open(connection: Connection, upload_id: str) -> None:
    """Lock an upload that no run was made of."""
    _row(connection, upload_id, locks=True)
    if connection.execute(select(run.c.id).where(run.c.id == run_id_of(upload_id))).first():
        message = f"upload {upload_id} is complete: its run is {run_id_of(upload_id)}"
        raise StateConflictError(message, state="complete")


def _is_of(created_by: str | None) -> ColumnElement[bool]:
    return upload.c.created_by.is_not_distinct_from(created_by)


def _require_room(connection: Connection, whose: str, most: int, *which: ColumnElement[bool]) -> None:
    n_held = connection.execute(select(func.count()).select_from(upload).where(*which)).scalar_one()
    if n_held >= most:
        message = (
            f"{n_held} uploads{whose} are open or wait to be imported, as many as there may be; try again later, or "
            "give yours up: GET /v1/checkpoints/uploads lists them, DELETE /v1/checkpoints/uploads/ID drops one"
        )
        raise CapacityError(message, FULL_RETRY_S)


def _parts(upload_id: str) -> Select[tuple[int, str]]:
    chosen = select(upload_part.c.number, upload_part.c.blob_sha256)
    return chosen.where(upload_part.c.upload_id == upload_id).order_by(upload_part.c.number)


def _row(connection: Connection, upload_id: str, *, locks: bool = False) -> Row[Any]:
    query = select(upload).where(upload.c.id == upload_id, (upload.c.expires_at > now()) | _made)
    row = connection.execute(query.with_for_update() if locks else query).one_or_none()
    if row is None:
        message = f"there is no upload {upload_id}, or its time is up; begin anew: POST /v1/checkpoints"
        raise NotFoundError(message)
    return row


def _read(connection: Connection, upload_id: str) -> Upload:
    return _with_parts(connection, _row(connection, upload_id))


def _with_parts(connection: Connection, row: Row[Any]) -> Upload:
    parts = tuple(part.number for part in connection.execute(_parts(row.id)))
    return Upload(**row._mapping, parts=parts)
