"""Episodes that a training filmed know the epoch and what they show.

Revision 0016.
"""

import sqlalchemy as sa

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("episode", sa.Column("epoch", sa.Integer(), nullable=True))
    op.add_column("episode", sa.Column("moment", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("episode", "moment")
    op.drop_column("episode", "epoch")
