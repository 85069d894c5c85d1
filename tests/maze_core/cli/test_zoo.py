"""``maze import zoo``: the experiment that is written runs as it says, and what cannot be said writes nothing."""

import sys
from pathlib import Path

import pytest
import yaml

from maze_core import RunContext
from maze_core.cli.zoo import count_entries, import_entry
from maze_core.config import compose_run
from maze_core.config.trust import check_arguments, check_tree, trust_policy

ENTRIES = """
default: {n_timesteps: !!float 1e6, policy: MlpPolicy}
CartPole-v1: &small
  n_envs: 2
  n_timesteps: !!float 32
  n_steps: 8
  batch_size: 8
  n_epochs: 2
  vf_coef: 0.25
  learning_rate: lin_0.01
  normalize: true
  policy_kwargs: "dict(net_arch=[16], activation_fn=nn.ReLU)"
Pictures-v1: {<<: *small, policy: CnnPolicy, frame_stack: 4, callback: x}
Wrapped-v1: {<<: *small, env_wrapper: not_installed.Wrapper}
Wrong-v1: {<<: *small, gamma: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "ppo.yml"
    file.write_text(ENTRIES)
    return file


def imported(file: Path, env: str = "CartPole-v1", **given: object) -> int:
    arguments = {"algorithm": None, "into": file.parent / "conf", "name": None} | given
    return import_entry(file, env, **arguments)  # type: ignore[arg-type]


def test_an_imported_experiment_runs_with_the_values_of_its_entry(
    file: Path, capsys: pytest.CaptureFixture[str]
):
    assert imported(file) == 0
    said = capsys.readouterr().out
    assert "vf_coef=0.25 → algorithm.value_loss_coef=0.5 (twice the number: the loss here has a ½)" in said
    assert "by default of Stable-Baselines3 → " in said
    assert "algorithm.gae_lambda=0.95" in said
    assert said.endswith(
        "cartpole_v1_ppo.yaml: maze-run -cd " + f"{file.parent / 'conf'} experiment=cartpole_v1_ppo\n"
    )
    with RunContext(
        experiment="cartpole_v1_ppo", config_dirs=[file.parent / "conf"], seed=1, silent=True
    ) as rc:
        report = rc.train()
        algorithm, network = rc.config["algorithm"], rc.config["model"]["policy"]["networks"][0]
        assert [wrapper["_target_"].rpartition(".")[2] for wrapper in rc.config["wrappers"]] == [
            "ObservationNormalizationWrapper",
            "RewardNormalizationWrapper",
        ]
    assert (report.counters.env_steps, report.counters.updates, rc.config["runner"]["n_envs"]) == (32, 2, 2)
    assert (algorithm["lr"], algorithm["lr_schedule"], algorithm["n_optimization_epochs"]) == (
        0.01,
        "linear",
        2,
    )
    assert (network["hidden_units"], network["non_lin"]) == ([16], "relu")


def test_clients_may_ask_for_an_imported_experiment(file: Path):
    imported(file)
    folder = str(file.parent / "conf")
    policy = trust_policy(config_dirs=[folder])
    check_arguments({"experiment": "cartpole_v1_ppo"}, policy)
    check_tree(compose_run(experiment="cartpole_v1_ppo", config_dirs=[folder], seed=1).tree, policy)


def test_the_file_says_what_it_is_and_repeats_nothing_by_reference(file: Path):
    imported(file, name="mine")
    text = (file.parent / "conf" / "experiment" / "mine.yaml").read_text()
    assert text.startswith(
        "# @package _global_\n# PPO on CartPole-v1 as RL-Zoo3's ppo.yml has it.\ndefaults:\n"
    )
    assert "&" not in text


@pytest.mark.parametrize(
    ("env", "reasons"),
    [
        (
            "Pictures-v1",
            ["Pictures-v1: policy: CnnPolicy needs", "Pictures-v1: callback: there is nothing like it"],
        ),
        ("Wrong-v1", ["Wrong-v1: algorithm.gamma: 2 "]),
    ],
)
def test_what_cannot_be_said_is_told_by_key_and_writes_nothing(file, env, reasons, capsys):
    assert imported(file, env) == 2
    error = capsys.readouterr().err
    assert [reason for reason in reasons if reason not in error] == []
    assert not (file.parent / "conf").exists()


def test_a_wrapper_whose_package_is_missing_is_named_all_the_same(file: Path):
    assert imported(file, "Wrapped-v1", algorithm="PPO", name="wrapped") == 0
    tree = yaml.safe_load((file.parent / "conf" / "experiment" / "wrapped.yaml").read_text())
    assert tree["env"] == {"name": "Wrapped-v1", "wrappers": [{"_target_": "not_installed.Wrapper"}]}


@pytest.mark.parametrize(
    ("wrapper", "code"),
    [
        ("gymnasium.wrappers.FrameStackObservation: {stack_size: 2}", 0),
        ("gymnasium.wrappers.FrameStackObservation: {n: 2}", 2),
        ("gymnasium.wrappers.NoSuch: {}", 2),
        ("named_in_a_file.Wrapper: {n: 2}", 0),
        ("named_in_a_file.Wrapper: {m: 2}", 2),
        ("named_in_a_file.Nothing: {}", 2),
    ],
)
def test_a_wrapper_that_can_be_imported_is_judged_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapper: str, code: int
):
    (tmp_path / "named_in_a_file.py").write_text("def Wrapper(env, n): return env\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "ppo.yml"
    file.write_text(f"CartPole-v1:\n  n_timesteps: 4096\n  env_wrapper: [{{{wrapper}}}]\n")
    assert imported(file) == code
    assert (tmp_path / "conf").exists() is (code == 0)


def test_to_count_imports_nothing_that_the_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "counted_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "ppo.yml"
    file.write_text(
        "counted_module:Env-v0: {n_timesteps: 4096, env_wrapper: counted_module.Wrapper}\n"
        "CartPole-v1: {n_timesteps: 4096, env_wrapper: [{gymnasium.wrappers.FrameStackObservation: {n: 2}}]}\n"
    )
    assert count_entries(file, algorithm=None) == 0
    assert capsys.readouterr().out.startswith("ppo.yml: 1 of 2 entries can be said here\n  CartPole-v1: ")
    assert "counted_module" not in sys.modules


def test_an_experiment_that_is_there_is_not_overwritten(file: Path):
    imported(file)
    with pytest.raises(
        ValueError, match=r"cartpole_v1_ppo\.yaml is there already; remove it, or give another --name"
    ):
        imported(file)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (ENTRIES, {"env": "CartPol-v1"}, "no entry 'CartPol-v1'. Did you mean CartPole-v1"),
        (
            ENTRIES,
            {"algorithm": "trpo"},
            "'trpo' is no algorithm that can be imported; give --algorithm: ppo, a2c",
        ),
        ("a: [", {}, "is no YAML"),
        ("[1]", {}, "no settings by environment"),
        ("CartPole-v1: 3", {}, "no settings by environment"),
    ],
)
def test_mistakes_are_told_with_the_way_out(file: Path, text, given, message):
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        imported(file, **given)


def test_entries_are_counted_with_the_reason_of_each_that_is_left_out(file, capsys):
    assert count_entries(file, algorithm=None) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "ppo.yml: 3 of 5 entries can be said here"
    assert others[0].startswith("  Pictures-v1: policy: CnnPolicy needs convolutional networks")
    assert others[1].startswith("  Wrong-v1: ")
    assert "algorithm.gamma: 2 is not valid" in others[1]


def test_shipped_experiments_have_other_names_than_imported_ones(file: Path):
    imported(file)
    assert compose_run(experiment="cartpole_ppo", config_dirs=[file.parent / "conf"], seed=1)
