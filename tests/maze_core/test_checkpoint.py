"""The bundle keeps every bit, notices every flipped one, and is written whole or not at all."""

import io
import json
import os
import re
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maze_core.checkpoint import Checkpoint, chunk_edges, copied, storable
from maze_core.errors import CheckpointError


def example(provenance=None, weight=1.5):
    return Checkpoint(
        identity={"config": {"lr": 0.1}, "counters": {"epoch": 3}},
        tensors={
            "policy/w": np.array([[weight, 2.0]], dtype=np.float32),
            "critic/w": np.arange(3, dtype=np.int64),
            "flag": np.array(True),
        },
        provenance=provenance or {},
    )


def test_a_bundle_gives_back_every_tensor_and_word():
    written = example({"host": "a"})
    read = Checkpoint.from_bytes(written.to_bytes())
    assert read.identity == written.identity
    assert read.provenance == {"host": "a"}
    for name, array in written.tensors.items():
        assert read.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(read.tensors[name], array)
    assert read.content_sha256 == written.content_sha256


def test_provenance_is_outside_the_digest_and_weights_are_inside_both():
    one, other = example({"host": "a"}), example({"host": "b"})
    assert one.content_sha256 == other.content_sha256
    changed = example(weight=1.25)
    assert changed.content_sha256 != one.content_sha256
    assert changed.weights_sha256 != one.weights_sha256


def test_the_weights_digest_covers_the_policy_alone():
    one = example()
    other = Checkpoint(identity=one.identity, tensors={**one.tensors, "critic/w": np.zeros(3, np.int64)})
    assert one.weights_sha256 == other.weights_sha256
    assert one.content_sha256 != other.content_sha256


def test_equal_checkpoints_give_equal_bytes_whatever_the_order_of_tensors():
    one = example()
    other = Checkpoint(identity=one.identity, tensors=dict(reversed(list(one.tensors.items()))))
    assert one.to_bytes() == other.to_bytes()


@settings(max_examples=60)
@given(st.data())
def test_a_flipped_byte_is_refused_or_changes_nothing_that_counts(data):
    original = example().to_bytes()
    at = data.draw(st.integers(0, len(original) - 1))
    damaged = bytearray(original)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        read = Checkpoint.from_bytes(bytes(damaged))
    except CheckpointError:
        return
    assert read.content_sha256 == example().content_sha256


@pytest.mark.parametrize("size", [0, 1, 100, 400])
def test_a_truncated_bundle_is_refused(size):
    with pytest.raises(CheckpointError):
        Checkpoint.from_bytes(example().to_bytes()[:size])


@pytest.mark.parametrize(
    ("before", "after"), [(b"#!/bin/sh\n", b""), (b"", b"\0"), (b"PK\3\4", b""), (b"", b"PK\5\6" + bytes(18))]
)
def test_bytes_before_or_after_a_bundle_are_refused(before, after):
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        Checkpoint.from_bytes(before + example().to_bytes() + after)


@pytest.mark.parametrize("comment", [b"x", b"PK\5\6" + bytes(18)])
def test_a_bundle_with_a_comment_is_refused(comment):
    buffer = io.BytesIO(example().to_bytes())
    with zipfile.ZipFile(buffer, "a") as bundle:
        bundle.comment = comment
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        Checkpoint.from_bytes(buffer.getvalue())


