"""Lists and comma strings become jobs: which, in which order, and what is refused."""

import numpy as np
import pytest

from maze_core.config.grid import MOST_JOBS, Choices, compose_jobs, plan_grid
from maze_core.config.multirun import plan_multirun
from maze_core.errors import InvalidSpecificationError
from maze_core.runners.config import LocalLauncherConfig
from maze_core.trainers.a2c_config import A2CAlgorithmConfig
from maze_core.trainers.ppo_config import PPOAlgorithmConfig

UNITS = "model.policy.networks.0.hidden_units"


def jobs(mode="train", **arguments):
    return plan_multirun(mode, arguments).grid.jobs()


def choices(mode="train", **arguments):
    return [job.choices for job in jobs(mode, **arguments)]


def configs(**arguments):
    return [config.tree for config in compose_jobs(jobs(**arguments), "train")]


def problems(mode="train", **arguments):
    with pytest.raises(InvalidSpecificationError) as caught:
        compose_jobs(jobs(mode, **arguments), mode)
    return {problem.path: problem for problem in caught.value.problems}


def test_the_product_of_all_lists_in_order_the_last_one_fastest():
    found = jobs(algorithm=["a2c", "ppo"], overrides={"algorithm.lr": [0.1, 0.2], "env.name": "CartPole-v1"})
    assert [job.choices for job in found] == [
        {"algorithm": "a2c", "algorithm.lr": 0.1},
        {"algorithm": "a2c", "algorithm.lr": 0.2},
        {"algorithm": "ppo", "algorithm.lr": 0.1},
        {"algorithm": "ppo", "algorithm.lr": 0.2},
    ]
    assert [job.number for job in found] == [0, 1, 2, 3]
    assert all(job.arguments["overrides"]["env.name"] == "CartPole-v1" for job in found)


def test_an_order_that_was_given_counts_over_that_of_the_arguments():
    grid = plan_grid(
        "train",
        {"algorithm": ["a2c", "ppo"], "overrides": {"algorithm.lr": [1, 2]}},
        ["algorithm.lr", "algorithm"],
    )
    assert list(grid.dimensions) == ["algorithm.lr", "algorithm"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.01", [0.1, 0.01]),
        ("1e-3, 5", [0.001, 5]),
        ("true,null,x", [True, None, "x"]),
        ("[32],[64,64]", [[32], [64, 64]]),
        ("{a: 1},{}", [{"a": 1}, {}]),
        ("'a,b',c", ["a,b", "c"]),
    ],
)
def test_a_comma_string_is_several_values_of_their_own_types(text, values):
    grid = plan_grid("train", {"overrides": {"env.kwargs.x": text}})
    found = grid.dimensions["env.kwargs.x"]
    assert list(found) == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_a_quoted_comma_string_is_one_value():
    assert len(jobs(overrides={"env.kwargs.x": "'a,b'"})) == 1


def test_arrays_and_tuples_are_several_values_too():
    assert choices(overrides={"algorithm.lr": np.array([0.5, 0.25])}) == [
        {"algorithm.lr": 0.5},
        {"algorithm.lr": 0.25},
    ]
    assert len(jobs(overrides={"algorithm.lr": (0.1, 0.2, 0.3)})) == 3


def test_a_key_that_takes_a_list_is_varied_by_a_list_of_lists():
    assert len(jobs(overrides={UNITS: [32, 32]})) == 1
    found = configs(overrides={UNITS: [[32, 32], [8]]})
    assert [tree["model"]["policy"]["networks"][0]["hidden_units"] for tree in found] == [[32, 32], [8]]
    assert "list of lists" in problems(overrides={UNITS: [[32, 32], 8]})[UNITS].message


def test_a_key_that_takes_a_list_is_known_by_its_type_where_it_has_none():
    network = {"_target_": "FlattenConcatPolicyNetConfig", "hidden_units": [8]}
    assert (
        len(jobs(model="vector_obs", critic="template_state", overrides={"model.policy.networks": [network]}))
        == 1
    )


def test_wrappers_vary_by_names_or_lists_and_a_list_of_wrappers_is_one_stack():
    scaling = {"_target_": "RewardScalingWrapper", "scale": 0.5}
    assert [len(tree["wrappers"]) for tree in configs(wrappers=["no_wrappers", "vector_obs"])] == [0, 2]
    assert [len(tree["wrappers"]) for tree in configs(wrappers=[[scaling], [scaling, scaling]])] == [1, 2]
    assert [len(tree["wrappers"]) for tree in configs(wrappers=[scaling, scaling])] == [2]
    assert problems(wrappers=["vector_obs", scaling])["wrappers"].code == "wrong_type"


