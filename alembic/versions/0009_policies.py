"""Policies by name with numbered versions, aliases and their history; runs that compare policies.

Which kinds of runs there are stands in a CHECK, which gets one more. On the way down comparisons are forgotten.

Revision 0009.
"""

import re

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
KIND = "compare"
OF_A_RUN = ("run_label", "run_event", "run_metric", "run_log", "idempotency_key")


def upgrade() -> None:
    _set_kinds(*_kinds(), KIND)
    op.create_table(
        "compared_checkpoint",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_compared_checkpoint_run_id_run")),
        sa.PrimaryKeyConstraint("run_id", "place", name=op.f("pk_compared_checkpoint")),
    )
    op.create_index("ix_compared_checkpoint_checkpoint_id", "compared_checkpoint", ["checkpoint_id"])
    op.create_table(
        "policy",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("gate", sa.Text(), nullable=True),
        sa.Column("n_versions", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_policy")),
    )
    op.create_table(
        "policy_version",
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=64), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["policy"], ["policy.name"], name=op.f("fk_policy_version_policy_policy")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_policy_version_run_id_run")),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoint.id"],
            name=op.f("fk_policy_version_checkpoint_id_checkpoint"),
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.PrimaryKeyConstraint("policy", "number", name=op.f("pk_policy_version")),
        sa.UniqueConstraint("policy", "checkpoint_id", name=op.f("uq_policy_version_policy_checkpoint_id")),
    )
    op.create_index("ix_policy_version_checkpoint_id", "policy_version", ["checkpoint_id"])
    op.create_index("ix_policy_version_run_id", "policy_version", ["run_id"])
    op.create_table(
        "policy_alias",
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("moved_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["policy", "version"],
            ["policy_version.policy", "policy_version.number"],
            name=op.f("fk_policy_alias_policy_version_policy_version"),
        ),
        sa.PrimaryKeyConstraint("policy", "alias", name=op.f("pk_policy_alias")),
    )
    op.create_index("ix_policy_alias_version", "policy_alias", ["policy", "version"])
    op.create_table(
        "policy_move",
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=True),
        sa.Column("to_version", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('set', 'rollback', 'delete')", name=op.f("ck_policy_move_known_kind")),
        sa.ForeignKeyConstraint(["policy"], ["policy.name"], name=op.f("fk_policy_move_policy_policy")),
        sa.PrimaryKeyConstraint("policy", "alias", "seq", name=op.f("pk_policy_move")),
    )


def downgrade() -> None:
    op.drop_table("policy_move")
    for table in ("policy_alias", "policy_version", "policy", "compared_checkpoint"):
        op.drop_table(table)
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
