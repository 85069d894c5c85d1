"""TensorBoard's event file, of scalars alone: TFRecords, each an ``Event`` message of protocol buffers.

Written here, because the libraries that write it bring torch or TensorFlow into the process. Formats:
https://www.tensorflow.org/tutorials/load_data/tfrecord and ``tensorflow/core/util/event.proto``.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np


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

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, fields: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + fields  # Event.wall_time
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_crc(length) + event + _masked_crc(event))


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
