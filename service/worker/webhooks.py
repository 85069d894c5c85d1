"""Sends the messages of webhooks: each at least once, to public addresses alone, later and later where it fails.

A name is looked up once, every address of it is judged, and the connection is made to one that was: a name that points
elsewhere a moment later reaches nothing. TLS is still that of the name. Redirects are not followed.
"""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Collection, Sequence
from importlib.metadata import version

import httpx

from service.domain.ports import WebhookStore
from service.domain.webhooks import Attempted, Due, check_url, is_public, retry_in_s, signed_headers

logger = logging.getLogger(__name__)

AT_ONCE = 8
ATTEMPT_S = 15.0
"""For the look-up, the connection and the answer together."""
RESPONSE_BYTES = 256
"""Of an answer that are kept."""


class Messenger:
    """Sends what is due.

    Args:
        store: where messages wait.
        private_hosts: hosts that may be private, and spoken to without TLS.
        transport: httpx's, for tests; connections of its own when left out.
    """

    def __init__(
        self,
        store: WebhookStore,
        private_hosts: Collection[str],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._store = store
        self._private_hosts = frozenset(host.lower() for host in private_hosts)
        self._transport = transport

    def send_due(self) -> None:
        """Send all that is due now."""
        while due := self._store.take(AT_ONCE):
            asyncio.run(self._send_all(due))

    def forget(self) -> None:
        """Delete what was sent long ago."""
        self._store.forget()

    async def _send_all(self, due: Sequence[Due]) -> None:
        await asyncio.gather(*map(self._attempt, due))

    async def _attempt(self, due: Due) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                attempted = await self._send(due)
        except TimeoutError:
            attempted = Attempted(error=f"no answer within {ATTEMPT_S:g} s")
        except Exception as error:  # whatever a receiver is made of: the others' messages go on
            attempted = Attempted(error=f"{type(error).__name__}: {error}"[:RESPONSE_BYTES])
        if not attempted.is_taken:
            why = attempted.error or f"HTTP {attempted.status}"
            logger.warning("webhook %s: %s: %s", due.webhook.id, due.delivery.id, why)
        again_s = retry_in_s(due.delivery.attempts, due.age_s, random.random())
        await asyncio.to_thread(self._store.settle, due, attempted, retry_in_s=again_s)

    async def _send(self, due: Due) -> Attempted:
        check_url(due.webhook.url, self._private_hosts)  # the operator may have changed the list
        url = httpx.URL(due.webhook.url)
        address = await self._address(url)
        headers = {
            **signed_headers(due, int(time.time())),
            "Content-Type": "application/json",
            "Host": url.netloc.decode(),
            "User-Agent": f"maze-service/{version('maze-service')}",
        }
        client = httpx.AsyncClient(
            transport=self._transport, trust_env=False, follow_redirects=False, timeout=ATTEMPT_S
        )
        async with (
            client,
            client.stream(
                "POST",
                url.copy_with(host=address),
                content=due.delivery.body.encode(),
                headers=headers,
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):
            kept = b""
            async for chunk in answer.aiter_raw():
                kept += chunk[: RESPONSE_BYTES - len(kept)]
                if len(kept) == RESPONSE_BYTES:
                    break
            return Attempted(status=answer.status_code, response=kept.decode("utf-8", "replace") or None)

    async def _address(self, url: httpx.URL) -> str:
        """An address of the host, all of whose addresses may be spoken to; raises ValueError."""
        port = url.port or (443 if url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(place[4][0]) for place in found]
        if url.host.lower() not in self._private_hosts and not all(map(is_public, addresses)):
            raise ValueError(f"{url.host} leads into a private network")
        return addresses[0]
