"""Metric points as a table: CSV, or Parquet where pyarrow is installed; read from the store some at a time."""

import csv
import importlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

from service.domain.run import MetricPoint
from service.problems import Problem

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
COLUMNS = ("name", "epoch", "step", "value", "at")


def csv_table(pages: Iterator[Sequence[MetricPoint]]) -> Iterator[str]:
    """Lines of the table."""
    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow(COLUMNS)
    for page in pages:
        for point in page:
            at = point.at.isoformat() if point.at else ""
            writer.writerow((point.name, point.epoch, point.step, point.value, at))
        yield line.getvalue()
        line.seek(0)
        line.truncate()


class _Sink:
    """A file that is taken away as it grows."""

    closed = False

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """There is nothing to close."""

    def taken(self) -> bytes:
        """What was written since."""
        data, self._written = bytes(self._written), bytearray()
        return data


def parquet_table(pages: Iterator[Sequence[MetricPoint]]) -> Iterator[bytes]:
    """The file, a row group for each page; NaN and infinities are values, not nulls.

    Raises:
        Problem: 406, where pyarrow is not installed.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        message = "Parquet needs pyarrow, which is not installed here: pip install 'maze-service[parquet]'"
        raise Problem("not_acceptable", message, headers={"Vary": "Accept"}) from error
    schema = arrow.schema(
        [
            arrow.field("name", arrow.string(), nullable=False),
            arrow.field("epoch", arrow.int32(), nullable=False),
            arrow.field("step", arrow.int64(), nullable=False),
            arrow.field("value", arrow.float64(), nullable=False),
            arrow.field("at", arrow.timestamp("us", tz="UTC")),
        ]
    )

    def written() -> Iterator[bytes]:
        sink = _Sink()
        with parquet.ParquetWriter(arrow.PythonFile(sink, mode="w"), schema) as writer:
            for page in pages:
                columns = [[getattr(point, column) for point in page] for column in COLUMNS]
                writer.write_table(arrow.table(columns, schema=schema))
                yield sink.taken()
        yield sink.taken()

    return written()
