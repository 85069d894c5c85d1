"""The loop: evaluation follows the last update, best is kept apart from last, budgets end it, a cancel is heard."""

import itertools
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from maze_core.checkpoint import Checkpoint
from maze_core.metrics import SilentReporter
from maze_core.trainers.config import FitConfig
from maze_core.trainers.fit import Counters, Loop, Parts, TrainReport, UpdateReport, fit


class Journal(SilentReporter):
    """A trainer, an evaluation and a reporter that write down in which order they were called."""

    def __init__(self, evaluations=()):
        self.calls = []
        self.saved = []
        self.metrics_seen = []
        self._evaluations = itertools.chain(evaluations, itertools.repeat(0.0))

    def update(self, *, epoch, progress):
        self.calls.append(("update", epoch, progress))
        return UpdateReport(
            env_steps=10,
            metrics={"train/policy_loss": 1.0},
            episode_returns=[2.0, 4.0],
            episode_lengths=[2, 4],
        )

    def evaluate(self, epoch):
        self.calls.append(("evaluate", epoch))
        return {"eval/mean_return": next(self._evaluations)}

    def reset_envs(self, index):
        self.calls.append(("reset", index))

    def save(self, kind, metrics, *, is_best, is_last):
        self.saved.append((kind, is_best, is_last))

    def metrics(self, epoch, step, values):
        self.metrics_seen.append((epoch, step, dict(values)))

    def loop(self, counters=None, cancelled=lambda: False, **settings):
        config = FitConfig(**{"epoch_length": 2, "checkpoint_every": 100, "n_epochs": 10, **settings})
        return Loop(
            trainer=self,
            config=config,
            counters=counters or Counters(),
            evaluate=self.evaluate,
            reset_envs=self.reset_envs,
            save=self.save,
            reporter=self,
            cancelled=cancelled,
        )


def test_the_evaluation_follows_the_last_update_of_each_epoch():
    journal = Journal()
    report = fit(journal.loop(), 2)
    assert [call[0] for call in journal.calls] == ["update", "update", "evaluate"] * 2
    assert [call[1] for call in journal.calls] == [0, 0, 1, 1, 1, 2]
    assert report.stop_reason == "completed"
    assert (report.counters.env_steps, report.counters.updates, report.counters.episodes) == (40, 4, 8)


def test_the_reporter_is_told_what_goes_on():
    journal, phases = Journal(), []
    journal.phase = phases.append
    fit(journal.loop(), 2)
    fit(journal.loop(cancelled=lambda: True), 1)
    assert phases == ["training", "evaluating"] * 2 + ["training"]


def test_best_is_saved_when_it_happens_and_the_end_is_saved_as_last():
    journal = Journal(evaluations=[1.0, 5.0, 2.0, 3.0])
    report = fit(journal.loop(), 4)
    assert journal.saved == [("best", True, False), ("best", True, False), ("last", False, True)]
    assert (report.counters.best_value, report.counters.best_epoch) == (5.0, 2)


def test_an_evaluation_that_is_no_number_is_never_the_best_and_is_no_improvement():
    nan = float("nan")
    report = fit(Journal(evaluations=[nan, 5.0, nan, nan, 6.0]).loop(patience=2), 5)
    assert (report.counters.best_value, report.counters.best_epoch) == (5.0, 2)
    assert (report.stop_reason, report.counters.epoch) == ("patience", 4)


def test_of_two_equal_evaluations_the_later_is_the_best_but_does_not_reset_patience():
    journal = Journal(evaluations=[5.0, 5.0, 5.0, 5.0])
    report = fit(journal.loop(patience=2), 10)
    assert report.stop_reason == "patience"
    assert (report.counters.epoch, report.counters.best_epoch) == (3, 3)


def test_a_better_evaluation_begins_the_patience_anew():
    report = fit(Journal(evaluations=[1.0, 0.0, 2.0, 0.0, 0.0]).loop(patience=2), 10)
    assert (report.counters.epoch, report.counters.best_epoch) == (5, 3)


def test_where_nothing_judges_every_epoch_is_the_best_so_far_and_one_that_was_judged_stays_it():
    journal = Journal()
    evaluations = iter([{}, {}, {"eval/mean_return": 1.0}, {}])
    journal.evaluate = lambda epoch: next(evaluations)
    journal.update = lambda **given: UpdateReport(env_steps=1, metrics={})
    report = fit(journal.loop(), 4)
    assert journal.saved == [("best", True, False)] * 3 + [("last", False, True)]
    assert (report.counters.best_value, report.counters.best_epoch) == (1.0, 3)


