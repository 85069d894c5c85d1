"""Blobs in parts: what several checkpoints have of a replay is stored once.

On the way down they are put together again; what was a part alone stays, and nobody names it.

Revision 0005.
"""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CHUNK_BYTES = 1_048_576


def upgrade() -> None:
    op.create_table(
        "blob_part",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("part_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blob.sha256"], name=op.f("fk_blob_part_sha256_blob"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["part_sha256"], ["blob.sha256"], name=op.f("fk_blob_part_part_sha256_blob")),
        sa.PrimaryKeyConstraint("sha256", "number", name=op.f("pk_blob_part")),
    )
    op.create_index("ix_blob_part_part_sha256", "blob_part", ["part_sha256"])


def downgrade() -> None:
    op.drop_index("ix_blob_part_part_sha256", "blob_part")
    _put_together(op.get_bind())
    op.drop_table("blob_part")


def _put_together(connection: sa.Connection) -> None:
    in_files = "SELECT count(*) FROM blob_part JOIN blob ON blob.sha256 = part_sha256 WHERE in_file"
    if connection.execute(sa.text(in_files)).scalar_one():
        raise RuntimeError(
            "Checkpoints above 64 MiB are stored in parts, in files, which no earlier version reads: download what is "
            "needed of them and restore a backup of that version."
        )
    pieces = sa.text(
        "SELECT data FROM blob_part JOIN blob_chunk ON blob_chunk.sha256 = part_sha256 "
        "WHERE blob_part.sha256 = :sha256 ORDER BY blob_part.number, blob_chunk.number"
    )
    for sha256 in connection.execute(sa.text("SELECT DISTINCT sha256 FROM blob_part")).scalars().all():
        data = b"".join(connection.execute(pieces, {"sha256": sha256}).scalars())
        for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            row = {"sha256": sha256, "number": number, "data": data[start : start + CHUNK_BYTES]}
            connection.execute(
                sa.text("INSERT INTO blob_chunk (sha256, number, data) VALUES (:sha256, :number, :data)"), row
            )
