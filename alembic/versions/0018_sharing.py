"""Tokens have scopes, a project and an end; what has an owner has a project.

Tokens of before go on as they were: each may do everything, everywhere.

Revision 0018.
"""

import sqlalchemy as sa

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

OWNED = ("run", "sweep", "policy", "webhook", "upload")


def upgrade() -> None:
    project = op.create_table(
        "project",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quotas", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_project"),
    )
    op.execute(
        project.insert().from_select(
            ["name", "created_at", "quotas"],
            sa.select(sa.literal("default"), sa.func.current_timestamp(), sa.literal("{}")),
        )
    )
    for table in (*OWNED, "access_token"):
        op.add_column(table, sa.Column("project", sa.String(64), nullable=False, server_default="default"))
    for column in (
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("access_token", column)
    token = sa.table("access_token", sa.column("scopes"))
    op.execute(sa.update(token).values(scopes='["admin"]'))


def downgrade() -> None:
    _refuse_projects()
    # nobody asks for scope or end below: who may not do everything, for ever, may do nothing
    token = sa.table("access_token", *map(sa.column, ("scopes", "expires_at", "revoked_at")))
    is_limited = sa.or_(
        token.c.scopes.is_(None), token.c.scopes != '["admin"]', token.c.expires_at.is_not(None)
    )
    ended = sa.update(token).where(is_limited, token.c.revoked_at.is_(None))
    op.execute(ended.values(revoked_at=sa.func.current_timestamp()))
    for column in ("last_used_at", "expires_at", "created_by", "scopes"):
        op.drop_column("access_token", column)
    for table in ("access_token", *reversed(OWNED)):
        op.drop_column(table, "project")
    op.drop_table("project")


def _refuse_projects() -> None:
    """What belongs to several projects would be everybody's."""
    for name in (*OWNED, "access_token"):
        table = sa.table(name, sa.column("project"))
        others = sa.select(table.c.project).where(table.c.project != "default").limit(1)
        if (other := op.get_bind().execute(others).scalar_one_or_none()) is not None:
            raise RuntimeError(
                f"project {other} has some of {name}; revisions before 0018 know one project, where everybody would "
                "see it: delete it first, or stay"
            )
