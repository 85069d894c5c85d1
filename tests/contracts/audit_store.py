"""The audit log: no change without its entry, and no entry without its change."""

from contextvars import copy_context
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from service.domain.audit import Change, Outcome, about, changing, current
from service.domain.errors import NotFoundError
from service.domain.sharing import ANYBODY
from service.store import Stores
from service.store.tables import audit
from service.store.types import after_now
from tests.contracts.builders import new_run


def make_project(stores: Stores, name: str, **who: str) -> Change:
    change = Change(action="put_project", subject=f"/v1/projects/{name}", request_id=f"req_{name}", **who)
    with changing(change):
        stores.projects.put(name, {})
    return change


class AuditStoreContract:
    """Entries are written with what they tell of."""

    def test_a_change_leaves_one_entry_that_says_who_what_and_where(self, stores: Stores) -> None:
        stores.registry.add_token("id1", "d" * 64, "laptop", ANYBODY)
        make_project(stores, "walker", token_id="id1")
        (entry,) = stores.audit.list().data
        assert (entry.token_id, entry.token_name, entry.project) == ("id1", "laptop", "default")
        assert (entry.action, entry.subject) == ("put_project", "/v1/projects/walker")
        assert (entry.request_id, entry.outcome) == ("req_walker", Outcome.DONE)
        assert abs(entry.at - datetime.now(UTC)) < timedelta(minutes=5)

    def test_what_is_rolled_back_leaves_none(self, stores: Stores) -> None:
        change = Change(action="revoke_token", subject="/v1/tokens/nope")
        with changing(change), pytest.raises(NotFoundError):
            stores.registry.revoke_token("nope")
        assert (stores.audit.list().data, change.noted) == ([], {})

    def test_an_entry_that_cannot_be_written_takes_the_change_along(self, stores: Stores) -> None:
        nothing: str = None  # type: ignore[assignment]
        change = Change(action=nothing, subject="/v1/projects/walker")
        with changing(change), pytest.raises(Exception, match=r"(?i)null"):
            stores.projects.put("walker", {})
        assert [each.name for each in stores.projects.list()] == ["default"]

    def test_of_many_that_one_request_changes_each_has_its_entry_once(self, stores: Stores) -> None:
        change = Change(action="change_runs", subject="/v1/runs/bulk")
        with changing(change):
            for name in ("a", "b", "a"):
                with about(f"/v1/runs/run_{name}"):
                    stores.runs.create(new_run())
        assert [each.subject for each in stores.audit.list().data] == ["/v1/runs/run_b", "/v1/runs/run_a"]

    def test_what_goes_on_after_the_answer_leaves_none(self, stores: Stores) -> None:
        change = Change(action="put_project", subject="/v1/projects/walker")
        with changing(change):
            later = copy_context()
        later.run(stores.projects.put, "walker", {})
        assert (stores.audit.list().data, change.noted) == ([], {})

    def test_what_nobody_asked_for_leaves_none(self, stores: Stores) -> None:
        stores.projects.put("walker", {})
        assert current() is None
        assert stores.audit.list().data == []

    def test_a_refusal_and_what_was_learnt_late_are_told(self, stores: Stores) -> None:
        stores.audit.refuse(Change(action="put_project", subject="/v1/projects/walker", token_id="id1"))
        (refused,) = stores.audit.list().data
        assert (refused.outcome, refused.token_id, refused.token_name) == (Outcome.REFUSED, "id1", None)
        stores.audit.rename(refused.id, "/v1/projects/other")
        assert stores.audit.list().data[0].subject == "/v1/projects/other"

    def test_entries_are_found_by_time_action_subject_token_and_project(self, stores: Stores) -> None:
        make_project(stores, "a", token_id="one")
        make_project(stores, "ab", token_id="two", project="other")
        stores.audit.refuse(Change(action="delete_policy", subject="/v1/projects/a/b_c"))

        def found(**filters: object) -> list[str]:
            return [each.subject for each in stores.audit.list(**filters).data]

        assert found(action="put_project") == ["/v1/projects/ab", "/v1/projects/a"]
        assert found(subject="/v1/projects/a") == ["/v1/projects/a/b_c", "/v1/projects/a"]
        assert found(subject="/v1/projects/a/") == ["/v1/projects/a/b_c"]
        assert found(subject="/v1/projects/_") == []
        assert found(token="two") == found(project="other") == ["/v1/projects/ab"]
        assert len(found(since=datetime.now(UTC) - timedelta(hours=1))) == 3
        assert found(since=datetime.now(UTC) + timedelta(hours=1)) == []

    def test_pages_go_on_where_the_one_before_ended(self, stores: Stores) -> None:
        for number in range(5):
            make_project(stores, f"p{number}")
        seen, cursor = [], None
        while True:
            page = stores.audit.list(limit=2, cursor=cursor)
            seen += [each.subject for each in page.data]
            if (cursor := page.next_cursor) is None:
                break
        assert seen == [f"/v1/projects/p{number}" for number in range(4, -1, -1)]
        with pytest.raises(ValueError, match="cursor"):
            stores.audit.list(cursor="x")

    def test_entries_are_forgotten_after_their_days(self, stores: Stores) -> None:
        make_project(stores, "old")
        with stores.database.writing() as connection:
            connection.execute(update(audit).values(at=after_now(-3 * 86_400.0)))
        make_project(stores, "new")
        stores.audit.forget(4)
        assert len(stores.audit.list().data) == 2
        stores.audit.forget(2)
        assert [each.subject for each in stores.audit.list().data] == ["/v1/projects/new"]
