"""The store of uploads keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.upload_store import UploadStoreContract


class TestUploadStore(UploadStoreContract):
    pass
