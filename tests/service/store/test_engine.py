"""The engine factory: how SQLite is opened, which URLs are refused, and what a failing database becomes."""

import errno
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import exc, text

from service.domain.errors import StoreUnavailableError
from service.store import engine
from service.store.engine import Database, has_wal_reset_bug, journal_mode, opened, parse_url


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
        ((4, 0, 0), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version: tuple[int, ...], has_bug: bool) -> None:
    assert has_wal_reset_bug(version) is has_bug
    assert journal_mode(version) == ("TRUNCATE" if has_bug else "WAL")


def test_a_thread_that_writes_without_a_pause_lets_others_write_in_between(sqlite_url: str) -> None:
    n_written, is_over = 0, threading.Event()

    def write_on(database: Database) -> None:
        nonlocal n_written
        while not is_over.is_set():
            with database.writing() as connection:
                connection.execute(text("DELETE FROM worker"))
            n_written += 1

    with opened(sqlite_url) as database:
        thread = threading.Thread(target=write_on, args=(database,))
        thread.start()
        try:
            for _ in range(5):
                before = n_written
                with database.writing():
                    assert n_written - before <= 2
        finally:
            is_over.set()
            thread.join()


def test_a_fresh_file_is_opened_for_several_processes(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/fresh.db") as database, database.writing() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in (
                "journal_mode", "synchronous", "foreign_keys", "busy_timeout", "trusted_schema", "page_size",
                "auto_vacuum", "mmap_size", "journal_size_limit",
            )
        }  # fmt: skip
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "trusted_schema": 0,
        "page_size": 8192,
        "auto_vacuum": 2,
        "mmap_size": 0,
        "journal_size_limit": 64 * 1_048_576,
    }


def test_who_connects_to_write_does_not_wait_for_who_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/busy.db"
    with opened(url) as one, one.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 0)
    monkeypatch.setattr(engine, "_COMMON_PRAGMAS", ())
    with opened(url) as one, opened(url) as other, one.writing():
        other._writer.connect().close()


def test_a_library_with_the_bug_falls_back_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "has_wal_reset_bug", lambda version: True)
    with caplog.at_level(logging.WARNING), opened(f"sqlite:///{tmp_path}/old.db") as database:
        with database.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "truncate"
            connection.exec_driver_sql("CREATE TABLE t (x)")
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == 0
    assert "pip install pysqlite3" in caplog.text


def test_a_reading_transaction_cannot_write(stores_database: Database) -> None:
    with stores_database.reading() as connection:
        with pytest.raises(exc.DBAPIError, match=r"readonly|read-only"):
            connection.execute(text("DELETE FROM worker"))
        connection.rollback()


def test_a_failed_transaction_leaves_nothing(stores_database: Database) -> None:
    insert = text("INSERT INTO worker (id, info, last_seen_at) VALUES ('w', '{}', '2026-01-01 00:00:00')")

    def fail_half_way() -> None:
        with stores_database.writing() as connection:
            connection.execute(insert)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    with stores_database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM worker")).scalar_one() == 0


def test_a_database_locked_for_too_long_is_unavailable(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_COMMON_PRAGMAS", ("busy_timeout=10",))
    with opened(sqlite_url) as holder, opened(sqlite_url) as other:
        with holder.writing(), pytest.raises(StoreUnavailableError, match="locked"), other.writing():
            pass
        with other.writing():
            pass


def test_a_postgresql_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    database = Database(f"postgresql://nobody@/maze?host={tmp_path}")
    with pytest.raises(StoreUnavailableError), database.reading():
        pass


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("mysql://root@localhost/maze", "mysql is not supported"),
        ("not a url", "is no URL"),
    ],
)
def test_other_urls_are_refused_with_the_way_out(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refusal:
        parse_url(url)
    assert "sqlite:///data/maze.db" in str(refusal.value)


def test_the_interpreters_own_sqlite_is_never_loaded(sqlite_url: str) -> None:
    """Two SQLite libraries in one process drop each other's file locks."""
    code = f"""
import sys
from service.store import migrate, open_stores
migrate({sqlite_url!r})
stores = open_stores({sqlite_url!r})
stores.runs.statistics(), stores.runs.change_marker()
stores.registry.publish_environments("w", [])
stores.close()
assert "pysqlite3" in sys.modules
assert "sqlite3" not in sys.modules and "_sqlite3" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_another_one_than_was_opened_takes_no_writes(
    sqlite_url: str, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "maze.db"
    with opened(sqlite_url) as database:
        with database.writing():
            pass
        database.check()
        content = path.read_bytes()
        path.unlink()
        if how == "replaced":
            path.write_bytes(content)
        for use in (database.check, lambda: database.writing().__enter__()):
            with pytest.raises(StoreUnavailableError) as refusal:
                use()
            assert "restart the service" in refusal.value.told


def test_no_connection_puts_an_empty_file_in_the_place_of_a_deleted_one(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with opened(sqlite_url) as database:
        with database.writing():
            path.rename(path.with_suffix(".moved"))
        for _ in range(2):  # nothing was read before: each one has to connect
            with pytest.raises(StoreUnavailableError, match="deleted or replaced"), database.reading():
                pass
    assert not path.exists()


def test_a_full_disk_is_told(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(sqlite_url) as database:
        monkeypatch.setattr(engine.tempfile, "TemporaryFile", full)
        with pytest.raises(StoreUnavailableError) as refusal:
            database.check()
    assert "full" in refusal.value.told


def test_a_database_that_outgrows_its_room_is_told_as_full(sqlite_url: str) -> None:
    def write_much() -> None:
        with opened(sqlite_url) as database, database.writing() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")
            connection.exec_driver_sql("CREATE TABLE large AS SELECT randomblob(1000000) AS data")

    with pytest.raises(StoreUnavailableError) as refusal:
        write_much()
    assert "full" in refusal.value.told


@pytest.mark.parametrize("how", ["no database", "corrupt"])
def test_a_file_that_is_damaged_or_no_database_is_told_by_name(
    sqlite_url: str, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "maze.db"
    header = path.read_bytes()[:100]
    path.write_bytes((header if how == "corrupt" else b"") + b"no pages of a database" * 5000)

    def read() -> None:
        with opened(sqlite_url) as database, database.reading() as connection:
            connection.execute(text("SELECT count(*) FROM run"))

    with pytest.raises(StoreUnavailableError) as refusal:
        read()
    assert str(path) in str(refusal.value)
    assert "damaged" in refusal.value.told


def test_a_missing_driver_of_postgresql_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreUnavailableError, match=r"pip install 'maze-service\[postgres\]'"):
        Database("postgresql://localhost/maze")
