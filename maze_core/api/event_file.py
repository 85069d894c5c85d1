"""TensorBoard's event file, of scalars, histograms and pictures: TFRecords, each an ``Event`` of protocol buffers.

Written here, because the libraries that write it bring torch or TensorFlow into the process. Formats:
https://www.tensorflow.org/tutorials/load_data/tfrecord and ``tensorflow/core/util/event.proto``.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maze_core.metrics import Distribution, Histogram


class EventFile:
    """A new event file in a directory; what is written is in the file at once."""

    def __init__(self, directory: Path) -> None:
        """Begin the file; the directory is made where there is none."""
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._file = (directory / name).open("wb", buffering=0)
        self._write(_field(3, b"brain.Event:2"))  # Event.file_version

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each tag, at a step of 0 or more; values become float32."""
        with np.errstate(over="ignore"):
            points = [
                _field(1, name.encode()) + b"\x15" + np.float32(value).tobytes()  # Value.tag, simple_value
                for name, value in values.items()
            ]
        summary = b"".join(_field(1, point) for point in points)
        self._write(b"\x10" + _varint(step) + _field(5, summary))  # Event.step, summary

    def write_distributions(self, step: int, values: Mapping[str, Distribution]) -> None:
        """One histogram or picture of each tag, at a step of 0 or more."""
        points = [
            _field(1, name.encode())
            + (_field(4, _image(value)) if isinstance(value, bytes) else _field(5, _histogram(value)))
            for name, value in values.items()  # Value.tag, image, histo
        ]
        self._write(b"\x10" + _varint(step) + _field(5, b"".join(_field(1, point) for point in points)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, fields: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + fields  # Event.wall_time
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_crc(length) + event + _masked_crc(event))


def _histogram(value: Histogram) -> bytes:
    """``HistogramProto``: min, max, num, sum and sum_squares (of the bins' middles), bucket_limit, bucket."""
    counts = np.array(value.counts, np.float64)
    edges = np.linspace(value.low, value.high, len(counts) + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    facts = (value.low, value.high, counts.sum(), counts @ middles, counts @ middles**2)
    numbers = b"".join(_varint(i << 3 | 1) + struct.pack("<d", fact) for i, fact in enumerate(facts, 1))
    return numbers + _field(6, edges[1:].tobytes()) + _field(7, counts.tobytes())


def _image(png: bytes) -> bytes:
    """``Summary.Image``: height, width, colorspace (RGB), encoded_image_string."""
    width, height = struct.unpack(">II", png[16:24])
    sizes = b"".join(_varint(i << 3) + _varint(n) for i, n in enumerate((height, width, 3), 1))
    return sizes + _field(4, png)


def _field(number: int, value: bytes) -> bytes:
    """A field of the wire type that has a length before it."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low]) if not high else bytes([low | 0x80]) + _varint(high)


def _crc_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # Castagnoli's polynomial, RFC 3720
        table.append(crc)
    return table


_CRC = _crc_table()


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
