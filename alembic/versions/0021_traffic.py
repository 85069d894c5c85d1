"""The traffic of an alias may be split between versions.

Revision 0021.
"""

import sqlalchemy as sa

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_KINDS = "kind IN ('set', 'rollback', 'delete'{})"


def upgrade() -> None:
    op.add_column("policy_alias", sa.Column("traffic", sa.Text(), nullable=True))
    with op.batch_alter_table("policy_move") as batch:
        batch.drop_constraint(op.f("ck_policy_move_known_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_policy_move_known_kind"), _KINDS.format(", 'traffic'"))


def downgrade() -> None:
    # the number of a move stays what an alias has as its revision
    op.execute("UPDATE policy_move SET kind = 'set' WHERE kind = 'traffic'")
    with op.batch_alter_table("policy_move") as batch:
        batch.drop_constraint(op.f("ck_policy_move_known_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_policy_move_known_kind"), _KINDS.format(""))
    op.drop_column("policy_alias", "traffic")
