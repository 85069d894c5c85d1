"""The clients: where the service is, and what may be asked of it."""

import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import aclosing
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack

import httpx

from maze_client.answers import (
    Answer,
    Changed,
    Composed,
    Differences,
    Environment,
    Event,
    Group,
    Health,
    Me,
    Module,
    Preview,
    RunFacts,
    Status,
    SweepFacts,
    Ticket,
    Worker,
    read,
)
from maze_client.arguments import (
    CompareArguments,
    EvaluateArguments,
    ForkPolicyArguments,
    Labelled,
    RolloutArguments,
    RunFilters,
    SessionArguments,
    SweepArguments,
    Together,
    TrainArguments,
    at,
)
from maze_client.caller import Caller
from maze_client.errors import MazeClientError, ProblemError
from maze_client.files import Upload, announced, bytes_headers, missing_parts
from maze_client.following import ALL_EVENTS, EventLog
from maze_client.policies import AsyncPolicies, Policies
from maze_client.run import Action, AsyncRun, Run, RunMethods, RunVerb, made_by_an_earlier_try
from maze_client.sessions import AsyncSession, Session
from maze_client.sharing import AsyncAudit, AsyncProjects, AsyncTokens, Audit, Projects, Tokens
from maze_client.sweep import AsyncSweep, Sweep, SweepMethods, SweepVerb
from maze_client.transport import Async, AsyncTransport, Listing, Sync, SyncTransport, Verb
from maze_client.webhooks import AsyncWebhooks, Webhooks

Mode: TypeAlias = Literal["train", "rollout"]
Side: TypeAlias = RunFacts | str | Mapping[str, Any]
"""One of two configurations that are compared."""
DEFAULT_URL = "http://127.0.0.1:8000"


