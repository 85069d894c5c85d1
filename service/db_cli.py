"""What ``maze db`` and ``maze token`` do, as functions that print nothing.

Each takes the database's URL, opens it, acts and closes it. :class:`~service.domain.errors.ServiceError` says
what went wrong and what to type next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from service.domain.errors import NotFoundError
from service.domain.use_cases import new_token
from service.store.backup import Manifest, backup, integrity_problems, restore
from service.store.blobs import Blobs
from service.store.engine import opened
from service.store.migrations import check_revision, downgrade, migrate
from service.store.registry import SqlRegistryStore
from service.store.stores import default_blob_dir
from service.store.tables import blob

__all__ = [
    "CheckReport",
    "Manifest",
    "backup",
    "check",
    "create_token",
    "downgrade",
    "has_tokens",
    "restore",
    "revoke_token",
    "tokens",
    "upgrade",
]


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What :func:`check` found."""

    revision: str
    n_blobs: int
    """Checkpoint bundles and trajectories whose digests were verified."""
    problems: list[str]
    """One sentence each; empty when everything is whole."""


def upgrade(url: str) -> str:
    """Create the database or bring its schema up to date; returns the revision.

    Raises:
        SchemaError: a newer version wrote it.
    """
    migrate(url)
    return check_revision(url)


def check(url: str, *, blob_dir: Path | None = None) -> CheckReport:
    """Verify the revision, the file and the digest of every blob.

    Raises:
        SchemaError: the database is not at this version's revision.
    """
    revision = check_revision(url)
    problems = integrity_problems(url)
    blobs = Blobs(blob_dir or default_blob_dir(url))
    with opened(url) as database:
        with database.reading() as connection:
            digests = connection.execute(select(blob.c.sha256).order_by(blob.c.sha256)).scalars().all()
        for sha256 in digests:  # each in a transaction of its own: a long one holds up SQLite's checkpoints
            try:
                with database.reading() as connection:
                    blobs.read(connection, sha256)
            except NotFoundError as error:
                problems.append(str(error))
    return CheckReport(revision=revision, n_blobs=len(digests), problems=problems)


def create_token(url: str, name: str) -> str:
    """Make an access token; returns its text, which is shown once and stored nowhere."""
    token_id, text, sha256 = new_token()
    with opened(url) as database:
        SqlRegistryStore(database).add_token(token_id, sha256, name)
    return text


def tokens(url: str) -> Sequence[Mapping[str, Any]]:
    """All tokens: id, name, created_at, revoked_at."""
    with opened(url) as database:
        return SqlRegistryStore(database).tokens()


def has_tokens(url: str) -> bool:
    """Whether a token was ever made; the first start makes and shows one otherwise."""
    return bool(tokens(url))


def revoke_token(url: str, token_id: str) -> None:
    """Revoke a token; raises :class:`NotFoundError`."""
    with opened(url) as database:
        SqlRegistryStore(database).revoke_token(token_id)
