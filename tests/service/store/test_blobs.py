"""Bytes are whole or not there: chunks, digest-named files, damage, and failures at every step of a write."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from service.domain.errors import NotFoundError, StoreUnavailableError
from service.domain.run import RunState
from service.store import Stores
from service.store.blobs import CHUNK_BYTES, Blobs, storing, write_file
from service.store.checkpoints import SqlCheckpointStore
from service.store.engine import opened
from service.store.tables import blob, blob_chunk, upload_part
from tests.contracts.builders import new_checkpoint, start

BUNDLE = bytes(range(256)) * 100


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def file_checkpoints(sqlite_stores: Stores, tmp_path: Path) -> SqlCheckpointStore:
    """A store in which everything above 100 bytes is a file."""
    blobs = Blobs(tmp_path / "blobs", inline_bytes=100)
    return SqlCheckpointStore(sqlite_stores.database, blobs, keep_scheduled=1)


def test_bytes_are_cut_into_chunks(sqlite_stores: Stores) -> None:
    _, lease = start(sqlite_stores)
    sqlite_stores.checkpoints.put(lease, new_checkpoint(1), b"x" * (2 * CHUNK_BYTES + 1))
    with sqlite_stores.database.reading() as connection:
        sizes = connection.execute(
            select(func.length(blob_chunk.c.data)).order_by(blob_chunk.c.number)
        ).scalars()
        assert sizes.all() == [CHUNK_BYTES, CHUNK_BYTES, 1]


def test_a_damaged_chunk_is_never_given_out(sqlite_stores: Stores) -> None:
    _, lease = start(sqlite_stores)
    info = sqlite_stores.checkpoints.put(lease, new_checkpoint(1), BUNDLE)
    with sqlite_stores.database.writing() as connection:
        connection.execute(update(blob_chunk).values(data=BUNDLE[:-1] + b"!"))
    with pytest.raises(NotFoundError, match=rf"{info.id} is lost.*{digest(BUNDLE)} are damaged"):
        sqlite_stores.checkpoints.read(info.id)


def test_large_bytes_are_a_file_named_by_digest(
    sqlite_stores: Stores, file_checkpoints: SqlCheckpointStore, tmp_path: Path
) -> None:
    _, lease = start(sqlite_stores)
    small = file_checkpoints.put(lease, new_checkpoint(1, "last", is_last=True), b"s" * 100)
    large = file_checkpoints.put(lease, new_checkpoint(2), BUNDLE)
    assert [entry.name for entry in (tmp_path / "blobs").iterdir()] == [digest(BUNDLE)]
    assert (tmp_path / "blobs" / digest(BUNDLE)).stat().st_mode & 0o777 == 0o600
    assert file_checkpoints.read(large.id) == BUNDLE
    assert file_checkpoints.read(small.id) == b"s" * 100


@pytest.mark.parametrize("how", ["missing", "cut", "changed", "link"])
def test_a_damaged_file_is_never_given_out(
    sqlite_stores: Stores, file_checkpoints: SqlCheckpointStore, tmp_path: Path, how: str
) -> None:
    _, lease = start(sqlite_stores)
    info = file_checkpoints.put(lease, new_checkpoint(1), BUNDLE)
    file = tmp_path / "blobs" / digest(BUNDLE)
    if how == "cut":
        file.write_bytes(BUNDLE[:-1])
    elif how == "changed":
        file.write_bytes(BUNDLE[:-1] + b"!")
    else:
        file.unlink()
    if how == "link":
        (tmp_path / "elsewhere").write_bytes(BUNDLE)
        file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFoundError, match=info.id):
        file_checkpoints.read(info.id)


def test_without_a_directory_even_large_bytes_stay_in_the_database(sqlite_stores: Stores) -> None:
    blobs = Blobs(None, inline_bytes=100)
    with sqlite_stores.database.writing() as connection:
        blobs.insert(connection, blobs.prepare(BUNDLE))
    with sqlite_stores.database.reading() as connection:
        assert blobs.read(connection, digest(BUNDLE)) == BUNDLE


def test_a_file_without_a_directory_setting_says_which_one_is_missing(
    sqlite_stores: Stores, file_checkpoints: SqlCheckpointStore
) -> None:
    _, lease = start(sqlite_stores)
    file_checkpoints.put(lease, new_checkpoint(1), BUNDLE)
    with sqlite_stores.database.reading() as connection, pytest.raises(NotFoundError, match="MAZE_BLOB_DIR"):
        Blobs(None).read(connection, digest(BUNDLE))


def test_a_file_that_no_row_names_is_swept_when_it_is_old(
    sqlite_stores: Stores, file_checkpoints: SqlCheckpointStore, tmp_path: Path
) -> None:
    _, lease = start(sqlite_stores)
    files = [tmp_path / "blobs" / digest(BUNDLE + bytes([epoch])) for epoch in (1, 2, 3)]
    file_checkpoints.put(lease, new_checkpoint(1), BUNDLE + b"\x01")
    left = tmp_path / "blobs" / ".crashed.tmp"
    left.touch()
    for path in (files[0], left):
        os.utime(path, (0, 0))
    file_checkpoints.put(lease, new_checkpoint(2), BUNDLE + b"\x02")  # prunes and sweeps the first
    assert sorted((tmp_path / "blobs").iterdir()) == [files[1]]
    file_checkpoints.put(lease, new_checkpoint(3), BUNDLE + b"\x03")
    assert sorted((tmp_path / "blobs").iterdir()) == sorted(files[1:])  # the second is pruned but young


def test_parts_of_large_bytes_are_files_that_go_when_none_names_them(
    sqlite_stores: Stores, file_checkpoints: SqlCheckpointStore, tmp_path: Path
) -> None:
    _, lease = start(sqlite_stores)
    shared, own = BUNDLE, [BUNDLE + bytes([epoch]) for epoch in range(3)]
    files = {part: tmp_path / "blobs" / digest(part) for part in (shared, *own)}
    first = file_checkpoints.put(lease, new_checkpoint(1), own[1] + shared, (len(own[1]),))
    assert set((tmp_path / "blobs").iterdir()) == {files[own[1]], files[shared]}
    assert file_checkpoints.read(first.id) == own[1] + shared
    for path in files.values():
        if path.exists():
            os.utime(path, (0, 0))
    second = file_checkpoints.put(lease, new_checkpoint(2), own[2] + shared, (len(own[2]),))
    assert set((tmp_path / "blobs").iterdir()) == {files[own[2]], files[shared]}
    assert file_checkpoints.read(second.id) == own[2] + shared


def test_small_parts_stay_in_the_database(
    sqlite_stores: Stores, file_checkpoints: SqlCheckpointStore, tmp_path: Path
) -> None:
    _, lease = start(sqlite_stores)
    info = file_checkpoints.put(lease, new_checkpoint(1), b"x" * 50 + b"y" * 50, (50,))
    assert not (tmp_path / "blobs").exists()
    assert file_checkpoints.read(info.id) == b"x" * 50 + b"y" * 50


def test_known_bytes_are_as_new_again_for_the_sweep(tmp_path: Path) -> None:
    write_file(tmp_path, digest(BUNDLE), BUNDLE)
    os.utime(tmp_path / digest(BUNDLE), (0, 0))
    write_file(tmp_path, digest(BUNDLE), BUNDLE)
    assert (tmp_path / digest(BUNDLE)).stat().st_mtime > 0


def failing_at(nth: int, call: Callable[..., object], calls: list[int]) -> Callable[..., object]:
    def guarded(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*args, **kwargs)

    return guarded


def test_a_write_that_fails_at_any_step_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th system call fails, n = 1, 2, … until the write passes."""
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace")}
    for nth in range(1, 20):
        directory = tmp_path / str(nth)
        calls: list[int] = []
        for name, call in real.items():
            monkeypatch.setattr(os, name, failing_at(nth, call, calls))
        try:
            write_file(directory, digest(BUNDLE), BUNDLE)
            failed = False
        except OSError:
            failed = True
        monkeypatch.undo()
        names = [entry.name for entry in directory.iterdir()]
        assert names in ([], [digest(BUNDLE)])
        assert all((directory / name).read_bytes() == BUNDLE for name in names)
        if not failed:
            assert names == [digest(BUNDLE)]
            break
    assert nth == 6  # open, fsync, replace, open and fsync of the directory: five calls failed in turn


