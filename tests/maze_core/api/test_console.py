"""The console reporter: a row per epoch, a bar on a terminal, a table at the end."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from maze_core.api.console import ConsoleReporter, EpochTable, duration, number, rollout_table, training_table
from maze_core.evaluation.evaluate import EvalReport, RolloutReport
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


def test_without_a_terminal_each_epoch_is_a_row_of_a_table():
    target = console()
    with ConsoleReporter(target) as reporter:
        one_epoch(reporter, 1)
        one_epoch(reporter, 2)
    header, *rows = [line.split() for line in text(target).splitlines()]
    assert header == ["epoch", "env", "steps", "return", "eval", "steps/s", "ETA"]
    assert rows == [
        ["1/3", "1,024", "20.2", "100.0", "12,346", "1:05"],
        ["2/3", "2,048", "20.2", "100.0", "12,346", "1:05"],
    ]


def test_on_a_terminal_there_is_a_bar():
    target = console(is_terminal=True)
    with ConsoleReporter(target) as reporter:
        one_epoch(reporter, 3)
    assert "3/3" in text(target)
    assert "steps/s 12,346" in text(target)


def test_a_column_without_room_is_left_out_and_the_needed_ones_stay():
    values = {"step": 1.0, "train/episode_return": 1.0, "train/policy_loss": 0.5, "train/entropy": 0.1}
    wide, narrow = (EpochTable(room).lines(values, epoch="1/2", eta="0:01") for room in (None, 50))
    assert "policy loss" in wide[0]
    assert max(map(len, narrow)) <= 50
    assert narrow[0].split() == ["epoch", "return", "eval", "steps/s", "ETA"]


def test_the_header_comes_back_after_a_screenful():
    table = EpochTable(None)
    lines = [line for _ in range(26) for line in table.lines({"step": 1.0}, epoch="1/2", eta="0:01")]
    assert [index for index, line in enumerate(lines) if "epoch" in line] == [0, 26]


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_of_the_bar_is_cut_on_a_usual_terminal(width):
    target = Console(file=io.StringIO(), force_terminal=True, width=width)
    with ConsoleReporter(target) as reporter:
        reporter.phase("checkpointing")
        one_epoch(reporter, 3)
    assert "…" not in text(target)


def test_metrics_without_an_evaluation_show_a_dash():
    target = console()
    reporter = ConsoleReporter(target)
    reporter.metrics(1, 10, {})
    reporter.progress(epoch=1, n_epochs=None, env_steps=10, fraction=None, eta_s=None)
    assert text(target).splitlines()[1].split() == ["1/…", "10", "–", "–", "–", "–"]


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
        "best_epoch": 2,
        "best_value": 150.0,
        "env_steps": 12288,
        "duration_s": 61.0,
        "metrics": VALUES,
        "content_sha256": "c" * 64,
    }
    table = training_table(report, run_dir=tmp_path, config_sha256="a" * 64)
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
    summary = EvalReport(
        mean_return=10.0,
        std_return=1.0,
        ci95=(1.0, 19.0),
        returns=[9.0, 11.0],
        lengths=[10, 12],
        seeds=[1, 2],
    )
    report = RolloutReport(
        summary=summary, episodes=[], stop_reason="completed", saved_to=Path("rollouts/001")
    )
    table = rollout_table(report, config_sha256="a" * 64)
    assert "1.0 to 19.0" in table
    assert "11.0" in table
    assert "rollouts/001" in table


def test_a_rollout_without_episodes_has_dashes():
    report = RolloutReport(summary=EvalReport.from_episodes([]), episodes=[], stop_reason="cancelled")
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
