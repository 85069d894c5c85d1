"""The console reporter: a line per epoch without a terminal, a bar with one, a table at the end."""

import io

import pytest
from rich.console import Console

from maze_core.api.console import ConsoleReporter, duration, number, rollout_table, training_table
from maze_core.rollout.episodes import EpisodeRecord

VALUES = {"train/episode_return": 20.25, "eval/mean_return": 100.0, "time/env_steps_per_s": 12345.6}


def console(*, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=200)


def text(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def one_epoch(reporter: ConsoleReporter, epoch: int = 1, **values: float) -> None:
    reporter.phase("training")
    reporter.metrics(epoch, 1024 * epoch, {**VALUES, **values})
    reporter.progress(epoch=epoch, n_epochs=3, env_steps=1024, fraction=epoch / 3, eta_s=65.0)


def test_without_a_terminal_each_epoch_is_a_line():
    target = console()
    with ConsoleReporter(target) as reporter:
        one_epoch(reporter, 1)
        one_epoch(reporter, 2)
    lines = text(target).splitlines()
    assert len(lines) == 2
    assert lines[0] == "epoch 1/3  return 20.2  eval 100.0  steps/s 12,346  ETA 1:05"


def test_on_a_terminal_there_is_a_bar():
    target = console(is_terminal=True)
    with ConsoleReporter(target) as reporter:
        one_epoch(reporter, 3)
    assert "3/3" in text(target)
    assert "steps/s 12,346" in text(target)


def test_the_best_evaluation_is_remembered():
    reporter = ConsoleReporter(console())
    for epoch, score in ((1, 5.0), (2, 9.0), (3, 7.0)):
        one_epoch(reporter, epoch, **{"eval/mean_return": score})
    assert reporter.best == (2, 9.0)


def test_metrics_without_an_evaluation_show_a_dash():
    target = console()
    reporter = ConsoleReporter(target)
    reporter.metrics(1, 10, {})
    reporter.progress(epoch=1, n_epochs=None, env_steps=10, fraction=None, eta_s=None)
    assert "eval –" in text(target)
    assert reporter.best is None


def test_episodes_of_a_rollout_are_counted():
    target = console(is_terminal=True)
    with ConsoleReporter(target, total=2, unit="episode") as reporter:
        for index, episode_return in enumerate((10.0, 20.0)):
            record = EpisodeRecord(
                index=index,
                seed=index,
                episode_return=episode_return,
                length=1,
                terminated=True,
                truncated=False,
                trajectory=None,
            )
            reporter.episode(record)
            reporter.progress(epoch=None, n_epochs=None, env_steps=None, fraction=0.5, eta_s=None)
    assert "mean return 15.0" in text(target)
    assert "2/2" in text(target)


def test_warnings_are_printed_as_they_are_and_details_are_not():
    target = console()
    reporter = ConsoleReporter(target)
    reporter.log("warning", "[bold]careful[/bold]")
    reporter.log("debug", "a detail")
    assert text(target) == "warning: [bold]careful[/bold]\n"


def test_the_table_of_a_training_run_names_its_checkpoint(tmp_path):
    report = {
        "stop_reason": "completed",
        "epoch": 3,
        "env_steps": 12288,
        "duration_s": 61.0,
        "metrics": VALUES,
        "content_sha256": "c" * 64,
    }
    table = training_table(report, best=(2, 150.0), run_dir=tmp_path, config_sha256="a" * 64)
    for part in (
        "completed",
        "12,288",
        "1:01",
        "150.0 at epoch 2",
        str(tmp_path / "checkpoints"),
        "a" * 64,
        "c" * 64,
    ):
        assert part in table


def test_the_table_of_a_rollout_has_its_interval():
    report = {
        "stop_reason": "completed",
        "n_episodes": 2,
        "mean_return": 10.0,
        "std_return": 1.0,
        "ci95": [1.0, 19.0],
        "lengths": [10, 12],
    }
    table = rollout_table(report, config_sha256="a" * 64)
    assert "1.0 to 19.0" in table
    assert "11.0" in table


def test_a_rollout_without_episodes_has_dashes():
    report = {
        "stop_reason": "cancelled",
        "n_episodes": 0,
        "mean_return": None,
        "std_return": None,
        "ci95": None,
    }
    table = rollout_table(report, config_sha256="a")
    assert "– ± –" in table


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "–"), (0.0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03")]
)
def test_durations_are_for_people(seconds, shown):
    assert duration(seconds) == shown


def test_numbers_are_for_people():
    assert number(float("nan")) == "–"
    assert number(1234.56) == "1,234.6"
