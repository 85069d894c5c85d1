"""What cannot be stored of a run ends it at once and by name, whichever call to the stores it was."""

from service.domain.run import RunKind, RunState
from service.domain.upload import run_id_of
from tests.contracts.builders import new_run
from tests.contracts.upload_store import begin, fill
from tests.service.worker.conftest import Bench


def test_a_report_that_cannot_be_stored_fails_its_run_at_once(bench: Bench) -> None:
    """One worker is enough: none of it is the worse for it, and goes on with the next run."""
    calls = ["runs.events", "runs.report", "runs.get", "runs.finish"]
    calls += ["checkpoints.list", "checkpoints.put", "episodes.add"]
    bench.worker("worker_jobs:report_all", fails=[*calls, "uploads.read"])
    for call in calls:
        run = bench.wait_for_end(bench.submit())
        assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "not_stored", 1), call
        assert run.error is not None
        assert run.error["message"].startswith("OverflowError: what the run reported could not be stored")
        assert f"{call} cannot" in bench.worker_log()
    upload = begin(bench.stores)
    fill(bench.stores, upload)
    bench.stores.runs.create(new_run(id=run_id_of(upload.id), kind=RunKind.IMPORT))
    run = bench.wait_for_end(run_id_of(upload.id))
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "not_stored", 1)
    assert "uploads.read cannot" in bench.worker_log()
    assert bench.wait_for_end(bench.submit()).state is RunState.SUCCEEDED


def test_a_run_that_cannot_be_given_back_fails_at_once(bench: Bench) -> None:
    bench.worker("worker_jobs:count", fails=["runs.release"])
    run = bench.wait_for_end(bench.submit(die="exit", die_at=2))
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "not_stored", 1)


def test_a_number_that_no_database_holds_fails_its_run_at_once(working: Bench) -> None:
    run = working.wait_for_end(working.submit(step=2**63))
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "not_stored", 1)
    assert working.wait_for_end(working.submit()).state is RunState.SUCCEEDED