class ClientMethods(Caller):
    """What both :class:`Client` and :class:`AsyncClient` can do.

    Args:
        base_url: of the service; else ``MAZE_URL``, else ``http://127.0.0.1:8000``.
        token: of ``maze token create``; else ``MAZE_TOKEN``, else none is sent.
        timeout: seconds for each step of a request, or httpx's own Timeout.
        project: in which an admin works; else that of the token.
        max_retries: how often a request is sent again after 408, 429, 502 to 504 or a connection that broke, later and
            later (half a second to 8 s, or as ``Retry-After`` says). What submits a run carries an Idempotency-Key,
            so that it is submitted once. What follows a run is ten times as patient.
        transport: httpx's, for certificates, proxies and tests.
    """

    _run_class: type[RunMethods]
    _sweep_class: type[SweepMethods]
    _transport_class: type[SyncTransport] | type[AsyncTransport]

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        timeout: float | httpx.Timeout = 60.0,
        max_retries: int = 4,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = base_url or os.environ.get("MAZE_URL") or DEFAULT_URL
        token = token or os.environ.get("MAZE_TOKEN")
        self._max_retries = max_retries
        self._transport = self._transport_class(
            base_url=address(url),
            headers={"User-Agent": "maze-client"}
            | (authorization(token) if token else {})
            | ({"X-Maze-Project": project} if project else {}),
            timeout=timeout,
            transport=transport,
        )

    @RunVerb
    async def train(self, **arguments: Unpack[TrainArguments]) -> RunMethods:
        """Submit a training; it is queued when this returns.

        Args:
            **arguments: of ``RunContext``: ``env``, ``wrappers``, ``algorithm``, ``model``, ``policy``, ``critic``,
                ``runner``, ``experiment``, ``configuration``, ``overrides`` and ``seed``; further ``n_epochs``,
                ``config``, ``name``, ``labels`` and ``priority``. Everything has a default.

        Raises:
            InvalidRequestError: the configuration cannot work; ``errors`` has every mistake.
        """
        return self._run_class(self, await self._create("/v1/train", arguments))

    @RunVerb
    async def rollout(self, **arguments: Unpack[RolloutArguments]) -> RunMethods:
        """Submit episodes to play, with the policy of a trained ``run``, or with ``policy`` in an environment."""
        return self._run_class(self, await self._create("/v1/rollout", arguments))

    @RunVerb
    async def smoke(self, **arguments: Unpack[TrainArguments]) -> RunMethods:
        """Submit a training only to be tried out; the run's ``result`` has spaces, size, memory and seconds."""
        return self._run_class(self, await self._create("/v1/train?smoke=1", arguments))

    @RunVerb
    async def evaluate(self, **arguments: Unpack[EvaluateArguments]) -> RunMethods:
        """Submit the measurement of a trained ``run``'s policy over seeded episodes."""
        return self._run_class(self, await self._create("/v1/evaluate", arguments))

    @RunVerb
    async def fork(self, policy: str, /, **arguments: Unpack[ForkPolicyArguments]) -> RunMethods:
        """Train anew with the configuration of the run that made ``name@alias`` or ``name:3``, beginning with it."""
        return self._run_class(self, await self._create(at("/v1/policies", policy, "fork"), arguments))

    @SweepVerb
    async def sweep(self, **arguments: Unpack[SweepArguments]) -> SweepMethods:
        """Submit a sweep: every combination of the lists is trained, or ``search`` chooses the values.

        Raises:
            InvalidRequestError: a configuration cannot work; ``errors`` has every mistake.
        """
        return self._sweep_class(self, await self._create("/v1/sweeps", arguments))

    @Verb
    async def preview_sweep(self, **arguments: Unpack[SweepArguments]) -> Preview:
        """What a sweep would run, without running it."""
        return read(await self._send("POST", "/v1/sweeps/preview", arguments), Preview)

    @SweepVerb
    async def get_sweep(self, sweep_id: str) -> SweepMethods:
        """The sweep with this id."""
        return self._sweep_class(self, await self._send("GET", at("/v1/sweeps", sweep_id)))

    @RunVerb
    async def compare(self, **arguments: Unpack[CompareArguments]) -> RunMethods:
        """Submit several ``policies`` to play the same episodes: what each scores, and what each pair differs by."""
        return self._run_class(self, await self._create("/v1/compare", arguments))

    @RunVerb
    async def run(self, run_id: str) -> RunMethods:
        """The run with this id."""
        return self._run_class(self, await self._send("GET", at("/v1/runs", run_id)))

    @RunVerb
    async def import_checkpoint(self, path: str | PathLike[str], **labelled: Unpack[Labelled]) -> RunMethods:
        """Bring a checkpoint in; its run checks it, and when that has succeeded it is named as any training.

        What was sent of the same file before, also by another process within a day, is not sent again.

        Args:
            path: of the file, as :meth:`Run.download` and ``RunContext`` write it.
            **labelled: ``name``, ``labels`` and ``priority`` of the run.
        """
        file = Path(path)
        upload = read(await self._send("POST", "/v1/checkpoints", {**announced(file), **labelled}), Upload)
        here = at("/v1/checkpoints/uploads", upload.id)
        for number, data in missing_parts(file, upload):
            await self._send("PUT", at(here, "parts", number), content=data, headers=bytes_headers(data))
        return self._run_class(self, await self._send("POST", at(here, "complete")))

    @RunVerb
    async def put(
        self, /, run_id: str, kind: Literal["train", "rollout", "evaluate"] = "train", **arguments: Any
    ) -> RunMethods:
        """Submit a run under an id of your own: one run, however often this is called with the same arguments.

        Args:
            run_id: ``run_`` and 1 to 40 small letters and digits.
            kind: ``train``, ``rollout`` or ``evaluate``.
            **arguments: of the method of that name.

        Raises:
            ConflictError: that id has been submitted with other arguments.
        """
        body = {"kind": kind, **arguments}
        return self._run_class(self, await self._send("PUT", at("/v1/runs", run_id), body))

    @Listing
    async def bulk(
        self,
        action: Action,
        *,
        new_labels: Mapping[str, str | None] | None = None,
        **together: Unpack[Together],
    ) -> AsyncIterator[Changed]:
        """Cancel, pause, resume, delete or label all runs that have this in common; what became of each, newest first.

        ``label``, and no other, takes ``new_labels``: those that are set, or with None taken away.

        Runs that are chosen by ``ids`` are all told of; of others, those that the action changed when the answer was
        lost, do not fit any more when it is sent again, and are done, but not told of.
        """
        page = Answer({"next_cursor": None, "has_more": True})
        while page["has_more"]:
            body = {"action": action, "filter": together, "cursor": page["next_cursor"]}
            body |= {} if new_labels is None else {"labels": new_labels}
            page = await self._send("POST", "/v1/runs/bulk", body)
            for each in read(page["data"], list[Changed]):
                yield made_by_an_earlier_try(each, action) if page.tries else each

    @Verb
    async def compose(
        self,
        *,
        mode: Mode = "train",
        provenance: bool = False,
        **arguments: Unpack[TrainArguments],
    ) -> Composed:
        """What a submission would run, without running it; with ``provenance`` where each value comes from."""
        body, params = {"mode": mode, **arguments}, {"provenance": True} if provenance else {}
        return read(await self._send("POST", "/v1/config/compose", body, params=params), Composed)

    @Verb
    async def diff(self, left: Side, right: Side) -> Differences:
        """What two configurations differ in.

        Args:
            left: a run or its id; arguments of :meth:`train` (with ``mode`` those of :meth:`rollout`); or both,
                ``{"run": …, "overrides": {…}}``.
            right: the same.
        """
        sides = {
            name: side if isinstance(side, Mapping) else {"run": side}
            for name, side in (("left", left), ("right", right))
        }
        return read(await self._send("POST", "/v1/config/diff", sides), Differences)

    @Verb
    async def config_groups(self) -> dict[str, list[str]]:
        """Configuration group → its modules."""
        page = await self._send("GET", "/v1/config/groups")
        return {row.group: row.modules for row in read(page["data"], list[Group])}

    @Verb
    async def config_module(self, group: str, name: str) -> Module:
        """A configuration module."""
        return read(await self._send("GET", at("/v1/config/groups", group, name)), Module)

    @Verb
    async def config_schema(
        self, group: str | None = None, name: str | None = None, *, mode: Mode = "train"
    ) -> dict[str, Any]:
        """JSON Schema of what a module describes; without one that of a whole configuration."""
        if group is None:
            return dict(await self._send("GET", "/v1/config/schema", params={"mode": mode}))
        return dict(await self._send("GET", at("/v1/config/groups", group, name or "", "schema")))

    @Verb
    async def environment(self, env_id: str) -> Environment:
        """One environment, with its spaces, arguments and limits."""
        return read(await self._send("GET", at("/v1/environments", *env_id.split("/"))), Environment)

    @Listing
    async def events(self, after: int = -1, types: Collection[str] = ()) -> AsyncIterator[Event]:
        """Events of all runs as they come, each once, without an end; goes on through restarts of the service.

        Args:
            after: only those with a larger ``position``: -1 those to come, 0 all that there are.
            types: only these (``state``, ``end``, ``metrics``, …).
        """
        log = EventLog(self._transport, ALL_EVENTS, after=after, types=types, max_retries=self._patience)
        async with aclosing(log.until(None)) as events:
            async for event in events:
                yield event

    @Verb
    async def environments(self, available: bool | None = None) -> list[Environment]:
        """Every environment that a worker knows, or those alone that can be made, or cannot."""
        return await self._all("/v1/environments", Environment, available=available)

    @Verb
    async def workers(self) -> list[Worker]:
        """Workers that are alive, and what each runs now."""
        return await self._all("/v1/workers", Worker)

    @Verb
    async def status(self) -> Status:
        """What waits and for what, what runs, which slots are free, and how much is stored."""
        return read(await self._send("GET", "/v1/status"), Status)

    @Verb
    async def me(self) -> Me:
        """Project and scopes of one's token."""
        return read(await self._send("GET", "/v1/me"), Me)

    @Verb
    async def ticket(self, path: str) -> Ticket:
        """What opens an event stream or a session's WebSocket once, within a minute: for a browser, without the token.

        Args:
            path: ``/v1/events``, ``/v1/runs/ID/events`` or ``/v1/sessions/ID/ws``, without a query.
        """
        return read(await self._send("POST", "/v1/tickets", {"path": path}), Ticket)

    @Verb
    async def health(self) -> Health:
        """Whether the service can work; asked once, without retries."""
        try:
            body = await self._send("GET", "/health/ready", max_retries=0)
        except ProblemError as error:
            if "checks" not in error.body:
                raise
            return read({"is_ready": False, **error.body}, Health)
        return read({"is_ready": True, **body}, Health)


