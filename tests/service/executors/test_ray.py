"""Runs on a Ray cluster of several nodes on this machine: what a worker promises holds when any part of it dies."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.run import RunState
from tests.service.databases import url_for
from tests.service.worker.conftest import Bench

pytest.importorskip("ray", reason="Ray is not installed: pip install 'maze-service[ray]'")

RUN = {"n": 60, "sleep_s": 0.05}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without room for runs, and two nodes with room for two each."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback alone
    os.environ["RAY_raylet_start_wait_time_s"] = "180"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=2)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def bench(
    cluster: Any, migrated_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("ray")
    bench = Bench(url_for(directory, migrated=migrated_sqlite_file), directory)
    bench.worker(executor="ray", ray_address=cluster.address, workers=4)
    yield bench
    print(bench.worker_log())
    bench.close()


def test_a_run_on_a_cluster_ends_as_one_of_this_machine(bench: Bench) -> None:
    run = bench.wait_for_end(bench.submit(**RUN))
    assert run.state is RunState.SUCCEEDED, run.error
    assert run.result == {"count": 60, "first": 0}
    assert bench.output(run.id) == ["attempt 1 from 0"]
