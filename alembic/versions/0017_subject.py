"""Runs know their environment and algorithm, as lists show them; those of before do not.

Revision 0017.
"""

import sqlalchemy as sa

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("environment", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("algorithm", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("run", "algorithm")
    op.drop_column("run", "environment")
