"""Webhooks and their messages over SQLAlchemy; messages are written in the transaction that ends the run."""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from service.domain.cursors import decode_cursor, encode_cursor, page_of
from service.domain.errors import NotFoundError, StateConflictError
from service.domain.run import Page, Run
from service.domain.sharing import DEFAULT_PROJECT
from service.domain.use_cases import result_summary, time_sortable
from service.domain.webhooks import (
    MOST_WEBHOOKS,
    Attempted,
    Delivery,
    DeliveryState,
    Due,
    MessageType,
    Webhook,
    end_message,
    message_body,
)
from service.store.engine import Database
from service.store.tables import webhook, webhook_delivery
from service.store.types import after_now, in_project, now, seconds_since

LEASE_S = 20.0
"""For which a message is left to who took it to send it: longer than an attempt."""
KEPT_S = 7 * 86_400.0
"""For which messages that wait no more are kept."""


def queue_ends(connection: Connection, projects: Set[str], read: Callable[[], Iterable[Run]]) -> None:
    """Write the messages that tell of runs' ends, for those who want them.

    Args:
        connection: of the transaction that ends the runs.
        projects: of the runs that end; nobody is told of another one's.
        read: reads these runs, which are long; not called where nobody wants to know.
    """
    if not projects:
        return
    enabled = webhook.c.disabled_at.is_(None), webhook.c.project.in_(projects)
    wanting = select(webhook).where(*enabled).with_for_update(read=True)
    hooks = connection.execute(wanting).all()  # whoever deletes or disables one, waits for this transaction
    messages = []
    for run in read() if hooks else ():
        kind, body = end_message(replace(run, result=result_summary(run.result)))
        facts = {"run_id": run.id, "traceparent": run.traceparent, "tracestate": run.tracestate}
        told = [hook.id for hook in hooks if kind in hook.types and hook.project == run.project]
        messages += [_message(hook_id, kind, body, **facts) for hook_id in told]
    if messages:
        connection.execute(_WAITING, messages)


def _message(webhook_id: str, kind: MessageType, body: str, **facts: Any) -> dict[str, Any]:
    return {"id": "msg_" + _new_id(), "webhook_id": webhook_id, "type": kind.value, "body": body, **facts}


_WAITING = insert(webhook_delivery).values(
    state=DeliveryState.WAITING.value, attempts=0, created_at=now(), due_at=now()
)


