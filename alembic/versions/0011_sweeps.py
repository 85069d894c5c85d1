"""Sweeps: many trainings from one specification, and which run is which job of them.

On the way down the sweeps are forgotten and their runs stay.

Revision 0011.
"""

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STATES = "'running', 'paused', 'stopping', 'succeeded', 'failed', 'cancelled'"
_JOB_STATES = "'planned', 'made', 'asked', 'succeeded', 'failed', 'cancelled', 'pruned'"


def upgrade() -> None:
    op.add_column("run", sa.Column("sweep", sa.String(length=64), nullable=True))
    op.create_index("ix_run_sweep", "run", ["sweep", "created_at", "id"])
    op.create_table(
        "sweep",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("parallel", sa.Integer(), nullable=True),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_sweep_known_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep")),
    )
    op.create_index("ix_sweep_state", "sweep", ["state", "created_at", "id"])
    op.create_index("ix_sweep_created_at_id", "sweep", ["created_at", "id"])
    op.create_table(
        "sweep_job",
        sa.Column("sweep_id", sa.String(length=64), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("choices", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("pruned_at", sa.Integer(), nullable=True),
        sa.CheckConstraint(f"state IN ({_JOB_STATES})", name=op.f("ck_sweep_job_known_state")),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweep.id"], name=op.f("fk_sweep_job_sweep_id_sweep")),
        sa.PrimaryKeyConstraint("sweep_id", "job", name=op.f("pk_sweep_job")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("sweep_job")
    op.drop_table("sweep")
    op.drop_index("ix_run_sweep", "run")
    op.drop_column("run", "sweep")