def test_a_compressed_member_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in ("identity.json", "provenance.json", "tensors.safetensors"):
            bundle.writestr(name, b"0" * 10_000)
    with pytest.raises(CheckpointError, match="compressed"):
        Checkpoint.from_bytes(buffer.getvalue())


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "best.ckpt"
    example().write(path)
    before = path.read_bytes()

    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, fail)
    with pytest.raises(OSError, match="No space"):
        example(weight=9.0).write(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt"):
        Checkpoint.read(tmp_path / "nowhere.ckpt")


def test_a_checkpoint_that_names_a_file_elsewhere_as_its_part_is_damaged(tmp_path):
    example().write(tmp_path / "secret")
    parts = json.dumps([[1, str(tmp_path / "secret")]]).encode()
    (tmp_path / "x.ckpt").write_bytes(b"maze: in chunks\n" + len(parts).to_bytes(8, "little") + parts)
    with pytest.raises(CheckpointError, match=r"x\.ckpt is damaged: .* Take another checkpoint of the run"):
        Checkpoint.read(tmp_path / "x.ckpt")


@given(
    st.sampled_from([">f4", "<f8", ">f2", ">i8", "<u2", "?", "i1"]), st.sampled_from([(), (1,), (2, 3), (0,)])
)
def test_every_array_comes_back_with_its_own_shape_in_native_byte_order(kind, shape):
    array = np.ones(shape, dtype=kind)
    written = Checkpoint(identity={}, tensors={"state": array, "turned": np.ones((3, 2), kind).T})
    read = Checkpoint.from_bytes(written.to_bytes())
    assert read.tensors["state"].shape == shape
    assert read.tensors["state"].dtype == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(read.tensors["state"], array)


@pytest.mark.parametrize(
    "kind", [np.complex64, np.longdouble, "U3", "S2", object, "M8[s]", [("a", "f4")]], ids=str
)
def test_an_array_that_no_bundle_stores_is_refused_by_name(kind):
    with pytest.raises(CheckpointError, match=r"cannot store 'wrappers/0/state', which is"):
        _ = Checkpoint(identity={}, tensors={"wrappers/0/state": np.zeros(2, kind)}).content_sha256


def test_a_masked_array_is_refused_rather_than_unmasked():
    with pytest.raises(CheckpointError, match=r"'state', which is masked"):
        Checkpoint(identity={}, tensors={"state": np.ma.array([1.0, 2.0], mask=[0, 1])}).to_bytes()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "state_dict() of wrappers/0 must give a dict of arrays by name; it gave a NoneType"),
        ([np.ones(2)], "it gave a list"),
        ({1: np.ones(2)}, "it gave other names than texts"),
        ({"a": [[1], [1, 2]]}, "'wrappers/0/a', which is no array: setting an array element with a sequence"),
        ({"a": torch.ones(2, dtype=torch.bfloat16)}, "'wrappers/0/a', which is no array: Got unsupported"),
        ({"a": torch.eye(2).to_sparse()}, "'wrappers/0/a', which is no array: can't convert Sparse"),
    ],
)
def test_a_state_that_is_no_dict_of_arrays_is_refused_by_name(state, words):
    with pytest.raises(CheckpointError, match=re.escape(words)):
        copied(state, "wrappers/0")


def test_a_copy_of_a_state_has_what_is_learnt_and_no_memory_of_it():
    weights = torch.nn.Parameter(torch.ones(2))
    copies = copied({"w": weights, "n": 3}, "wrappers/0")
    with torch.no_grad():
        weights += 1
    assert {name: array.tolist() for name, array in copies.items()} == {
        "wrappers/0/w": [1, 1],
        "wrappers/0/n": 3,
    }


def test_a_mask_is_never_lost_in_a_copy():
    copies = copied({"a": np.ma.array([1.0, 2.0], mask=[False, True])}, "wrappers/0")
    with pytest.raises(CheckpointError, match="'wrappers/0/a', which is masked"):
        storable("wrappers/0/a", copies["wrappers/0/a"])


def test_a_bundle_is_cut_around_its_chunks_alone():
    tensors = {f"{i}/{dtype}": np.full(3, i, dtype) for i in range(2) for dtype in ("f4", "i8")}
    chunked = {f"replay/{name[0] * 6}{name[1:]}": array for name, array in tensors.items()}
    others = {
        "policy/a": np.ones(2, np.float32),
        "z/b": np.ones(1),
        "replay/n": np.ones(1, np.int64),
        "x/12345/c": np.ones(1),
    }
    bundle = Checkpoint(identity={}, tensors=chunked | others).to_bytes()
    edges = chunk_edges(bundle)
    pieces = {bundle[start:end] for start, end in pairwise(edges)}
    assert {array.tobytes() for array in tensors.values()} <= pieces
    assert edges == sorted(set(edges))
    assert len(edges) == 6  # of two kinds of numbers, two chunks each, side by side
    assert chunk_edges(Checkpoint(identity={}, tensors=others).to_bytes()) == []


def test_what_a_chunk_has_of_one_kind_is_one_piece():
    tensors = {f"replay/000007/{name}": np.full(2, 3, np.float32) for name in "ab"}
    bundle = Checkpoint(identity={}, tensors=tensors).to_bytes()
    start, end = chunk_edges(bundle)
    assert bundle[start:end] == np.full(4, 3, np.float32).tobytes()
