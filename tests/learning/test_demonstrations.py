"""Clones are as good as their teacher, and demonstrations shorten what SAC has to learn; over several seeds."""

import numpy as np
import pytest

from maze_core import RunContext

RANDOM = -1200.0
"""What random actions get on Pendulum-v1."""


class Balance:
    """Balances CartPole for the whole 500 steps."""

    def act(self, step_key, observations, **_):
        x, speed, angle, falling = observations["observation"].T
        return {"action": (angle + 0.3 * falling + 0.01 * x + 0.03 * speed > 0).astype(np.int64)}


@pytest.fixture(scope="module")
def balanced(tmp_path_factory):
    """Recorded episodes of a rule, and what they were paid."""
    place = tmp_path_factory.mktemp("rule") / "episodes"
    played = RunContext(policy=Balance(), overrides={"env.name": "CartPole-v1"}, seed=1).rollout(
        10, save=place
    )
    assert played.summary.mean_return >= 450
    return place, played.summary.mean_return


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a_clone_is_as_good_as_the_rule_that_taught_it(balanced, seed, tmp_path):
    place, taught = balanced
    overrides = {"env.name": "CartPole-v1", "dataset.run": place}
    with RunContext(tmp_path, algorithm="bc", overrides=overrides, seed=seed) as context:
        context.train(n_epochs=8)
        assert context.evaluate(20, seed=99).mean_return >= 0.9 * taught


@pytest.mark.slow
def test_what_ppo_learnt_reaches_its_clones_through_a_data_set(tmp_path, monkeypatch):
    """A run, its rollout, a set of Minari, and clones of three seeds that are paid what the teacher is."""
    from maze_core import save_episodes

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    pole = {"env.name": "CartPole-v1"}
    with RunContext(tmp_path / "teacher", algorithm="ppo", overrides=pole, seed=1, silent=True) as teacher:
        teacher.train()
        played = teacher.rollout(20, seed=5)
        save_episodes("minari:learnt/pole-v0", teacher.recorded(played))
        taught = teacher.evaluate(20, seed=99).mean_return
    assert taught >= 475
    overrides = {**pole, "dataset.run": "minari:learnt/pole-v0"}
    for seed in (1, 2, 3):
        with RunContext(
            tmp_path / str(seed), algorithm="bc", overrides=overrides, seed=seed, silent=True
        ) as clone:
            clone.train(n_epochs=8)
            assert clone.evaluate(20, seed=99).mean_return >= 0.95 * taught


@pytest.mark.slow
def test_sac_takes_demonstrations_from_a_parquet_file(swung_up, tmp_path):
    from maze_core import load_episodes, save_episodes

    place, taught = swung_up
    file = tmp_path / "swings.parquet"
    save_episodes(file, load_episodes(place))
    overrides = {"env.name": "Pendulum-v1", "dataset.run": str(file)}
    with RunContext(tmp_path / "run", algorithm="sacfd", overrides=overrides, seed=1, silent=True) as context:
        context.train(n_epochs=15)
        learnt = context.evaluate(20, seed=99).mean_return
    assert learnt >= taught - 0.2 * (taught - RANDOM)


@pytest.fixture(scope="module")
def swung_up(tmp_path_factory):
    """Recorded episodes of SAC, and what they were paid."""
    with RunContext(
        tmp_path_factory.mktemp("teacher") / "run",
        algorithm="sac",
        overrides={"env.name": "Pendulum-v1"},
        seed=1,
    ) as teacher:
        teacher.train()
        played = teacher.rollout(50, seed=5, save=True)
    return played.saved_to, played.summary.mean_return


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("algorithm", "n_epochs"), [("bc", 30), ("sacfd", 15)])
def test_what_sac_learnt_on_pendulum_is_learnt_from_its_episodes(
    swung_up, seed, algorithm, n_epochs, tmp_path
):
    place, taught = swung_up
    overrides = {"env.name": "Pendulum-v1", "dataset.run": place, "algorithm.n_epochs": n_epochs}
    with RunContext(tmp_path, algorithm=algorithm, overrides=overrides, seed=seed) as context:
        context.train()
        found = context.evaluate(50, seed=99).mean_return
    assert found - RANDOM >= 0.9 * (taught - RANDOM)
