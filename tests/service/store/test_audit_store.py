"""The audit log's contract on both databases."""

from tests.contracts.audit_store import AuditStoreContract


class TestAuditStore(AuditStoreContract):
    pass
