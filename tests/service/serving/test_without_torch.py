"""The process that serves never imports torch: dense agents do without, the others have a child for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maze_core import RunContext
from maze_core.agent import load_agent
from tests.service.serving.checkpoints import CARTPOLE, make_checkpoint, sample_batch

SERVE = """
import asyncio, json, sys
from types import SimpleNamespace
from service.serving.hot_route import ActionRoute
from tests.service.serving.asgi_client import Client
from tests.service.serving.memory_stores import MemoryStores

OWN = "tests.service.serving.own_network.PolicyNet"
bundle, rows = sys.argv[1:]
stores = MemoryStores()
stores.add("r", "c", open(bundle, "rb").read())
with asyncio.Runner() as runner:
    limits = {"agents_cached": 1, "max_action_body_bytes": 100_000}
    limits |= {"action_queue_rows": 4096, "action_queue_age_s": 10.0}
    route = ActionRoute(stores, SimpleNamespace(**limits, extra_targets=[OWN], config_dirs=[]))
    answer = Client(route, runner).post("r", {"observations": json.loads(rows)})
    told = Client(route, runner).post("r", {"observations": json.loads(rows), "explain": True})
    runner.run(route.close())
print(json.dumps([answer.status, answer.json.get("actions"), "torch" in sys.modules, told.json]))
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dense agent, one that was trained beside a critic, and one whose network is a torch module of the user's."""
    folder = tmp_path_factory.mktemp("bundles")
    paths = {name: folder / name for name in ("dense", "trained", "module")}
    make_checkpoint().write(paths["dense"])
    with RunContext(
        run_dir=folder / "dense_run", configuration="test", overrides={"env.name": "CartPole-v1"}, seed=1
    ) as context:
        context.train(n_epochs=1)
        context.save(paths["trained"], "last")
    network = {"_target_": "tests.service.serving.own_network.PolicyNet"}
    with RunContext(
        run_dir=folder / "run",
        model="flatten_concat",
        configuration="test",
        overrides={"env.name": "CartPole-v1", "model.policy.networks": [network]},
        seed=1,
    ) as context:
        context.train(n_epochs=1)
        context.save(paths["module"], "last")
    return paths


@pytest.mark.parametrize("kind", ["dense", "trained", "module"])
def test_torch_stays_out_of_the_process_that_serves(bundles: dict[str, Path], kind: str) -> None:
    rows = sample_batch(CARTPOLE, 50, 2)["observation"]
    command = [sys.executable, "-c", SERVE, str(bundles[kind]), json.dumps(rows.tolist())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    agent = load_agent(bundles[kind])
    assert agent.needs_torch == (kind == "module")
    expected = agent.compute_actions({"observation": rows})["action"].tolist()
    *answer, told = json.loads(done.stdout)
    assert answer == [200, expected, False]
    assert told["actions"] == expected
    thought = [agent.explain(row) for row in rows]
    assert [each["value"] for each in told["decisions"]] == [
        None if kind == "dense" else pytest.approx(each["value"], rel=1e-4) for each in thought
    ]
    assert [each["log_prob"] for each in told["decisions"]] == [
        pytest.approx(each["log_prob"], rel=1e-4) for each in thought
    ]
