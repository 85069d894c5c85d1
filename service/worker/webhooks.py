"""Sends the messages of webhooks: each at least once, to public addresses alone, later and later where it fails.

A webhook has one message on its way at a time, and a host few; so who is slow, or silent, delays nobody else.

A name is looked up once, every address of it is judged, and the connection is made to one that was: a name that points
elsewhere a moment later reaches nothing. TLS is still that of the name. Redirects are not followed.
"""

import asyncio
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx

from service.domain.ports import WebhookStore
from service.domain.webhooks import (
    MOST_WEBHOOKS,
    Attempted,
    Due,
    Webhook,
    check_url,
    is_public,
    retry_in_s,
    signed_headers,
)

logger = logging.getLogger(__name__)

AT_A_HOST = 4
"""Messages on their way to one host, of different webhooks."""
LOOK_S = 0.5
"""Between two looks at what is due while messages are on their way."""
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
        self._names = ThreadPoolExecutor(
            MOST_WEBHOOKS, "names"
        )  # a name server that is silent holds a thread

    def send_due(self) -> None:
        """Send all that is due, and what becomes due meanwhile."""
        if self._store.due():
            asyncio.run(self._send_all())

    def forget(self) -> None:
        """Delete what was sent long ago."""
        self._store.forget()

    async def _send_all(self) -> None:
        on_way: dict[asyncio.Task[Attempted], Due] = {}
        while True:
            chosen = _chosen(
                await asyncio.to_thread(self._store.due), [due.webhook for due in on_way.values()]
            )
            for due in await asyncio.to_thread(self._store.take, chosen) if chosen else ():
                on_way[asyncio.create_task(self._attempt(due))] = due
            if not on_way:
                return
            ended, _ = await asyncio.wait(on_way, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                await self._settle(on_way.pop(task), task.result())

    async def _settle(self, due: Due, attempted: Attempted) -> None:
        if not attempted.is_taken:
            why = attempted.error or f"HTTP {attempted.status}"
            logger.warning("webhook %s: %s: %s", due.webhook.id, due.delivery.id, why)
        again_s = retry_in_s(due.delivery.attempts, due.age_s, random.random())
        await asyncio.to_thread(self._store.settle, due, attempted, retry_in_s=again_s)

    async def _attempt(self, due: Due) -> Attempted:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                return await self._send(due)
        except TimeoutError:
            return Attempted(error=f"no answer within {ATTEMPT_S:g} s")
        except Exception as error:  # whatever a receiver is made of: the others' messages go on
            return Attempted(error=f"{type(error).__name__}: {error}"[:RESPONSE_BYTES])

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
        look_up = partial(socket.getaddrinfo, url.host, port, type=socket.SOCK_STREAM)
        found = await loop.run_in_executor(self._names, look_up)
        addresses = [str(place[4][0]) for place in found]
        if url.host.lower() not in self._private_hosts and not all(map(is_public, addresses)):
            raise ValueError(f"{url.host} leads into a private network")
        return addresses[0]


def _chosen(due: Sequence[Webhook], on_way: Sequence[Webhook]) -> list[str]:
    """The webhooks whose turn it is: none that has a message on its way, and of a host no more than it may have."""
    busy, hosts, chosen = {hook.id for hook in on_way}, Counter(map(_host, on_way)), []
    for hook in due:
        if hook.id not in busy and hosts[_host(hook)] < AT_A_HOST:
            hosts[_host(hook)] += 1
            chosen.append(hook.id)
    return chosen


def _host(hook: Webhook) -> str | None:
    return urlsplit(hook.url).hostname
