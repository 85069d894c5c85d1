"""CartPole is solved over several seeds; 195 (v0) and 475 (v1) are the registered thresholds."""

import pytest

from maze_core import RunContext


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_a2c_solves_cartpole_v0(seed, tmp_path):
    overrides = {"env.name": "CartPole-v0", "algorithm.target_return": 200.0}
    with RunContext(run_dir=tmp_path, algorithm="a2c", overrides=overrides, seed=seed) as context:
        context.train()
        assert context.evaluate(20, seed=99).mean_return >= 195


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_defaults_solve_cartpole_v1(seed, tmp_path):
    with RunContext(run_dir=tmp_path, overrides={"env.name": "CartPole-v1"}, seed=seed) as context:
        context.train()
        assert context.evaluate(20, seed=99).mean_return >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_arguments_at_all_solve_cartpole(seed, tmp_path):
    with RunContext(run_dir=tmp_path, seed=seed) as context:
        context.train()
        assert context.evaluate(20, seed=99).mean_return >= 195


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_evolution_solves_cartpole_v1(seed, tmp_path):
    with RunContext(run_dir=tmp_path, experiment="cartpole_es", seed=seed) as context:
        context.train()
        assert context.evaluate(20, seed=99).mean_return >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_impala_solves_cartpole_v1_though_older_weights_act(seed, tmp_path):
    with RunContext(run_dir=tmp_path, experiment="cartpole_impala", seed=seed) as context:
        assert context.train().metrics["eval/mean_return"] >= 475