def test_environments_are_reset_at_scheduled_checkpoints_and_nowhere_else():
    journal = Journal()
    fit(journal.loop(checkpoint_every=2), 5)
    assert [call for call in journal.calls if call[0] == "reset"] == [("reset", 1), ("reset", 2)]
    assert [kind for kind, _, _ in journal.saved] == ["best", "scheduled", "best", "scheduled", "last"]
    assert [is_last for _, _, is_last in journal.saved] == [False] * 4 + [True]


def test_a_scheduled_checkpoint_at_the_end_is_the_last_one():
    journal = Journal()
    fit(journal.loop(checkpoint_every=2), 2)
    assert journal.saved == [("best", True, False), ("scheduled", True, True)]


@pytest.mark.parametrize(
    ("settings", "reason", "epochs"),
    [
        ({"target_return": 4.0}, "target_reached", 3),
        ({"max_env_steps": 20}, "budget_env_steps", 1),
        ({"max_env_steps": 21}, "budget_env_steps", 2),
        ({"max_wall_s": 1e-9}, "budget_wall_clock", 1),
        ({"patience": 1}, "completed", 5),
    ],
)
def test_a_budget_ends_the_run_after_the_epoch_that_met_it(settings, reason, epochs):
    journal = Journal(evaluations=[1.0, 2.0, 4.0, 5.0, 6.0])
    report = fit(journal.loop(**settings), 5)
    assert (report.stop_reason, report.counters.epoch) == (reason, epochs)
    assert journal.saved[-1][2], "the end must be saved as last"


def timed(monkeypatch, journal, update_s, evaluation_s):
    """A loop whose updates and evaluations take these seconds, by epoch from 1; and what progress said when."""
    clock, told = SimpleNamespace(now=100.0), []
    update, evaluate = journal.update, journal.evaluate
    monkeypatch.setattr("maze_core.trainers.fit.time", SimpleNamespace(monotonic=lambda: clock.now))

    def slow_update(*, epoch, progress):
        clock.now += update_s(epoch + 1)
        return update(epoch=epoch, progress=progress)

    def slow_evaluate(epoch):
        clock.now += evaluation_s(epoch)
        return evaluate(epoch)

    journal.update, journal.evaluate = slow_update, slow_evaluate
    journal.progress = lambda **progress: told.append((clock.now, progress))
    return clock, told


def test_without_a_limit_no_last_epoch_and_no_end_is_foretold(monkeypatch):
    journal = Journal([1.0, 2.0, 4.0])
    _, told = timed(monkeypatch, journal, lambda epoch: 1.0, lambda epoch: 0.0)
    loop = journal.loop(n_epochs=0, target_return=4.0)
    assert loop.config.epochs_left(2_000_000) is None
    assert not Counters(epoch=2_000_000).is_complete(loop.config)
    fit(loop, None)
    said = [(each["n_epochs"], each["fraction"], each["eta_s"]) for _, each in told]
    assert said
    assert set(said) == {(None, None, None)}


@pytest.mark.parametrize(
    ("settings", "n_epochs"),
    [({"n_epochs": 20}, 20), ({"max_env_steps": 400, "n_epochs": 100}, 100), ({"max_wall_s": 60.0}, 100)],
)
def test_from_the_middle_on_the_end_is_foretold_within_a_fifth_whatever_budget_brings_it(
    monkeypatch, settings, n_epochs
):
    journal = Journal()
    clock, told = timed(
        monkeypatch, journal, lambda epoch: 0.1 if epoch < 4 else 1.0, lambda epoch: 0.2 + 0.02 * epoch
    )  # without learning at first, and with episodes that grow longer
    fit(journal.loop(**settings), n_epochs)
    (began, end), half = (100.0, clock.now), len(told) // 2
    for now, progress in told[half:-1]:
        assert progress["eta_s"] == pytest.approx(end - now, rel=0.2)
        assert progress["fraction"] == pytest.approx((now - began) / (end - began), abs=0.15)
    assert told[-1][1]["eta_s"] == 0.0
    assert told[-1][1]["fraction"] == 1.0


