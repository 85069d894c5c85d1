"""RunContext(multirun=True): one answer per job in order, in processes or here, the same run as on its own."""

import gc
import json
import os
import shutil
import subprocess
import sys

import psutil
import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext
from maze_core.api.multirun_report import JobsReporter
from maze_core.errors import ContextClosedError, JobFailedError
from maze_core.metrics import SilentReporter
from maze_core.rollout.recording import trajectory_to_bytes
from maze_core.rundir import RunDir

QUICK = {
    "env.name": "CartPole-v1",
    "algorithm.n_epochs": 1,
    "algorithm.checkpoint_every": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 16,
    "algorithm.rollout_evaluator.n_episodes": 1,
    "runner.normalization_samples": 8,
    "runner.n_envs": 2,
}
NAMES = ["CartPole-v1", "NoSuchEnv-v0", "Acrobot-v1"]
OF_ENVS = {**QUICK, "env.name": NAMES, "env.max_episode_steps": 20}


class Notes(JobsReporter):
    """Remembers what it is told."""

    def __init__(self):
        self.started_jobs, self.ended_jobs, self.epochs = [], [], []

    def started(self, job, choices):
        notes = self

        class OfJob(SilentReporter):
            def metrics(self, epoch, step, values):
                notes.epochs.append((job, epoch, step))

        self.started_jobs.append((job, choices))
        return OfJob()

    def ended(self, record):
        self.ended_jobs.append((record.job, record.status))


@pytest.fixture(scope="module")
def notes():
    return Notes()


@pytest.fixture(scope="module")
def playing():
    """Two jobs that play, and their processes."""
    with RunContext(policy="random_policy", multirun=True, seed=[1, 2]) as context:
        yield context


@pytest.fixture(scope="module")
def trained(tmp_path_factory, notes):
    run_dir = tmp_path_factory.mktemp("sweep")
    with RunContext(
        run_dir=run_dir, multirun=True, launcher={"n_jobs": 2}, overrides=OF_ENVS, seed=1
    ) as context:
        outcomes = context.train(reporter=notes)
        yield context, outcomes


def test_one_result_per_job_in_order_and_a_failing_one_takes_no_other_with_it(trained):
    _, outcomes = trained
    assert [isinstance(outcome, JobFailedError) for outcome in outcomes] == [False, True, False]
    assert [outcome.stop_reason for outcome in (outcomes[0], outcomes[2])] == ["completed", "completed"]
    failed = outcomes[1]
    assert (failed.job, failed.choices, failed.error_type) == (1, {"env.name": "NoSuchEnv-v0"}, "EnvError")
    assert "Job 1 (env.name=NoSuchEnv-v0) failed: EnvError" in str(failed)


def test_a_job_is_the_run_that_it_would_be_on_its_own(trained, tmp_path):
    context, outcomes = trained
    alone = {**OF_ENVS, "env.name": "Acrobot-v1"}
    with RunContext(run_dir=tmp_path, overrides=alone, seed=1) as single:
        assert single.config_sha256 == context.config_sha256[2]
        assert single.train().content_sha256 == outcomes[2].content_sha256


def test_every_property_and_verb_answers_with_a_list(trained, tmp_path):
    context, outcomes = trained
    assert [tree["env"]["name"] for tree in context.config] == NAMES
    assert [path.name for path in context.run_dir] == ["0", "1", "2"]
    policies, reports, rollouts = context.policy, context.evaluate(2, seed=3), context.rollout(1)
    for answer in (policies, reports, rollouts):
        assert answer[1] is outcomes[1]
    assert [len(reports[job].returns) for job in (0, 2)] == [2, 2]
    assert policies[0].observation_spaces != policies[2].observation_spaces
    assert [len(rollouts[job].episodes) for job in (0, 2)] == [1, 1]
    saved = context.save(tmp_path)
    assert RunContext.load(saved[2]).evaluate(2, seed=3).returns == reports[2].returns
    env = context.env_factory()[2]
    assert len(env.reset()["observation"]) == 6
    env.close()


