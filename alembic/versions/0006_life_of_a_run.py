"""The life of a run: it can be paused, goes on in another run, has a priority and notes, and is found by its name.

The column of a wish to cancel becomes that of a wish to stop, which is to cancel or to pause. On the way down a run
that is to be paused is given back to the queue by its worker, and goes on.

Revision 0006.
"""

import json
import math

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("run", "cancel_reason", new_column_name="stop_wish")
    op.add_column("run", sa.Column("precedence", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("notes", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("parent_run", sa.String(length=64), nullable=True))
    op.add_column("run", sa.Column("continues", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("best_value", sa.Float(), nullable=True))
    _fill_best_values(op.get_bind())
    op.drop_index("ix_run_queue", "run")
    op.create_index("ix_run_queue", "run", ["state", "precedence", "created_at", "id", "kind"])
    op.create_index("ix_run_best_value", "run", ["best_value", "id"])
    op.create_index("ix_run_name", "run", ["name", "id"])


def _fill_best_values(connection: sa.Connection) -> None:
    found = connection.execute(sa.text("SELECT id, best FROM run WHERE best IS NOT NULL")).all()
    for run_id, best in found:
        value = (json.loads(best) or {}).get("value")
        if isinstance(value, int | float) and math.isfinite(value):
            row = {"id": run_id, "value": value}
            connection.execute(sa.text("UPDATE run SET best_value = :value WHERE id = :id"), row)


def downgrade() -> None:
    op.drop_index("ix_run_name", "run")
    op.drop_index("ix_run_best_value", "run")
    op.drop_column("run", "best_value")
    op.drop_index("ix_run_queue", "run")
    op.create_index("ix_run_queue", "run", ["state", "created_at", "id", "kind"])
    for name in ("continues", "parent_run", "revision", "notes", "precedence"):
        op.drop_column("run", name)
    op.execute("UPDATE run SET stop_wish = NULL WHERE stop_wish = 'user_pause'")
    op.alter_column("run", "stop_wish", new_column_name="cancel_reason")
