"""What keeps lists, counts and charts as quick as they were when the database was small.

A label has its run's time, so that the runs of one are found in their order without looking at others. Runs are found
by kind and by their end, points by their name.

Revision 0004.
"""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _make_labels_anew([sa.Column("created_at", TIME, nullable=False)], "run.created_at", ["created_at"])
    op.create_index("ix_run_kind", "run", ["kind", "created_at", "id"])
    op.create_index("ix_run_finished_at", "run", ["finished_at"])
    op.create_index("ix_run_metric_name", "run_metric", ["run_id", "name", "epoch"])


def downgrade() -> None:
    op.drop_index("ix_run_metric_name", "run_metric")
    op.drop_index("ix_run_finished_at", "run")
    op.drop_index("ix_run_kind", "run")
    _make_labels_anew([], "NULL", [])


def _make_labels_anew(columns: list[sa.Column], time: str, indexed: list[str]) -> None:
    """SQLite adds no column that is never NULL: the rows are put aside, and into a new table."""
    op.execute(
        "CREATE TEMPORARY TABLE kept_label AS "
        f"SELECT run_label.run_id, run_label.key, run_label.value, {time} AS created_at "
        "FROM run_label JOIN run ON run.id = run_label.run_id"
    )
    op.drop_table("run_label")
    op.create_table(
        "run_label",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_label_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_run_label")),
        sqlite_with_rowid=False,
    )
    names = ", ".join(["run_id", "key", "value", *(column.name for column in columns)])
    op.execute(f"INSERT INTO run_label ({names}) SELECT {names} FROM kept_label")
    op.execute("DROP TABLE kept_label")
    op.create_index("ix_run_label_value", "run_label", ["key", "value", *indexed, "run_id"])
