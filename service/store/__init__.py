"""Runs, checkpoints, episodes and grants in SQLite or PostgreSQL: SQLAlchemy lives here and nowhere else."""

from dataclasses import dataclass

from service.domain.fleet import Storage
from service.domain.ports import (
    AuditStore,
    CheckpointStore,
    EpisodeStore,
    PolicyStore,
    ProjectStore,
    RegistryStore,
    RunStore,
    SessionStore,
    SweepStore,
    UploadStore,
    WebhookStore,
)
from service.settings import Settings
from service.store.audit import SqlAuditStore
from service.store.blobs import Blobs, default_blob_dir
from service.store.checkpoints import SqlCheckpointStore
from service.store.engine import Database, require_room
from service.store.episodes import SqlEpisodeStore
from service.store.migrations import SchemaError, check_revision, migrate
from service.store.policies import SqlPolicyStore
from service.store.projects import SqlProjectStore
from service.store.registry import SqlRegistryStore
from service.store.runs import SqlRunStore
from service.store.sessions import SqlSessionStore
from service.store.storage import measured
from service.store.sweeps import SqlSweepStore
from service.store.uploads import SqlUploadStore
from service.store.webhooks import SqlWebhookStore

__all__ = ["SchemaError", "Stores", "check_revision", "migrate", "open_stores"]


@dataclass(frozen=True)
class Stores:
    """The stores of a process and what they stand on; safe to share between threads.

    To be closed when the process ends. Open them after a fork, never before: a connection does not survive one.
    """

    runs: RunStore
    checkpoints: CheckpointStore
    episodes: EpisodeStore
    registry: RegistryStore
    uploads: UploadStore
    policies: PolicyStore
    sweeps: SweepStore
    webhooks: WebhookStore
    sessions: SessionStore
    projects: ProjectStore
    audit: AuditStore
    database: Database
    blobs: Blobs

    def check(self) -> None:
        """Raise :class:`StoreUnavailableError` unless everything can be read and written."""
        self.database.check()
        if self.blobs.directory is not None and self.blobs.directory.is_dir():
            require_room(self.blobs.directory)

    def storage(self) -> Storage:
        """How much is stored, and how much more can be."""
        return measured(self.database, self.blobs)

    def close(self) -> None:
        """Close every connection."""
        self.database.close()


def open_stores(source: Settings | str) -> Stores:
    """Open the stores on a migrated database.

    Args:
        source: settings, or a database URL beside which the other settings are as they are in this process.

    Raises:
        SchemaError: the database is not at this version's revision; the message has the command.
    """
    settings = source if isinstance(source, Settings) else Settings(database_url=source)
    url = settings.database_url
    check_revision(url)
    database = Database(url)
    blobs = Blobs(settings.blob_dir or default_blob_dir(url))
    return Stores(
        runs=SqlRunStore(database, blobs),
        checkpoints=SqlCheckpointStore(database, blobs, keep_scheduled=settings.keep_scheduled),
        episodes=SqlEpisodeStore(database, blobs),
        registry=SqlRegistryStore(database),
        uploads=SqlUploadStore(database, blobs),
        policies=SqlPolicyStore(database),
        webhooks=SqlWebhookStore(database),
        projects=SqlProjectStore(database),
        audit=SqlAuditStore(database),
        sweeps=SqlSweepStore(database, max_queued=settings.max_queued_runs),
        sessions=SqlSessionStore(database),
        database=database,
        blobs=blobs,
    )
