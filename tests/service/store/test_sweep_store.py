"""The sweep store keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.sweep_store import SweepStoreContract


class TestSweepStore(SweepStoreContract):
    pass
