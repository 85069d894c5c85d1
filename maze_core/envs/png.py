"""Pictures as PNG, without a library of images."""

import io
import struct
import zlib
from typing import Any

import numpy as np

from maze_core.errors import EnvError
from maze_core.types import Array


def png_of(figure: Any) -> bytes:
    """A picture as PNG.

    Args:
        figure: uint8 ``[h, w, 3]`` or ``[h, w]``, or anything with ``savefig``, such as a figure of matplotlib's.

    Raises:
        EnvError: it is neither.
    """
    if hasattr(figure, "savefig"):
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        return stream.getvalue()
    picture = np.asarray(figure)
    if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
        what = f"{type(figure).__name__} of {picture.dtype}, shape {picture.shape}"
        raise EnvError(f"a picture is uint8 [h, w, 3] or [h, w], or a figure with savefig, not a {what}.")
    if not picture.size:
        raise EnvError(
            f"a picture has one pixel at least; this one has the shape {picture.shape}: give None for none."
        )
    return _encoded(picture)


def _encoded(picture: Array) -> bytes:
    height, width = picture.shape[:2]
    lines = np.zeros((height, 1 + picture[0].size), np.uint8)  # the first byte of a line is its filter: none
    lines[:, 1:] = picture.reshape(height, -1)
    kind = 2 if picture.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
