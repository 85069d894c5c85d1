"""Who asks, and what of: scopes, projects, and what a token grants.

A project is whose runs, sweeps, policies, uploads and webhooks these are: a token sees those of its own project, and
what another one has is not there for it. Scopes say what may be done with them. ``admin`` has every scope, and may
choose the project.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

DEFAULT_PROJECT = "default"
"""Of everything that was made before there were projects, and where nobody says another one."""
PROJECT_NAME = "[a-z0-9][a-z0-9-]{0,23}"
"""The pattern of a project's name."""

TICKET_S = 60.0
"""For how long a ticket may be used."""


class Scope(StrEnum):
    """What a token may do."""

    RUNS_READ = "runs:read"
    """Look at runs and at all that belongs to them: metrics, checkpoints, sweeps, policies."""
    RUNS_WRITE = "runs:write"
    """Submit, change and delete them; register policies and versions; manage webhooks."""
    ACT = "act"
    """Have policies act."""
    POLICIES_PROMOTE = "policies:promote"
    """Move aliases, change gates, delete policies and versions."""
    METRICS_READ = "metrics:read"
    """Read the service's own metrics, which count what all projects do: for Prometheus."""
    ADMIN = "admin"
    """Everything, in every project."""


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request. Of a service without tokens everybody is an admin."""

    token_id: str | None = None
    project: str = DEFAULT_PROJECT
    scopes: frozenset[Scope] = frozenset({Scope.ADMIN})

    def may(self, scope: Scope) -> bool:
        """Whether this is allowed."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


LONGEST_KEY = 64
"""Characters of a key at most."""


def key_of(project: str, name: str) -> str:
    """What a name that belongs to a project is stored under."""
    return name if project == DEFAULT_PROJECT else f"{project}/{name}"


def name_of(key: str) -> str:
    """The name that is stored under a key."""
    return key.rpartition("/")[2]


def project_of(key: str) -> str:
    """The project that a key says."""
    return key.rpartition("/")[0] or DEFAULT_PROJECT


ANYBODY = Caller()
"""Whoever calls a service that asks for no token; and what a token grants where nothing else is said."""
NOBODY = Caller(scopes=frozenset())
"""Whoever sent no token to one that does."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a valid token grants."""

    sha256: str
    """Digest of the token's text."""
    caller: Caller
    expires_in_s: float | None = None
    """None does not expire."""
    unused_s: float | None = None
    """Since its use was last written down; None where it never was."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """What is known of a token; its text is not."""

    id: str
    name: str
    project: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    created_by: str | None = None
    """The token that made it; None is the command line."""
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the hour."""
    revoked_at: datetime | None = None


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """The scopes of these names; one that this version does not know grants nothing."""
    known = {scope.value: scope for scope in Scope}
    return frozenset(known[name] for name in names if name in known)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project, and how much it may have; None is no limit."""

    name: str
    created_at: datetime
    share: int = 1
    """Of the slots, beside the shares of others whose runs wait, too."""
    max_running: int | None = None
    """Runs at once."""
    max_queued: int | None = None
    """Runs that wait."""
    max_stored_mib: int | None = None
    """Of checkpoints and episodes, equal ones once."""
