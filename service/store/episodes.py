"""The episode store over SQLAlchemy."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.errors import NotFoundError
from service.domain.run import EpisodeInfo, EventType, Lease, Page, Picture
from service.store.blobs import Blobs, StoredContent, storing
from service.store.engine import Database
from service.store.run_rows import LockedRun
from service.store.tables import blob, episode
from service.store.types import upsert

_FACTS = ("seed", "episode_return", "length", "terminated", "truncated", "epoch", "moment")
_BYTES = ("blob_sha256", "video_sha256", "thumbnail_sha256")
_HAS = {"has_trajectory": "blob_sha256", "has_video": "video_sha256"}


class SqlEpisodeStore:
    """:class:`~service.domain.ports.EpisodeStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    def add(
        self,
        lease: Lease,
        new: EpisodeInfo,
        trajectory: bytes | None,
        video: bytes | None = None,
        thumbnail: bytes | None = None,
    ) -> None:
        """Store one episode."""
        given = zip(_BYTES, (trajectory, video, thumbnail), strict=True)
        stored = {name: None if data is None else self._blobs.prepare(data) for name, data in given}
        facts = {name: getattr(new, name) for name in _FACTS}
        facts |= {name: found and found.sha256 for name, found in stored.items()}
        key = {"run_id": lease.run_id, "index": new.index}
        with storing(self._database) as connection:
            locked = LockedRun.by_lease(connection, lease)
            for found in filter(None, stored.values()):
                self._blobs.insert(connection, found)
            known = select(*(episode.c[name] for name in _BYTES)).filter_by(**key)
            replaced = {*(connection.execute(known).one_or_none() or ())}
            statement = upsert(connection)(episode).values(**key, **facts)
            connection.execute(
                statement.on_conflict_do_update(index_elements=episode.primary_key, set_=facts)
            )
            if dropped := replaced - {None}:
                self._blobs.drop_unreferenced(connection, dropped)
            has = {name: stored[column] is not None for name, column in _HAS.items()}
            locked.event(EventType.EPISODE, asdict(new) | has)
            locked.write()

    def drop_films(self, lease: Lease, epochs: Sequence[int]) -> None:
        """Delete the episodes of these epochs."""
        filmed = delete(episode).where(episode.c.run_id == lease.run_id, episode.c.epoch.in_(epochs))
        with storing(self._database) as connection:
            locked = LockedRun.by_lease(connection, lease)
            rows = connection.execute(filmed.returning(*(episode.c[name] for name in _BYTES))).all()
            dropped = {sha256 for row in rows for sha256 in row} - {None}
            self._blobs.drop_unreferenced(connection, dropped)
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
        query = select(episode.c.index, blob.c.sha256, blob.c.size_bytes).join_from(
            episode, blob, episode.c.blob_sha256 == blob.c.sha256
        )
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

    def picture(self, run_id: str, index: int, kind: Picture) -> StoredContent:
        """The video, a picture of it, or the trajectory."""
        is_recorded = kind == "trajectory"
        with self._database.reading() as connection:
            sha256 = getattr(
                _row(connection, run_id, index), "blob_sha256" if is_recorded else f"{kind}_sha256"
            )
        if sha256 is None:
            lacks = (
                "recorded; submit the rollout with record=true"
                if is_recorded
                else ("filmed; submit the rollout with videos")
            )
            message = f"episode {index} of run {run_id} was not {lacks}"
            raise NotFoundError(message, run_id=run_id)
        return StoredContent(self._database, self._blobs, sha256)


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
        has_video=row.video_sha256 is not None,
    )
