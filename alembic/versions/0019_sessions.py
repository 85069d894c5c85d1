"""Sessions that act, and runs that record what they do.

Which kinds of runs there are stands in a CHECK, which gets one more. On the way down recordings are forgotten.

Revision 0019.
"""

import re

import sqlalchemy as sa

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
KIND = "record"
OF_A_RUN = (
    *("run_label", "run_event", "run_metric", "run_latest", "run_extreme", "run_log", "idempotency_key"),
    *("compared_checkpoint", "episode"),
)
REASONS = "'closed', 'expired', 'evicted', 'restarted'"


def upgrade() -> None:
    _set_kinds(*_kinds(), KIND)
    op.create_table(
        "session",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("snapshot", sa.LargeBinary(), nullable=True),
        sa.Column("reason", sa.String(length=16), nullable=True),
        sa.Column("last_seq", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.CheckConstraint(f"reason IN ({REASONS})", name=op.f("ck_session_known_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
    )
    op.create_index("ix_session_ended_at", "session", ["ended_at"])


def downgrade() -> None:
    op.drop_table("session")
    runs = f"SELECT id FROM run WHERE kind = '{KIND}'"
    for table in OF_A_RUN:
        op.execute(f"DELETE FROM {table} WHERE run_id IN ({runs})")
    op.execute(f"DELETE FROM run WHERE kind = '{KIND}'")
    _set_kinds(*(kind for kind in _kinds() if kind != KIND))


def _kinds() -> list[str]:
    """Those that the database knows now, which other revisions may have added to."""
    for check in sa.inspect(op.get_bind()).get_check_constraints("run"):
        if check["name"] == "ck_run_known_kind":
            return re.findall(r"'(\w+)'", check["sqltext"])
    raise RuntimeError("the table run does not say which kinds of runs there are")


def _set_kinds(*kinds: str) -> None:
    names = ", ".join(f"'{kind}'" for kind in kinds)
    with op.batch_alter_table("run") as table:
        table.drop_constraint(op.f("ck_run_known_kind"), type_="check")
        table.create_check_constraint(op.f("ck_run_known_kind"), f"kind IN ({names})")
