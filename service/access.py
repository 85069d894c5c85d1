"""Who may speak: rules for Host and Origin, tokens, and the rate of requests. Used by ``security`` alone."""

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from starlette.concurrency import run_in_threadpool

from service.domain.use_cases import token_digest, token_id_of
from service.problems import Problem
from service.settings import is_loopback

TOKEN_TTL_S = 5.0
"""A token is looked up again after this many seconds: how long a revoked one may still work."""
REMEMBERED = 4096
"""Hosts, tokens and clients that are remembered at most; a stranger's names cannot fill the memory."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class HostRule:
    """Which values of the Host header are ours.

    Names are compared without port, case and final dot. ``*`` allows all, ``*.example.com`` its subdomains.
    """

    def __init__(self, bind: str, allowed: Sequence[str]) -> None:
        """Take the bind address, which is ours as well, and the operator's further names."""
        self._names = LOOPBACK_NAMES | {_host_name(name) for name in (bind, *allowed)}
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._addresses_too = not is_loopback(bind)
        self._known: set[bytes | None] = set()

    def check(self, host: bytes | None) -> None:
        """Pass a Host that is ours; raises :class:`Problem`."""
        if host in self._known:
            return
        name = _host_name((host or b"").decode("latin-1"))
        if not self._is_ours(name):
            detail = "This Host is not served here. Operators list further names in MAZE_ALLOWED_HOSTS."
            raise Problem("host_not_allowed", detail)
        if len(self._known) < REMEMBERED:
            self._known.add(host)

    def _is_ours(self, name: str) -> bool:
        if not name:
            return False
        if name in self._names or "*" in self._names or (self._suffixes and name.endswith(self._suffixes)):
            return True
        return self._addresses_too and _is_address(name)


class OriginRule:
    """Which web pages may call: our own, and those of the operator's origins."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """Take the operator's origins, as ``https://board.example``."""
        self._allowed = frozenset(origin.rstrip("/").lower().encode() for origin in allowed)

    def lists(self, origin: bytes) -> bool:
        """Whether the operator named this origin."""
        return origin.lower() in self._allowed

    @staticmethod
    def is_own(origin: bytes, host: bytes) -> bool:
        """Whether the page came from this service: same name and port as in Host, checked before."""
        scheme, _, authority = origin.lower().partition(b"://")
        return scheme in (b"http", b"https") and authority == host.lower()


class TokenVerifier:
    """Recognises tokens by their digest, compared in constant time; digests are remembered for seconds."""

    def __init__(self, find_token: Callable[[str], str | None], ttl_s: float = TOKEN_TTL_S) -> None:
        """Take the look-up, which may block, and how long its answers hold."""
        self._find_token, self._ttl_s = find_token, ttl_s
        self._digests: OrderedDict[str, tuple[str | None, float]] = OrderedDict()

    async def token_id(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Id of the valid token that the request carries, else None."""
        text = _token_text(headers)
        token_id = token_id_of(text) if len(text) <= 256 else None
        if token_id is None:
            return None
        digest = await self._digest(token_id)
        is_valid = hmac.compare_digest(token_digest(text), digest or "")
        return token_id if is_valid else None

    async def _digest(self, token_id: str) -> str | None:
        digest, expires = self._digests.get(token_id, (None, 0.0))
        if expires > time.monotonic():
            return digest
        digest = await run_in_threadpool(self._find_token, token_id)
        self._digests[token_id] = digest, time.monotonic() + self._ttl_s
        while len(self._digests) > REMEMBERED:
            self._digests.popitem(last=False)
        return digest


class RateLimiter:
    """One token bucket per client: ``rate_per_s`` requests per second, twice as many at once."""

    def __init__(self, rate_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the steady rate and the clock."""
        self._rate_per_s, self._clock = rate_per_s, clock
        self._capacity = max(1.0, 2 * rate_per_s)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Count one request of this client; seconds until the next one is allowed, 0 when this one is."""
        now = self._clock()
        level, since = self._buckets.pop(client, (self._capacity, now))
        level = min(self._capacity, level + (now - since) * self._rate_per_s)
        is_allowed = level >= 1
        self._buckets[client] = (level - 1 if is_allowed else level), now
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - level) / self._rate_per_s


def _host_name(host: str) -> str:
    """Name of a Host header's value: without port, brackets and final dot, in lower case."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") == 1:
        text = text.partition(":")[0]
    return text.removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _token_text(headers: Mapping[bytes, bytes]) -> str:
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    token = credentials.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()
    return token.decode("latin-1")
