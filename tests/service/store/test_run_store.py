"""The run store keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.run_store import RunStoreContract


class TestRunStore(RunStoreContract):
    pass