def test_one_observation_is_acted_on_by_every_job(tmp_path):
    with RunContext(
        run_dir=tmp_path, multirun=True, overrides={**QUICK, "algorithm.lr": [0.1, 0.2]}
    ) as context:
        actions = context.compute_action([0.0, 0.0, 0.0, 0.0])
    assert [set(action) for action in actions] == [{"action"}, {"action"}]


def test_the_reporter_is_told_of_every_job(trained, notes):
    assert sorted(job for job, _ in notes.started_jobs) == [0, 1, 2]
    assert sorted(notes.ended_jobs) == [(0, "done"), (1, "failed"), (2, "done")]
    assert sorted(notes.epochs) == [(0, 1, 32), (2, 1, 32)]


def test_the_directory_tells_what_was_done(trained):
    context, outcomes = trained
    report = context.sweep
    stored = json.loads((report.run_dir / "sweep.json").read_text())
    assert [job["status"] for job in stored["jobs"]] == ["done", "failed", "done"]
    assert stored["jobs"][1]["error"]["type"] == "EnvError"
    assert stored["best"]["job"] == report.best.job == 0  # Acrobot's returns are negative
    assert report.best.best_return == outcomes[0].counters.best_value
    for job in (0, 2):
        run_dir = RunDir(report.run_dir / str(job))
        assert run_dir.read_config() == context.config[job]
        assert run_dir.checkpoint_path("best").exists()


def test_a_run_directory_is_gone_on_with_and_completed_jobs_are_not_repeated(trained):
    context, outcomes = trained
    notes = Notes()
    names = {**OF_ENVS, "env.name": [NAMES[2], NAMES[0]]}
    with pytest.raises(InvalidSpecificationError, match="another configuration"):
        RunContext(run_dir=context.sweep.run_dir, multirun=True, overrides=names, seed=1)
    with RunContext(run_dir=context.sweep.run_dir, multirun=True, overrides=OF_ENVS) as again:
        assert again.config_sha256 == context.config_sha256  # the seeds are those of the directory
        repeated = again.train(reporter=notes)
    assert [job for job, _ in notes.started_jobs] == [1]
    assert [repeated[job].content_sha256 for job in (0, 2)] == [
        outcomes[job].content_sha256 for job in (0, 2)
    ]


def test_a_second_call_trains_further_and_objects_that_cannot_be_sent_train_here(tmp_path):
    """One context in a process and one in this process, both twice: the same numbers."""
    quick = {**{key: value for key, value in QUICK.items() if key != "env.name"}, "algorithm.lr": [0.01]}
    seen = []

    def make():
        seen.append(os.getpid())
        return GymMazeEnv("CartPole-v1")

    ends = {}
    for name, env in (("there", {"name": "CartPole-v1"}), ("here", make)):
        with RunContext(run_dir=tmp_path / name, env=env, multirun=True, overrides=quick, seed=1) as context:
            context.train()
            (report,) = context.train(1)
            assert report.counters.epoch == 2
            ends[name] = report.weights_sha256
    assert set(seen) == {os.getpid()}
    assert ends["there"] == ends["here"]


def test_processes_that_were_asked_for_are_not_silently_left_out():
    with pytest.raises(InvalidSpecificationError, match="cannot be sent to another process"):
        RunContext(env=lambda: GymMazeEnv("CartPole-v1"), multirun=True, launcher="local", seed=[1, 2])


def test_a_cancel_begins_no_further_job(tmp_path):
    overrides = {**QUICK, "algorithm.lr": [0.1, 0.2]}
    with RunContext(run_dir=tmp_path, multirun=True, overrides=overrides) as context:
        outcomes = context.train(cancelled=lambda: True)
    assert [outcome.error_type for outcome in outcomes] == ["Cancelled", "Cancelled"]


def test_a_multirun_that_plays_does_not_train_and_plays_what_each_job_plays_alone():
    seeds = {"seeding.env_base_seed": [1, 2], "seeding.agent_base_seed": 3}
    with RunContext(policy="random_policy", multirun=True, overrides=seeds) as context:
        first, second = context.rollout(2, record=True)
        assert first.summary.seeds != second.summary.seeds
        with pytest.raises(InvalidSpecificationError, match="only plays"):
            context.train()
    alone = RunContext(policy="random_policy", overrides={**seeds, "seeding.env_base_seed": 2}).rollout(2)
    assert second.summary == alone.summary
    for there, here in zip(second.episodes, alone.episodes, strict=True):
        assert trajectory_to_bytes(there.trajectory) == trajectory_to_bytes(here.trajectory)


