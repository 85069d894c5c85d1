"""The registry keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.registry_store import RegistryStoreContract


class TestRegistryStore(RegistryStoreContract):
    pass
