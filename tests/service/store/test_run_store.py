"""The run store keeps its contract on SQLite and on PostgreSQL."""

from service.domain.run import Retention, RunState
from service.store import open_stores
from service.store.engine import opened
from service.store.run_rows import LockedRun
from tests.contracts.builders import start
from tests.contracts.run_store import RunStoreContract


class TestRunStore(RunStoreContract):
    pass


def test_retention_passes_over_a_run_that_another_transaction_holds(postgres_url: str) -> None:
    stores = open_stores(postgres_url)
    try:
        held, free = (start(stores) for _ in range(2))
        for _, lease in (held, free):
            stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        with opened(postgres_url) as other, other.writing() as connection:
            LockedRun.by_id(connection, held[0].id)
            assert [*stores.runs.delete_oldest(Retention(runs=0))] == [free[0].id]
        assert [*stores.runs.delete_oldest(Retention(runs=0))] == [held[0].id]
    finally:
        stores.close()
