"""The webhook store keeps its contract on SQLite and on PostgreSQL."""

from tests.contracts.webhook_store import WebhookStoreContract


class TestWebhookStore(WebhookStoreContract):
    pass
