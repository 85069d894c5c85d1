"""The checkpoint store keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.checkpoint_store import CheckpointStoreContract


class TestCheckpointStore(CheckpointStoreContract):
    pass
