"""A checkpoint on its way in: sent in parts, in any order and as often as it takes, before a run checks it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.domain.sharing import DEFAULT_PROJECT

MAX_PART_BYTES = 8 * 2**20
"""Of a part; less where bodies may not be that large."""
MAX_OPEN = 128
"""Uploads that wait for parts, or for the end of their run."""
MAX_OPEN_OF_ONE = 32
"""Of these, as many as one token may have."""
EXPIRES_AFTER_S = 86_400.0
"""Seconds from its begin after which an upload is forgotten that no run was made of."""

_UPLOAD, _RUN = "upl_", "run_"


@dataclass(frozen=True, kw_only=True)
class NewUpload:
    """What a client announces."""

    id: str
    digest: str
    """Of the request and of who sends it: the same one goes on. An upload's own id where none is to go on."""
    request: Mapping[str, Any]
    size_bytes: int
    sha256: str
    """Of the whole, in hex."""
    part_bytes: int
    """Of every part but the last."""
    created_by: str | None = None
    """Id of the token; None where none is asked for."""
    project: str = DEFAULT_PROJECT


@dataclass(frozen=True, kw_only=True)
class Upload(NewUpload):
    """An upload, and how much of it is there."""

    parts: tuple[int, ...]
    """Numbers of those that are stored, from 0."""
    created_at: datetime
    expires_at: datetime

    @property
    def run_id(self) -> str:
        """Id of the run that completing it makes."""
        return run_id_of(self.id)

    @property
    def n_parts(self) -> int:
        """How many there are to be."""
        return -(-self.size_bytes // self.part_bytes)

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that are not stored."""
        return sorted({*range(self.n_parts)} - {*self.parts})

    def length_of(self, number: int) -> int:
        """Bytes of a part."""
        return min(self.part_bytes, self.size_bytes - number * self.part_bytes)


def upload_id_of(run_id: str) -> str:
    """Id of the upload that a run was made of."""
    return _UPLOAD + run_id.removeprefix(_RUN)


def run_id_of(upload_id: str) -> str:
    """Id of the run that an upload makes."""
    return _RUN + upload_id.removeprefix(_UPLOAD)