def test_choices_are_values_as_they_are():
    assert len(jobs(overrides={UNITS: Choices(([32, 32],))})) == 1
    assert len(jobs(overrides={UNITS: Choices(([32, 32], [8]))})) == 2


def test_objects_and_seeds_vary_as_well():
    algorithms = [A2CAlgorithmConfig(lr=0.25), PPOAlgorithmConfig(lr=0.5)]
    found = jobs(algorithm=algorithms, seed=[1, 2])
    assert [tree["algorithm"]["lr"] for tree in configs(algorithm=algorithms, seed=1)] == [0.25, 0.5]
    assert [job.choices["seed"] for job in found] == [1, 2, 1, 2]
    assert found[0].choices["algorithm"].endswith("A2CAlgorithmConfig")


def test_what_does_not_vary_is_no_choice():
    assert choices(algorithm=["ppo"], overrides={"algorithm.lr": 0.1}) == [{}]


def test_jobs_differ_in_nothing_but_their_choices():
    first, second = configs(overrides={"algorithm.lr": [0.1, 0.2]})
    assert first["seeding"] == second["seeding"]
    first["algorithm"]["lr"] = second["algorithm"]["lr"]
    assert first == second


def test_seeds_that_are_given_are_kept_and_the_other_one_is_drawn_once():
    trees = configs(overrides={"seeding.env_base_seed": [1, 2]})
    assert [tree["seeding"]["env_base_seed"] for tree in trees] == [1, 2]
    assert len({tree["seeding"]["agent_base_seed"] for tree in trees}) == 1


def test_the_problems_of_all_jobs_are_named_once_with_the_jobs_that_have_them():
    found = problems(
        algorithm=["ppo", "a2c"], overrides={"algorithm.clip_range": [0.1, 0.2], "env.nmae": "x"}
    )
    assert set(found) == {"algorithm.clip_range", "env.nmae"}
    assert (
        "job 2 (algorithm=a2c, algorithm.clip_range=0.1) and 1 more" in found["algorithm.clip_range"].message
    )
    assert "job" not in found["env.nmae"].message


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("seed", [1, 2, 1]),
        ("algorithm", "ppo,a2c,ppo"),
        ("algorithm", [{"_target_": "maze_core.PPOConfig", "lr": 0.1}] * 2),
        ("algorithm.lr", "0.001,1e-3"),
        ("model.hidden_units", [[32], [64], [32]]),
    ],
)
def test_a_value_that_is_there_twice_is_refused_by_name(key, values):
    given = {"overrides": {key: values}} if "." in key else {key: values}
    found = problems(**given)[key]
    assert (found.code, "twice" in found.message) == ("duplicate", True)


def test_values_that_are_equal_and_of_another_kind_are_not_the_same():
    assert len(plan_grid("train", {"overrides": {"algorithm.lr": [1, 1.0, True]}}).jobs()) == 3


def test_nothing_to_run_and_far_too_much_to_run_are_refused():
    assert "no job" in problems(overrides={"algorithm.lr": []})["algorithm.lr"].message
    many = {"algorithm.lr": [0.01 * n for n in range(50)], "algorithm.gamma": [0.01 * n for n in range(50)]}
    assert str(MOST_JOBS) in problems(overrides=many)["multirun"].message


def test_the_callers_arguments_are_not_changed():
    arguments = {"algorithm": ["ppo", "a2c"], "overrides": {"algorithm.lr": [0.1], "launcher.n_jobs": 2}}
    before = repr(arguments)
    plan_multirun("train", arguments)
    assert repr(arguments) == before


def test_a_grid_of_an_experiment_and_what_the_caller_says_of_it():
    assert len(jobs(experiment="grid_search")) == 6
    trees = configs(experiment="grid_search", overrides={"algorithm.lr": 0.5}, seed=1)
    assert [(tree["algorithm"]["lr"], tree["algorithm"]["entropy_coef"]) for tree in trees] == [
        (0.5, 0.0),
        (0.5, 0.01),
    ]
    assert "sweep" not in trees[0]


