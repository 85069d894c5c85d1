"""Webhooks: who is told of the ends of runs, what they are told, how it is signed, and where it may be sent.

Messages and signatures are those of Standard Webhooks (https://www.standardwebhooks.com): ``webhook-id``,
``webhook-timestamp`` and ``webhook-signature``, an HMAC-SHA256 of ``id.timestamp.body`` in base64 behind ``v1,``.
"""

import base64
import binascii
import hmac
import ipaddress
import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from maze_core.files import json_safe
from service.domain.run import Run
from service.domain.sharing import DEFAULT_PROJECT

SECRET_PREFIX = "whsec_"
SECRET_BYTES = (24, 64)
"""Fewest and most."""
LONGEST_URL = 2048
MOST_WEBHOOKS = 100
FIRST_RETRY_S, LONGEST_RETRY_S, GROWTH = 5.0, 4 * 3600.0, 4.0
GIVES_UP_S = 24 * 3600.0
"""After its event a message is not tried again."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that the public internet is made of: no NAT64, site-local, unique local or multicast addresses."""
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        # IPv4: protocol assignments, relays of 6to4. IPv6: protocol assignments with Teredo, documentation, 6to4
        ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
"""Of IANA's special-purpose registries, what some version of ``ipaddress`` calls global."""
_LABEL = "(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}\.?$){_LABEL}(\.{_LABEL})*\.?", re.ASCII)
"""A name that DNS can know (RFC 1035 §2.3.4); with an underscore, as some have."""
_NUMBER = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?", re.ASCII)
"""What resolvers take for an IPv4 address."""


class MessageType(StrEnum):
    """What a message is about."""

    SUCCEEDED = "run.succeeded"
    FAILED = "run.failed"
    CANCELLED = "run.cancelled"
    TEST = "webhook.test"
    """Asked for, whatever types the webhook wants."""


class DeliveryState(StrEnum):
    """What became of a message; ``waiting`` is tried again."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Who is told of what; the secret is shown when it is made, and never again."""

    id: str
    url: str
    types: Sequence[str]
    secret: str
    created_by: str | None
    created_at: datetime
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    project: str = DEFAULT_PROJECT


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message for one webhook, and how it has fared."""

    id: str
    """Also ``webhook-id``: the same in every attempt."""
    webhook_id: str
    run_id: str | None
    type: str
    body: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    due_at: datetime
    """When it is tried next, where it waits."""
    delivered_at: datetime | None
    status: int | None
    """Of the last answer."""
    error: str | None
    """Why the last attempt failed."""
    response: str | None
    """The beginning of the last answer."""
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(frozen=True, kw_only=True)
class Due:
    """A message to be sent now, by nobody else for a while."""

    delivery: Delivery
    webhook: Webhook
    age_s: float
    """Since its event."""


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """How an attempt ended."""

    status: int | None = None
    error: str | None = None
    response: str | None = None

    @property
    def is_taken(self) -> bool:
        """The receiver has it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """The receiver wants no more."""
        return self.status == 410


def new_secret() -> str:
    """A fresh secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secret_bytes(secret: str) -> bytes:
    """The key of a secret.

    Raises:
        ValueError: it has another form.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("A secret is whsec_ and base64") from error
    if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES[0] <= len(key) <= SECRET_BYTES[1]:
        raise ValueError(f"A secret is whsec_ and base64 of {SECRET_BYTES[0]} to {SECRET_BYTES[1]} bytes")
    return key


def signed_headers(due: Due, timestamp: int) -> Mapping[str, str]:
    """The headers of a message that is sent at this time."""
    message = due.delivery
    text = f"{message.id}.{timestamp}.{message.body}".encode()
    signature = base64.b64encode(hmac.digest(secret_bytes(due.webhook.secret), text, "sha256"))
    trace = {"traceparent": message.traceparent, "tracestate": message.tracestate}
    return {
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature.decode()}",
        **{name: value for name, value in trace.items() if value},
    }


def retry_in_s(attempts: int, age_s: float, jitter: float) -> float | None:
    """Seconds until the next attempt after so many; None when it is given up.

    Args:
        attempts: made so far, 1 or more.
        age_s: since the event.
        jitter: in [0, 1), so that what failed together does not come back together.
    """
    delay_s = min(FIRST_RETRY_S * GROWTH ** (attempts - 1), LONGEST_RETRY_S) * (0.8 + 0.4 * jitter)
    return None if age_s + delay_s > GIVES_UP_S else delay_s


def end_message(run: Run) -> tuple[MessageType, str]:
    """What is told of a run that has ended: nothing that is long, which the API has to give."""
    data = {
        "id": run.id,
        "kind": run.kind,
        "state": run.state,
        "reason": run.reason,
        "name": run.name,
        "labels": dict(run.labels),
        "best": run.best and {"metric": run.best.metric, "value": run.best.value},
        "result": run.result,
        "error": run.error,
        "seed": run.seed,
        "config_sha256": run.config_sha256,
        "created_at": _rfc3339(run.created_at),
        "started_at": run.started_at and _rfc3339(run.started_at),
        "finished_at": run.finished_at and _rfc3339(run.finished_at),
    }
    kind = MessageType(f"run.{run.state}")
    return kind, message_body(kind, run.finished_at or run.created_at, data)


def message_body(kind: MessageType, at: datetime, data: Mapping[str, Any]) -> str:
    """A message as JSON, exactly as it is signed."""
    message = {"type": kind, "timestamp": _rfc3339(at), "data": json_safe(data)}
    return json.dumps(message, separators=(",", ":"))


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_url(url: str, private_hosts: Collection[str]) -> None:
    """Refuse an address that no message may be sent to, as far as it can be told without looking its name up.

    Args:
        url: what a client gave.
        private_hosts: those of the operator's that may be private, and spoken to without TLS.

    Raises:
        ValueError: what is wrong with it.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("Write the URL in ASCII, without spaces")
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    address = _address(host)
    is_listed = host in private_hosts
    if parts.scheme != "https" and not (parts.scheme == "http" and is_listed):
        raise ValueError("Give an https URL")
    if not host or parts.username is not None or "#" in url or parts.port == 0:
        raise ValueError("Give a URL with a host, without a user, a fragment or port 0")
    is_name = _NAME.fullmatch(host) and not _NUMBER.fullmatch(host)
    if not (isinstance(address, ipaddress.IPv6Address) if "[" in parts.netloc else address or is_name):
        raise ValueError(f"Give a host that there can be; {host} is neither a name nor an address")
    is_local = f".{host.rstrip('.')}".endswith(".localhost")
    if not is_listed and (is_local or (address is not None and not is_public(host))):
        raise ValueError(
            "Messages are not sent into private networks; operators list MAZE_WEBHOOK_PRIVATE_HOSTS"
        )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is written there; one of a zone is nobody else's."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and does not stand for one that is not.

    Says the same in every version of Python.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found not in _GLOBAL_UNICAST:
            return False
    return found.is_global and not (
        found.is_multicast or found.is_reserved or any(found in net for net in _SPECIAL)
    )
