"""Checkpoints are imported, episodes filmed and replayed: uploads, videos, and two more kinds of run.

On the way down a run that has imported a checkpoint is a training, which an earlier version can act with and go on
from; one that had not ended has failed. Replays and videos are forgotten.

Revision 0008.
"""

import re

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KINDS = ("import", "replay")
VIDEO = ("video_sha256", "thumbnail_sha256")
REPLAYS = "(SELECT id FROM run WHERE kind = 'replay')"


def upgrade() -> None:
    _set_kinds(*_kinds(), *KINDS)
    op.add_column("run", sa.Column("arguments", sa.Text(), nullable=False, server_default="{}"))
    with op.batch_alter_table("episode") as table:
        for name in VIDEO:
            table.add_column(sa.Column(name, sa.String(length=64), nullable=True))
            table.create_foreign_key(op.f(f"fk_episode_{name}_blob"), "blob", [name], ["sha256"])
    for name in VIDEO:
        op.create_index(f"ix_episode_{name}", "episode", [name])
    op.create_table(
        "upload",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("part_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
    )
    op.create_index("ix_upload_digest", "upload", ["digest"])
    op.create_table(
        "upload_part",
        sa.Column("upload_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("blob_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["upload.id"], name=op.f("fk_upload_part_upload_id_upload"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["blob_sha256"], ["blob.sha256"], name=op.f("fk_upload_part_blob_sha256_blob")
        ),
        sa.PrimaryKeyConstraint("upload_id", "number", name=op.f("pk_upload_part")),
    )
    op.create_index("ix_upload_part_blob_sha256", "upload_part", ["blob_sha256"])


def downgrade() -> None:
    op.drop_index("ix_upload_part_blob_sha256", "upload_part")
    op.drop_table("upload_part")
    op.drop_index("ix_upload_digest", "upload")
    op.drop_table("upload")
    for name in VIDEO:
        op.drop_index(f"ix_episode_{name}", "episode")
    with op.batch_alter_table("episode") as table:
        for name in VIDEO:
            table.drop_constraint(op.f(f"fk_episode_{name}_blob"), type_="foreignkey")
            table.drop_column(name)
    op.drop_column("run", "arguments")
    op.execute(f"DELETE FROM idempotency_key WHERE run_id IN {REPLAYS}")
    for name in ("run_label", "run_event", "run_metric", "run_log"):
        op.execute(f"DELETE FROM {name} WHERE run_id IN {REPLAYS}")
    op.execute("DELETE FROM run WHERE kind = 'replay'")
    ended = "('succeeded', 'failed', 'cancelled')"
    op.execute(
        "UPDATE run SET state = 'failed', reason = 'downgraded', lease_until = NULL, finished_at = created_at "
        f"WHERE kind = 'import' AND state NOT IN {ended}"
    )
    op.execute("UPDATE run SET kind = 'train' WHERE kind = 'import'")
    _set_kinds(*(kind for kind in _kinds() if kind not in KINDS))


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