def test_the_launcher_by_name_dict_override_and_from_an_experiment():
    def n_jobs(**arguments):
        return plan_multirun("train", arguments).launcher.n_jobs

    assert n_jobs() is None
    assert n_jobs(launcher="local") is None
    assert n_jobs(launcher="local", overrides={"launcher.n_jobs": 3}) == 3
    assert n_jobs(launcher={"n_jobs": 2}) == 2
    assert n_jobs(launcher={"_target_": "LocalLauncherConfig", "n_jobs": 2}) == 2
    assert n_jobs(launcher=LocalLauncherConfig(n_jobs=4)) == 4
    assert n_jobs(experiment="optuna_search") == 1


@pytest.mark.parametrize(
    ("arguments", "path", "code"),
    [
        ({"launcher": "slurm"}, "launcher", "unknown_module"),
        ({"launcher": 3}, "launcher", "wrong_type"),
        ({"launcher": {"_target_": "os.system"}}, "launcher", "wrong_kind"),
        ({"overrides": {"launcher.n_job": 3}}, "launcher.n_job", "unknown_key"),
        ({"overrides": {"launcher.n_jobs": -1}}, "launcher.n_jobs", "out_of_range"),
        ({"experiment": "nope"}, "experiment", "unknown_module"),
        ({"experiment": ["grid_search"]}, "experiment", "wrong_type"),
        ({"experiment": "optuna_search", "overrides": {"sweep.n_trial": 3}}, "sweep.n_trial", "unknown_key"),
        (
            {"experiment": "optuna_search", "overrides": {"algorithm.lr": [1, 2]}},
            "algorithm.lr",
            "contradiction",
        ),
    ],
)
def test_what_cannot_work_is_refused(arguments, path, code):
    assert problems(**arguments)[path].code == code


@pytest.mark.parametrize(
    "key", ["algorithm", "model", "wrappers", "policy", "seed", "launcher", "experiment"]
)
@pytest.mark.parametrize("value", [["a2c", "ppo"], "a2c,ppo", [1, 2], "a2c", Choices((1, 2))])
def test_a_bare_group_key_is_no_more_an_override_than_in_one_run(key, value):
    assert problems(overrides={key: value})[key].code == "group_key"


def test_a_bare_key_does_not_outrank_the_argument():
    assert set(problems(algorithm="ppo", overrides={"algorithm": ["a2c", "ppo"]})) == {"algorithm"}
    assert problems(overrides={"n_epochs": [1, 2]})["n_epochs"].did_you_mean == "algorithm.n_epochs"


def test_an_experiment_may_vary_groups(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = (
        "# @package _global_\nsweep:\n  _target_: maze_core.GridConfig\n"
        "  values:\n    algorithm: [a2c, ppo]\n    seed: [1, 2]\n"
    )
    (tmp_path / "experiment" / "both.yaml").write_text(text)
    found = jobs(experiment="both", config_dirs=[tmp_path])
    assert [(job.choices["algorithm"], job.choices["seed"]) for job in found][:2] == [("a2c", 1), ("a2c", 2)]
    assert len(compose_jobs(found, "train")) == 4


@pytest.mark.parametrize("overrides", ["x", [1], 3])
def test_overrides_that_are_no_dict_are_refused(overrides):
    assert problems(overrides=overrides)["overrides"].code == "wrong_type"


def test_a_launcher_class_is_no_launcher():
    assert "LocalLauncherConfig(…)" in problems(launcher=LocalLauncherConfig)["launcher"].message


def test_rollouts_take_a_launcher_like_trainings_do():
    plan = plan_multirun("rollout", {"launcher": "local", "overrides": {"launcher.n_jobs": 3}})
    assert (plan.is_launcher_given, plan.launcher.n_jobs) == (True, 3)


def test_a_search_asks_for_what_the_caller_left_open():
    plan = plan_multirun("train", {"experiment": "optuna_search", "overrides": {"algorithm.lr": 0.1}})
    assert plan.search is not None
    assert "algorithm.lr" not in plan.search.space
    assert "algorithm.batch_size" in plan.search.space


@pytest.mark.parametrize(
    "parameter",
    [
        {},
        {"low": 1},
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 0, "high": 1, "choices": [1]},
    ],
)
def test_a_parameter_of_a_search_is_a_range_or_choices(parameter):
    found = problems(experiment="optuna_search", overrides={"sweep.space": {"algorithm.gamma": parameter}})
    assert any(path.startswith("sweep") for path in found)
