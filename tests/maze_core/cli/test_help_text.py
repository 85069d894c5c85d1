"""``maze-run --help``: options, groups and modules, and every setting of the choice with its meaning."""

import os
import subprocess
import sys
from typing import Any

import pytest

from maze_core import cli
from maze_core.config.settings import dataclass, field_docs
from maze_core.runners.config import RolloutRunnerConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig
from tests.docs.tables import general_help


def shown(capsys, *words):
    assert cli.main([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_the_settings_of_the_choice_stand_with_value_and_meaning(capsys):
    out = shown(capsys, "algorithm=a2c", "algorithm.gamma=0.5", "wrappers=vector_obs")
    assert "algorithm: A2CAlgorithmConfig" in out
    assert "algorithm.gamma=0.5\n      Discount per step of environment time.\n" in out
    assert "algorithm.rollout_evaluator.n_episodes=8\n      Episodes per evaluation" in out
    assert "model.policy.networks.0.hidden_units=[64, 64]" in out
    assert "wrappers.0.clip_range=[-10.0, 10.0]" in out
    assert "seeding.env_base_seed=" in out
    assert "clip_range=0.2" not in out  # PPO's
    assert "``" not in out


def test_the_general_text_is_kept_as_a_file_and_is_what_would_be_composed(capsys):
    """``python -m tests.docs.tables`` writes it anew."""
    assert shown(capsys) == general_help() == cli.GENERAL_HELP.read_text()


def test_seeds_that_are_given_are_shown_and_others_are_drawn_by_each_run(capsys):
    assert "seeding.env_base_seed=null\n" in shown(capsys)
    assert "seeding.agent_base_seed=7\n" in shown(capsys, "seed=7")
    given = shown(capsys, "seeding.env_base_seed=5")
    assert "seeding.env_base_seed=5\n" in given
    assert "seeding.agent_base_seed=null\n" in given


def test_a_summary_is_a_whole_sentence(capsys):
    line = next(line for line in shown(capsys).splitlines() if "algorithm=a2c" in line)
    assert line.endswith("in each of 8 envs.")


def test_a_rollout_and_a_multirun_show_their_own_settings(capsys):
    assert "runner.n_episodes=50\n      Episodes to play." in shown(capsys, "-cn", "conf_rollout")
    assert "launcher.n_jobs=2\n      Jobs that run at the same time" in shown(
        capsys, "-m", "algorithm=ppo,a2c", "launcher.n_jobs=2"
    )
    assert "launcher.n_jobs=1" in shown(capsys, "-m", "+experiment=optuna_search")


def test_words_that_cannot_work_are_said_instead(capsys):
    assert cli.main(["--help", "algorithm=pppo"]) == 2
    assert "Did you mean 'ppo'?" in capsys.readouterr().err


@pytest.mark.parametrize("config", [PPOAlgorithmConfig, RolloutRunnerConfig])
def test_every_field_has_its_text(config):
    docs = field_docs(config)
    assert set(config.__dataclass_fields__) <= set(docs)
    assert all(text.endswith((".", ".)")) or " " in text for text in docs.values())


def test_a_class_without_source_has_the_texts_of_its_bases():
    assert field_docs(type("Made", (), {})) == {}
    names: dict[str, Any] = {"__name__": "__prompt__", "Base": PPOAlgorithmConfig, "dataclass": dataclass}
    exec(
        "@dataclass(frozen=True, kw_only=True, config={})\nclass Own(Base):\n    more: int = 1\n    'A text.'",
        names,
    )
    assert field_docs(names["Own"]) == field_docs(PPOAlgorithmConfig)


def test_a_reader_that_had_enough_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "maze_core.cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")


def test_the_process_computes_with_one_thread_unless_told_otherwise():
    code = "import os, sys; from maze_core import cli; cli.main(['--nonsense']); print(os.environ['OMP_NUM_THREADS'])"

    def threads(**given):
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        done = subprocess.run(
            [sys.executable, "-c", code], env={**kept, **given}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert threads() == "1"
    assert threads(OMP_NUM_THREADS="2") == "2"


def test_threads_are_said_before_numpy_is_there():
    code = "import sys, maze_core.cli; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