def test_seconds_of_earlier_attempts_count_for_the_budget_of_seconds(monkeypatch):
    journal = Journal()
    _, told = timed(monkeypatch, journal, lambda epoch: 1.0, lambda epoch: 0.0)
    loop = journal.loop(max_wall_s=10.0)
    loop.spent_s = 5.0
    report = fit(loop, 10)
    assert (report.stop_reason, report.counters.epoch) == ("budget_wall_clock", 3)
    assert told[0][1]["eta_s"] == pytest.approx(4.0)
    assert report.duration_s == pytest.approx(6.0)


def test_a_cancel_between_updates_saves_a_continued_checkpoint_and_counts_no_epoch():
    journal = Journal()
    answers = iter([False, False, False, True])
    report = fit(journal.loop(cancelled=lambda: next(answers)), 5)
    assert report.stop_reason == "cancelled"
    assert report.counters.epoch == 1
    assert journal.saved[-1] == ("continued", False, True)


def test_a_cancel_during_the_evaluation_counts_no_epoch_either():
    journal = Journal()
    journal.evaluate = lambda epoch: None
    report = fit(journal.loop(), 5)
    assert (report.stop_reason, report.counters.epoch) == ("cancelled", 0)
    assert journal.saved == [("continued", True, True)]


def test_the_next_call_goes_on_where_the_last_one_stopped_and_so_does_the_schedule():
    once, twice = Journal(), Journal()
    fit(once.loop(), 4)
    counters = Counters()
    fit(twice.loop(counters), 2)
    fit(twice.loop(counters), 2)
    updates = [call for call in once.calls if call[0] == "update"]
    assert [call for call in twice.calls if call[0] == "update"] == updates
    assert updates[-1] == ("update", 3, 0.35)


def test_beyond_the_configured_epochs_the_schedule_starts_anew():
    journal = Journal()
    fit(journal.loop(n_epochs=2, epoch_length=1), 5)
    assert [call[2] for call in journal.calls if call[0] == "update"] == [0.0, 0.5, 0.0, 0.5, 0.0]


def test_schedules_follow_a_budget_of_steps_that_ends_first_and_start_anew_beyond_it():
    """Updates of 10 steps, two in each of 10 epochs."""
    journal = Journal()
    fit(journal.loop(max_env_steps=40), 10)
    fit(journal.loop(Counters(env_steps=50), max_env_steps=40), 1)
    progress = [call[2] for call in journal.calls if call[0] == "update"]
    assert progress == [0.0, 0.25, 0.5, 0.75, 0.25, 0.5]


@pytest.mark.parametrize(
    ("policy", "critic", "learner"),
    [(False, None, "numpy"), (False, False, "numpy"), (False, True, "torch"), (True, False, "torch")],
)
def test_torch_computes_gradients_where_a_network_needs_it(policy, critic, learner):
    networks = [None if needs is None else SimpleNamespace(needs_torch=needs) for needs in (policy, critic)]
    assert Parts(env=None, policy=networks[0], critic=networks[1], agent_seed=0).learner == learner


def test_metrics_are_means_over_the_epoch_at_its_environment_step():
    journal = Journal()
    fit(journal.loop(), 1)
    ((epoch, step, values),) = journal.metrics_seen
    assert (epoch, step) == (1, 20)
    assert values["train/episode_return"] == 3.0
    assert values["train/policy_loss"] == 1.0


@pytest.mark.parametrize(
    ("counters", "settings", "is_complete"),
    [
        ({"epoch": 4}, {}, False),
        ({"epoch": 5}, {}, True),
        ({"epoch": 6, "stop_reason": "completed"}, {}, True),
        ({"epoch": 2, "stop_reason": "completed"}, {}, False),
        ({"epoch": 2, "stop_reason": "cancelled"}, {"patience": 1}, False),
        ({"epoch": 2, "stop_reason": "patience"}, {"patience": 1}, True),
        ({"epoch": 2, "stop_reason": "patience"}, {}, False),
        ({"epoch": 2, "stop_reason": "target_reached"}, {"target_return": 0.0}, True),
        ({"epoch": 2, "stop_reason": "target_reached"}, {"patience": 1}, False),
        ({"epoch": 2, "stop_reason": "budget_env_steps"}, {"max_env_steps": 1}, True),
        ({"epoch": 2, "stop_reason": "budget_wall_clock"}, {"max_wall_s": 1.0}, True),
    ],
)
def test_a_run_is_over_after_its_epochs_or_by_a_limit_of_its_own_settings(counters, settings, is_complete):
    """A limit given to one call of train ends that call, not the run."""
    assert Counters(**counters).is_complete(FitConfig(n_epochs=5, **settings)) == is_complete


