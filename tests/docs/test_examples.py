"""The examples do what they say: the environment keeps gymnasium's contract and is learnt, the modules compose."""

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import examples.corridor
from examples.train_corridor import CONF, train
from maze_core import InvalidSpecificationError, RunContext
from maze_core.config import compose_run, conf_root, config_groups
from tests.docs.sessions import EXACT, has_tools, session, wrongly_shown
from tests.docs.tables import DOCS


def test_the_environment_keeps_gymnasiums_contract() -> None:
    check_env(examples.corridor.Corridor(), skip_render_check=True)


def test_the_goal_pays_and_every_step_costs() -> None:
    env = gymnasium.make("Corridor-v0")
    env.reset(seed=0)
    rewards = []
    is_over = False
    while not is_over:
        _, reward, terminated, truncated, _ = env.step(1)
        rewards.append(reward)
        is_over = terminated or truncated
    assert rewards == [-0.1, -0.1, -0.1, 0.9]
    assert terminated


def test_walking_into_the_wall_ends_by_the_time_limit() -> None:
    env = gymnasium.make("Corridor-v0")
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(50)]
    assert ends[-1] == (False, True)
    assert not any(any(end) for end in ends[:-1])


def test_the_example_learns_to_walk_to_the_goal(tmp_path: Path) -> None:
    assert math.isclose(train(tmp_path), 0.6, abs_tol=1e-6)


def test_the_modules_can_be_chosen_beside_the_built_in_ones() -> None:
    groups = config_groups([CONF])
    assert "corridor" in groups["env"]
    assert "ppo_brief" in groups["algorithm"]
    assert "ppo" in groups["algorithm"]


def test_choosing_the_modules_one_by_one_is_the_experiment() -> None:
    experiment = compose_run(config_dirs=[CONF], experiment="corridor_brief", seed=1)
    one_by_one = compose_run(
        config_dirs=[CONF],
        env="corridor",
        algorithm="ppo_brief",
        overrides={"algorithm.target_return": 0.55},
        seed=1,
    )
    assert experiment.config_sha256 == one_by_one.config_sha256


def test_what_a_module_does_not_say_keeps_its_default() -> None:
    algorithm = compose_run(config_dirs=[CONF], algorithm="ppo_brief").tree["algorithm"]
    assert algorithm["lr"] == 0.005
    assert algorithm["clip_range"] == compose_run(algorithm="ppo").tree["algorithm"]["clip_range"]


@pytest.mark.skipif(not has_tools(), reason="bash, curl and python3 run the page")
def test_an_operator_offers_the_example_over_http(offering: str, tmp_path: Path) -> None:
    until(lambda: call(f"http://{offering}/v1/config/compose", {"env": "corridor"}) is not None)
    (tmp_path / "tutorial").mkdir()
    tutorial = session(DOCS / "tutorials" / "own_environment.md", offering, tmp_path / "tutorial")
    assert not wrongly_shown(tutorial, exact=EXACT | {"id", "state", "reason", "action", "open_kwargs"})
    (_, printed, _), (_, shorter, _) = session(CONF.parent / "README.md", offering, tmp_path)
    url = f"http://{offering}/v1/runs/{json.loads(printed)['id']}"
    until(lambda: (call(url) or {})["state"] not in ("queued", "running"))
    run = call(url) or {}
    assert run["reason"] == "target_reached", run["error"]
    assert json.loads(shorter)["state"] == "queued"
    in_python = compose_run(config_dirs=[CONF], experiment="corridor_brief", seed=1)
    assert run["config_sha256"] == in_python.config_sha256


def test_a_module_of_an_existing_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm" / "ppo.yaml").write_text((conf_root() / "algorithm" / "ppo.yaml").read_text())
    with pytest.raises(InvalidSpecificationError, match="has the name of another module"):
        RunContext(config_dirs=[tmp_path], algorithm="ppo")


def until(is_so: Callable[[], bool]) -> None:
    """Wait: a worker publishes its environments some seconds after its start, and a run takes its time."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "nothing has changed for a minute"
        time.sleep(0.2)


def call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """GET, or POST of a body; None when it was refused."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return dict(json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        error.close()
        return None
