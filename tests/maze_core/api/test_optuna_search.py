"""A search with Optuna: every trial a job of a multirun, reproducible one at a time, clear without the extra."""

import builtins
import contextlib
import json
import shutil
import sys

import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext
from maze_core.api.multirun_report import JobsReporter
from maze_core.config.multirun import OptunaSearchConfig, ParameterConfig
from maze_core.errors import JobFailedError
from maze_core.metrics import SilentReporter
from maze_core.runners.optuna_search import OptunaSearch
from maze_core.runners.search import Trial, open_search

QUICK = {
    "algorithm.n_epochs": 1,
    "algorithm.checkpoint_every": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 16,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "runner.normalization_samples": 8,
    "runner.n_envs": 2,
}
OF_GAMMA = {
    "_target_": "maze_core.OptunaSearchConfig",
    "n_trials": 2,
    "space": {"algorithm.gamma": {"low": 0.5, "high": 0.99}},
}
FEW = {"sweep.n_trials": 3, "sweep.n_startup_trials": 2}
SPACE = {
    "a.lr": ParameterConfig(low=1e-4, high=1e-1, log=True),
    "a.n": ParameterConfig(low=2, high=8, step=2, type="int"),
    "a.units": ParameterConfig(choices=[[8], [16, 16], None]),
}


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"low": 1, "high": 4, "step": 0.5, "type": "int"}, "whole numbers"),
        ({"low": 1.5, "high": 4, "type": "int"}, "whole numbers"),
        ({"low": 1, "high": 4.5, "type": "int", "log": True}, "whole numbers"),
        ({"low": 1, "high": 1e300, "type": "int"}, "at most 2"),
        ({"low": 1.0, "high": 4.0, "step": 1e-300}, "step has to fit"),
        ({"low": 1.0, "high": 4.0, "step": 3.5}, "step has to fit"),
        ({"low": -1.7e308, "high": 1.7e308}, "too far apart"),
        ({"low": 0.0, "high": float("inf")}, "finite"),
        ({"low": float("nan"), "high": 1.0}, "finite"),
        ({"choices": [[8], [16], [8]]}, "twice"),
    ],
)
def test_a_range_that_no_search_can_draw_from_is_refused(facts, says):
    with pytest.raises(InvalidSpecificationError, match=says):
        ParameterConfig(**facts)


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
    with pytest.raises(InvalidSpecificationError, match="n_startup_trials is 2 there and 8 here"):
        RunContext(run_dir=tmp_path / "a", experiment="optuna_search", multirun=True)
    shutil.move(tmp_path / "a" / "sweep.json", tmp_path / "sweep.json")
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
            seed=3,
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


@pytest.mark.parametrize("stopped_after", [1, 3, 5])
def test_a_search_that_was_stopped_asks_what_one_asks_that_was_not(optuna, stopped_after):
    choices = [0, False, 1.0, True, 1, None]  # of which some are equal
    config = OptunaSearchConfig(
        space={**SPACE, "a.x": ParameterConfig(choices=choices)}, n_startup_trials=2, n_trials=8
    )

    def searched(until, trials=()):
        search, known = OptunaSearch(config, 1, trials), list(trials)
        for number in range(until):
            if number >= len(known):
                known.append(Trial(values=search.ask(number), is_told=False, value=None))
            if not known[number].is_told:
                values = known[number].values
                value = None if number == 2 else values["a.lr"] + values["a.n"]
                search.tell(number, value)
                known[number] = Trial(values=values, is_told=True, value=value)
        return known

    before = searched(stopped_after)
    before[-1] = Trial(values=before[-1].values, is_told=False, value=None)  # it was running
    assert repr(searched(8, before)) == repr(searched(8))


class Killed(BaseException):
    """Nothing cleans up after it."""


class StopsIn(JobsReporter):
    """Ends the search in the midst of a trial."""

    def __init__(self, job, error=None):
        self.job, self.error, self.is_reached = job, error, False

    def started(self, job, choices):
        stops = self

        class OfJob(SilentReporter):
            def metrics(self, epoch, step, values):
                stops.is_reached |= job == stops.job and epoch == 1
                if stops.is_reached and stops.error:
                    raise stops.error

        return OfJob()


@pytest.mark.parametrize("error", [None, Killed()])
def test_a_search_that_was_stopped_or_killed_goes_on_and_ends_as_one_that_was_not(optuna, tmp_path, error):
    def search(name, n_trials=4, **arguments):
        return RunContext(
            run_dir=tmp_path / name,
            env=lambda: GymMazeEnv("CartPole-v1"),  # so that the trials run here
            experiment="of_lr",
            config_dirs=[tmp_path / "conf"],
            multirun=True,
            overrides={**QUICK, **FEW, "algorithm.n_epochs": 2, "sweep.n_trials": n_trials},
            **arguments,
        )

    def found(context):
        return [(job.choices, job.best_return, job.status) for job in context.sweep.jobs]

    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "of_lr.yaml").write_text(
        "# @package _global_\n# A search.\nsweep:\n  _target_: maze_core.config.multirun.OptunaSearchConfig\n"
        "  space: {algorithm.lr: {low: 0.001, high: 0.1}, algorithm.gamma: {choices: [0.9, 0.99]}}\n"
    )
    with search("whole", seed=1) as context:
        context.train()
        whole = found(context)
    reporter = StopsIn(1, error)
    with search("parts", seed=1) as context, contextlib.suppress(Killed):
        context.train(reporter=reporter, cancelled=lambda: reporter.is_reached)
    stored = json.loads((tmp_path / "parts" / "sweep.json").read_text())
    assert [job["status"] for job in stored["jobs"]] == ["done", "waiting" if error else "cancelled"]
    with search("parts") as again:  # its seeds are those of the directory
        assert len(again.config) == 2
        again.train()
        assert found(again) == whole
    with search("parts") as complete:  # nothing is left to run
        complete.train()
        assert found(complete) == whole
        assert [policy.servable for policy in complete.policy] == [True] * 4
    with search("parts", n_trials=5) as more:  # the same search, of more trials
        more.train()
        assert found(more)[:4] == whole
        assert len(found(more)) == 5
    with pytest.raises(InvalidSpecificationError, match="holds a search"):
        RunContext(run_dir=tmp_path / "parts", multirun=True, algorithm="ppo,a2c")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def no_optuna(name, *args, **kwargs):
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_optuna)
    with pytest.raises(InvalidSpecificationError, match=r"pip install 'maze-service\[optuna\]'"):
        RunContext(experiment="optuna_search", multirun=True)