def test_jobs_play_in_processes_which_are_kept_for_the_next_call(trained):
    context, _ = trained
    before = set(psutil.Process().children())
    assert before  # those that trained
    context.rollout(1)
    context.evaluate(1)
    assert set(psutil.Process().children()) == before


def test_a_process_that_died_while_it_was_idle_is_replaced_and_a_context_that_nobody_holds_leaves_none():
    before = set(psutil.Process().children())
    context = RunContext(policy="random_policy", multirun=True, seed=[1])
    (first,) = context.rollout(1)
    (child,) = set(psutil.Process().children()) - before
    child.kill()
    child.wait()
    (again,) = context.rollout(1)
    assert again.summary == first.summary
    assert set(psutil.Process().children()) > before
    del context
    gc.collect()
    assert set(psutil.Process().children()) == before


def test_an_argument_that_cannot_work_is_refused_before_a_job_plays(trained):
    context, _ = trained
    for arguments in ({"n_episodes": -1}, {"deterministic": "yes"}, {"seed": -1}, {"videos": -1}):
        with pytest.raises(InvalidSpecificationError, match=next(iter(arguments))):
            context.rollout(**arguments)


def test_the_reporter_of_a_rollout_is_told_of_jobs_and_episodes(playing):
    class Episodes(JobsReporter):
        def __init__(self):
            self.told, self.endings = [], []

        def started(self, job, choices):
            told = self.told

            class OfJob(SilentReporter):
                def episode(self, record):
                    told.append((job, record.index, record.trajectory))

            return OfJob()

        def ended(self, record):
            self.endings.append((record.job, len(record.outcome.episodes)))

    reporter = Episodes()
    playing.rollout(2, reporter=reporter, record=True)
    assert sorted(reporter.told) == [(job, index, None) for job in (0, 1) for index in (0, 1)]
    assert sorted(reporter.endings) == [(0, 2), (1, 2)]


def test_a_cancelled_rollout_begins_no_further_job(playing):
    outcomes = playing.rollout(1, cancelled=lambda: True)
    assert [outcome.error_type for outcome in outcomes] == ["Cancelled", "Cancelled"]
    assert [len(outcome.episodes) for outcome in playing.rollout(1)] == [1, 1]


def test_jobs_that_went_back_to_a_checkpoint_act_and_train_from_there(tmp_path):
    overrides = {**QUICK, "algorithm.lr": [0.01, 0.02]}
    with RunContext(run_dir=tmp_path, multirun=True, overrides=overrides, seed=1) as context:
        context.train(1)
        of_one = context.rollout(2, record=True)
        of_two = context.train(1)
        context.resume("epoch:1")
        again = context.rollout(2, record=True)
        for before, now in zip(of_one, again, strict=True):
            for one, other in zip(before.episodes, now.episodes, strict=True):
                assert trajectory_to_bytes(one.trajectory) == trajectory_to_bytes(other.trajectory)
        repeated = context.train(1)
    assert [report.counters.epoch for report in repeated] == [2, 2]
    assert [report.content_sha256 for report in repeated] == [report.content_sha256 for report in of_two]


@pytest.mark.parametrize("env", ["there", "here"])
def test_a_job_that_was_cancelled_goes_on_where_it_stopped(tmp_path, env):
    overrides = {**QUICK, "algorithm.n_epochs": 1000, "algorithm.checkpoint_every": 1000}
    chosen = {} if env == "there" else {"env": lambda: GymMazeEnv("CartPole-v1")}
    if chosen:
        overrides = {key: value for key, value in overrides.items() if not key.startswith("env.")}
    metrics = tmp_path / "0" / "metrics.jsonl"
    with RunContext(run_dir=tmp_path, multirun=True, overrides=overrides, seed=[1], **chosen) as context:
        (cut,) = context.train(
            cancelled=lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 3
        )
        assert cut.stop_reason == "cancelled"
        (report,) = context.train(1)
    assert report.counters.epoch == cut.counters.epoch + 1 >= 4


