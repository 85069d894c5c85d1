"""Webhooks: who is told of the ends of runs, and how the messages fare. They are sent by workers."""

from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator, AliasChoices, Field, WithJsonSchema

from service.api.answers import Listing, Out, Time
from service.api.bodies import In, StrictRoute
from service.api.dependencies import CallerDep, PageDep, Services, ServicesDep, page_of, require_scope
from service.domain.run import Page
from service.domain.sharing import Scope
from service.domain.webhooks import (
    LONGEST_URL,
    SECRET_PREFIX,
    Delivery,
    DeliveryState,
    MessageType,
    Webhook,
    check_url,
    new_secret,
    secret_bytes,
)
from service.problems import Problem

router = APIRouter(
    prefix="/v1/webhooks",
    tags=["webhooks"],
    route_class=StrictRoute,
    dependencies=[require_scope(Scope.RUNS_WRITE)],
)

WebhookId: TypeAlias = Annotated[
    str, Path(pattern="^hook_[0-9a-z]{26}$", description="Id of a webhook.", examples=["hook_" + "0" * 26])
]
EndType = Literal["run.succeeded", "run.failed", "run.cancelled"]
ENDS: list[EndType] = ["run.succeeded", "run.failed", "run.cancelled"]


def _secret(text: str) -> str:
    secret_bytes(text)
    return text


_ONE = "[A-Za-z0-9+/]"
_TWO, _BYTES = _ONE * 2, f"({_ONE}{{4}})"
Secret = Annotated[
    Annotated[str, Field(max_length=128)],
    AfterValidator(_secret),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^{SECRET_PREFIX}({_BYTES}{{8,21}}({_TWO}==)?|{_BYTES}{{8,20}}{_TWO}{_ONE}=)$",
        }
    ),
]


class WebhookRequest(In):
    """Whom to tell."""

    url: Annotated[str, Field(min_length=1, max_length=LONGEST_URL)]
    """An https URL of a public host, or of one in ``MAZE_WEBHOOK_PRIVATE_HOSTS``."""
    types: Annotated[list[EndType], Field(min_length=1, max_length=len(ENDS))] = ENDS
    """Which ends."""
    secret: Secret | None = None
    """``whsec_`` and base64 of 24 to 64 bytes, which messages are signed with; made here when left out."""


class WebhookChange(In):
    """What is to be otherwise."""

    url: Annotated[str, Field(min_length=1, max_length=LONGEST_URL)] | None = None
    """Another address."""
    types: Annotated[list[EndType], Field(min_length=1, max_length=len(ENDS))] | None = None
    """Other ends."""
    is_enabled: bool | None = None
    """false ends its messages, true lets it have those of ends to come."""


class WebhookOut(Out):
    """A webhook, without its secret."""

    id: str
    url: str
    types: list[str]
    created_at: Time
    created_by: str | None
    disabled_at: Time | None
    disabled_reason: str | None
    """Why nothing is sent any more."""


class NewWebhookOut(WebhookOut):
    """A webhook as it is made."""

    secret: str
    """Shown this once."""


class DeliveryOut(Out):
    """A message, and how it has fared."""

    id: str
    """Also its header ``webhook-id``: the same in every attempt."""
    type: MessageType
    run: str | None = Field(validation_alias=AliasChoices("run_id", "run"))
    state: DeliveryState
    attempts: int
    created_at: Time
    due_at: Time
    """When a waiting one is tried next."""
    delivered_at: Time | None
    status: int | None
    """HTTP status of the last answer."""
    error: str | None
    """Why there was none."""
    response: str | None
    """Its beginning."""


def _check_url(url: str, services: Services) -> None:
    try:
        check_url(url, {host.lower() for host in services.settings.webhook_private_hosts})
    except ValueError as error:
        raise Problem.at("/url", "invalid_value", f"{error}.") from error


@router.post("", status_code=201, response_model=NewWebhookOut)
def create_webhook(
    body: WebhookRequest, services: ServicesDep, response: Response, caller: CallerDep
) -> Webhook:
    """Tell a URL of the ends of runs, in messages signed by Standard Webhooks; the secret is shown this once."""
    _check_url(body.url, services)
    made = services.webhooks.create(
        body.url, [*dict.fromkeys(body.types)], body.secret or new_secret(), by=caller.token_id
    )
    response.headers["Location"] = f"/v1/webhooks/{made.id}"
    return made


@router.get("", response_model=Listing[WebhookOut])
def list_webhooks(query: PageDep, services: ServicesDep) -> Page:
    """Webhooks, oldest first."""
    return page_of(services.webhooks.list, query=query)


@router.get("/{webhook_id}", response_model=WebhookOut)
def get_webhook(webhook_id: WebhookId, services: ServicesDep) -> Webhook:
    """One webhook."""
    return services.webhooks.get(webhook_id)


@router.patch("/{webhook_id}", response_model=WebhookOut)
def edit_webhook(webhook_id: WebhookId, body: WebhookChange, services: ServicesDep) -> Webhook:
    """Change address or types of a webhook, disable it, or enable it again."""
    if body.url is not None:
        _check_url(body.url, services)
    types = None if body.types is None else [*dict.fromkeys(body.types)]
    return services.webhooks.edit(webhook_id, url=body.url, types=types, is_enabled=body.is_enabled)


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: WebhookId, services: ServicesDep) -> Response:
    """Delete a webhook with its messages."""
    services.webhooks.delete(webhook_id)
    return Response(status_code=204)


@router.post("/{webhook_id}/test", status_code=202, response_model=DeliveryOut)
def test_webhook(webhook_id: WebhookId, services: ServicesDep) -> Delivery:
    """Send a message of type `webhook.test`."""
    return services.webhooks.test(webhook_id)


@router.get("/{webhook_id}/deliveries", response_model=Listing[DeliveryOut])
def list_deliveries(webhook_id: WebhookId, query: PageDep, services: ServicesDep) -> Page:
    """Messages of a webhook, newest first; those that wait no more are kept for a week."""
    return page_of(services.webhooks.deliveries, webhook_id, query=query)
