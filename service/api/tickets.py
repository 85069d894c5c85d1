"""Tickets: a browser can send no token with an ``EventSource`` or a WebSocket, and a URL is no place for one."""

import secrets

from fastapi import APIRouter
from pydantic import Field

from service.api.answers import Out, Time
from service.api.bodies import In, StrictRoute
from service.api.dependencies import CallerDep, ServicesDep, require_scope
from service.domain.sharing import TICKET_S
from service.domain.use_cases import token_digest
from service.security import TICKET_PATH

router = APIRouter(
    prefix="/v1", tags=["sharing"], route_class=StrictRoute, dependencies=[require_scope(None)]
)


class TicketRequest(In):
    """What is to be opened."""

    path: str = Field(pattern=f"^{TICKET_PATH}$")
    """Of an event stream or a session's WebSocket, without its query."""


class TicketOut(Out):
    """A ticket."""

    ticket: str
    """Goes into the URL, as ``?ticket=…``; it opens its path once, with project and scopes of the token."""
    path: str
    expires_at: Time


@router.post("/tickets", status_code=201, response_model=TicketOut)
def make_ticket(body: TicketRequest, services: ServicesDep, caller: CallerDep) -> TicketOut:
    """A ticket that opens one event stream or WebSocket, once, within a minute: for browsers, which send no token."""
    text = f"ticket_{secrets.token_hex(32)}"
    expires_at = services.registry.add_ticket(token_digest(text), caller, body.path, expires_in_s=TICKET_S)
    return TicketOut(ticket=text, path=body.path, expires_at=expires_at)