def test_calls_that_end_between_checkpoints_give_the_same_bits_here_and_there(tmp_path):
    common = {key: value for key, value in QUICK.items() if not key.startswith("env.")}
    overrides = {**common, "algorithm.n_epochs": 3, "algorithm.checkpoint_every": 3}
    ends = []
    for name, env in (("there", {"name": "CartPole-v1"}), ("here", lambda: GymMazeEnv("CartPole-v1"))):
        with RunContext(
            run_dir=tmp_path / name, env=env, multirun=True, overrides=overrides, seed=[1]
        ) as context:
            ends.append([context.train(1)[0].weights_sha256 for _ in range(3)])
    assert ends[0] == ends[1]


def test_train_again_goes_on_with_the_jobs_that_are_not_complete_and_then_with_all(tmp_path):
    overrides = {**QUICK, "algorithm.n_epochs": 2, "algorithm.lr": [0.01, 0.02]}
    ended = []

    class Ends(JobsReporter):
        def ended(self, record):
            ended.append(record.job)

    with RunContext(
        run_dir=tmp_path, multirun=True, launcher={"n_jobs": 1}, overrides=overrides, seed=1
    ) as context:
        first, second = context.train(reporter=Ends(), cancelled=lambda: bool(ended))
        assert (first.counters.epoch, second.error_type) == (2, "Cancelled")
        again = context.train()
        assert again[0] is first
        assert [report.counters.epoch for report in again] == [2, 2]
        assert [report.counters.epoch for report in context.train()] == [4, 4]


def test_seeds_that_were_drawn_are_found_again_though_the_first_job_has_none(tmp_path):
    def grid():
        overrides = {
            **{key: value for key, value in QUICK.items() if not key.startswith("env.")},
            "algorithm.lr": [0.01, 0.001],
        }
        env = lambda: GymMazeEnv("CartPole-v1")  # noqa: E731  (no process can be sent one, so the jobs run here)
        return RunContext(run_dir=tmp_path, env=env, multirun=True, overrides=overrides)

    with grid() as context:
        context.train()
        seeds = context.config[1]["seeding"]
    shutil.rmtree(tmp_path / "0")
    with grid() as again:
        assert [config["seeding"] for config in again.config] == [seeds, seeds]


def test_a_job_that_failed_goes_on_from_what_it_had_stored(tmp_path):
    overrides = {**QUICK, "algorithm.n_epochs": 50}

    class Kills(JobsReporter):
        def started(self, job, choices):
            class OfJob(SilentReporter):
                def metrics(self, epoch, step, values):
                    if epoch == 3:
                        for child in psutil.Process().children():
                            child.kill()

            return OfJob()

    with RunContext(run_dir=tmp_path, multirun=True, overrides=overrides, seed=[1]) as context:
        context.compute_action([0.0, 0.0, 0.0, 0.0])  # opens a training here
        (failed,) = context.train(reporter=Kills())
        assert failed.error_type == "ProcessDied"
        (report,) = context.train(1)
        assert report.counters.epoch >= 3


def test_after_a_cancel_that_ended_in_an_error_the_next_call_can_be_cancelled_too(tmp_path):
    n_heard = []

    class BreaksOnceItIsCancelled(JobsReporter):
        def started(self, job, choices):
            class OfJob(SilentReporter):
                def phase(self, name):
                    if n_heard:
                        raise ValueError("the reporter broke")

            return OfJob()

    def cancelled():
        is_running = context.sweep.run_dir is not None and (context.sweep.run_dir / "0").exists()
        n_heard.extend([1] * is_running)
        return is_running

    overrides = {**QUICK, "algorithm.n_epochs": 500}
    with RunContext(run_dir=tmp_path, multirun=True, overrides=overrides, seed=[1]) as context:
        with pytest.raises(ValueError, match="the reporter broke"):
            context.train(reporter=BreaksOnceItIsCancelled(), cancelled=cancelled)
        metrics = tmp_path / "0" / "metrics.jsonl"
        left = metrics.read_text() if metrics.exists() else ""  # by the first call, where it came so far
        (report,) = context.train(
            400, cancelled=lambda: metrics.exists() and metrics.read_text() not in ("", left)
        )
    assert report.stop_reason == "cancelled"


