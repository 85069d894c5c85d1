"""Files in chunks: whole or not there, each chunk once, and none that nobody names."""

import json
import os
from pathlib import Path

import pytest

from maze_core.files import cut, drop_chunks, read_cut, write_atomically

A, B, C = (bytes([number]) * 5000 for number in range(3))


def write_cut(path: Path, data: bytes, edges: list[int]) -> None:
    write_atomically(path, cut(path.parent, data, edges))


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


def damaged(parts: str) -> bytes:
    return b"maze: in chunks\n" + len(parts).to_bytes(8, "little") + parts.encode()


def test_what_a_killed_process_left_half_written_is_dropped(tmp_path: Path) -> None:
    write_cut(tmp_path / "x", A + B, [5000])
    (tmp_path / ".killed.tmp").write_bytes((tmp_path / "x").read_bytes()[:30])
    drop_chunks(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chunks", "x"]
    assert read_cut(tmp_path / "x") == A + B


@pytest.mark.parametrize(
    "parts", ["", "[[1", "7", "[7]", "[[1, 2]]", "[[null, null]]", "[[1e999, null]]", "[" * 9999]
)
def test_a_damaged_list_is_told_and_lets_all_chunks_be(tmp_path: Path, parts: str) -> None:
    write_cut(tmp_path / "whole", A + B, [5000])
    (tmp_path / "whole").rename(tmp_path / "chunks" / "elsewhere")
    (tmp_path / "damaged").write_bytes(damaged(parts))
    drop_chunks(tmp_path)
    assert chunks(tmp_path) == 3
    with pytest.raises(ValueError, match="list of chunks"):
        read_cut(tmp_path / "damaged")


@pytest.mark.parametrize(
    "name", ["../secret", "{folder}/secret", "A" * 64, "a" * 63, "a" * 64 + "/../../secret"]
)
def test_a_list_names_nothing_but_digests(tmp_path: Path, name: str) -> None:
    (tmp_path / "chunks").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "x").write_bytes(damaged(json.dumps([[6, name.format(folder=tmp_path)]])))
    with pytest.raises(ValueError, match="list of chunks"):
        read_cut(tmp_path / "x")
