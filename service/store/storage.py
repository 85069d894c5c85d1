"""How much is stored, and how much more can be."""

import shutil

from sqlalchemy import exists, func, select

from service.domain.fleet import Storage
from service.store.blobs import Blobs
from service.store.engine import Database, journals_of
from service.store.tables import blob, blob_part


def measured(database: Database, blobs: Blobs) -> Storage:
    """Sizes as the database and its file system tell them."""
    is_piece = ~exists().where(blob_part.c.sha256 == blob.c.sha256)  # what is stored in parts is its parts
    totals = select(func.count(), func.coalesce(func.sum(blob.c.size_bytes), 0)).where(is_piece)
    with database.reading() as connection:
        n_blobs, blob_bytes = connection.execute(totals).one()
        if database.path is None:
            size_bytes = connection.execute(
                select(func.pg_database_size(func.current_database()))
            ).scalar_one()
    if database.path is not None:
        files = [database.path, *journals_of(database.path)]
        size_bytes = sum(file.stat().st_size for file in files if file.exists())
    folders = [database.path and database.path.absolute().parent, blobs.directory]
    free = [shutil.disk_usage(folder).free for folder in folders if folder is not None and folder.is_dir()]
    return Storage(
        kind="sqlite" if database.is_sqlite else "postgresql",
        size_bytes=int(size_bytes),
        n_blobs=n_blobs,
        blob_bytes=int(blob_bytes),
        free_bytes=min(free, default=None),
    )