def address(text: str) -> httpx.URL:
    """The address of a service.

    Raises:
        MazeClientError: it cannot be one.
    """
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.InvalidURL("it takes http or https, and a host")
    except httpx.InvalidURL as error:
        raise MazeClientError(
            f"{text!r} is no address of a service: {error}; see base_url and MAZE_URL."
        ) from error
    return url


def authorization(token: str) -> dict[str, str]:
    """The header that a token is sent in.

    Raises:
        MazeClientError: no header can carry it.
    """
    for place, letter in enumerate(token):
        if not "!" <= letter <= "~":
            known = "a token is printable ASCII without spaces; was it read with its line's end?"
            raise MazeClientError(f"The token has {letter!r} at place {place}: {known}")
    return {"Authorization": f"Bearer {token}"}


class Client(ClientMethods, Sync):
    """A service, spoken to from one thread or many; methods answer when they are done."""

    _run_class, _sweep_class, _transport_class = Run, Sweep, SyncTransport

    @property
    def policies(self) -> Policies:
        """Policies by name."""
        return Policies(self)

    def session(self, *, websocket: bool = False, **arguments: Unpack[SessionArguments]) -> Session:
        """A session with a trained policy, to be used with ``with``; over one connection with ``websocket``."""
        return Session(self, arguments, websocket=websocket)

    @property
    def webhooks(self) -> Webhooks:
        """Who is told of the ends of runs."""
        return Webhooks(self)

    @property
    def tokens(self) -> Tokens:
        """Tokens of the project."""
        return Tokens(self)

    @property
    def projects(self) -> Projects:
        """Projects and their quotas."""
        return Projects(self)

    @property
    def audit(self) -> Audit:
        """Who changed what."""
        return Audit(self)

    def runs(self, **filters: Unpack[RunFilters]) -> Iterator[Run]:
        """Runs, newest first, page by page as they are asked for."""
        found = self._transport.each(self._list("/v1/runs", RunFacts, filters))
        return (Run(self, facts) for facts in found)

    def sweeps(self, state: str | None = None) -> Iterator[Sweep]:
        """Sweeps, newest first."""
        found = self._transport.each(self._list("/v1/sweeps", SweepFacts, {"state": state}))
        return (Sweep(self, facts) for facts in found)

    def close(self) -> None:
        """Close its connections."""
        self._transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncClient(ClientMethods, Async):
    """A service, spoken to in an event loop of asyncio's; methods are awaited, lists are for ``async for``."""

    _run_class, _sweep_class, _transport_class = AsyncRun, AsyncSweep, AsyncTransport

    @property
    def policies(self) -> AsyncPolicies:
        """Policies by name."""
        return AsyncPolicies(self)

    def session(self, *, websocket: bool = False, **arguments: Unpack[SessionArguments]) -> AsyncSession:
        """A session with a trained policy, to be used with ``async with``; over one connection with ``websocket``."""
        return AsyncSession(self, arguments, websocket=websocket)

    @property
    def webhooks(self) -> AsyncWebhooks:
        """Who is told of the ends of runs."""
        return AsyncWebhooks(self)

    @property
    def tokens(self) -> AsyncTokens:
        """Tokens of the project."""
        return AsyncTokens(self)

    @property
    def projects(self) -> AsyncProjects:
        """Projects and their quotas."""
        return AsyncProjects(self)

    @property
    def audit(self) -> AsyncAudit:
        """Who changed what."""
        return AsyncAudit(self)

    def runs(self, **filters: Unpack[RunFilters]) -> AsyncIterator[AsyncRun]:
        """Runs, newest first, page by page as they are asked for."""
        return (AsyncRun(self, facts) async for facts in self._list("/v1/runs", RunFacts, filters))

    def sweeps(self, state: str | None = None) -> AsyncIterator[AsyncSweep]:
        """Sweeps, newest first."""
        found = self._list("/v1/sweeps", SweepFacts, {"state": state})
        return (AsyncSweep(self, facts) async for facts in found)

    async def close(self) -> None:
        """Close its connections."""
        await self._transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
