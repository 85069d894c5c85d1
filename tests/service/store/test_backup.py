"""An archive made of a running service restores to the same runs and bytes, or refuses to."""

import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
from sqlalchemy import text, update

from service.domain.errors import NotFoundError
from service.domain.run import EventType
from service.store import SchemaError, Stores, migrate, open_stores
from service.store.backup import BackupError, backup, check, restore
from service.store.blobs import Blobs
from service.store.checkpoints import SqlCheckpointStore
from service.store.migrations import head_revision
from service.store.tables import blob_chunk
from tests.contracts.builders import new_checkpoint, new_episode, start

LARGE = os.urandom(2000)


@pytest.fixture
def filled(sqlite_stores: Stores, tmp_path: Path) -> str:
    """A run with a small and a large checkpoint and an episode; the id of the run."""
    run, lease = start(sqlite_stores, labels={"team": "a"})
    sqlite_stores.checkpoints.put(lease, new_checkpoint(1), b"small")
    in_files = SqlCheckpointStore(sqlite_stores.database, Blobs(tmp_path / "blobs", inline_bytes=100))
    in_files.put(lease, new_checkpoint(2, is_best=True, is_last=True), LARGE)
    sqlite_stores.episodes.add(lease, new_episode(0), b"trajectory")
    return run.id


@pytest.fixture
def archive(filled: str, sqlite_url: str, tmp_path: Path) -> Path:
    backup(sqlite_url, tmp_path / "out" / "maze.tar")
    return tmp_path / "out" / "maze.tar"


