"""Environments with what is known of them and the workers that offer them, in place of bare ids.

Revision 0002. Workers publish when they start and every hour, so nothing is carried over.
"""

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "environment",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("is_available", sa.Boolean(), nullable=False),
        sa.Column("info", sa.Text(), nullable=False),
        sa.Column("published_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", "worker", name=op.f("pk_environment")),
    )
    op.drop_table("env_id")


def downgrade() -> None:
    op.create_table(
        "env_id",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("published_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_env_id")),
    )
    op.drop_table("environment")
