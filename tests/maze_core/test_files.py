"""Files in chunks: whole or not there, each chunk once, and none that nobody names."""

import os
from pathlib import Path

import pytest

from maze_core.files import drop_chunks, read_cut, write_cut

A, B, C = (bytes([number]) * 5000 for number in range(3))


def chunks(folder: Path) -> int:
    return len(list((folder / "chunks").iterdir())) if (folder / "chunks").exists() else 0


@pytest.mark.parametrize("edges", [[], [0], [1], [4999, 5000, 5001], [5000, 10_000], [3, 4100, 9000, 15_000]])
def test_a_file_reads_back_byte_by_byte(tmp_path: Path, edges: list[int]) -> None:
    write_cut(tmp_path / "x", A + B + C, edges)
    assert read_cut(tmp_path / "x") == A + B + C


def test_files_share_what_is_equal_and_small_pieces_stay_with_them(tmp_path: Path) -> None:
    write_cut(tmp_path / "one", A + b"one" + B, [5000, 5003])
    write_cut(tmp_path / "two", C + b"two" + B + A, [5000, 5003, 10_003])
    assert chunks(tmp_path) == 3
    assert read_cut(tmp_path / "one") == A + b"one" + B
    assert read_cut(tmp_path / "two") == C + b"two" + B + A


def test_a_file_without_edges_is_plain(tmp_path: Path) -> None:
    write_cut(tmp_path / "x", A, [])
    assert (tmp_path / "x").read_bytes() == A
    assert chunks(tmp_path) == 0


@pytest.mark.parametrize(("size", "expected"), [(4095, 0), (4096, 1)])
def test_a_chunk_has_four_kilobytes(tmp_path: Path, size: int, expected: int) -> None:
    write_cut(tmp_path / "x", b"x" * size + b"y", [size])
    assert chunks(tmp_path) == expected


def test_chunks_go_with_the_last_file_that_names_them(tmp_path: Path) -> None:
    write_cut(tmp_path / "one", A + B, [5000])
    write_cut(tmp_path / "two", A + C, [5000])
    (tmp_path / "chunks" / ".killed.tmp").write_bytes(b"half")
    drop_chunks(tmp_path)
    assert chunks(tmp_path) == 3
    (tmp_path / "one").unlink()
    drop_chunks(tmp_path)
    assert chunks(tmp_path) == 2
    assert read_cut(tmp_path / "two") == A + C
    (tmp_path / "two").unlink()
    drop_chunks(tmp_path)
    assert list(tmp_path.iterdir()) == []
    drop_chunks(tmp_path)


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each rename in turn: of two chunks, then of the file that names them."""
    write_cut(tmp_path / "x", A + A, [5000])
    rename = os.replace
    for nth in range(3):
        renamed: list[object] = []

        def failing(source: object, target: object, renamed: list[object] = renamed, nth: int = nth) -> None:
            renamed.append(target)
            if len(renamed) > nth:
                raise OSError("no room")
            rename(source, target)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="no room"):
            write_cut(tmp_path / "x", B + C, [5000])
        monkeypatch.setattr(os, "replace", rename)
        assert read_cut(tmp_path / "x") == A + A
        drop_chunks(tmp_path)
        assert chunks(tmp_path) == 1
    write_cut(tmp_path / "x", B + C, [5000])
    assert read_cut(tmp_path / "x") == B + C


def test_a_file_that_is_written_anew_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cut(tmp_path / "x", A + B, [5000])
    read, written = Path.read_bytes, []

    def overtaken(path: Path) -> bytes:
        data = read(path)
        if path.name == "x" and not written:
            written.append(path)
            write_cut(path, B + C, [5000])
            drop_chunks(tmp_path)
        return data

    monkeypatch.setattr(Path, "read_bytes", overtaken)
    assert read_cut(tmp_path / "x") == B + C


def test_a_missing_chunk_is_named(tmp_path: Path) -> None:
    write_cut(tmp_path / "x", A + B, [5000])
    lost = next((tmp_path / "chunks").iterdir())
    lost.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_cut(tmp_path / "x")
    assert caught.value.filename == str(lost)
