"""A process dies, or a call of the system fails, at each point of what is written: all of it is there, or nothing."""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import maze_core.files
from maze_core.files import cut, drop_chunks, read_cut, write_atomically
from service.domain.errors import NotFoundError, StoreUnavailableError
from service.domain.run import RunState
from service.store import Stores
from service.store.backup import check
from service.store.blobs import Blobs
from service.store.checkpoints import SqlCheckpointStore
from tests.contracts.builders import new_checkpoint, start
from tests.faults.crashing_worker import POINTS
from tests.faults.tools import assert_invariants
from tests.service.worker.conftest import Bench

PROGRAM = str(Path(__file__).parent / "crashing_worker.py")


@pytest.mark.faults
@pytest.mark.figure("R02")
@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_at_a_point_loses_nothing(bench: Bench, point: str, nth: int) -> None:
    is_once_per_run = point.split(" ")[1] in ("claim", "_launch", "finish")
    n = 1 if is_once_per_run else 8
    runs = [bench.submit(n=n, sleep_s=0.02) for _ in range(nth if is_once_per_run else 1)]
    crashing = bench.worker(program=(PROGRAM, point, str(nth)), lease_s=3, heartbeat_s=0.2)
    crashing.wait(120)
    for run_id in runs:
        if bench.run(run_id).state in (RunState.RUNNING, RunState.STOPPING):
            bench.end_lease(run_id)
    bench.worker()
    for run_id in runs:
        run = bench.wait_for_end(run_id)
        assert run.state is RunState.SUCCEEDED
        counted = [point.value for point in bench.stores.runs.metrics(run_id)]
        assert counted == [float(number) for number in range(1, n + 1)]
    assert_invariants(bench.url)


class Failing:
    """The functions by which files are written, the n-th call of which fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int, *, for_ever: bool) -> None:
        self._error, self._for_ever, self._left = error, for_ever, -1
        names = ("open", "fdopen", "fsync", "replace")
        fakes = {name: self._failing(getattr(os, name)) for name in names}
        monkeypatch.setattr(maze_core.files, "os", SimpleNamespace(**vars(os) | fakes))

    def at(self, nth: int) -> None:
        """Fail at the n-th call from now on; 0 is never."""
        self._left = nth or -1

    @property
    def has_failed(self) -> bool:
        return self._left == 0

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if self._left == 0 and self._for_ever:
                raise OSError(self._error, os.strerror(self._error))
            if self._left > 0:
                self._left -= 1
                if self._left == 0:
                    raise OSError(self._error, os.strerror(self._error))
            return real(*given, **named)

        return call


@pytest.fixture(
    params=[(errno.EIO, False), (errno.ENOSPC, False), (errno.ENOSPC, True)], ids=["EIO", "ENOSPC", "full"]
)
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch, request.param[0], for_ever=request.param[1])


@pytest.mark.figure("R11")
def test_a_file_is_the_old_one_or_the_new_one_whichever_call_fails(tmp_path: Path, failing: Failing) -> None:
    old, new, edges = b"old" * 5000, b"new" * 5000, [7000]
    path = tmp_path / "x"
    write_atomically(path, cut(tmp_path, old, edges))
    for nth in itertools.count(1):
        failing.at(nth)
        try:
            write_atomically(path, cut(tmp_path, new, edges))
        except OSError:
            assert read_cut(path) in (old, new)
            failing.at(0)
            assert not list(tmp_path.glob("**/.*.tmp"))
            write_atomically(path, cut(tmp_path, old, edges))
            drop_chunks(tmp_path)
        else:
            break
    assert nth > 10
    assert read_cut(path) == new


@pytest.mark.figure("R11")
def test_a_checkpoint_is_stored_or_not_there_whichever_call_fails(
    sqlite_stores: Stores, sqlite_url: str, tmp_path: Path, failing: Failing
) -> None:
    run, lease = start(sqlite_stores)
    store = SqlCheckpointStore(sqlite_stores.database, Blobs(tmp_path / "blobs", inline_bytes=10))
    first = store.put(lease, new_checkpoint(1), b"first" * 100)
    for nth in itertools.count(1):
        failing.at(nth)
        try:
            store.put(lease, new_checkpoint(2), b"second" * 100, (90,))
        except (StoreUnavailableError, OSError):
            failing.at(0)
            assert [info.id for info in store.list(run.id).data] == [first.id]
            assert store.read(first.id) == b"first" * 100
            assert check(sqlite_url, blob_dir=tmp_path / "blobs").problems == []
        else:
            break
    assert nth > 6
    assert store.read(store.list(run.id).data[0].id) == b"second" * 100


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def changed_by_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def exchanged(path: Path) -> None:
    path.write_bytes(b"of another run" * 50)


def linked_elsewhere(path: Path) -> None:
    other = path.with_name("elsewhere")
    path.rename(other)
    path.symlink_to(other)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(damage, marks=pytest.mark.figure("S08" if damage is linked_elsewhere else "R12"))
        for damage in (cut_short, changed_by_a_bit, emptied, exchanged, Path.unlink, linked_elsewhere)
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_checkpoint_whose_file_was_changed_is_never_given_out(
    sqlite_stores: Stores, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    _, lease = start(sqlite_stores)
    store = SqlCheckpointStore(sqlite_stores.database, Blobs(tmp_path / "blobs", inline_bytes=10))
    info = store.put(lease, new_checkpoint(1), b"bundle" * 100)
    (file,) = (tmp_path / "blobs").iterdir()
    damage(file)
    with pytest.raises(NotFoundError):
        store.read(info.id)


@pytest.mark.figure("R11")
def test_what_is_renamed_was_flushed_to_the_disk_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the bytes, then the name, then the directory that has the name: none of them may be missing."""
    done: list[tuple[str, str]] = []

    def fsync(descriptor: int) -> None:
        done.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))

    def replace(source: Path, target: Path) -> None:
        done.append(("replace", str(source)))
        os.replace(source, target)

    monkeypatch.setattr(
        maze_core.files, "os", SimpleNamespace(**vars(os) | {"fsync": fsync, "replace": replace})
    )
    write_atomically(tmp_path / "x", b"new")
    temporary = done[0][1]
    assert done == [("fsync", temporary), ("replace", temporary), ("fsync", str(tmp_path))]


@pytest.mark.figure("R11")
def test_a_commit_is_flushed_to_the_disk(sqlite_stores: Stores) -> None:
    """2 is FULL."""
    with sqlite_stores.database.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
