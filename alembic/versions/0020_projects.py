"""Projects have quotas; runs are found, and events counted, by project.

Revision 0020.
"""

import sqlalchemy as sa

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# Index → its columns behind the project, which all had without it.
LISTS = {
    "ix_run_created_at_id": ("created_at", "id"),
    "ix_run_best_value": ("best_value", "id"),
    "ix_run_name": ("name", "id"),
    "ix_run_kind": ("kind", "created_at", "id"),
}
QUEUE = ("precedence", "created_at", "id", "kind")
QUOTAS = ("max_running", "max_queued", "max_stored_mib")


def upgrade() -> None:
    op.drop_column("project", "quotas")
    op.add_column("project", sa.Column("share", sa.Integer(), nullable=False, server_default="1"))
    for name in QUOTAS:
        op.add_column("project", sa.Column(name, sa.Integer(), nullable=True))
    for name, columns in LISTS.items():
        op.drop_index(name, "run")
        op.create_index(name, "run", ["project", *columns])
    op.drop_index("ix_run_queue", "run")
    op.create_index("ix_run_queue", "run", ["state", "project", *QUEUE])
    op.add_column("run_event", sa.Column("project", sa.String(64), nullable=False, server_default="default"))
    op.drop_index("ix_run_event_type", "run_event")
    op.create_index("ix_run_event_type", "run_event", ["project", "type", "position"])
    op.execute(
        "UPDATE run_event SET project = (SELECT project FROM run WHERE run.id = run_event.run_id) "
        "WHERE run_id IN (SELECT id FROM run WHERE project != 'default')"
    )
    names = op.get_bind().execute(sa.text("SELECT name FROM project")).scalars().all()
    _counter(sa.Column("project", sa.String(64), nullable=False), *names)


def downgrade() -> None:
    _counter(sa.Column("id", sa.Integer(), autoincrement=False, nullable=False), 1)
    op.drop_index("ix_run_event_type", "run_event")
    op.drop_column("run_event", "project")
    op.create_index("ix_run_event_type", "run_event", ["type", "position"])
    op.drop_index("ix_run_queue", "run")
    op.create_index("ix_run_queue", "run", ["state", *QUEUE])
    for name, columns in LISTS.items():
        op.drop_index(name, "run")
        op.create_index(name, "run", list(columns))
    for name in ("share", *QUOTAS):
        op.drop_column("project", name)
    op.add_column("project", sa.Column("quotas", sa.Text(), nullable=False, server_default="{}"))


def _counter(key: sa.Column[object], *counted: object) -> None:
    """Make the counter of events anew, with another key; nobody is given a position twice."""
    old = sa.table("event_counter", sa.column("position"))
    newest = op.get_bind().execute(sa.select(sa.func.max(old.c.position))).scalar_one()
    op.drop_table("event_counter")
    counter = op.create_table(
        "event_counter",
        key,
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(key.name, name="pk_event_counter"),
    )
    if newest is not None:
        op.bulk_insert(counter, [{key.name: each, "position": newest} for each in counted])
