"""Runs of the learning table are remembered, and summed up as the page says."""

import pytest

from benchmarks import learning
from benchmarks.learning import TASKS, Results, interquartile_mean, summary
from maze_core.config.compose import compose_run

TASK = TASKS["cartpole_ppo"]
RUN = {"best": 500.0, "last": 123.456789, "env_steps": 100_000}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("values", "expected"), [([3], 3), ([1, 100], 50.5), ([9, 1, 2, 4], 3), ([1, 2, 3, 4, -100], 2.0)]
)
def test_the_mean_of_the_middle_half_leaves_out_a_quarter_at_each_end(values, expected):
    """Of five values the second and the fourth count by three quarters: (0.75 + 2 + 2.25) / 2.5."""
    assert interquartile_mean(values) == pytest.approx(expected)


def test_a_cell_has_the_mean_half_of_its_interval_and_the_middle():
    """t(0.975, 4) = 2.776: 2.776 · √2.5 / √5 = 1.96."""
    assert summary([1, 2, 3, 4, 5]) == "3.0 ± 2.0 (3.0)"
    assert (summary([3]), summary([])) == ("3.0", "")


def test_a_run_is_remembered_and_not_asked_for_again():
    assert Results(TASK).lacks("ours", 2)
    Results(TASK).add("ours", 2, RUN)
    Results(TASK).add("zoo", 1, RUN)
    known = Results(TASK)
    assert not known.lacks("ours", 2)
    assert known.lacks("ours", 1)
    assert known.runs["ours"] == [{"seed": 2, **RUN, "last": 123.457}]
    assert not known.lacks("zoo", 1)


def test_runs_of_an_experiment_that_changed_are_forgotten_and_those_of_others_kept(monkeypatch):
    Results(TASK).add("ours", 1, RUN)
    Results(TASK).add("zoo", 1, RUN)
    changed = {"config": {"algorithm": {"lr": 1.0}}}
    monkeypatch.setattr(learning, "config_module", lambda *_: changed)
    assert Results(TASK).lacks("ours", 1)
    assert not Results(TASK).lacks("zoo", 1)


@pytest.mark.parametrize("name", TASKS)
def test_an_experiment_trains_as_long_as_what_it_is_shown_beside(name):
    chosen = compose_run("train", experiment=name).tree["algorithm"]
    assert TASKS[name].n_env_steps in (None, chosen.get("total_env_steps"))
    assert chosen["_target_"].lower() == f"maze_core.{TASKS[name].algorithm}algorithmconfig"
