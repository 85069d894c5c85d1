"""The planning example: what its events, rewards and masks say, that it is learnt, and that it is offered over HTTP."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.loading import BestFit, LoadingEnv
from examples.train_loading import CONF, train
from maze_core import InvalidSpecificationError, RunContext
from maze_core.config import compose_run
from maze_core.envs.checks import check_environment
from tests.docs.test_examples import call, until


def on_a_day(*belt: int) -> LoadingEnv:
    env = LoadingEnv(n_parcels=len(belt), capacity=8)
    env.reset(seed=1)
    env.get_maze_state().belt[:] = belt
    return env


def play(env: LoadingEnv, *choices: int) -> list[Any]:
    return [env.step({next(iter(env.action_space)): choice}) for choice in choices]


def test_a_parcel_goes_only_where_it_fits_unless_it_fits_nowhere() -> None:
    env = on_a_day(5, 5, 5)
    ((observation, *_),) = play(env, 0)
    assert observation["dock_mask"].tolist() == [1, 1]
    ((observation, *_),) = play(env, 0)
    assert observation["place_mask"].tolist() == [1, 1, 0]
    ((observation, *_),) = play(env, 0)
    assert observation["dock_mask"].tolist() == [0, 1]
    observation, *_ = play(env, 1, 0)[-1]
    assert observation["dock_mask"].tolist() == [1, 1]


def test_a_truck_costs_the_room_that_it_leaves_with() -> None:
    env = on_a_day(5, 5, 3)
    steps = play(env, 0, 0, 0, 0, 0, 0)
    assert [reward for _, reward, *_ in steps] == [0, 0, 0, -3 / 8, 0, 0]
    assert steps[-1][2]
    assert env.get_kpis() == {"trucks": 2.0, "fill": 13 / 16}
    assert env.get_stats()["YardEvents/truck_sent/count"] == 2.0


def test_the_yard_is_drawn() -> None:
    env = on_a_day(5, 3)
    play(env, 0, 1)
    picture = env.render()
    assert picture.shape == (8 * 16 + 16, 5 * 40 + 16, 3)
    assert (picture == (52, 101, 164)).all(axis=-1).sum() == 5 * 16 * 24
    assert (picture == (150, 150, 150)).all(axis=-1).sum() == 3 * 16 * 24


def test_the_rule_of_the_dispatcher_obeys_the_masks_and_beats_chance() -> None:
    with RunContext(env=LoadingEnv, policy=BestFit(), silent=True) as rc:
        ruled = rc.rollout(20, seed=1)
    with RunContext(env=LoadingEnv, policy="random_policy", silent=True) as rc:
        chance = rc.rollout(20, seed=1)
    for episode in ruled.episodes:
        assert episode.trajectory is not None
        for step, head in (("pick", "place"), ("load", "dock")):
            masks = episode.trajectory.observations[step][f"{head}_mask"]
            chosen = episode.trajectory.actions[step][head]
            assert masks[np.arange(len(chosen)), chosen].all()
    assert ruled.summary.mean_return > chance.summary.mean_return + 0.5


def test_a_few_updates_are_better_than_chance(tmp_path: Path) -> None:
    found = train(tmp_path / "run", n_epochs=1, n_days=50)
    with RunContext(env=LoadingEnv, policy="random_policy", silent=True) as rc:
        chance = rc.rollout(50, seed=0, record=False).summary.mean_return
    assert found.policy > chance + 0.3


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_whole_training_beats_the_rule_of_the_dispatcher(seed: int, tmp_path: Path) -> None:
    found = train(tmp_path / "run", seed=seed)
    assert found.better_by[0] > 0


def test_an_operator_offers_domain_logic_over_http(offering: str, tmp_path: Path) -> None:
    overrides = {
        "algorithm.n_epochs": 1,
        "algorithm.epoch_length": 1,
        "env.n_parcels": 6,
        "algorithm.rollout_evaluator.n_episodes": 4,
    }
    request = {"experiment": "loading_ppo", "overrides": overrides, "seed": 1}
    base = f"http://{offering}/v1"
    submitted = call(f"{base}/train", request)
    assert submitted is not None
    url = f"{base}/runs/{submitted['id']}"
    until(lambda: (call(url) or {})["state"] not in ("queued", "running"))
    run, points = call(url) or {}, call(f"{url}/metrics") or {}
    env = LoadingEnv(n_parcels=6)
    seen = {name: values.tolist() for name, values in env.reset(seed=1).items()}
    judged = call(f"{base}/evaluate", {"run": submitted["id"], "n_episodes": 3, "seed": 1}) or {}
    until(lambda: (call(f"{base}/runs/{judged['id']}") or {})["state"] not in ("queued", "running"))
    judged = call(f"{base}/runs/{judged['id']}") or {}
    acted = call(f"{url}/compute_action", {"observation": seen, "actor_id": ["pick", 0]}) or {}
    assert run["state"] == "succeeded", run["error"]
    with RunContext(
        config_dirs=[CONF],
        experiment="loading_ppo",
        overrides=overrides,
        seed=1,
        silent=True,
        run_dir=tmp_path / "run",
    ) as rc:
        assert rc.config_sha256 == run["config_sha256"]
        rc.train()
        here = {name: value for name, value in rc.metrics[0].items() if "Events/" in name}
        assert rc.evaluate(n_episodes=3, seed=1).statistics == judged["result"]["statistics"]
        assert rc.compute_action(env.reset(seed=1), env=env) == acted["action"]
    there = {point["name"]: point["value"] for point in points["data"]}
    assert len(here) > 30
    assert here == {name: there[name] for name in here}


def test_a_yard_has_bounds() -> None:
    for name, value in ("n_parcels", 1001), ("sizes", [1] * 101), ("sizes", [0]), ("capacity", 101):
        with (
            pytest.raises(InvalidSpecificationError, match=f"env.{name}"),
            RunContext(
                config_dirs=[CONF], experiment="loading_ppo", overrides={f"env.{name}": value}, silent=True
            ) as rc,
        ):
            rc.train(1)


def test_the_check_of_environments_plays_sub_steps_by_their_masks() -> None:
    assert check_environment(LoadingEnv, ticks=300) == []


def test_the_module_says_what_the_environment_takes() -> None:
    tree = compose_run(config_dirs=[CONF], env="loading", seed=1).tree
    assert tree["env"]["n_parcels"] == 24
