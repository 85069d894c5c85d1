"""Webhooks and their messages: what every webhook store must do."""

import json
import math
from collections.abc import Sequence

import pytest
from sqlalchemy.exc import StatementError

from service.domain.errors import NotFoundError, StateConflictError
from service.domain.run import RunState, StopReason
from service.domain.sweep import SweepVerb
from service.domain.webhooks import Attempted, DeliveryState, Due
from service.store import Stores
from tests.contracts.builders import new_sweep, start, submit
from tests.contracts.threads import in_threads

ENDS = ["run.succeeded", "run.failed", "run.cancelled"]


def finish(stores: Stores, state: RunState = RunState.SUCCEEDED, **facts: object) -> str:
    run, lease = start(stores, name="mine", labels={"team": "a"}, **facts)
    result = {"mean_return": math.inf, "returns": [1.0] * 1000}
    stores.runs.finish(lease, state, reason="why", result=result)
    return run.id


def take(stores: Stores) -> Sequence[Due]:
    return stores.webhooks.take([hook.id for hook in stores.webhooks.due()])


class WebhookStoreContract:
    """Messages are written with the end that they tell of, and each is one sender's at a time."""

    def test_a_run_that_ends_has_a_message_for_everyone_who_wants_to_know(self, stores: Stores) -> None:
        every, failures = (
            stores.webhooks.create(f"https://{name}.example", types, "s", by="t")
            for name, types in (("all", ENDS), ("failed", ["run.failed"]))
        )
        run = finish(stores, traceparent="00-x", tracestate="a=1")
        (message,) = stores.webhooks.deliveries(every.id).data
        assert (message.run_id, message.type, message.state) == (run, "run.succeeded", DeliveryState.WAITING)
        assert (message.traceparent, message.tracestate) == ("00-x", "a=1")
        body = json.loads(message.body)
        assert body["type"] == "run.succeeded"
        assert body["timestamp"] == body["data"]["finished_at"]
        facts = {"id": run, "state": "succeeded", "reason": "why", "name": "mine", "labels": {"team": "a"}}
        assert facts.items() <= body["data"].items()
        assert body["data"]["result"] == {"mean_return": "Infinity"}
        assert stores.webhooks.deliveries(failures.id).data == []
        finish(stores, RunState.FAILED)
        waiting = submit(stores)
        stores.runs.request_stop(waiting.id, StopReason.CANCEL)
        assert [each.type for each in stores.webhooks.deliveries(failures.id).data] == ["run.failed"]
        assert [each.type for each in stores.webhooks.deliveries(every.id).data] == [
            "run.cancelled", "run.failed", "run.succeeded",
        ]  # fmt: skip

    def test_each_of_many_runs_that_end_at_once_has_its_message(self, stores: Stores) -> None:
        every, failures = (
            stores.webhooks.create(f"https://{name}.example", types, "s")
            for name, types in (("all", ENDS), ("failed", ["run.failed"]))
        )
        sweep = stores.sweeps.create(new_sweep(3))[0]
        stores.sweeps.change(sweep.id, SweepVerb.CANCEL)
        told = [(each.run_id, each.type) for each in stores.webhooks.deliveries(every.id).data]
        runs = [run.id for run in stores.runs.list(sweep=sweep.id).data]
        assert sorted(told) == sorted((run_id, "run.cancelled") for run_id in runs)
        assert stores.webhooks.deliveries(failures.id).data == []

    def test_the_same_of_the_same_maker_is_one_webhook_while_messages_are_sent(self, stores: Stores) -> None:
        url, secret = "https://a.example", "s"
        first = stores.webhooks.create(url, ENDS, secret, by="t")
        assert stores.webhooks.create(url, ENDS[::-1], secret, by="t").id == first.id
        others = [
            stores.webhooks.create(url, ENDS, secret, by="u"),
            stores.webhooks.create(url, ENDS, secret),
            stores.webhooks.create(url, ENDS[:1], secret, by="t"),
            stores.webhooks.create(url, ENDS, "s2", by="t"),
            stores.webhooks.create("https://b.example", ENDS, secret, by="t"),
        ]
        assert stores.webhooks.create(url, ENDS, secret).id == others[1].id
        assert len({first.id, *(hook.id for hook in others)}) == 6
        assert len(stores.webhooks.list().data) == 6

    def test_what_is_rolled_back_leaves_no_message(self, stores: Stores) -> None:
        hook = stores.webhooks.create("https://a.example", ENDS, "s")
        _, lease = start(stores)
        with pytest.raises(StatementError):
            stores.runs.finish(lease, RunState.SUCCEEDED, reason="x", result={"no json": object()})
        assert stores.webhooks.deliveries(hook.id).data == []

    def test_a_message_is_taken_by_one_and_waits_again_when_it_failed(self, stores: Stores) -> None:
        hook = stores.webhooks.create("https://a.example", ENDS, "s")
        for _ in range(5):
            finish(stores)
        taken: list[str] = []
        in_threads(lambda: taken.extend(due.delivery.id for due in take(stores)), 4)
        while due := take(stores):
            taken += [one.delivery.id for one in due]
        assert sorted(taken) == sorted(each.id for each in stores.webhooks.deliveries(hook.id).data)
        assert stores.webhooks.due() == []

    def test_each_webhook_has_its_turn_and_who_waits_longest_comes_first(self, stores: Stores) -> None:
        first, second, third = (stores.webhooks.create(f"https://{n}.example", [], "s").id for n in "abc")
        sent = [stores.webhooks.test(hook).id for hook in (second, second, first, second)]
        assert [hook.id for hook in stores.webhooks.due()] == [second, first]
        assert {due.delivery.id for due in take(stores)} == {sent[0], sent[2]}
        assert [hook.id for hook in stores.webhooks.due()] == [second]
        assert stores.webhooks.take([first, third]) == []
        assert [due.delivery.id for due in take(stores)] == [sent[1]]

    def test_an_attempt_is_settled_by_whoever_made_the_last_one(self, stores: Stores) -> None:
        hook = stores.webhooks.create("https://a.example", ENDS, "s")
        finish(stores)
        (first,) = take(stores)
        assert (first.webhook, first.delivery.attempts) == (hook, 1)
        assert 0.0 <= first.age_s < 60.0
        stores.webhooks.settle(first, Attempted(status=500, response="busy"), retry_in_s=0.0)
        (second,) = take(stores)
        assert (second.delivery.attempts, second.delivery.status, second.delivery.response) == (
            2,
            500,
            "busy",
        )
        stores.webhooks.settle(first, Attempted(status=200), retry_in_s=0.0)  # too late
        assert stores.webhooks.deliveries(hook.id).data[0].state is DeliveryState.WAITING
        stores.webhooks.settle(second, Attempted(status=204), retry_in_s=0.0)
        (done,) = stores.webhooks.deliveries(hook.id).data
        assert (done.state, done.attempts, done.status) == (DeliveryState.DELIVERED, 2, 204)
        assert done.delivered_at is not None
        assert take(stores) == []

    def test_what_is_given_up_has_failed(self, stores: Stores) -> None:
        hook = stores.webhooks.create("https://a.example", ENDS, "s")
        finish(stores)
        stores.webhooks.settle(take(stores)[0], Attempted(error="refused"), retry_in_s=None)
        (message,) = stores.webhooks.deliveries(hook.id).data
        assert (message.state, message.error) == (DeliveryState.FAILED, "refused")

    def test_a_receiver_that_is_gone_is_told_nothing_more(self, stores: Stores) -> None:
        hook = stores.webhooks.create("https://a.example", ENDS, "s")
        finish(stores)
        finish(stores)
        stores.webhooks.settle(take(stores)[0], Attempted(status=410), retry_in_s=5.0)
        assert "410" in str(stores.webhooks.get(hook.id).disabled_reason)
        assert {each.state for each in stores.webhooks.deliveries(hook.id).data} == {DeliveryState.FAILED}
        finish(stores)
        assert len(stores.webhooks.deliveries(hook.id).data) == 2
        with pytest.raises(StateConflictError, match="410"):
            stores.webhooks.test(hook.id)

    def test_one_is_disabled_and_enabled_again(self, stores: Stores) -> None:
        hook = stores.webhooks.create("https://a.example", ENDS, "s").id
        stores.webhooks.test(hook)
        assert stores.webhooks.edit(hook, is_enabled=False).disabled_at is not None
        assert (stores.webhooks.due(), stores.webhooks.deliveries(hook).data[0].state) == ([], "failed")
        changed = stores.webhooks.edit(hook, is_enabled=True, url="https://b.example", types=["run.failed"])
        assert (changed.disabled_at, changed.disabled_reason) == (None, None)
        assert (changed.url, changed.types) == ("https://b.example", ["run.failed"])
        assert stores.webhooks.due() == []
        stores.webhooks.test(hook)
        assert len(take(stores)) == 1
        with pytest.raises(NotFoundError):
            stores.webhooks.edit("hook_0", is_enabled=True)

    def test_webhooks_and_messages_are_listed_page_by_page_and_deleted(self, stores: Stores) -> None:
        hooks = [stores.webhooks.create(f"https://{n}.example", ENDS, "s").id for n in range(3)]
        page = stores.webhooks.list(limit=2)
        rest = stores.webhooks.list(limit=2, cursor=page.next_cursor)
        assert [hook.id for hook in page.data + rest.data] == hooks
        sent = [stores.webhooks.test(hooks[0]).id for _ in range(3)]
        first = stores.webhooks.deliveries(hooks[0], limit=2)
        last = stores.webhooks.deliveries(hooks[0], limit=2, cursor=first.next_cursor)
        assert [each.id for each in first.data + last.data] == sent[::-1]
        with pytest.raises(ValueError, match="cursor"):
            stores.webhooks.list(cursor=first.next_cursor)
        stores.webhooks.delete(hooks[0])
        assert stores.webhooks.due() == []
        for ask in (
            stores.webhooks.get,
            stores.webhooks.delete,
            stores.webhooks.test,
            stores.webhooks.deliveries,
        ):
            with pytest.raises(NotFoundError, match=hooks[0]):
                ask(hooks[0])

    def test_there_are_not_more_than_a_hundred(self, stores: Stores) -> None:
        for number in range(100):
            stores.webhooks.create(f"https://{number}.example", ENDS, "s")
        with pytest.raises(StateConflictError, match="100"):
            stores.webhooks.create("https://a.example", ENDS, "s")

    def test_a_message_outlives_its_run(self, stores: Stores) -> None:
        stores.webhooks.create("https://a.example", ENDS, "s")
        run = finish(stores)
        stores.runs.delete(run)
        stores.webhooks.forget()
        assert take(stores)[0].delivery.run_id == run
