"""Creating, reading, listing and counting runs: what every run store must do."""

import base64
import math
from dataclasses import replace
from typing import Any

import pytest

from service.domain.errors import CapacityError, IdempotencyConflictError, NotFoundError
from service.domain.run import EventType, MetricOrder, MetricPoint, RunKind, RunOrder, RunState, StopReason
from service.store import Stores, open_stores
from tests.contracts.builders import new_checkpoint, new_run, start, submit
from tests.contracts.threads import in_threads

ALL_KINDS = list(RunKind)


BAD_KEYS = (
    '["runs"]',
    '["runs",1,2]',
    '["runs","soon","run_1"]',
    '["runs","0001-01-01T00:00:00+23:00","run_1"]',
    '["runs","2026-01-01T00:00:00+00:00","\\u0000"]',
    '["runs","2026-01-01T00:00:00+00:00","\\ud800"]',
    '["episodes",3]',
    "[" * 100_000,
)


def as_cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


class SubmissionContract:
    """Creating, reading, listing and counting runs."""

    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("İstanbul 1", "istanbul"),
            ("istanbul", "İSTANBUL"),
            ("Straße", "STRASSE"),
            ("ﬁrst", "first"),
            ("Cafe\u0301", "CAFÉ"),
            ("café", "cafe"),
            ("Ω\u0301μέγα", "ωμεγα"),
        ],
    )
    def test_a_run_is_found_by_its_name_however_that_is_written(
        self, stores: Stores, name: str, part: str
    ) -> None:
        run = submit(stores, name=name)
        submit(stores, name="Berlin")
        assert [found.id for found in stores.runs.list(name=part).data] == [run.id]

    def test_a_new_run_is_queued_and_reads_back_as_it_was_given(self, stores: Stores) -> None:
        new = new_run(name="first", labels={"team": "a", "cost": "low"}, source_run="run_x")
        run, made = stores.runs.create(new)
        assert made
        assert run == stores.runs.get(new.id)
        assert run.state is RunState.QUEUED
        for name in ("kind", "name", "labels", "request", "config", "config_sha256", "seed", "source_run"):
            assert getattr(run, name) == getattr(new, name), name
        assert list(run.config["wrappers"]) == ["second", "first"]  # their order is their meaning
        assert (run.attempt, run.epoch_token, run.stop_wish, run.started_at) == (0, 0, None, None)

    def test_the_first_event_says_that_the_run_is_queued(self, stores: Stores) -> None:
        run = submit(stores)
        (event,) = stores.runs.events(run.id)
        assert (event.run_id, event.seq, event.type) == (run.id, 1, EventType.STATE)
        assert event.data == {"state": "queued", "from": None, "reason": None, "attempt": 0, "by": None}

    def test_runs_are_shown_as_they_read_but_for_request_and_configuration(self, stores: Stores) -> None:
        runs = [submit(stores, name=name, labels={"team": name}) for name in ("a", "b", "c")]
        shown = {run.id: run for run in stores.runs.shown([runs[0].id, "run_nope", runs[2].id, "\x00"])}
        assert shown == {run.id: replace(run, request={}, config={}) for run in (runs[0], runs[2])}
        assert stores.runs.shown([]) == []

    def test_an_unknown_run_is_named_in_the_error(self, stores: Stores) -> None:
        with pytest.raises(NotFoundError, match="run_nope"):
            stores.runs.get("run_nope")
        with pytest.raises(NotFoundError, match="run_nope"):
            stores.runs.request_stop("run_nope", StopReason.CANCEL)

    @pytest.mark.parametrize(
        "hostile", ["", "\x00", "run_\x00x", "\ud800", "' OR 1=1 --", "%", "x" * 100_000]
    )
    def test_a_hostile_id_is_just_not_found(self, stores: Stores, hostile: str) -> None:
        submit(stores)
        with pytest.raises(NotFoundError):
            stores.runs.get(hostile)
        with pytest.raises(NotFoundError):
            stores.checkpoints.resolve(hostile, hostile)
        with pytest.raises(NotFoundError):
            stores.episodes.trajectory(hostile, 0)
        assert stores.runs.events(hostile) == []
        assert stores.runs.metrics(hostile, names=[hostile]) == []
        assert stores.runs.list(labels={hostile: hostile}).data == []
        assert stores.registry.find_token(hostile) is None

    def test_one_idempotency_key_makes_one_run(self, stores: Stores) -> None:
        first, made = stores.runs.create(new_run(), ("key", "digest"))
        second, made_again = stores.runs.create(new_run(), ("key", "digest"))
        assert (made, made_again) == (True, False)
        assert second.id == first.id
        assert len(stores.runs.list().data) == 1

    def test_a_key_with_another_body_is_refused_and_makes_nothing(self, stores: Stores) -> None:
        first, _ = stores.runs.create(new_run(), ("key", "digest"))
        with pytest.raises(IdempotencyConflictError, match=first.id):
            stores.runs.create(new_run(), ("key", "other"))
        assert [run.id for run in stores.runs.list().data] == [first.id]

    def test_a_refused_submission_does_not_use_up_its_key(self, stores: Stores) -> None:
        with pytest.raises(NotFoundError, match="ckpt_gone"):
            stores.runs.create(new_run(source_checkpoint="ckpt_gone"), ("key", "digest"))
        _, made = stores.runs.create(new_run(), ("key", "digest"))
        assert made

    def test_threads_with_one_key_make_one_run(self, stores: Stores) -> None:
        made: list[tuple[str, bool]] = []

        def submit_once() -> None:
            run, is_new = stores.runs.create(new_run(), ("key", "digest"))
            made.append((run.id, is_new))

        in_threads(submit_once, 4)
        assert len({run_id for run_id, _ in made}) == 1
        assert sorted(is_new for _, is_new in made) == [False, False, False, True]

    def test_pages_show_every_run_once_and_the_newest_first(self, stores: Stores) -> None:
        ids = [submit(stores).id for _ in range(7)]
        seen: list[str] = []
        cursor = None
        while True:
            page = stores.runs.list(limit=3, cursor=cursor)
            seen += [run.id for run in page.data]
            submit(stores)  # a run that comes in between moves nothing
            if not page.has_more:
                break
            cursor = page.next_cursor
        assert seen == ids[::-1]

    def test_a_last_page_that_is_full_has_no_further_one(self, stores: Stores) -> None:
        for _ in range(3):
            submit(stores)
        assert not stores.runs.list(limit=3).has_more

    def test_lists_are_filtered_by_state_kind_and_every_label(self, stores: Stores) -> None:
        plain = submit(stores)
        both = submit(stores, kind=RunKind.ROLLOUT, labels={"team": "a", "cost": "low"})
        one = submit(stores, kind=RunKind.ROLLOUT, labels={"team": "a", "cost": "high"})
        stores.runs.request_stop(plain.id, StopReason.CANCEL)

        def found(**filters: object) -> list[str]:
            return [run.id for run in stores.runs.list(**filters).data]  # type: ignore[arg-type]

        assert found(state=RunState.CANCELLED) == [plain.id]
        assert found(kind=RunKind.ROLLOUT) == [one.id, both.id]
        assert found(labels={"team": "a"}) == [one.id, both.id]
        assert found(labels={"team": "a", "cost": "low"}) == [both.id]
        assert found(labels={"team": "b"}) == []
        assert found(state=RunState.QUEUED, kind=RunKind.TRAIN) == []

    def test_a_cursor_that_is_not_ours_is_a_value_error(self, stores: Stores) -> None:
        for cursor in ("", "!", "é", "bnVsbA", *map(as_cursor, BAD_KEYS)):
            with pytest.raises(ValueError, match="cursor"):
                stores.runs.list(cursor=cursor)

    def test_statistics_count_per_kind_and_state_and_say_how_long_runs_wait_and_worked(
        self, stores: Stores
    ) -> None:
        _, lease = start(stores)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        submit(stores, kind=RunKind.ROLLOUT)
        submit(stores, kind=RunKind.ROLLOUT)
        found = stores.runs.statistics()
        assert {key: facts.count for key, facts in found.items()} == {
            (RunKind.TRAIN, RunState.SUCCEEDED): 1,
            (RunKind.ROLLOUT, RunState.QUEUED): 2,
        }
        queued, ended = found[RunKind.ROLLOUT, RunState.QUEUED], found[RunKind.TRAIN, RunState.SUCCEEDED]
        assert queued.seconds == 0
        assert 0 <= queued.oldest_s <= ended.oldest_s < 3600
        assert 0 <= ended.seconds <= ended.oldest_s

    def test_statistics_stay_right_while_runs_go_on_and_end_and_times_pass(
        self, stores: Stores, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for settled_s, afresh_s in ((0.0, 3600.0), (0.0, 0.0), (0.05, 0.2), (120.0, 3600.0)):
            monkeypatch.setattr("service.store.tally.SETTLED_S", settled_s)
            monkeypatch.setattr("service.store.tally.AFRESH_S", afresh_s)
            for ending in (RunState.SUCCEEDED, RunState.FAILED, RunState.SUCCEEDED):
                _, lease = start(stores)
                self._statistics_are_those_of_a_store_that_was_just_opened(stores, database_url)
                stores.runs.finish(lease, ending, reason="completed")
                submit(stores, kind=RunKind.ROLLOUT)
                self._statistics_are_those_of_a_store_that_was_just_opened(stores, database_url)

    @staticmethod
    def _statistics_are_those_of_a_store_that_was_just_opened(stores: Stores, url: str) -> None:
        other = open_stores(url)
        found, expected = stores.runs.statistics(), other.runs.statistics()
        other.close()
        assert found.keys() == expected.keys()
        for key, facts in expected.items():
            assert found[key].count == facts.count
            assert found[key].seconds == pytest.approx(facts.seconds)
            assert 0 <= facts.oldest_s - found[key].oldest_s < 60

    def test_lists_of_labels_are_in_order_whichever_of_them_is_the_rarest(self, stores: Stores) -> None:
        made = [
            submit(stores, labels={"all": "x", "third": str(i % 3), "one": str(i)}, name=str(i)).id
            for i in range(12)
        ]
        labels = {"all": "x", "third": "1"}
        pages, cursor = [], None
        while True:
            page = stores.runs.list(labels=labels, limit=2, cursor=cursor, kind=RunKind.TRAIN)
            pages += [run.id for run in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert pages == [run_id for i, run_id in enumerate(made) if i % 3 == 1][::-1]
        assert [run.id for run in stores.runs.list(labels={**labels, "one": "4"}).data] == [made[4]]
        assert stores.runs.list(labels={**labels, "one": "5"}).data == []
        assert stores.runs.list(labels={"all": "x"}, state=RunState.FAILED).data == []

    def test_a_full_queue_takes_no_more_but_still_knows_its_keys(self, stores: Stores) -> None:
        first, _ = stores.runs.create(new_run(), ("key", "digest"), max_queued=1)
        with pytest.raises(CapacityError, match="1 runs are waiting"):
            stores.runs.create(new_run(), ("other", "digest"), max_queued=1)
        assert stores.runs.create(new_run(), ("key", "digest"), max_queued=1) == (first, False)
        assert stores.runs.submitted("key", "digest") == first
        assert stores.runs.submitted("other", "digest") is None
        with pytest.raises(IdempotencyConflictError, match=first.id):
            stores.runs.submitted("key", "another")
        start(stores)  # claims the first one
        assert stores.runs.create(new_run(), max_queued=2)[1]

    def test_a_list_leaves_out_what_grows(self, stores: Stores) -> None:
        run, lease = start(stores)
        result = {
            "mean_return": 1.5,
            "ci95": [1.0, 2.0],
            "returns": [1.0] * 3000,
            "eval": {"lengths": [1], "n": 1},
        }
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed", result=result)
        (listed,) = stores.runs.list().data
        assert listed.result == {"mean_return": 1.5, "ci95": [1.0, 2.0], "eval": {"n": 1}}
        assert (listed.request, listed.config) == ({}, {})
        assert stores.runs.get(run.id).result == result

    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            (RunOrder.NEWEST, ["c", "b", "a", "B2"]),
            (RunOrder.OLDEST, ["B2", "a", "b", "c"]),
            (RunOrder.BEST, ["c", "a", "b"]),
            (RunOrder.WORST, ["b", "a", "c"]),
            (RunOrder.NAME, ["B2", "a", "b", "c"]),
            (RunOrder.NAME_REVERSED, ["c", "b", "a", "B2"]),
        ],
    )
    def test_runs_are_listed_page_by_page_in_any_order(
        self, stores: Stores, sort: RunOrder, expected: list[str]
    ) -> None:
        for name, value in (("B2", float("nan")), ("a", 2.0), ("b", -1.5), ("c", 10.0)):
            _, lease = start(stores, name=name, labels={"team": "x"})
            metrics = {"eval/mean_return": value}
            stores.checkpoints.put(lease, new_checkpoint(1, is_best=True, metrics=metrics), b"bundle")
        submit(stores, name="of another team")
        found: list[str | None] = []
        cursor = None
        while True:
            page = stores.runs.list(labels={"team": "x"}, sort=sort, limit=2, cursor=cursor)
            found += [run.name for run in page.data]
            if (cursor := page.next_cursor) is None:
                break
        assert found == expected
        other = RunOrder.OLDEST if sort is not RunOrder.OLDEST else RunOrder.NEWEST
        first = stores.runs.list(labels={"team": "x"}, sort=sort, limit=1).next_cursor
        with pytest.raises(ValueError, match="no"):
            stores.runs.list(sort=other, cursor=first)

    @pytest.mark.parametrize(
        ("falls", "expected"),
        [(True, ["inf", "c", "a", "b", "nan1", "nan2"]), (False, ["b", "a", "c", "inf", "nan1", "nan2"])],
    )
    @pytest.mark.parametrize("limit", [1, 2, 4, 6, 7])
    def test_runs_are_sorted_by_the_latest_value_of_any_metric_and_nan_comes_last(
        self, stores: Stores, falls: bool, expected: list[str], limit: int
    ) -> None:
        values = {"nan1": math.nan, "a": 2.0, "b": -1.5, "nan2": math.nan, "c": 10.0, "inf": math.inf}
        for name, value in values.items():
            _, lease = start(stores, name=name, labels={"team": "x"})
            for epoch, each in ((2, value), (1, 99.0)):
                metric = MetricPoint(name="train/x y", epoch=epoch, step=1, value=each)
                stores.runs.report(lease, metrics=[metric] if epoch == 2 else [replace(metric, name="z")])
        _, lease = start(stores, name="of another metric", labels={"team": "x"})
        stores.runs.report(lease, metrics=[MetricPoint(name="loss", epoch=1, step=1, value=5.0)])
        sort = MetricOrder("train/x y", falls)
        found: list[str | None] = []
        cursor = None
        while True:
            page = stores.runs.list(labels={"team": "x"}, sort=sort, limit=limit, cursor=cursor)
            found += [run.name for run in page.data]
            if (cursor := page.next_cursor) is None:
                break
        assert found == expected
        first = stores.runs.list(sort=sort, limit=1).next_cursor
        for other in (RunOrder.NEWEST, MetricOrder("train/x y", not falls), MetricOrder("loss", falls)):
            with pytest.raises(ValueError, match="no"):
                stores.runs.list(sort=other, cursor=first)

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (
                {"env": {"name": "Pole"}, "algorithm": {"_target_": "maze_core.PPOAlgorithmConfig"}},
                ("Pole", "ppo"),
            ),
            (
                {"env": {"name": ["of", "somebody"]}, "algorithm": {"_target_": "TheirOwn"}},
                (None, "theirown"),
            ),
            ({"env": "Pole"}, (None, None)),
        ],
    )
    def test_a_list_says_what_runs_are_about(
        self, stores: Stores, config: dict[str, Any], expected: tuple[str | None, str | None]
    ) -> None:
        submit(stores, config=config)
        (run,) = stores.runs.list().data
        assert (run.environment, run.algorithm) == expected

    def test_a_name_is_found_in_any_case_of_any_alphabet(self, stores: Stores) -> None:
        run = submit(stores, name="Große ÜBUNG Ωμέγα")
        for part in ("ÜBUNG", "übung", "GROSSE", "ΩΜΈΓΑ"):
            assert [found.id for found in stores.runs.list(name=part).data] == [run.id]
        stores.runs.edit(run.id, {"name": "Ärger"})
        assert [found.id for found in stores.runs.list(name="ärger").data] == [run.id]
        assert stores.runs.list(name="übung").data == []
        stores.runs.edit(run.id, {"name": None})
        assert stores.runs.list(name="ärger").data == []

    def test_runs_are_found_by_a_part_of_their_name_and_by_time(self, stores: Stores) -> None:
        first = submit(stores, name="CartPole 100%")
        second = submit(stores, name="cartpole_two")
        submit(stores)

        def found(**filters: Any) -> list[str]:
            return [run.id for run in stores.runs.list(**filters).data]

        assert found(name="CARTPOLE") == [second.id, first.id]
        assert found(name="0%") == [first.id]
        assert found(name="e_t") == [second.id]
        assert found(created_before=second.created_at) == [first.id]
        assert second.id in found(created_after=second.created_at)
        assert first.id not in found(created_after=second.created_at)
