"""The events of all runs have one order, and runs keep the trace context of the request that submitted them.

Events that are there already are in the order of their times.

Revision 0012.
"""

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("traceparent", sa.String(length=256), nullable=True))
    op.add_column("run", sa.Column("tracestate", sa.Text(), nullable=True))
    op.create_table(
        "event_counter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_counter")),
    )
    op.add_column("run_event", sa.Column("position", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE run_event SET position = numbered.position FROM ("
        "SELECT run_id, seq, row_number() OVER (ORDER BY at, run_id, seq) AS position FROM run_event"
        ") AS numbered WHERE numbered.run_id = run_event.run_id AND numbered.seq = run_event.seq"
    )
    op.execute("INSERT INTO event_counter (id, position) SELECT 1, count(*) FROM run_event")
    op.create_index("ix_run_event_type", "run_event", ["type", "position"])


def downgrade() -> None:
    op.drop_index("ix_run_event_type", "run_event")
    op.drop_column("run_event", "position")
    op.drop_table("event_counter")
    op.drop_column("run", "tracestate")
    op.drop_column("run", "traceparent")