def _new_id() -> str:
    return time_sortable(time.time_ns() // 1000, secrets.randbits(74))


class SqlWebhookStore:
    """:class:`~service.domain.ports.WebhookStore` over SQLAlchemy; the port says what each method does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        url: str,
        types: Sequence[str],
        secret: str,
        *,
        by: str | None = None,
        project: str = DEFAULT_PROJECT,
    ) -> Webhook:
        """Make a webhook, or find the same."""
        row = {"id": "hook_" + _new_id(), "url": url, "types": [*types], "secret": secret, "created_by": by}
        row |= {"project": project}
        same = [webhook.c[name] == row[name] for name in ("url", "secret", "created_by", "project")]
        with self._database.writing() as connection:
            for found in connection.execute(select(webhook).where(webhook.c.disabled_at.is_(None), *same)):
                if set(found.types) == set(types):
                    return _webhook(found)
            ours = select(func.count()).where(webhook.c.project == project)
            count = connection.execute(ours).scalar_one()
            if count >= MOST_WEBHOOKS:
                raise StateConflictError(f"there are {count} webhooks, which is the limit; delete one")
            made = connection.execute(insert(webhook).values(**row, created_at=now()).returning(webhook))
            return _webhook(made.one())

    def get(self, webhook_id: str) -> Webhook:
        """One webhook."""
        with self._database.reading() as connection:
            return _webhook(_row(connection, webhook_id))

    def list(self, *, project: str | None = None, limit: int = 50, cursor: str | None = None) -> Page:
        """Webhooks, oldest first."""
        query = select(webhook).where(*in_project(webhook, project)).order_by(webhook.c.id)
        if cursor is not None:
            query = query.where(webhook.c.id > decode_cursor(cursor, "webhooks", str)[0])
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        return page_of(rows, limit, _webhook, lambda row: encode_cursor("webhooks", row.id))

    def edit(
        self, webhook_id: str, *, url: str | None = None, types: Sequence[str] | None = None,
        is_enabled: bool | None = None,
    ) -> Webhook:  # fmt: skip
        """Change what is given."""
        values: dict[str, Any] = {"url": url, "types": types and [*types]}
        values = {name: value for name, value in values.items() if value is not None}
        if is_enabled:
            values |= {"disabled_at": None, "disabled_reason": None}
        with self._database.writing() as connection:
            _row(connection, webhook_id, is_locked=True)
            if values:
                connection.execute(update(webhook).where(webhook.c.id == webhook_id).values(**values))
            if is_enabled is False:
                _disable(connection, webhook_id, "a client disabled it")
            return _webhook(_row(connection, webhook_id))

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook with its messages."""
        with self._database.writing() as connection:
            _row(connection, webhook_id, is_locked=True)
            connection.execute(delete(webhook_delivery).where(webhook_delivery.c.webhook_id == webhook_id))
            connection.execute(delete(webhook).where(webhook.c.id == webhook_id))

    def test(self, webhook_id: str) -> Delivery:
        """Queue a message that tells of nothing."""
        with self._database.writing() as connection:
            hook = _row(connection, webhook_id)
            if hook.disabled_at is not None:
                raise StateConflictError(f"webhook {webhook_id} is disabled: {hook.disabled_reason}")
            at = connection.execute(select(now())).scalar_one()
            body = message_body(MessageType.TEST, at, {"webhook": webhook_id})
            message = _message(webhook_id, MessageType.TEST, body)
            connection.execute(_WAITING, [message])
            found = select(webhook_delivery).where(webhook_delivery.c.id == message["id"])
            return _delivery(connection.execute(found).one())

    def deliveries(self, webhook_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Messages of a webhook, newest first."""
        table = webhook_delivery.c
        query = select(webhook_delivery).where(table.webhook_id == webhook_id).order_by(table.id.desc())
        if cursor is not None:
            query = query.where(table.id < decode_cursor(cursor, "deliveries", str)[0])
        with self._database.reading() as connection:
            _row(connection, webhook_id)
            rows = connection.execute(query.limit(limit + 1)).all()
        return page_of(rows, limit, _delivery, lambda row: encode_cursor("deliveries", row.id))

    def due(self) -> Sequence[Webhook]:
        """Webhooks with messages that are due."""
        table = webhook_delivery.c
        waiting = table.webhook_id == webhook.c.id, table.state == DeliveryState.WAITING
        first = select(func.min(table.due_at)).where(*waiting).scalar_subquery()
        query = select(webhook).where(webhook.c.disabled_at.is_(None), first <= now()).order_by(first)
        with self._database.reading() as connection:
            return [*map(_webhook, connection.execute(query))]

    def take(self, webhook_ids: Sequence[str]) -> Sequence[Due]:
        """Take of each webhook the message that is due longest."""
        table = webhook_delivery.c
        is_due = table.state == DeliveryState.WAITING, table.due_at <= now()
        of_hook = select(table.id).where(table.webhook_id == webhook.c.id, *is_due)
        first = of_hook.order_by(table.due_at).limit(1).scalar_subquery()
        with self._database.writing() as connection:
            found = connection.execute(select(first).where(webhook.c.id.in_(webhook_ids))).scalars().all()
            free = select(table.id).where(table.id.in_(found), *is_due).with_for_update(skip_locked=True)
            ids = connection.execute(free).scalars().all()
            taken = (
                update(webhook_delivery)
                .where(table.id.in_(ids))
                .values(attempts=table.attempts + 1, due_at=after_now(LEASE_S))
            )
            rows = connection.execute(
                taken.returning(webhook_delivery, seconds_since(table.created_at).label("age_s"))
            ).all()
            hooks = {
                row.id: _webhook(row)
                for row in connection.execute(
                    select(webhook).where(webhook.c.id.in_({row.webhook_id for row in rows}))
                )
            }
        return [Due(delivery=_delivery(row), webhook=hooks[row.webhook_id], age_s=row.age_s) for row in rows]

    def settle(self, due: Due, attempted: Attempted, *, retry_in_s: float | None) -> None:
        """Write how an attempt ended."""
        table, sent = webhook_delivery.c, due.delivery
        values: dict[str, Any] = {
            "status": attempted.status,
            "error": attempted.error,
            "response": attempted.response,
        }
        if attempted.is_taken:
            values |= {"state": DeliveryState.DELIVERED.value, "delivered_at": now()}
        elif retry_in_s is None or attempted.is_gone:
            values |= {"state": DeliveryState.FAILED.value}
        else:
            values |= {"due_at": after_now(retry_in_s)}
        mine = [table.id == sent.id, table.attempts == sent.attempts]
        with self._database.writing() as connection:
            if attempted.is_gone:  # locks the webhook before its messages, as whoever deletes it does
                _disable(connection, sent.webhook_id, "its receiver answered 410: it is gone")
            else:
                mine.append(table.state == DeliveryState.WAITING)
            connection.execute(update(webhook_delivery).where(*mine).values(**values))

    def forget(self) -> None:
        """Delete messages of long ago that wait no more."""
        table = webhook_delivery.c
        old = table.state != DeliveryState.WAITING, table.created_at < after_now(-KEPT_S)
        with self._database.writing() as connection:
            connection.execute(delete(webhook_delivery).where(*old))


def _disable(connection: Connection, webhook_id: str, reason: str) -> None:
    """Let it have no more messages; those that wait have failed."""
    table = webhook_delivery.c
    enabled = webhook.c.id == webhook_id, webhook.c.disabled_at.is_(None)
    connection.execute(update(webhook).where(*enabled).values(disabled_at=now(), disabled_reason=reason))
    rest = table.webhook_id == webhook_id, table.state == DeliveryState.WAITING
    failed = {"state": DeliveryState.FAILED.value, "error": "the webhook was disabled"}
    connection.execute(update(webhook_delivery).where(*rest).values(**failed))


def _row(connection: Connection, webhook_id: str, *, is_locked: bool = False) -> Row[Any]:
    query = select(webhook).where(webhook.c.id == webhook_id)
    row = connection.execute(query.with_for_update() if is_locked else query).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no webhook {webhook_id}")
    return row


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(**row._mapping)


def _delivery(row: Row[Any]) -> Delivery:
    facts = {name: value for name, value in row._mapping.items() if name != "age_s"}
    return Delivery(**facts | {"state": DeliveryState(row.state)})
