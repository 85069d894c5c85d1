"""The checkpoint: one self-contained bundle without pickle.

A bundle is a ZIP file, stored without compression and with fixed timestamps, of three members::

    identity.json       what the run is and how far it came: configuration, spaces, counters, RNG streams
    provenance.json     when, where, by whom; outside every hash
    tensors.safetensors weights, optimizer moments, normalization statistics, recorded observations

``content_sha256`` covers the sorted tensors (name, dtype, shape, bytes) and the canonical JSON of the identity;
``weights_sha256`` covers the tensors below ``policy/`` alone. Writing is atomic: temporary name, fsync, rename,
fsync of the directory. Whoever stores several of a run cuts them where :func:`chunk_edges` says: tensors named
``…/000000/…``, by the number of their chunk, are the same bytes in the next checkpoint until they change.
"""

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from maze_core.errors import CheckpointError
from maze_core.files import read_cut, write_atomically
from maze_core.types import Array, Tree

FORMAT = 1
POLICY_PREFIX = "policy/"
_CHUNK = re.compile(r"[^/]+/\d{6}/")
_MEMBERS = ("identity.json", "provenance.json", "tensors.safetensors")
_STORED = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_NATIVE = frozenset(map(np.dtype, _STORED))
_FIRST, _END, _END_BYTES = b"PK\3\4", b"PK\5\6", 22
"""How a ZIP file begins, and how its last record does, which has so many bytes."""
_MAX_JSON_BYTES = 64 * 1024 * 1024
_UNREADABLE = (
    zipfile.BadZipFile,
    KeyError,
    ValueError,
    RuntimeError,
    EOFError,
    OverflowError,
    struct.error,
    SafetensorError,
)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_bytes(value: Any) -> bytes:
    """JSON with sorted string keys, no spaces and shortest floats; NaN is refused."""
    return _encode(value).encode()


def tensors_digest(tensors: Mapping[str, Array], prefix: str = "") -> "hashlib._Hash":
    """SHA-256 over the tensors whose name starts with ``prefix``, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(prefix):
            array = tensors[name]
            if type(array) is not np.ndarray or array.dtype not in _NATIVE or not array.flags.c_contiguous:
                array = storable(name, array)
            digest.update(_encode([name, array.dtype.str, list(array.shape)]).encode())
            digest.update(array.tobytes())
    return digest


def storable(name: str, array: Array) -> Array:
    """The array as a bundle stores it: native byte order, memory in order, its own shape.

    Raises:
        CheckpointError: no bundle stores its kind; the message names it.
    """
    given = np.asarray(array, order="C")
    if given.dtype.newbyteorder("=").str[1:] not in _STORED or np.ma.isMaskedArray(array):
        kind = "masked" if np.ma.isMaskedArray(array) else str(given.dtype)
        raise CheckpointError(
            f"A checkpoint cannot store {name!r}, which is {kind}: it stores truth values, whole numbers of up to "
            "64 bits and floats of 16, 32 or 64; let state_dict() give one of these."
        )
    return given.astype(given.dtype.newbyteorder("="), copy=False)


def copied(state: object, prefix: str) -> dict[str, Array]:
    """Copies of what a ``state_dict()`` gave, named ``prefix/name``.

    Raises:
        CheckpointError: it is no dict of arrays or tensors by name; the message says where.
    """
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        given = "other names than texts" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise CheckpointError(
            f"state_dict() of {prefix} must give a dict of arrays by name; it gave {given}."
        )
    copies: dict[str, Array] = {}
    for name, array in prefixed(state, prefix).items():
        try:
            # subclasses stay what they are: that a part is masked is told where it is stored
            plain = array.detach() if hasattr(array, "detach") else array
            copies[name] = np.asanyarray(plain).copy(order="C")
        except (TypeError, ValueError, RuntimeError) as error:  # torch's own, where NumPy has no such kind
            raise CheckpointError(
                f"A checkpoint cannot store {name!r}, which is no array: {error}"
            ) from error
    return copies


def section(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The tensors below ``prefix/``, with the prefix taken off, sorted: safetensors has another order at each load."""
    start = prefix + "/"
    return {name[len(start) :]: tensors[name] for name in sorted(tensors) if name.startswith(start)}


