"""What a run's process can see, may do and finds ready; its job is the real one where that matters."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec

from maze_core.checkpoint import Checkpoint
from maze_core.config import RunConfig, compose_run
from maze_core.runners.training import run_training
from maze_core.seeding import own_process
from service.domain.run import RunKind, RunState
from tests.contracts.builders import new_checkpoint, new_episode, start, submit
from tests.service.worker.conftest import Bench, eventually, shared_bench

DATABASE_MODULES = ("sqlalchemy", "pysqlite3", "alembic", "psycopg", "service.store", "service.settings")


def tree(**overrides: Any) -> dict[str, Any]:
    """A training run of seconds."""
    small = {"env.name": "CartPole-v1", "algorithm.n_epochs": 1, "algorithm.epoch_length": 1}
    config = compose_run(algorithm="ppo", configuration="test", overrides={**small, **overrides}, seed=1)
    return config.tree


def test_a_child_sees_nothing_of_the_worker_and_gives_up_what_it_does_not_need(bench: Bench) -> None:
    secrets = {"MAZE_RATE_LIMIT_PER_S": "5", "PGPASSWORD": "hunter2", "AWS_SECRET_ACCESS_KEY": "k"}
    bench.worker("worker_jobs:describe", is_warm=True, variables=secrets, child_memory_bytes=2**40)
    run = bench.wait_for_end(bench.submit())
    assert run.result is not None
    seen = run.result
    assert [name for name in seen["modules"] if name.startswith(DATABASE_MODULES)] == []
    assert "maze_core.trainers.ppo" in seen["modules"]
    assert "torch" not in seen["modules"]
    assert not {name for name in seen["environment"] if name.startswith("MAZE_")} | (
        secrets.keys() & seen["environment"].keys()
    )
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    assert not any("sqlite" in word for word in seen["arguments"])
    assert seen["main"] is None
    assert seen["listing"] == []
    assert seen["session_leader"]
    assert seen["umask"] == 0o077
    assert seen["limits"] == {"RLIMIT_CORE": 0, "RLIMIT_AS": 2**40}
    if sys.platform == "linux":
        assert "NoNewPrivs:\t1" in seen["status"]
        assert re.search(r"Threads:\t2\n", seen["status"]), "one runs, one watches; none came along"


def test_a_run_imports_nothing_that_the_forkserver_has_not(bench: Bench) -> None:
    """Each import would cost every run its time and memory again; torch alone a second and 190 MB."""
    bench.worker("worker_jobs:run_and_list", is_warm=True)
    run = bench.wait_for_end(bench.submit_tree(tree()))
    assert run.result is not None, run.error
    assert run.result["imported"] == []


@pytest.fixture(scope="module")
def executing(migrated_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A shared worker of the real job, with modules of the operator's, one of which is not there."""
    modules = ["operator_environments", "no_such_module"]
    directory = tmp_path_factory.mktemp("executing")
    yield from shared_bench(
        migrated_sqlite_file,
        directory,
        "service.worker.jobs:execute",
        env_modules=modules,
        is_publishing=True,
    )


def test_a_specification_is_not_believed_because_it_stands_in_the_database(executing: Bench) -> None:
    hostile = tree()
    hostile["env"] = {"_target_": "os.system", "command": "touch owned"}
    run = executing.wait_for_end(executing.submit_tree(hostile))
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "invalid_specification", 1)
    assert run.error is not None
    assert run.error["problems"][0]["path"] == "env._target_"

    config = compose_run("rollout", overrides={"env.name": "CartPole-v1"}, seed=1)
    of_nobody = executing.wait_for_end(executing.submit_tree(config.tree, RunKind.EVALUATE))
    assert (of_nobody.state, of_nobody.reason) == (RunState.FAILED, "invalid_specification")


@pytest.mark.parametrize(
    ("held", "reason", "epochs"), [(True, "budget_wall_clock", 1), (False, "completed", 3)]
)
def test_seconds_in_which_a_worker_held_an_earlier_attempt_count_for_the_budget(
    bench: Bench, held: bool, reason: str, epochs: int
) -> None:
    """That attempt took a year; or the run waited for a year before it."""
    run, lease = start(bench.stores, config=tree(**{"algorithm.max_wall_s": 1e6, "algorithm.n_epochs": 3}))
    first = f"seq {'<= 2' if held else '= 1'}"
    bench.execute(
        f"UPDATE run_event SET at = '2020-01-01 00:00:00.000000' WHERE run_id = '{run.id}' AND {first}"
    )
    bench.stores.runs.release(lease, reason="worker_shutdown", charge_attempt=False)
    bench.worker("service.worker.jobs:execute")
    ended = bench.wait_for_end(run.id)
    assert (ended.reason, ended.progress.epoch) == (reason, epochs)


