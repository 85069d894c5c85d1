"""maze-run: exit codes, what is printed where, and that it runs what Python would run."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from maze_core import cli
from maze_core.config import compose_run
from maze_core.errors import DivergedError
from maze_core.rundir import RunDir

QUICK = ["configuration=test", "seed=1"]


def test_help_names_groups_and_modules(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for text in (
        "-cn",
        "conf_train",
        "conf_rollout",
        "algorithm=ppo",
        "policy=torch_policy",
        "critic=template_state",
    ):
        assert text in out


def test_cfg_prints_the_resolved_configuration_and_its_digest(capsys):
    words = ["-cn", "conf_train", "--cfg", "job", "env.name=CartPole-v1", "algorithm=a2c", "seed=1"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    config = compose_run(algorithm="a2c", overrides={"env.name": "CartPole-v1"}, seed=1)
    assert yaml.safe_load(out) == config.tree
    assert out.startswith(f"# config_sha256: {config.config_sha256}\n")


def test_cfg_of_a_rollout(capsys):
    assert cli.main(["-cn", "conf_rollout", "-c", "job", "runner.n_episodes=3"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["runner"]["n_episodes"] == 3


@pytest.mark.parametrize("word", ["policy=random_policy", "runner=parallel"])
def test_without_a_root_a_rollout_policy_or_runner_makes_it_a_rollout(word, capsys):
    assert cli.main(["--cfg", "job", word]) == 0
    assert "policy" in yaml.safe_load(capsys.readouterr().out)


def test_a_directory_of_the_users_own_is_searched(tmp_path: Path, capsys):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "mine.yaml").write_text("_target_: GymEnvConfig\nname: Acrobot-v1\n")
    assert cli.main(["-cd", str(tmp_path), "--cfg", "job", "env=mine"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["env"]["name"] == "Acrobot-v1"


def test_a_bad_specification_is_2_with_every_problem_on_stderr(capsys):
    assert cli.main(["algorithm=pppo", "env.nmae=x", "runner.n_envs=0"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "There is no algorithm module 'pppo'. Did you mean 'ppo'?" in captured.err
    assert "env.nmae" in captured.err
    assert "runner.n_envs" in captured.err


@pytest.mark.parametrize(
    "words",
    [
        ["-cn", "conf_tran"],
        ["--cfg", "hydra"],
        ["--nonsense"],
        ["algorithm=ppo,a2c"],
        ["launcher=local"],
        ["+experiment=grid_search"],
        ["-m", "algorithm=ppo,pppo"],
        ["-m", "launcher=slurm"],
        ["-m", "algorithm.lr=interval(0.1,1)"],
        ["algorithm"],
        ["-cn"],
        ["-cd", "no/such/directory"],
        ["-cn", "conf_train", "runner=parallel"],
        ["-cn", "conf_train", "policy=random_policy"],
        ["-cn", "conf_rollout", "algorithm=ppo"],
        ["--smoke", "policy=random_policy"],
        ["--smoke", "-m", "algorithm=ppo,a2c"],
        ["--smoke", "--cfg", "job"],
    ],
)
def test_what_cannot_work_is_2(words, capsys):
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith("maze-run: ")


def test_training_writes_a_run_and_prints_how_it_ended(tmp_path: Path, capsys):
    run_dir = tmp_path / "run"
    assert cli.main([*QUICK, "env.name=CartPole-v1", f"run_dir={run_dir}"]) == 0
    captured = capsys.readouterr()
    config = compose_run(configuration="test", overrides={"env.name": "CartPole-v1"}, seed=1)
    assert config.config_sha256 in captured.out
    assert str(run_dir / "checkpoints" / "best.ckpt") in captured.out
    assert "2/2" in captured.err
    assert (run_dir / "checkpoints" / "best.ckpt").exists()
    assert RunDir(run_dir).read_config() == config.tree


def test_smoke_tries_the_same_training_out_and_writes_nothing(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*QUICK, "env.name=CartPole-v1", "n_epochs=3", "--smoke"]) == 0
    report = yaml.safe_load(capsys.readouterr().out)
    config = compose_run(configuration="test", overrides={"env.name": "CartPole-v1"}, seed=1, n_epochs=3)
    assert (report["config_sha256"], report["n_epochs"]) == (config.config_sha256, 3)
    assert report["n_parameters"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_same_words_and_the_same_arguments_train_the_same_weights(tmp_path: Path, capsys):
    from maze_core import RunContext

    assert cli.main([*QUICK, f"hydra.run.dir={tmp_path / 'words'}"]) == 0
    with RunContext(configuration="test", seed=1, run_dir=tmp_path / "arguments") as context:
        report = context.train()
    assert report.content_sha256 in capsys.readouterr().out


def test_n_epochs_outranks_the_configuration(tmp_path: Path):
    assert cli.main([*QUICK, "n_epochs=1", f"run_dir={tmp_path}"]) == 0
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_complete_run_is_not_trained_again(tmp_path: Path, capsys):
    words = [*QUICK, f"run_dir={tmp_path}"]
    assert cli.main(words) == 0
    first = capsys.readouterr()
    assert cli.main(words) == 0
    again = capsys.readouterr()
    assert "This run is complete" in again.err
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert _row(again.out, "content_sha256") == _row(first.out, "content_sha256")
    assert _row(again.out, "best evaluation") == _row(first.out, "best evaluation")


def _row(table: str, name: str) -> str:
    (row,) = [line for line in table.splitlines() if line.startswith(name)]
    return row


def test_a_random_policy_plays_and_what_it_did_is_kept(tmp_path: Path, capsys):
    words = ["-cn", "conf_rollout", "seed=1", "runner.n_episodes=3", "env.name=CartPole-v1"]
    for number in ("001", "002"):
        assert cli.main([*words, f"run_dir={tmp_path}"]) == 0
        folder = tmp_path / "rollouts" / number
        assert str(folder) in capsys.readouterr().out
        assert len(list((folder / "trajectories").iterdir())) == 3


def test_a_trained_policy_plays_in_its_own_environment(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*QUICK, "env.name=Acrobot-v1", "env.max_episode_steps=20", "run_dir=trained"]) == 0
    words = ["-cn", "conf_rollout", "policy=torch_policy", "policy.run=trained", "runner.n_episodes=2"]
    assert cli.main([*words, "policy.checkpoint=last", "run_dir=played"]) == 0
    assert "-20.0" in capsys.readouterr().out  # Acrobot pays -1 for each of its 20 steps
    assert (tmp_path / "played" / "rollouts" / "001" / "report.json").exists()
    assert cli.main([*words, "policy.checkpoint=epoch:99"]) == 1
    assert "epoch:99" in capsys.readouterr().err


def test_training_and_rollouts_are_filmed_where_asked_for(tmp_path: Path):
    words = ["env.name=CartPole-v1", "seed=1", f"run_dir={tmp_path}", "videos=1"]
    assert cli.main(["configuration=test", "algorithm.checkpoint_every=1", *words]) == 0
    names = ["best.mp4", "epoch-00000.mp4", "epoch-00001.mp4", "epoch-00002.mp4"]
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == names
    assert cli.main(["-cn", "conf_rollout", "runner.n_episodes=2", *words]) == 0
    films = (tmp_path / "rollouts" / "001" / "videos").iterdir()
    assert [path.name for path in films] == ["episode-00000.mp4"]


@pytest.mark.parametrize("word", ["videos=-1", "videos=true", "videos=1.5", "videos=all"])
def test_a_number_of_videos_is_a_whole_number(word, capsys):
    assert cli.main([*QUICK, word]) == 2
    assert "is not a whole number of at least 0" in capsys.readouterr().err


def test_a_run_that_fails_is_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    from maze_core.api.run_context import RunContext

    def diverge(*args, **kwargs):
        raise DivergedError("the policy loss is not finite")

    monkeypatch.setattr(RunContext, "train", diverge)
    assert cli.main([*QUICK, f"run_dir={tmp_path}"]) == 1
    assert "the policy loss is not finite" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["env.name=NoSuchEnv-v0"],
        ["env.name=no_such_module:NoSuchEnv-v0"],
        ["env.name=CartPole-v1", "+env.kwargs.no_such_argument=1"],
        ["env.name=NoSuchEnv-v0", "runner=local", "runner.n_envs=1"],
        ["env.name=NoSuchEnv-v0", "env.vectorization=native"],
        ["-cn", "conf_rollout", "env.name=NoSuchEnv-v0"],
    ],
)
def test_an_environment_that_cannot_be_made_is_2(words, tmp_path: Path, capsys):
    quick = [] if "conf_rollout" in words else QUICK
    assert cli.main([*quick, *words, f"run_dir={tmp_path / 'run'}"]) == 2
    assert "o_such_argument" in (err := capsys.readouterr().err) or "NoSuchEnv-v0" in err
    assert [
        path for path in tmp_path.rglob("*") if path.is_file()
    ] == []  # nothing is left of what never began


def test_modules_of_the_current_folder_can_be_named_in_jobs_too(tmp_path: Path):
    (tmp_path / "mylab.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\n\n\n"
        "class Lab(CartPoleEnv):\n    pass\n\n\ngymnasium.register('Lab-v0', entry_point=Lab)\n"
    )
    root = Path(cli.__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from maze_core.cli import main; sys.exit(main())"
    for flags in ([], ["-m", "launcher.n_jobs=1"]):
        words = [*flags, *QUICK, "env.name=mylab:Lab-v0", "n_epochs=1", "run_dir=run" + "s" * len(flags)]
        command = [sys.executable, "-P", "-c", code, *words]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stores_a_last_checkpoint_and_is_its_exit_code(number, code, tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "maze_core.cli",
        "seed=1",
        "algorithm.n_epochs=1000",
        f"run_dir={tmp_path}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        process.stderr.readline()  # the first epoch is over
        process.send_signal(number)
        out, err = process.communicate()
        watchdog.cancel()
    assert process.returncode == code
    assert f"maze-run seed=1 algorithm.n_epochs=1000 run_dir={tmp_path}" in err
    assert "cancelled" in out
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert json.loads((tmp_path / "report.json").read_text())["stop_reason"] == "cancelled"


def test_importing_the_command_line_leaves_torch_and_hydra_out():
    code = "import sys, maze_core.cli; assert not {'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
