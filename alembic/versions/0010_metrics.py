"""Runs are sorted by any metric, charts keep extremes, and names are found in any case.

What stands in the tables of a run's latest metrics and of extremes follows from its points, and its folded name from
its name: all is filled in here.

Revision 0010.
"""

import json
import math
import unicodedata
from itertools import groupby

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

WIDTHS = (16, 256, 4096, 65536)
AT_ONCE = 1000


def upgrade() -> None:
    op.create_table(
        "run_latest",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_latest_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_run_latest")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_latest_value", "run_latest", ["name", "value", "run_id"])
    op.create_table(
        "run_extreme",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("begin", sa.Integer(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("low_epoch", sa.Integer(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("high_epoch", sa.Integer(), nullable=True),
        sa.Column("nan_epoch", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_extreme_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "name", "width", "begin", name=op.f("pk_run_extreme")),
        sqlite_with_rowid=False,
    )
    op.add_column("run", sa.Column("folded_name", sa.Text(), nullable=True))
    connection = op.get_bind()
    for run_id, name, latest in connection.execute(sa.text("SELECT id, name, latest_metrics FROM run")).all():
        if name is not None:
            folded = {"id": run_id, "folded": _folded(name)}
            connection.execute(sa.text("UPDATE run SET folded_name = :folded WHERE id = :id"), folded)
        _insert(connection, "run_latest", [
            {"run_id": run_id, "name": key, "value": None if math.isnan(value) else value}
            for key, value in json.loads(latest).items()
        ])  # fmt: skip
        _fill_extremes(connection, run_id)


def _fill_extremes(connection: sa.Connection, run_id: str) -> None:
    points = sa.text("SELECT name, epoch, value FROM run_metric WHERE run_id = :id ORDER BY name, epoch")
    newest = sa.text("SELECT max(epoch) FROM run_metric WHERE run_id = :id")
    last = connection.execute(newest, {"id": run_id}).scalar_one()
    for name, of_name in groupby(connection.execute(points, {"id": run_id}).all(), key=lambda row: row[0]):
        parts = [
            (epoch, value, epoch, value, epoch, epoch if value is None else None)
            for _, epoch, value in of_name
        ]
        for width in WIDTHS:
            whole = groupby(parts, key=lambda part: part[0] // width * width)
            parts = [_united(begin, [*some]) for begin, some in whole if begin // width < last // width]
            columns = ("begin", "low", "low_epoch", "high", "high_epoch", "nan_epoch")
            rows = [{"run_id": run_id, "name": name, "width": width, **dict(zip(columns, part, strict=True))}
                    for part in parts]  # fmt: skip
            _insert(connection, "run_extreme", rows)


def _united(begin: int, parts: list[tuple]) -> tuple:
    numbers = [part for part in parts if part[1] is not None]
    low = min(numbers, key=lambda part: part[1], default=(None,) * 6)
    high = max(numbers, key=lambda part: part[3], default=(None,) * 6)
    nan_epoch = next((part[5] for part in parts if part[5] is not None), None)
    return begin, low[1], low[2], high[3], high[4], nan_epoch


def _insert(connection: sa.Connection, table: str, rows: list[dict]) -> None:
    for start in range(0, len(rows), AT_ONCE):
        names = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        connection.execute(
            sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), rows[start : start + AT_ONCE]
        )


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return "".join(letter for letter in text if not unicodedata.combining(letter)) or text


def downgrade() -> None:
    op.drop_column("run", "folded_name")
    op.drop_table("run_extreme")
    op.drop_index("ix_run_latest_value", "run_latest")
    op.drop_table("run_latest")
