"""A search with Optuna: every trial a job of a multirun, reproducible one at a time, clear without the extra."""

import builtins

import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext
from maze_core.config.search import OptunaSearchConfig, ParameterConfig
from maze_core.errors import JobFailedError
from maze_core.runners.optuna_search import OptunaSearch

QUICK = {
    "algorithm.n_epochs": 1,
    "algorithm.checkpoint_every": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 16,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "runner.normalization_samples": 8,
    "runner.n_envs": 2,
}
FEW = {"sweep.n_trials": 3, "sweep.n_startup_trials": 2}
SPACE = {
    "a.lr": ParameterConfig(low=1e-4, high=1e-1, log=True),
    "a.n": ParameterConfig(low=2, high=8, step=2, type="int"),
    "a.units": ParameterConfig(choices=[[8], [16, 16], None]),
}


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna", reason="the extra optuna is not installed")


def asked(seed, answers):
    """What a search asks when it is told these answers."""
    search = OptunaSearch(OptunaSearchConfig(space=SPACE, n_startup_trials=2), seed)
    values = []
    for job, answer in enumerate(answers):
        values.append(search.ask(job))
        search.tell(job, answer)
    return values


def test_values_lie_in_their_space_and_follow_from_seed_and_answers(optuna, capfd):
    answers = [1.0, 2.0, None, 0.5, 3.0, 1.0]
    values = asked(1, answers)
    assert all(1e-4 <= value["a.lr"] <= 1e-1 and value["a.n"] in (2, 4, 6, 8) for value in values)
    assert all(value["a.units"] in ([8], [16, 16], None) for value in values)
    assert asked(1, answers) == values
    assert asked(2, answers) != values
    assert asked(1, [-answer if answer else answer for answer in answers])[-1] != values[-1]
    assert capfd.readouterr().err == ""


def test_a_seed_of_the_search_outranks_the_runs(optuna):
    config = OptunaSearchConfig(space=SPACE, seed=5)
    assert OptunaSearch(config, 1).ask(0) == OptunaSearch(config, 2).ask(0)


def test_a_search_runs_its_trials_and_knows_the_best(optuna, tmp_path):
    overrides = {**QUICK, **FEW}
    with RunContext(
        run_dir=tmp_path / "a", experiment="optuna_search", multirun=True, overrides=overrides, seed=1
    ) as context:
        assert context.config == []
        reports = context.train()
        sweep = context.sweep
        assert len(reports) == len(context.config) == len(context.policy) == 3
    values = [report.counters.best_value for report in reports]
    assert [record.best_return for record in sweep.jobs] == values
    assert sweep.best.best_return == max(values)
    assert set(sweep.best.choices) == {"algorithm.lr", "algorithm.entropy_coef", "algorithm.batch_size"}
    assert (tmp_path / "a" / "sweep.json").exists()
    with pytest.raises(InvalidSpecificationError, match="not empty"):
        RunContext(run_dir=tmp_path / "a", experiment="optuna_search", multirun=True)


def test_a_search_is_reproducible_also_where_it_runs_here_and_trials_that_fail_are_told(optuna, tmp_path):
    def of(name, make):
        with RunContext(
            run_dir=tmp_path / name,
            env=make,
            algorithm="ppo",
            multirun=True,
            experiment="search_here",
            config_dirs=[tmp_path / "conf"],
            overrides=QUICK,
            seed=1,
        ) as context:
            outcomes = context.train()
            return outcomes, [record.choices for record in context.sweep.jobs]

    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "search_here.yaml").write_text(
        "# @package _global_\n# A small search.\nsweep:\n"
        "  _target_: maze_core.OptunaSearchConfig\n  n_trials: 3\n"
        "  space: {algorithm.gamma: {low: 0.5, high: 1.5}}\n"
    )
    first, second = (of(name, lambda: GymMazeEnv("CartPole-v1")) for name in ("a", "b"))
    assert first[1] == second[1]
    for outcome, choices in zip(*first, strict=True):
        is_refused = choices["algorithm.gamma"] > 1  # gamma is at most 1, which no search knows
        assert isinstance(outcome, JobFailedError) == is_refused
    assert {isinstance(outcome, JobFailedError) for outcome in first[0]} == {True, False}


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def no_optuna(name, *args, **kwargs):
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_optuna)
    with pytest.raises(InvalidSpecificationError, match=r"pip install 'maze-service\[optuna\]'"):
        RunContext(experiment="optuna_search", multirun=True)
