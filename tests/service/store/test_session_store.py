"""The session store keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.session_store import SessionStoreContract


class TestSessionStore(SessionStoreContract):
    pass