def test_a_policy_that_a_training_begins_with_is_not_believed_either(bench: Bench) -> None:
    names_evil = tree() | {"wrappers": [{"_target_": "this.s"}]}
    stored = Checkpoint(identity={"config": names_evil}, tensors={})
    source, lease = start(bench.stores)
    info = bench.stores.checkpoints.put(lease, new_checkpoint(1), stored.to_bytes())
    bench.stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
    initial = {"run": source.id, "checkpoint": info.id, "sha256": stored.content_sha256}
    config = tree() | {"initial": {"_target_": "maze_core.InitialConfig", **initial}}
    queued = submit(bench.stores, config=config, source_checkpoint=info.id)
    bench.worker("service.worker.jobs:execute")
    run = bench.wait_for_end(queued.id)
    assert (run.state, run.reason) == (RunState.FAILED, "checkpoint_damaged")
    assert run.error is not None
    assert "this.s" in run.error["message"]
    assert "Zen of Python" not in bench.log(run.id), "what importing it prints"


def test_more_to_learn_from_than_a_worker_is_given_fails_the_run_and_says_so(bench: Bench) -> None:
    """What a size of the database says is enough: nothing of it is read."""
    source, lease = start(bench.stores, kind=RunKind.ROLLOUT)
    bench.stores.episodes.add(lease, new_episode(0), b"huge")
    bench.stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
    bench.execute("UPDATE blob SET size_bytes = 1 << 40")
    run_id = bench.submit(dataset={"run": source.id})
    bench.worker()
    run = bench.wait_for_end(run_id)
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "invalid_specification", 1)
    assert run.error is not None
    assert f"Run {source.id} recorded 1048576 MiB, and a training" in run.error["message"]


def test_a_run_beyond_its_memory_fails_and_says_so(bench: Bench) -> None:
    bench.worker("worker_jobs:hungry", child_memory_bytes=2 * 2**30, max_attempts=2)
    run = bench.wait_for_end(bench.submit())
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "attempts_exhausted", 2)
    assert run.error is not None
    assert "MemoryError" in run.error["message"]


def test_environments_of_the_operators_modules_are_published_and_a_broken_module_is_named(
    executing: Bench,
) -> None:
    ids = eventually(executing.stores.registry.env_ids, "published environments")
    assert {"Operator-v0", "Late-v0", "CartPole-v1"} <= ids
    assert "no_such_module cannot be imported: ModuleNotFoundError" in executing.worker_log()


def test_an_environment_that_draws_from_the_process_gives_what_the_seed_says_on_every_face(
    executing: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    support = Path(__file__).parent / "support"
    spec = EnvSpec("Draws-v0", entry_point="tests.maze_core.envs.small_envs:DrawsFromTheProcess")
    monkeypatch.setitem(gymnasium.registry, "Draws-v0", spec)

    def config(seed: int) -> RunConfig:
        overrides = {"env.name": "Draws-v0", "algorithm.n_epochs": 1, "algorithm.epoch_length": 1}
        return compose_run(algorithm="ppo", configuration="test", overrides=overrides, seed=seed)

    runs = [executing.submit_tree(config(seed).tree) for seed in (1, 2, 1)]
    over_http = [executing.wait_for_end(run).result for run in runs]
    first, second, again = (result and result["content_sha256"] for result in over_http)
    assert first == again != second

    with own_process():
        assert run_training(config(1)).content_sha256 == first

    words = ["algorithm=ppo", "configuration=test", "env.name=Draws-v0", "algorithm.n_epochs=1", "seed=1"]
    code = f"import sys; sys.path.insert(0, {str(support)!r}); import operator_environments; "
    arguments = [*words, "algorithm.epoch_length=1", f"run_dir={tmp_path}"]
    call = f"from maze_core.cli import main; sys.exit(main({arguments!r}))"
    subprocess.run([sys.executable, "-c", code + call], check=True, cwd=Path(__file__).parents[3])
    assert json.loads((tmp_path / "report.json").read_text())["content_sha256"] == first
