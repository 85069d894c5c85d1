"""Runs on a Ray cluster of several nodes on this machine: what a worker promises holds when any part of it dies."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.domain.run import RunState, StopReason
from tests.service.databases import url_for
from tests.service.worker.conftest import PATIENCE_S, Bench, eventually
from tests.service.worker.test_children import tree
from tests.service.worker.test_recovery import LONG, RUN, counted_once

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = (
    "0"  # read when Ray is imported: it then listens on loopback alone
)
pytest.importorskip("ray", reason="Ray is not installed: pip install 'maze-service[ray]'")

pytestmark = pytest.mark.slow

NODE = {"num_cpus": 2}
LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without room for runs, and two nodes with room for two each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def bench(
    cluster: Any, migrated_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("ray")
    bench = Bench(url_for(directory, migrated=migrated_sqlite_file), directory)
    bench.worker(executor="ray", ray_address=cluster.address, workers=6)
    yield bench
    bench.close()


def host_of(child: psutil.Process) -> psutil.Process:
    """The actor that a run's process belongs to."""
    return next(parent for parent in child.parents() if parent.cmdline()[0].startswith("ray::"))


def listening(*processes: psutil.Process) -> set[str]:
    """Addresses that these listen on."""
    places = [place for process in processes for place in process.net_connections("inet")]
    return {place.laddr.ip for place in places if place.status == psutil.CONN_LISTEN}


def by_its_process(bench: Bench, cluster: Any, child: psutil.Process) -> None:
    child.kill()


def by_its_actor(bench: Bench, cluster: Any, child: psutil.Process) -> None:
    host_of(child).kill()


def by_its_node(bench: Bench, cluster: Any, child: psutil.Process) -> None:
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    above = {parent.pid for parent in host_of(child).parents()}
    cluster.remove_node(next(node for pid, node in raylets.items() if pid in above), allow_graceful=False)
    cluster.add_node(**NODE)


@pytest.mark.parametrize("kill", [by_its_process, by_its_actor, by_its_node])
def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint(
    bench: Bench, cluster: Any, kill: Callable[..., None]
) -> None:
    run_id = bench.submit(**RUN)
    bench.wait_for_epoch(run_id, 3)
    child = bench.child_of(run_id)
    kill(bench, cluster, child)
    child.wait(PATIENCE_S)
    run = bench.wait_for_end(run_id)
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2), bench.log(run_id)
    assert run.result is not None
    assert run.result["first"] >= 3
    assert bench.output(run_id) == ["attempt 1 from 0", f"attempt 2 from {run.result['first']}"]
    assert counted_once(bench, run_id)


def test_the_end_of_the_driver_ends_its_runs_and_another_goes_on(
    cluster: Any, migrated_sqlite_file: Path, tmp_path: Path
) -> None:
    bench = Bench(url_for(tmp_path, migrated=migrated_sqlite_file), tmp_path)
    try:
        driver = bench.worker(executor="ray", ray_address=cluster.address)
        run_id = bench.submit(**RUN)
        bench.wait_for_epoch(run_id, 3)
        child = bench.child_of(run_id)
        driver.kill()
        child.wait(PATIENCE_S)
        bench.end_lease(run_id)
        bench.worker(executor="ray", ray_address=cluster.address)
        run = bench.wait_for_end(run_id)
        assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2)
        assert counted_once(bench, run_id)
    finally:
        bench.close()


def test_a_run_is_cancelled_with_a_checkpoint(bench: Bench) -> None:
    run_id = bench.submit(**LONG)
    bench.wait_for_epoch(run_id, 2)
    bench.stores.runs.request_stop(run_id, StopReason.CANCEL)
    assert bench.wait_for_end(run_id).state is RunState.CANCELLED
    assert [info.kind for info in bench.stores.checkpoints.list(run_id).data].count("continued") == 1


def test_a_run_that_does_not_follow_a_wish_is_ended(bench: Bench) -> None:
    run_id = bench.submit(frozen=True)
    bench.wait_for_phase(run_id)
    child = bench.child_of(run_id)
    bench.stores.runs.request_stop(run_id, StopReason.CANCEL)
    assert bench.wait_for_end(run_id).state is RunState.CANCELLED
    child.wait(PATIENCE_S)


def test_a_run_waits_until_a_node_has_room_for_what_it_takes(bench: Bench) -> None:
    whole = {"resources": {"cpus": 2.0}}
    running = [bench.submit_tree(LONG, arguments=whole) for _ in range(2)]
    for run_id in running:
        bench.wait_for_epoch(run_id, 1)
    nodes = {host_of(bench.child_of(run_id)).parent() for run_id in running}
    assert len(nodes) == 2
    third = bench.submit_tree(RUN, arguments={"resources": {"cpus": 1.0}})
    eventually(lambda: bench.run(third).state is RunState.RUNNING, "a claim")
    assert bench.run(third).progress.epoch is None
    for run_id in running:
        bench.stores.runs.request_stop(run_id, StopReason.CANCEL)
    assert bench.wait_for_end(third).state is RunState.SUCCEEDED


def test_a_run_that_no_node_could_hold_fails_and_says_so(bench: Bench) -> None:
    run = bench.wait_for_end(bench.submit_tree(RUN, arguments={"resources": {"cpus": 64.0}}))
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error["code"] == "resources_unavailable"
    assert "64 cpus" in run.error["message"]


def test_everything_listens_on_loopback_alone(bench: Bench, cluster: Any) -> None:
    own = psutil.Process(os.getpid())
    found = listening(own, *own.children(recursive=True))
    assert found
    assert found <= LOOPBACK


def test_a_training_on_a_cluster_ends_with_the_content_of_one_of_this_machine(
    cluster: Any, migrated_sqlite_file: Path, tmp_path: Path
) -> None:
    contents = set()
    bench = Bench(url_for(tmp_path, migrated=migrated_sqlite_file), tmp_path)
    try:
        for settings in ({}, {"executor": "ray", "ray_address": cluster.address}):
            worker = bench.worker("service.worker.jobs:execute", is_warm=True, **settings)
            run = bench.wait_for_end(bench.submit_tree(tree()))
            assert run.state is RunState.SUCCEEDED, run.error
            contents.add(bench.stores.checkpoints.resolve(run.id, "last").content_sha256)
            worker.send_signal(signal.SIGTERM)
            worker.wait(PATIENCE_S)
    finally:
        bench.close()
    assert len(contents) == 1


def test_without_an_address_a_worker_starts_a_cluster_on_loopback_and_ends_it(
    migrated_sqlite_file: Path, tmp_path: Path
) -> None:
    bench = Bench(url_for(tmp_path, migrated=migrated_sqlite_file), tmp_path)
    try:
        worker = bench.worker(executor="ray", variables={"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"})
        assert bench.wait_for_end(bench.submit()).state is RunState.SUCCEEDED
        started = psutil.Process(worker.pid).children(recursive=True)
        assert any("raylet" in process.name() for process in started)
        assert listening(psutil.Process(worker.pid), *started) <= LOOPBACK
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0
        assert not psutil.wait_procs(started, PATIENCE_S)[1]
    finally:
        bench.close()
