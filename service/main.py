"""The composition root: settings and stores in, one ASGI application out.

    SecurityLayer ──► ActionRoute   POST /v1/runs/{id}/compute_action, every step of an agent: no framework
                 ├──► SessionRoute  POST /v1/sessions/{id}/step, every step of a session, and WebSockets
                 ├──► RunPolls      GET /v1/runs/{id}, asked by whoever waits: many share one look
                 └──► FastAPI       everything else

The common ``compute_action`` and step go a shorter way through the same parts (:mod:`service.fast_path`).
Run it with ``uvicorn --factory service.main:app``, all by ASGI; ``maze api`` has the shorter way too.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from types import FrameType

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.application import build_api
from service.api.changes import ChangeWatcher
from service.api.delivery import Delivery
from service.api.dependencies import Services
from service.api.polling import RunPolls
from service.api.submit import warm_up
from service.domain import fleet
from service.domain.errors import ServiceError
from service.domain.sharing import Caller, Grant
from service.http_server import Connections
from service.logs import log_answer
from service.metrics import (
    AnswerCounter,
    ConnectionMetrics,
    FleetMetrics,
    RunMetrics,
    StoreMetrics,
    Telemetry,
)
from service.problems import Problem
from service.security import Observe, SecurityLayer
from service.serving.hot_route import ActionRoute, action_path
from service.serving.sessions.registry import Sessions
from service.serving.sessions.route import SessionRoute
from service.serving.sessions.socket import SessionSocket
from service.settings import Settings
from service.store import Stores, check_revision, open_stores
from service.store.storage import Measurements


def create_app(settings: Settings | None = None, stores: Stores | None = None) -> "Application":
    """The service's ASGI application.

    Args:
        settings: the service's settings; from the environment when left out.
        stores: open stores, which stay the caller's; opened and closed by the lifespan when left out.
    """
    settings = settings or Settings()
    root = _Root(settings)
    if stores is not None:
        root.connect(stores)
    observe: Observe = root.telemetry.http.observe
    if settings.access_log:
        observe = partial(_observe_and_log, observe)
    return Application(root, settings, root.find_token, observe, root.note_use, root.take_ticket)


def _observe_and_log(observe: Observe, scope: Scope, status: int, seconds: float) -> None:
    observe(scope, status, seconds)
    log_answer(scope, status, seconds)


def app() -> ASGIApp:
    """The application from the environment's settings, for ``uvicorn --factory``."""
    return create_app()


class Application(SecurityLayer):
    """The security layer around the hot route and FastAPI."""

    _app: "_Root"

    @property
    def action_route(self) -> ActionRoute | None:
        """The hot route; None before the lifespan has begun."""
        return self._app.action_route

    @property
    def session_route(self) -> SessionRoute | None:
        """That of steps; likewise."""
        return self._app.session_route

    def watch(self, connections: Connections) -> None:
        """Tell of these connections, too."""
        self._app.telemetry.registry.register(ConnectionMetrics(connections, self._app.n_streams))

    def counter(self, route: str, method: str, status: int) -> AnswerCounter:
        """What counts the answers of one kind."""
        return self._app.telemetry.http.counter(route, method, status)