def test_a_search_at_random_needs_no_optuna_and_follows_from_its_seed(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    config = OptunaSearchConfig(space=SPACE, sampler="random", n_trials=50)
    drawn = [open_search(config, 1).ask(number) for number in range(50)]
    assert all(1e-4 <= values["a.lr"] <= 1e-1 and values["a.n"] in (2, 4, 6, 8) for values in drawn)
    assert {repr(values["a.units"]) for values in drawn} == {"[8]", "[16, 16]", "None"}
    assert {values["a.n"] for values in drawn} == {2, 4, 6, 8}
    assert sum(values["a.lr"] < 10**-2.5 for values in drawn) in range(15, 36)  # half of a logarithmic range
    search = open_search(config, 1, [Trial(values=drawn[0], is_told=True, value=1.0)])
    assert search.is_told(0)
    assert search.ask(1) == drawn[1]
    assert open_search(config, 2).ask(1) != drawn[1]


def test_parameters_of_a_search_are_as_good_as_their_seeds_in_the_mean(tmp_path):
    def search(name, **arguments):
        overrides = {**QUICK, "sweep": {**OF_GAMMA, "sampler": "random"}, "algorithm.lr": [0.01]}
        return RunContext(
            tmp_path / name, algorithm="ppo", seed=[1, 2], multirun=True, overrides=overrides, **arguments
        )

    with search("whole") as context:
        reports = context.train()
        sweep, configs = context.sweep, context.config
    assert [job.choices["seed"] for job in sweep.jobs] == [1, 2, 1, 2]
    assert len({job.choices["algorithm.gamma"] for job in sweep.jobs}) == 2
    assert {config["algorithm"]["lr"] for config in configs} == {0.01}
    values = [report.counters.best_value for report in reports]
    assert [one.value for one in sweep.parameters] == [
        (values[0] + values[1]) / 2,
        (values[2] + values[3]) / 2,
    ]
    better = max(range(2), key=lambda trial: sweep.parameters[trial].value)
    assert sweep.best.job // 2 == better
    reporter = StopsIn(1)
    with search("parts") as context:
        context.train(reporter=reporter, cancelled=lambda: reporter.is_reached)
    with search("parts") as again:
        again.train()
        assert [(job.choices, job.best_return) for job in again.sweep.jobs] == [
            (job.choices, job.best_return) for job in sweep.jobs
        ]


@pytest.mark.parametrize("where", ["processes", "here"])
def test_a_search_gives_up_what_does_not_keep_up_and_goes_on_as_one_that_was_not_stopped(
    optuna, tmp_path, where
):
    node = {
        "_target_": "maze_core.OptunaSearchConfig",
        "n_trials": 5,
        "n_startup_trials": 2,
        "pruner": "successive_halving",
        "space": {"algorithm.lr": {"low": 1e-5, "high": 1.0, "log": True}},
    }
    overrides = {**QUICK, "algorithm.n_epochs": 12, "algorithm.n_rollout_steps": 64, "sweep": node}
    own = {"env": lambda: GymMazeEnv("CartPole-v1")} if where == "here" else {"launcher": {"n_jobs": 1}}

    def search(name):
        return RunContext(tmp_path / name, algorithm="ppo", seed=3, multirun=True, overrides=overrides, **own)

    def found(context):
        return [(job.choices, job.best_return, job.pruned_at, job.pruned_value) for job in context.sweep.jobs]

    with search("whole") as context:
        context.train()
        whole, best = found(context), context.sweep.best
    pruned = [pruned_at for *_, pruned_at, _ in whole if pruned_at is not None]
    assert pruned
    assert len(pruned) < 5
    assert set(pruned) <= {1, 3, 9}
    assert all((value is None) == (at is not None) for _, value, at, _ in whole)
    assert best.best_return == max(value for _, value, *_ in whole if value is not None)
    reporter = StopsIn(2)
    with search("parts") as context:
        context.train(reporter=reporter, cancelled=lambda: reporter.is_reached)
    with search("parts") as again:
        again.train()
        assert found(again) == whole


def test_a_trial_that_was_given_up_with_what_is_no_number_has_failed(optuna):
    config = OptunaSearchConfig(space=SPACE, n_startup_trials=1)
    told = [
        Trial(values=values, is_told=True, value=value, pruned_at=1)
        for values, value in zip(asked(1, [1.0, 2.0]), (float("nan"), None), strict=True)
    ]
    failed = [Trial(values=trial.values, is_told=True) for trial in told]
    assert repr(OptunaSearch(config, 1, told).ask(2)) == repr(OptunaSearch(config, 1, failed).ask(2))


def test_a_pruner_and_several_seeds_contradict_each_other(tmp_path):
    node = {**OF_GAMMA, "sampler": "random", "pruner": "median"}
    with pytest.raises(InvalidSpecificationError, match="give one seed"):
        RunContext(algorithm="ppo", seed=[1, 2], multirun=True, overrides={"sweep": node})