def prefixed(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The same tensors, named ``prefix/name``."""
    return {f"{prefix}/{name}": array for name, array in tensors.items()}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A moment of a run, complete enough to act from and to go on from."""

    identity: Tree
    """JSON-able; ``config`` is the resolved configuration, ``counters`` how far the run came."""
    tensors: Mapping[str, Array]
    """Name → array; names are paths such as ``policy/0/w0`` or ``optimizer/exp_avg``."""
    provenance: Tree = field(default_factory=dict)
    """JSON-able; not part of any digest."""

    @cached_property
    def content_sha256(self) -> str:
        """Digest of everything but the provenance, in hex."""
        digest = tensors_digest(self.tensors)
        digest.update(canonical_bytes(self.identity))
        return digest.hexdigest()

    @cached_property
    def weights_sha256(self) -> str:
        """Digest of the policy's weights alone, in hex."""
        return tensors_digest(self.tensors, POLICY_PREFIX).hexdigest()

    def to_bytes(self) -> bytes:
        """The bundle; equal checkpoints give equal bytes."""
        manifest = {"format": FORMAT, "content_sha256": self.content_sha256, **self.provenance}
        arrays = {name: storable(name, self.tensors[name]) for name in sorted(self.tensors)}
        contents = (canonical_bytes(self.identity), canonical_bytes(manifest), save_tensors(arrays))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
            for name, content in zip(_MEMBERS, contents, strict=True):
                bundle.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Read a bundle and verify its digest.

        Raises:
            CheckpointError: not a bundle, of a newer format, or damaged.
        """
        try:
            identity, manifest, tensors = _read_members(data)
            is_known = manifest.pop("format", None) == FORMAT
            expected = manifest.pop("content_sha256", None)
            checkpoint = cls(identity=identity, tensors=tensors, provenance=manifest)
            is_whole = checkpoint.content_sha256 == expected
        except _UNREADABLE as error:
            raise CheckpointError(f"This is not a checkpoint, or it is damaged: {error}.") from error
        if not is_known:
            raise CheckpointError(
                "The checkpoint was written by another version; its format is not known here."
            )
        if not is_whole:
            raise CheckpointError("The checkpoint is damaged: its content does not match its digest.")
        return checkpoint

    def write(self, path: str | PathLike[str]) -> None:
        """Write the bundle to ``path``, whole or not at all."""
        write_atomically(Path(path), self.to_bytes())

    @classmethod
    def read(cls, path: str | PathLike[str]) -> "Checkpoint":
        """Read a bundle from a file.

        Raises:
            CheckpointError: it cannot be read, or as with :meth:`from_bytes`; the message names the file.
        """
        try:
            data = read_cut(path := Path(path))
        except ValueError as error:
            raise CheckpointError(
                f"{path} is damaged: {error}. Take another checkpoint of the run."
            ) from error
        except OSError as error:
            if error.filename != str(path):
                message = (
                    f"{path} lacks a part of its replay, {error.filename}: it lives in its run directory alone. "
                    "RunContext.load(run_dir).save(path) writes one."
                )
                raise CheckpointError(message) from error
            raise CheckpointError(f"The checkpoint {path} cannot be read: {error.strerror}.") from error
        try:
            return cls.from_bytes(data)
        except CheckpointError as error:
            message = f"{path}: {error} Take another checkpoint of the run, or a copy of this one."
            raise CheckpointError(message) from error


def chunk_edges(bundle: bytes) -> list[int]:
    """Where to cut a bundle so that what did not change since the last one is a piece that is known."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as file:
        header_at = file.getinfo(_MEMBERS[2]).header_offset
    start = (
        header_at + 30 + sum(struct.unpack_from("<HH", bundle, header_at + 26))
    )  # past name and extra field
    (n_header,) = struct.unpack_from("<Q", bundle, start)
    header = json.loads(bundle[start + 8 : start + 8 + n_header])
    header.pop("__metadata__", None)
    spans = sorted((*entry["data_offsets"], _CHUNK.match(name)) for name, entry in header.items())
    edges: set[int] = set()
    for chunk, group in groupby(spans, lambda span: span[2] and span[2].group()):
        if chunk is not None:
            first, *rest = group
            last = rest[-1] if rest else first
            edges |= {start + 8 + n_header + first[0], start + 8 + n_header + last[1]}
    return sorted(edges)


def _read_members(data: bytes) -> tuple[Tree, Tree, dict[str, Array]]:
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        if sorted(bundle.namelist()) != sorted(_MEMBERS):
            raise ValueError("its members are not those of a checkpoint")
        first, end = min(info.header_offset for info in bundle.infolist()), data[-_END_BYTES:]
        if first or not data.startswith(_FIRST) or not end.startswith(_END) or bundle.comment:
            raise ValueError("there are bytes before or after it")
        for info in bundle.infolist():
            stored = info.compress_type == zipfile.ZIP_STORED and info.file_size <= len(data)
            if not stored or (info.filename.endswith(".json") and info.file_size > _MAX_JSON_BYTES):
                raise ValueError(f"member {info.filename} is compressed or too large")
        identity, manifest = map(json.loads, map(bundle.read, _MEMBERS[:2]))
        if not isinstance(identity, dict) or not isinstance(manifest, dict):
            raise ValueError("its JSON members are not objects")
        return identity, manifest, dict(load_tensors(bundle.read(_MEMBERS[2])))