class _Root:
    """Routes between the hot route and FastAPI, and owns what lives as long as the application."""

    def __init__(self, settings: Settings) -> None:
        self.telemetry = Telemetry()
        self._settings = settings
        self._api = build_api(self._lifespan, auth=settings.auth)
        self._deliver = Delivery(self._api)
        self._api.state.telemetry = self.telemetry
        self._services: Services | None = None
        self.action_route: ActionRoute | None = None
        self.session_route: SessionRoute | None = None
        self._session_socket: SessionSocket | None = None
        self._polls: RunPolls | None = None

    def connect(self, stores: Stores) -> None:
        """Put everything together on open stores."""
        self.action_route = ActionRoute(stores, self._settings)
        self.sessions = Sessions(stores, self.action_route.agents, self._settings)
        self.session_route = SessionRoute(self.sessions, self._settings)
        self._session_socket = SessionSocket(self.sessions, stores, self._settings)
        self._services = Services(
            runs=stores.runs,
            checkpoints=stores.checkpoints,
            episodes=stores.episodes,
            registry=stores.registry,
            uploads=stores.uploads,
            policies=stores.policies,
            webhooks=stores.webhooks,
            sweeps=stores.sweeps,
            agents=self.action_route.agents,
            sessions=stores.sessions,
            acting=self.sessions,
            settings=self._settings,
            changes=ChangeWatcher(stores.runs.change_marker, self._settings.poll_s),
            check_store=stores.check,
            check_schema=partial(check_revision, self._settings.database_url),
            storage=Measurements(stores.storage),
            projects=stores.projects,
            audit=stores.audit,
            look=partial(fleet.look, stores.runs, stores.registry, self._settings.lease_s),
        )
        self._polls = RunPolls(stores.runs, self._deliver)
        self._api.state.services = self._services
        database = stores.database
        for collector in (
            FleetMetrics(stores.runs, stores.registry, self._settings.lease_s),
            RunMetrics(stores.runs),
            StoreMetrics({"read": database.reads, "write": database.writes}, self._services.storage),
            self.action_route.metrics,
            self.action_route.agents.traffic,
            self.sessions.metrics,
        ):
            self.telemetry.registry.register(collector)

    def n_streams(self) -> int:
        """Open event streams."""
        return 0 if self._services is None else self._services.changes.n_streams

    def find_token(self, token_id: str) -> Grant | None:
        """What a token grants, by its id."""
        return None if self._services is None else self._services.registry.find_token(token_id)

    def take_ticket(self, sha256: str, path: str) -> Caller | None:
        """Whose ticket this is, which is used up now."""
        return None if self._services is None else self._services.registry.take_ticket(sha256, path)

    def note_use(self, token_id: str) -> None:
        """Write down that a token was used, where that can be."""
        if self._services is not None:
            with suppress(ServiceError):
                self._services.registry.note_use(token_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to the hot route or to FastAPI."""
        route = self.action_route
        if route is not None and route.handles(scope):
            scope["maze.route"] = action_path(scope)
            await route(scope, receive, send)
        elif self.session_route is not None and self.session_route.handles(scope):
            await self.session_route(scope, receive, send)
        elif scope["type"] == "websocket":
            if self._session_socket is None or not self._session_socket.handles(scope):
                raise Problem(
                    "not_found", "There is no WebSocket here; sessions have one: /v1/sessions/ID/ws."
                )
            await self._session_socket(scope, receive, send)
        elif self._polls is not None and self._polls.handles(scope):
            await self._polls(scope, receive, send)
        else:
            await self._deliver(scope, receive, send)

    def _stop(self) -> None:
        """Tell whoever waits or is connected that the service ends; safe to call more than once."""
        assert self._services is not None
        self._services.changes.stop()
        self.sessions.warn()

    @asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        opened = None
        if self._services is None:
            opened = await asyncio.to_thread(open_stores, self._settings)
            self.connect(opened)
        assert self._services is not None
        assert self.action_route is not None
        warming = asyncio.create_task(asyncio.to_thread(warm_up, self._services))
        await self.sessions.start()
        try:
            with _on_stop_signal(self._stop):
                yield
        finally:
            self._stop()
            await self.sessions.stop()
            assert self._polls is not None
            await asyncio.gather(warming, self.action_route.close(), self._polls.close())
            if opened is not None:
                opened.close()


@contextmanager
def _on_stop_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on the loop as soon as the server is told to end.

    The server waits for open answers before it ends the lifespan, and an event stream is an open answer: without
    this, both would wait for each other.
    """
    loop = asyncio.get_running_loop()
    replaced = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                replaced[number] = handler

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        replaced[signal.Signals(number)](number, frame)

    for number in replaced:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