def test_an_emptied_database_file_shrinks(sqlite_stores: Stores, tmp_path: Path) -> None:
    run, lease = start(sqlite_stores)
    blobs = Blobs(None)
    store = SqlCheckpointStore(sqlite_stores.database, blobs, keep_scheduled=1)
    store.put(lease, new_checkpoint(1), os.urandom(40 * CHUNK_BYTES))
    store.put(lease, new_checkpoint(2), b"small")
    with sqlite_stores.database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        assert connection.execute(select(blob.c.size_bytes)).scalars().all() == [5]
    assert pages * 8192 < 35 * CHUNK_BYTES
    assert free < pages
    assert store.resolve(run.id, "last").size_bytes == 5


@pytest.mark.parametrize("in_files", [False, True])
def test_a_range_is_read_over_chunks_parts_and_files(
    sqlite_stores: Stores, tmp_path: Path, in_files: bool
) -> None:
    data = bytes(range(251)) * 9000
    store = SqlCheckpointStore(
        sqlite_stores.database, Blobs(tmp_path / "blobs", inline_bytes=100 if in_files else 2**30)
    )
    _, lease = start(sqlite_stores)
    for epoch, edges in enumerate(((), (5,), (CHUNK_BYTES + 7, 2_000_000, 2_000_001))):
        content = store.content(store.put(lease, new_checkpoint(epoch), data, edges).id)
        assert (content.size_bytes, content.sha256) == (len(data), digest(data))
        for first in (0, 4, 5, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 7, 2_000_000, len(data) - 1):
            for length in (0, 1, 6, CHUNK_BYTES, len(data)):
                assert content.read(first, min(len(data), first + length)) == data[first : first + length]


def test_a_range_of_what_was_deleted_is_not_found(sqlite_stores: Stores) -> None:
    run, lease = start(sqlite_stores)
    stored = sqlite_stores.checkpoints.put(lease, new_checkpoint(1), BUNDLE)
    content = sqlite_stores.checkpoints.content(stored.id)
    sqlite_stores.runs.finish(lease, RunState.FAILED, reason="x")
    sqlite_stores.runs.delete(run.id)
    with pytest.raises(NotFoundError):
        content.read(0, 1)


def test_bytes_that_others_dropped_meanwhile_are_asked_for_again(postgres_url: str) -> None:
    with opened(postgres_url) as database:
        part = {"upload_id": "upl_none", "number": 0, "blob_sha256": "0" * 64}
        with pytest.raises(StoreUnavailableError, match="dropped meanwhile"), storing(database) as connection:
            connection.execute(insert(upload_part).values(**part))
