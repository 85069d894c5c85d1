"""The form of a new run in a real browser: what is wrong stands at its field, and what it sends is what it said."""

import json
import subprocess

import pytest

HOSTILE = "<img src=x onerror=alert(1)> 'it\"s'"


@pytest.fixture(scope="module")
def walked(walk, server):
    before = len(server.get("/v1/runs", kind="train")["data"])
    found = walk("new_run.mjs", server, hostile=HOSTILE)
    return found | {"runs": len(server.get("/v1/runs", kind="train")["data"]) - before}


def test_the_environment_is_chosen_by_address_or_by_keys_and_says_why_it_cannot_be_made(walked):
    assert walked["preselected"] == "CartPole-v1"
    assert walked["picked"].startswith("CartPole")
    assert "pip install 'maze-service[mujoco]'" in walked["install"]


def test_a_wrong_value_is_told_at_its_field_and_a_suggestion_takes_its_place(walked):
    assert "'fast' is not valid" in walked["wrong"]
    assert walked["gamma"] == "0.9"


def test_a_double_click_makes_one_run_of_only_what_was_changed(walked):
    assert walked["keys"] == 1
    assert walked["runs"] == 2, "the run and its fork"
    assert walked["sent"] == {
        "overrides": {"env.name": walked["picked"], "algorithm.lr": 0.002, "algorithm.n_epochs": 1},
        "seed": 1,
        "name": HOSTILE,
        "labels": {"team": "it's"},
        "videos": 1,
    }


def test_the_run_has_the_digest_that_was_shown_and_so_has_the_copied_request(walked, server):
    assert server.get(f"/v1/runs/{walked['run']}")["config_sha256"] == walked["digest"]
    done = subprocess.run(["bash", "-c", walked["curl"]], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["config_sha256"] == walked["digest"]


def test_a_run_fills_the_form_again_and_a_fork_sends_only_its_changes(walked):
    assert walked["again"] == {"digest": walked["digest"], "name": HOSTILE, "lr": "0.002"}
    assert walked["forked"] == [{"overrides": {"algorithm.gamma": 0.5}}]


def test_what_only_fails_for_now_is_tried_again(walked):
    assert walked["isGone"]


def test_what_the_service_refuses_anyway_is_not_offered_and_what_it_needs_is_asked_for(walked):
    assert "RewardScalingWrapper" in walked["wrappers"]
    assert "LogStatsWrapper" not in walked["wrappers"]
    assert "name the rollout that recorded them" in walked["asked"]
    assert walked["hint"].endswith("or 0 or null")


def test_what_is_contradictory_is_told_at_its_field_and_not_sent(walked):
    assert "valid integer" not in walked["unswept"]
    assert "greater than or equal to 0" in walked["unswept"]
    assert "leave one line" in walked["twice"]
    assert walked["isHeld"]
    assert "A fork is one run" in walked["several"]


def test_what_was_filled_in_is_there_on_the_way_back_and_a_new_form_is_empty(walked):
    assert walked["kept"] == HOSTILE
    assert walked["anew"] == ""


def test_it_is_accessible_and_fits_a_phone(walked):
    assert walked["findings"] == []
    assert walked["width"] == 390


@pytest.fixture(scope="module")
def followed(walk, server, trained):
    return walk("new_run_of_run.mjs", server, run=trained["id"])


def test_a_trained_run_is_evaluated_and_what_is_wrong_with_that_stands_at_its_field(followed, trained):
    assert "greater than or equal to 1" in followed["wrong"]
    assert followed["evaluated"] == {"run": trained["id"], "n_episodes": 2}


def test_a_stack_of_wrappers_and_another_component_are_written_out(followed):
    assert followed["composed"] == {
        "wrappers": [{"_target_": "maze_core.RewardScalingWrapper"}],
        "overrides": {
            "wrappers.RewardScalingWrapper.scale": 0.5,
            "model.critic": {"_target_": "maze_core.SharedStateCriticConfig"},
            "model.critic.networks": [{"_target_": "maze_core.FlattenConcatStateValueNetConfig"}],
            "model.policy.networks.0.hidden_units": [16, 16],
        },
        "videos": 1,
    }


def test_several_values_are_a_sweep_in_which_a_list_stays_one_value(followed):
    assert followed["swept"]["overrides"] == {
        "wrappers.RewardScalingWrapper.scale": 0.5,
        "model.critic": {"_target_": "maze_core.SharedStateCriticConfig"},
        "model.critic.networks": [[{"_target_": "maze_core.FlattenConcatStateValueNetConfig"}]],
        "model.policy.networks.0.hidden_units": [[16, 16]],
        "algorithm.n_epochs": [1, 2],
    }
    assert followed["swept"]["wrappers"] == [[{"_target_": "maze_core.RewardScalingWrapper"}]]


def test_those_forms_are_accessible(followed):
    assert followed["findings"] == []


def test_the_whole_form_is_filled_in_and_sent_by_keys_alone(walk, server):
    found = walk("new_run_by_keys.mjs", server)
    assert found["missed"] == []
    assert found["n"] > 50
    assert found["left"] == []
    assert found["body"] == {
        "overrides": {
            "env.name": "CartPole-v1",
            "algorithm.n_epochs": 1,
            "algorithm.gamma": 0.9,
            "runner.n_envs": 4,
        },
        "seed": 3,
        "videos": 1,
    }
