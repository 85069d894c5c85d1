"""Trainings are tried out: one more kind of run, which stands in a CHECK. On the way down such runs are forgotten.

Revision 0007.
"""

import re

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KIND = "smoke"
RUNS = f"(SELECT id FROM run WHERE kind = '{KIND}')"


def upgrade() -> None:
    _set_kinds(*_kinds(), KIND)


def downgrade() -> None:
    op.execute(f"DELETE FROM idempotency_key WHERE run_id IN {RUNS}")
    for table in ("run_label", "run_event", "run_metric", "run_log"):
        op.execute(f"DELETE FROM {table} WHERE run_id IN {RUNS}")
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
