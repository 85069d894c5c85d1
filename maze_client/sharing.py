"""Tokens, projects, and who changed what."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any

from maze_client.answers import AuditEntry, Project, Token, read
from maze_client.arguments import at
from maze_client.caller import Caller
from maze_client.transport import Async, Listing, Sync, Verb

TOKENS, PROJECTS = "/v1/tokens", "/v1/projects"
_KEPT: Any = object()


class _Part(Caller):
    def __init__(self, caller: Caller) -> None:
        self._transport, self._max_retries = caller._transport, caller._max_retries


class TokenMethods(_Part):
    """``client.tokens``, of the project that the client works in."""

    @Verb
    async def create(self, name: str, scopes: Collection[str], *, expires_in_s: float | None = None) -> Token:
        """Make a token with at most the scopes, and for no longer, than one's own; keep the ``token`` of the answer.

        Sent once: of an answer that is lost, the token that nobody knows is in :meth:`list`.
        """
        body = {"name": name, "scopes": [*scopes], "expires_in_s": expires_in_s}
        return read(await self._send("POST", TOKENS, body, max_retries=0), Token)

    @Listing
    async def list(self) -> AsyncIterator[Token]:
        """Tokens of the project, oldest first: to an admin all of them, to others those that they made."""
        async for found in self._list(TOKENS, Token):
            yield found

    @Verb
    async def revoke(self, token_id: str) -> None:
        """End a token, with those that it made unless it is an admin's."""
        await self._send("DELETE", at(TOKENS, token_id))


class ProjectMethods(_Part):
    """``client.projects``, for admins."""

    @Verb
    async def put(
        self, name: str, *, share: int | None = None, max_running: int | None = _KEPT,
        max_queued: int | None = _KEPT, max_stored_mib: int | None = _KEPT,
    ) -> Project:  # fmt: skip
        """Make a project, or change the quotas that are given; None is no limit.

        Args:
            name: of the project.
            share: of the slots, beside the shares of others whose runs wait, too.
            max_running: runs at once.
            max_queued: runs that wait.
            max_stored_mib: of checkpoints and episodes.
        """
        quotas = {"max_running": max_running, "max_queued": max_queued, "max_stored_mib": max_stored_mib}
        body = {quota: limit for quota, limit in quotas.items() if limit is not _KEPT}
        body |= {} if share is None else {"share": share}
        return read(await self._send("PUT", at(PROJECTS, name), body), Project)

    @Verb
    async def get(self, name: str) -> Project:
        """One project."""
        return read(await self._send("GET", at(PROJECTS, name)), Project)

    @Listing
    async def list(self) -> AsyncIterator[Project]:
        """All of them, by name."""
        async for found in self._list(PROJECTS, Project):
            yield found


class AuditMethods(_Part):
    """``client.audit``, for admins."""

    @Listing
    async def list(
        self, *, since: datetime | None = None, action: str | None = None, subject: str | None = None,
        token: str | None = None, project: str | None = None,
    ) -> AsyncIterator[AuditEntry]:  # fmt: skip
        """Who changed what, in all projects, newest first.

        Args:
            since: only of then or later.
            action: only of this operation, as ``cancel_run``.
            subject: only about this path, or one below it.
            token: only of the token with this id.
            project: only in this project.
        """
        given = {"action": action, "subject": subject, "token": token, "project": project}
        params = {**given, "since": None if since is None else since.astimezone().isoformat()}
        async for found in self._list("/v1/audit", AuditEntry, params):
            yield found


class Tokens(TokenMethods, Sync):
    """Of a client that waits."""


class AsyncTokens(TokenMethods, Async):
    """Of a client that is awaited."""


class Projects(ProjectMethods, Sync):
    """Of a client that waits."""


class AsyncProjects(ProjectMethods, Async):
    """Of a client that is awaited."""


class Audit(AuditMethods, Sync):
    """Of a client that waits."""


class AsyncAudit(AuditMethods, Async):
    """Of a client that is awaited."""
