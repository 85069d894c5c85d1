"""Uploads know who began them.

Revision 0014.
"""

import sqlalchemy as sa

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("upload", sa.Column("created_by", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("upload", "created_by")