def test_progress_speed_and_time_left_follow_the_clock(monkeypatch):
    """Every update takes ¼ s, an epoch of two ½ s; the second call starts its own clock."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("maze_core.trainers.fit.time", SimpleNamespace(monotonic=lambda: clock.now))
    journal, told = Journal(), []
    journal.progress = lambda **values: told.append(values)
    update = journal.update

    def slow(**given):
        clock.now += 0.25
        return update(**given)

    journal.update = slow
    counters = Counters()
    report = fit(journal.loop(counters), 2)
    assert report.duration_s == 1.0
    assert told == [
        {"epoch": 1, "n_epochs": 2, "env_steps": 20, "fraction": 0.5, "eta_s": 0.5},
        {"epoch": 2, "n_epochs": 2, "env_steps": 40, "fraction": 1.0, "eta_s": 0.0},
    ]
    fit(journal.loop(counters), 4)
    assert told[2] == {"epoch": 3, "n_epochs": 6, "env_steps": 60, "fraction": 0.5, "eta_s": 1.5}
    assert told[3]["eta_s"] == 1.0
    assert [values["time/env_steps_per_s"] for _, _, values in journal.metrics_seen] == [40.0] * 6


@pytest.mark.parametrize(("limit", "epochs"), [(10.0, 1), (10.1, 2), (20.0, 2)])
def test_a_wall_clock_budget_is_met_when_it_is_reached(monkeypatch, limit, epochs):
    """Every epoch takes 10 s, by a clock that did not begin with it."""
    journal = Journal()
    seconds = SimpleNamespace(monotonic=lambda: 99.0 + 10.0 * len(journal.calls))
    monkeypatch.setattr("maze_core.trainers.fit.time", seconds)
    journal.update = lambda **given: UpdateReport(env_steps=1, metrics={})
    report = fit(journal.loop(max_wall_s=limit), 5)
    assert (report.stop_reason, report.counters.epoch) == ("budget_wall_clock", epochs)


def test_without_an_evaluation_the_episodes_of_training_judge():
    journal = Journal()
    journal.evaluate = lambda epoch: {}
    report = fit(journal.loop(target_return=3.0), 5)
    assert (report.stop_reason, report.counters.epoch, report.counters.best_value) == (
        "target_reached",
        1,
        3.0,
    )


def test_a_last_checkpoint_tells_how_its_run_ended_but_not_how_long_it_took():
    counters = Counters(epoch=3, updates=6, stop_reason="patience")
    checkpoint = Checkpoint(
        identity={"counters": asdict(counters)}, tensors={}, provenance={"metrics": {"eval/mean_return": 2.0}}
    )
    report = TrainReport.of(checkpoint)
    assert report.to_dict() == {
        **asdict(counters),
        "metrics": {"eval/mean_return": 2.0},
        "duration_s": 0.0,
        "content_sha256": checkpoint.content_sha256,
        "weights_sha256": checkpoint.weights_sha256,
    }
    assert report.counters == counters


def test_where_no_episode_is_played_the_smallest_validation_loss_is_the_best_and_patience_counts_it():
    journal = Journal()
    losses = iter([3.0, -1.0, 2.0, 2.0])
    journal.evaluate = lambda epoch: {}
    journal.update = lambda **given: UpdateReport(env_steps=0, metrics={"validation/loss": next(losses)})
    report = fit(journal.loop(epoch_length=1, patience=2, target_return=0.5), 9)
    assert (report.stop_reason, report.counters.epoch) == ("patience", 4)
    assert (report.counters.best_value, report.counters.best_epoch) == (1.0, 2)


def test_an_episode_that_is_played_judges_before_the_validation_loss():
    journal = Journal(evaluations=[1.0, 2.0])
    losses = iter([1.0, 5.0])
    journal.update = lambda **given: UpdateReport(env_steps=0, metrics={"validation/loss": next(losses)})
    assert fit(journal.loop(epoch_length=1), 2).counters.best_value == 2.0