def rewritten(archive: Path, name: str, data: bytes | None) -> Path:
    """A copy in which one member has other bytes, or is left out."""
    copy = archive.with_name("rewritten.tar")
    with tarfile.open(archive) as old, tarfile.open(copy, "w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            content = file.read()
            if member.name == name:
                if data is None:
                    continue
                content = data
                member.size = len(data)
            new.addfile(member, io.BytesIO(content))
    return copy


def cut_in_half(archive: Path) -> Path:
    os.truncate(archive, archive.stat().st_size // 2)
    return archive


@pytest.mark.parametrize("inline_bytes", [100, 10_000])
def test_what_is_stored_in_parts_is_in_the_archive(
    sqlite_stores: Stores, sqlite_url: str, tmp_path: Path, inline_bytes: int
) -> None:
    run, lease = start(sqlite_stores)
    store = SqlCheckpointStore(sqlite_stores.database, Blobs(tmp_path / "blobs", inline_bytes=inline_bytes))
    store.put(lease, new_checkpoint(1), b"one" + LARGE, (3,))
    store.put(lease, new_checkpoint(2, is_best=True), LARGE + b"two", (2000,))
    backup(sqlite_url, tmp_path / "maze.tar")
    url = f"sqlite:///{tmp_path}/restored/maze.db"
    manifest = restore(tmp_path / "maze.tar", url)
    assert len(manifest.blobs) == (3 if inline_bytes == 100 else 0)
    report = check(url)
    assert (report.n_blobs, report.problems) == (2, [])
    stores = open_stores(url)
    for epoch, bundle in ((1, b"one" + LARGE), (2, LARGE + b"two")):
        assert stores.checkpoints.read(stores.checkpoints.resolve(run.id, f"epoch:{epoch}").id) == bundle
    stores.close()


def test_a_restored_archive_holds_everything(
    archive: Path, filled: str, sqlite_stores: Stores, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/restored/maze.db"
    manifest = restore(archive, url)
    assert len(manifest.blobs) == 1
    assert check(url).problems == []
    stores = open_stores(url)
    assert stores.runs.get(filled) == sqlite_stores.runs.get(filled)
    assert stores.runs.events(filled) == sqlite_stores.runs.events(filled)
    assert stores.checkpoints.read(stores.checkpoints.resolve(filled, "best").id) == LARGE
    assert stores.checkpoints.read(stores.checkpoints.resolve(filled, "epoch:1").id) == b"small"
    assert stores.episodes.trajectory(filled, 0) == b"trajectory"
    stores.close()


def test_an_archive_is_its_owners_alone_and_nothing_else_is_left(archive: Path) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600
    assert list(archive.parent.iterdir()) == [archive]


def test_archives_made_under_writes_are_whole(sqlite_stores: Stores, sqlite_url: str, tmp_path: Path) -> None:
    run, lease = start(sqlite_stores)
    stop = threading.Event()

    def write() -> None:
        epoch = 0
        while not stop.is_set():
            epoch += 1
            sqlite_stores.runs.report(lease, events=[(EventType.PROGRESS, {"epoch": epoch})])
            sqlite_stores.checkpoints.put(lease, new_checkpoint(epoch), os.urandom(20_000))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            backup(sqlite_url, tmp_path / f"{number}.tar")
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        url = f"sqlite:///{tmp_path}/{number}/maze.db"
        restore(tmp_path / f"{number}.tar", url)
        assert check(url).problems == []
        stores = open_stores(url)
        events = stores.runs.events(run.id, limit=10_000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        stores.close()


def test_an_archive_replaces_an_older_one_only_when_it_is_whole(
    archive: Path, sqlite_url: str, tmp_path: Path
) -> None:
    before = archive.read_bytes()
    for file in (tmp_path / "blobs").iterdir():
        file.unlink()
    with pytest.raises(BackupError, match="MAZE_BLOB_DIR"):
        backup(sqlite_url, archive)
    assert archive.read_bytes() == before
    assert list(archive.parent.iterdir()) == [archive]


def test_a_restore_never_overwrites_a_database(archive: Path, sqlite_url: str) -> None:
    with pytest.raises(BackupError, match="there is a database at"):
        restore(archive, sqlite_url)


@pytest.mark.parametrize(
    "damage", ["maze.db", "blob", "manifest", "no maze.db", "no blob", "evil name", "cut"]
)
def test_a_damaged_archive_puts_no_database_in_place(archive: Path, tmp_path: Path, damage: str) -> None:
    with tarfile.open(archive) as tar:
        blob = next(name for name in tar.getnames() if name.startswith("blobs/"))
        file = tar.extractfile("manifest.json")
        assert file is not None
        manifest = json.load(file)
    evil = json.dumps({**manifest, "blobs": ["../../evil"]}).encode()
    damaged = {
        "maze.db": lambda: rewritten(archive, "maze.db", b"SQLite format 3\x00 and no more"),
        "blob": lambda: rewritten(archive, blob, b"other bytes"),
        "manifest": lambda: rewritten(archive, "manifest.json", b'{"revision": "0001"}'),
        "no maze.db": lambda: rewritten(archive, "maze.db", None),
        "no blob": lambda: rewritten(archive, blob, None),
        "evil name": lambda: rewritten(archive, "manifest.json", evil),
        "cut": lambda: cut_in_half(archive),
    }[damage]()
    target = tmp_path / "restored"
    with pytest.raises(BackupError):
        restore(damaged, f"sqlite:///{target}/maze.db")
    assert [path.name for path in target.iterdir() if path.name != "blobs"] == []


def test_a_database_that_is_not_there_or_not_ours_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="maze db upgrade"):
        backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "out.tar")
    with pytest.raises(BackupError, match="pg_dump"):
        backup("postgresql://localhost/maze", tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


@pytest.mark.parametrize("journal", ["-wal", "-shm", "-journal"])
def test_the_journal_of_another_database_is_never_written_over_a_restored_one(
    archive: Path, tmp_path: Path, journal: str
) -> None:
    target = tmp_path / "restored"
    target.mkdir()
    left = target / f"maze.db{journal}"
    left.write_bytes(b"of a database that was moved away")
    with pytest.raises(BackupError, match=rf"maze\.db{journal} in .* belong to a database that is not there"):
        restore(archive, f"sqlite:///{target}/maze.db")
    assert list(target.iterdir()) == [left]


def test_an_archive_of_a_newer_version_puts_nothing_in_place(
    filled: str, sqlite_stores: Stores, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_stores.database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    monkeypatch.setattr("service.store.backup.check_revision", lambda url: "9999")
    backup(sqlite_url, tmp_path / "newer.tar")
    with pytest.raises(SchemaError, match="9999, which this version does not know"):
        restore(tmp_path / "newer.tar", f"sqlite:///{tmp_path}/restored/maze.db")
    assert list((tmp_path / "restored").iterdir()) == []


def test_a_damaged_file_of_an_earlier_database_is_replaced(
    archive: Path, filled: str, tmp_path: Path
) -> None:
    blobs = tmp_path / "restored" / "blobs"
    blobs.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        name = next(name for name in tar.getnames() if name.startswith("blobs/")).removeprefix("blobs/")
    (blobs / name).write_bytes(LARGE[::-1])
    url = f"sqlite:///{tmp_path}/restored/maze.db"
    restore(archive, url)
    assert (blobs / name).read_bytes() == LARGE


def test_a_damaged_blob_file_is_found_when_the_archive_is_made(
    filled: str, sqlite_url: str, tmp_path: Path
) -> None:
    (file,) = (tmp_path / "blobs").iterdir()
    file.write_bytes(LARGE[::-1])
    with pytest.raises(BackupError, match="is damaged; see: maze db check"):
        backup(sqlite_url, tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_an_archive_is_never_written_over_what_is_none(filled: str, sqlite_url: str, tmp_path: Path) -> None:
    for taken in (tmp_path / "maze.db", tmp_path / "blobs"):
        with pytest.raises(BackupError, match="is no archive; give another name"):
            backup(sqlite_url, taken)
    assert check(sqlite_url).problems == []


def test_upgrade_makes_a_database_and_is_a_no_op_afterwards(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/data/maze.db"
    assert migrate(url) == migrate(url) == head_revision()
    assert check(url).problems == []


def test_check_reads_every_blob(stores: Stores, database_url: str) -> None:
    _, lease = start(stores)
    stores.checkpoints.put(lease, new_checkpoint(1), b"one")
    damaged = stores.checkpoints.put(lease, new_checkpoint(2), b"two")
    assert check(database_url).n_blobs == 2
    assert check(database_url).problems == []
    with stores.database.writing() as connection:
        connection.execute(update(blob_chunk).where(blob_chunk.c.data == b"two").values(data=b"2"))
    (problem,) = check(database_url).problems
    assert "damaged" in problem
    with pytest.raises(NotFoundError):
        stores.checkpoints.read(damaged.id)


def test_check_finds_a_row_that_names_nothing(sqlite_stores: Stores, sqlite_url: str) -> None:
    orphan = text("INSERT INTO run_label VALUES ('run_gone', 'k', 'v', '2026-01-01 00:00:00.000000')")
    connection = sqlite_stores.database.unpooled()
    connection.executescript(f"PRAGMA query_only=OFF; PRAGMA foreign_keys=OFF; {orphan};")
    assert check(sqlite_url).problems == ["a row of run_label names a row of run that is not there"]