def test_a_rollout_that_was_cut_leaves_no_folder(tmp_path):
    class Breaks(JobsReporter):
        def started(self, job, choices):
            class OfJob(SilentReporter):
                def episode(self, record):
                    raise ValueError("the reporter broke")

            return OfJob()

    with RunContext(policy="random_policy", multirun=True, run_dir=tmp_path, seed=[1, 2]) as context:
        for save, videos in ((True, 2), ("mine", 0)):
            with pytest.raises(ValueError, match="the reporter broke"):
                context.rollout(50, videos=videos, save=save, reporter=Breaks())
            context.rollout(1, save=save, cancelled=lambda: True)
            assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
            assert not (tmp_path / "rollouts").exists()


def test_two_processes_at_most_wait_for_the_next_call_and_end_with_the_context():
    before = set(psutil.Process().children())
    with RunContext(policy="random_policy", multirun=True, launcher={"n_jobs": 3}, seed=[1, 2, 3]) as context:
        context.rollout(1)
        assert len(set(psutil.Process().children()) - before) == 2
    assert set(psutil.Process().children()) == before, "they end with the context"


def test_each_job_saves_its_rollout_where_it_is_written(trained, tmp_path):
    context, outcomes = trained
    reports = context.rollout(1, save=True)
    assert reports[1] is outcomes[1]
    for job in (0, 2):
        assert reports[job].saved_to == context.run_dir[job] / "rollouts" / "001"
    with RunContext(policy="random_policy", multirun=True, run_dir=tmp_path, seed=[1, 2]) as playing:
        folders = [report.saved_to for report in playing.rollout(1, save=True)]
    assert folders == [tmp_path / "rollouts" / "001" / job for job in "01"]


def test_the_policies_of_several_runs_play_each_in_its_own_environment(trained):
    context, _ = trained
    runs = [str(context.run_dir[job]) for job in (0, 2)]
    with RunContext(policy="torch_policy", multirun=True, overrides={"policy.run": runs}, seed=1) as playing:
        assert [tree["env"]["name"] for tree in playing.config] == [NAMES[0], NAMES[2]]
        first, second = playing.rollout(1)
    assert first.summary.mean_return > 0 > second.summary.mean_return


def test_one_job_is_a_list_too(tmp_path):
    with RunContext(run_dir=tmp_path, multirun=True, seed=1) as context:
        assert len(context.config) == len(context.run_dir) == 1


def test_without_multirun_lists_comma_strings_and_launchers_are_refused():
    for arguments in (
        {"algorithm": ["a2c", "ppo"]},
        {"algorithm": "a2c,ppo"},
        {"overrides": {"algorithm.lr": [0.1, 0.2]}},
        {"overrides": {"algorithm.lr": "0.1,0.2"}},
        {"launcher": "local"},
        {"experiment": "grid_search"},
    ):
        with pytest.raises(InvalidSpecificationError):
            RunContext(**arguments)
    assert RunContext(seed=1).sweep is None


def test_wrong_arguments_of_train_are_refused(tmp_path):
    with RunContext(run_dir=tmp_path, multirun=True, overrides=QUICK) as context:
        with pytest.raises(InvalidSpecificationError, match="JobsReporter"):
            context.train(reporter=SilentReporter())
        with pytest.raises(InvalidSpecificationError, match="at least 1"):
            context.train(0)


def test_a_closed_multirun_says_so():
    context = RunContext(multirun=True, seed=1)
    context.close()
    context.close()
    with pytest.raises(ContextClosedError):
        context.train()


def test_a_script_without_a_main_guard_trains_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from maze_core import RunContext\n"
        "print('once')\n"
        f"overrides = {{**{QUICK!r}, 'algorithm.lr': '0.1,0.01'}}\n"
        "rc = RunContext(multirun=True, launcher={'n_jobs': 1}, overrides=overrides, seed=1)\n"
        "print(*[report.stop_reason for report in rc.train()])\n"
        "print(*[path.relative_to(path.parents[3]).parts[:2] for path in rc.run_dir])\n"
    )
    out = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=240
    )
    assert out.stdout.splitlines() == [
        "once",
        "completed completed",
        "('outputs', 'sweep') ('outputs', 'sweep')",
    ]
