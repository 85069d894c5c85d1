"""Who is told of the ends of runs, in messages signed by Standard Webhooks."""

import base64
import secrets
from collections.abc import AsyncIterator, Collection
from typing import Any

from maze_client.answers import Delivery, Webhook, read
from maze_client.arguments import at
from maze_client.caller import Caller
from maze_client.transport import Async, Listing, Sync, Verb

PATH = "/v1/webhooks"


class WebhookMethods(Caller):
    """``client.webhooks``."""

    def __init__(self, caller: Caller) -> None:
        self._transport, self._max_retries = caller._transport, caller._max_retries

    @Verb
    async def create(self, url: str, types: Collection[str] = (), secret: str | None = None) -> Webhook:
        """Tell a URL of the ends of runs, all or of these types; keep the ``secret`` of the answer."""
        body: dict[str, Any] = {"url": url}
        body |= {"types": [*types]} if types else {}
        # made here, so that it is the same webhook, and nobody's secret is lost, however often it is sent
        body |= {"secret": secret or "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()}
        return read(await self._send("POST", PATH, body), Webhook)

    @Listing
    async def list(self) -> AsyncIterator[Webhook]:
        """All of them, oldest first."""
        async for found in self._list(PATH, Webhook):
            yield found

    @Verb
    async def edit(
        self, webhook_id: str, *, url: str | None = None, types: Collection[str] = (),
        is_enabled: bool | None = None,
    ) -> Webhook:  # fmt: skip
        """Change what is given; ``is_enabled`` stops it, or lets it go on."""
        given = {"url": url, "types": [*types] or None, "is_enabled": is_enabled}
        body = {name: value for name, value in given.items() if value is not None}
        return read(await self._send("PATCH", at(PATH, webhook_id), body), Webhook)

    @Verb
    async def delete(self, webhook_id: str) -> None:
        """Delete one with its messages."""
        await self._send("DELETE", at(PATH, webhook_id))

    @Verb
    async def test(self, webhook_id: str) -> Delivery:
        """Have a message of type ``webhook.test`` sent."""
        return read(await self._send("POST", at(PATH, webhook_id, "test")), Delivery)

    @Listing
    async def deliveries(self, webhook_id: str) -> AsyncIterator[Delivery]:
        """Messages of one, newest first."""
        async for found in self._list(at(PATH, webhook_id, "deliveries"), Delivery):
            yield found


class Webhooks(WebhookMethods, Sync):
    """Of a client that waits."""


class AsyncWebhooks(WebhookMethods, Async):
    """Of a client that is awaited."""
