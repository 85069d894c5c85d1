"""The events of all runs in one order: what every run store must do."""

import threading

from service.domain.run import EventType, RunState
from service.store import Stores
from tests.contracts.builders import start, submit
from tests.contracts.threads import in_threads


class FeedContract:
    """Who reads on misses nothing and gets nothing twice, whoever writes meanwhile."""

    def test_all_runs_have_one_log_in_the_order_in_which_they_were_written(self, stores: Stores) -> None:
        before = stores.runs.feed_end()
        one, first = start(stores, worker="a")
        other, second = start(stores, worker="b")
        stores.runs.report(first, events=[(EventType.WARNING, {"n": 1}), (EventType.LOG, {"n": 2})])
        stores.runs.report(second, events=[(EventType.WARNING, {"n": 3})])
        stores.runs.finish(first, RunState.SUCCEEDED, reason="completed")
        found = stores.runs.feed(after=before)
        places = [(event.run_id, event.seq) for event in found]
        assert places == [
            *((one.id, seq) for seq in (1, 2)),
            *((other.id, seq) for seq in (1, 2)),
            *((one.id, seq) for seq in (3, 4)),
            (other.id, 3),
            *((one.id, seq) for seq in (5, 6)),
        ]
        positions = [event.position for event in found]
        assert positions == sorted({*positions})
        assert stores.runs.feed_end() == positions[-1]
        assert stores.runs.feed(after=positions[2], limit=2) == found[3:5]
        kinds = [EventType.WARNING, EventType.END]
        some = stores.runs.feed(types=kinds, after=before)
        assert some == [event for event in found if event.type in kinds]
        assert stores.runs.feed(types=kinds, after=before, limit=2) == some[:2]
        assert stores.runs.feed(after=positions[-1]) == []

    def test_a_position_is_not_given_again_when_its_run_is_deleted(self, stores: Stores) -> None:
        run, lease = start(stores)
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        end = stores.runs.feed_end()
        stores.runs.delete(run.id)
        submit(stores)
        assert [event.position for event in stores.runs.feed(after=end)] == [end + 1]

    def test_a_reader_beside_many_writers_gets_every_event_once(self, stores: Stores) -> None:
        """Where a position is taken before others are committed, whoever reads in between would miss them."""
        n_writers, n_reports = 6, 25
        leases = [start(stores, worker=f"w{number}")[1] for number in range(n_writers)]
        begun = stores.runs.feed_end()
        done = threading.Event()
        seen: list[tuple[str, int]] = []
        positions: list[int] = []

        def read() -> None:
            after = begun
            while True:
                is_last = done.is_set()
                events = stores.runs.feed(after=after, limit=7)
                seen.extend((event.run_id, event.seq) for event in events)
                positions.extend(event.position for event in events)
                after = positions[-1] if positions else begun
                if is_last and not events:
                    return

        reader = threading.Thread(target=read)
        reader.start()
        todo = iter(leases)
        lock = threading.Lock()

        def write() -> None:
            with lock:
                lease = next(todo)
            for number in range(n_reports):
                events = [(EventType.WARNING, {"n": number})] * (1 + number % 3)
                stores.runs.report(lease, events=events)

        try:
            in_threads(write, n_writers)
        finally:
            done.set()
            reader.join()
        assert positions == sorted({*positions})
        per_run = sum(1 + number % 3 for number in range(n_reports))
        expected = {(lease.run_id, 3 + number) for lease in leases for number in range(per_run)}
        assert len(seen) == len(expected)
        assert {*seen} == expected
