"""The episode store over SQLAlchemy."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select

from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.errors import NotFoundError
from service.domain.run import EpisodeInfo, EventType, Lease, Page
from service.store.blobs import Blobs
from service.store.engine import Database
from service.store.run_rows import LockedRun
from service.store.tables import blob, episode
from service.store.types import upsert

_FACTS = ("seed", "episode_return", "length", "terminated", "truncated")


class SqlEpisodeStore:
    """:class:`~service.domain.ports.EpisodeStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    def add(self, lease: Lease, new: EpisodeInfo, trajectory: bytes | None) -> None:
        """Store one episode."""
        stored = None if trajectory is None else self._blobs.prepare(trajectory)
        facts = {name: getattr(new, name) for name in _FACTS}
        facts["blob_sha256"] = None if stored is None else stored.sha256
        key = {"run_id": lease.run_id, "index": new.index}
        with self._database.writing() as connection:
            locked = LockedRun.by_lease(connection, lease)
            if stored is not None:
                self._blobs.insert(connection, stored)
            known = select(episode.c.blob_sha256).filter_by(**key)
            replaced = connection.execute(known).scalar_one_or_none()
            statement = upsert(connection)(episode).values(**key, **facts)
            connection.execute(
                statement.on_conflict_do_update(index_elements=episode.primary_key, set_=facts)
            )
            if replaced is not None:
                self._blobs.drop_unreferenced(connection, {replaced})
            locked.event(EventType.EPISODE, asdict(new) | {"has_trajectory": stored is not None})
            locked.write()

    def list(self, run_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Episodes of a run, by index."""
        query = select(episode).where(episode.c.run_id == run_id).order_by(episode.c.index).limit(limit + 1)
        if cursor is not None:
            (after,) = decode_cursor(cursor, "episodes", int)
            query = query.where(episode.c.index > after)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return page_of(rows, limit, _info, lambda row: encode_cursor("episodes", row._mapping["index"]))

    def get(self, run_id: str, index: int) -> EpisodeInfo:
        """One episode."""
        with self._database.reading() as connection:
            return _info(_row(connection, run_id, index))

    def recorded(self, run_id: str) -> Mapping[int, tuple[str, int]]:
        """Digests and sizes of the trajectories."""
        query = select(episode.c.index, blob.c.sha256, blob.c.size_bytes).join_from(episode, blob)
        query = query.where(episode.c.run_id == run_id).order_by(episode.c.index)
        with self._database.reading() as connection:
            return {index: (sha256, n_bytes) for index, sha256, n_bytes in connection.execute(query)}

    def trajectory(self, run_id: str, index: int) -> bytes:
        """The trajectory's bytes."""
        with self._database.reading() as connection:
            row = _row(connection, run_id, index)
            if row.blob_sha256 is None:
                raise NotFoundError(
                    f"episode {index} of run {run_id} was not recorded; submit the rollout with record=true",
                    run_id=run_id,
                )
            return self._blobs.read(connection, row.blob_sha256)


def _row(connection: Connection, run_id: str, index: int) -> Row[Any]:
    query = select(episode).where(episode.c.run_id == run_id, episode.c.index == index)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"run {run_id} has no episode {index}", run_id=run_id)
    return row


def _info(row: Row[Any]) -> EpisodeInfo:
    return EpisodeInfo(
        index=row._mapping["index"],  # row.index is a tuple's method
        **{name: row._mapping[name] for name in _FACTS},
        has_trajectory=row.blob_sha256 is not None,
    )
