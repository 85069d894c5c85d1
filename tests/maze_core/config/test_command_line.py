"""The words of a command line mean what the same arguments mean in Python."""

import pytest

from maze_core.config import compose_run
from maze_core.config.command_line import parse_words
from maze_core.config.overrides import REMOVED
from maze_core.errors import InvalidSpecificationError


def problems(*words: str, multirun: bool = False) -> dict[str, str]:
    with pytest.raises(InvalidSpecificationError) as caught:
        parse_words(words, multirun=multirun)
    return {problem.path: problem.code for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("env.kwargs.x=1", 1),
        ("env.kwargs.x=1_000", 1000),
        ("env.kwargs.x=1.0", 1.0),
        ("env.kwargs.x=1e-3", 0.001),
        ("env.kwargs.x=true", True),
        ("env.kwargs.x=null", None),
        ("env.kwargs.x=text", "text"),
        ("env.kwargs.x='a=b, c'", "a=b, c"),
        ('env.kwargs.x="1"', "1"),
        ("env.kwargs.x=[1,2.5,a]", [1, 2.5, "a"]),
        ("env.kwargs.x={a:1,b:[c]}", {"a": 1, "b": ["c"]}),
        ("env.kwargs.x=int(3.7)", 3),
        ("env.kwargs.x=", ""),
        ("+env.kwargs.x=1", 1),
        ("++env.kwargs.x=1", 1),
        ("~env.kwargs.x", REMOVED),
    ],
)
def test_values_have_the_types_of_the_grammar(word, value):
    (got,) = parse_words([word]).arguments["overrides"].values()
    assert got == value
    assert type(got) is type(value)


def test_groups_seeds_and_the_run_directory_are_arguments():
    line = parse_words(
        [
            "algorithm=a2c",
            "+experiment=x",
            "seed=3",
            "n_epochs=2",
            "run_dir=out",
            "env.name=CartPole-v1",
            "~critic",
        ]
    )
    assert line.arguments == {
        "algorithm": "a2c",
        "experiment": "x",
        "seed": 3,
        "n_epochs": 2,
        "critic": None,
        "overrides": {"env.name": "CartPole-v1"},
    }
    assert line.run_dir == "out"
    assert parse_words(["hydra.run.dir=elsewhere"]).run_dir == "elsewhere"


def test_a_later_word_wins():
    line = parse_words(["algorithm=a2c", "env.name=a", "algorithm=ppo", "env.name=b"])
    assert line.arguments == {"algorithm": "ppo", "overrides": {"env.name": "b"}}


def test_no_wrappers_can_be_taken_away():
    assert compose_run(**parse_words(["~wrappers"]).arguments).tree["wrappers"] == []


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["~wrappers.0"], ["MonitoringWrapper"]),
        (["~wrappers.MonitoringWrapper"], ["ObservationNormalizationWrapper"]),
        (["~wrappers.0", "~wrappers.1"], []),
    ],
)
def test_an_item_of_a_list_is_taken_out_and_numbers_mean_the_list_as_it_was(words, left):
    tree = compose_run(**parse_words(["wrappers=vector_obs", *words]).arguments).tree
    assert [node["_target_"].rpartition(".")[2] for node in tree["wrappers"]] == left


def test_a_setting_beside_a_removed_item_reaches_the_item_it_names():
    words = ["wrappers=vector_obs", "~wrappers.0", "wrappers.1.action_logging=false"]
    (monitoring,) = compose_run(**parse_words(words).arguments).tree["wrappers"]
    assert monitoring["action_logging"] is False


@pytest.mark.parametrize(
    "word",
    [
        "algorithm",
        "a b=1",
        "x=[1,2",
        "x={a:1",
        "x=1,2",
        "x=range(1,3)",
        "algorithm=ppo,a2c",
        "env@x=gym_env",
        "hydra/launcher=local",
        "hydra/job_logging=x",
        "~env",
        "~algorithm",
        "~algorithm.lr=3",
        "~critic=template_state",
        "~env.kwargs.x=null",
        "x=${oc.env:HOME}",
        "x=" + "[" * 5000,
        "x=" + "1" * 5000,
    ],
)
def test_what_cannot_be_read_is_refused(word):
    assert set(problems(word).values()) <= {"syntax", "interpolation"}


@pytest.mark.parametrize(
    "word", ["algorithm.lr=glob(*)", "algorithm=glob(a*)", "env.kwargs.x=range(1,1000000000000)"]
)
def test_several_values_are_counted_one_by_one(word):
    assert set(problems(word, multirun=True).values()) <= {"syntax", "too_large"}


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("range(0.1,0.4,0.1)", (0.1, 0.2, 0.3)),
        ("range(0.3,0,-0.1)", (0.3, 0.2, 0.1)),
        ("range(1e-4,5e-4,1e-4)", (0.0001, 0.0002, 0.0003, 0.0004)),
        ("range(-0.5,1,0.5)", (-0.5, 0.0, 0.5)),
        ("range(start=1,stop=6,step=2)", (1, 3, 5)),
        ("range(3)", (0, 1, 2)),
        ("sort(range(0.1,0.4,0.1),reverse=true)", (0.3, 0.2, 0.1)),
        ("sort(3,1,2)", (1, 2, 3)),
        ("float(range(1,3))", (1.0, 2.0)),
        ("tag(a,range(1,3))", (1, 2)),
        ("range(1,3),7", (1, 2, 7)),
        ("choice(b,a)", ("b", "a")),
    ],
)
def test_values_that_are_counted_are_decimals_and_the_end_is_not_one_of_them(word, values):
    (got,) = parse_words([f"algorithm.lr={word}"], multirun=True).arguments["overrides"].values()
    assert repr(got.values) == repr(values)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("shuffle(1,2,3)", "shuffle draws another order each time"),
        ("shuffle([1,2,3])", "shuffle draws another order each time"),
        ("shuffle(range(1,4))", "shuffle draws another order each time"),
        ("range(1,4,0)", "a step other than 0"),
        ("range(0,inf)", "takes finite numbers"),
        ("range(4,1)", "has 0 values"),
        ("interval(0,1)", "optuna_search"),
    ],
)
def test_values_that_nobody_could_run_again_are_refused_by_name(word, reason):
    with pytest.raises(InvalidSpecificationError, match=reason):
        parse_words([f"algorithm.lr={word}"], multirun=True)


def test_one_place_is_said_once():
    assert problems("hydra.run.dir=a", "run_dir=b") == {"run_dir": "contradiction"}
    assert problems("run_dir=a", "hydra.sweep.dir=b", multirun=True) == {"hydra.sweep.dir": "contradiction"}
    assert parse_words(["run_dir=a", "run_dir=b"]).run_dir == "b"


def test_the_place_of_several_runs_needs_several_runs():
    assert problems("hydra.sweep.dir=a") == {"hydra.sweep.dir": "needs_multirun"}
    assert parse_words(["hydra.sweep.dir=a"], multirun=True).run_dir == "a"


def test_a_place_is_a_path_and_null_is_none():
    assert problems("run_dir=[a]") == {"run_dir": "wrong_type"}
    assert parse_words(["run_dir=null"]).run_dir is None
    assert parse_words(["run_dir=7"]).run_dir == "7"


def test_every_unreadable_word_is_named():
    assert set(problems("x=1,2", "a b=1", "algorithm=ppo", "~env")) == {"x", "a b=1", "env"}


def test_the_same_specification_is_the_same_run_by_words_and_by_arguments():
    words = [
        "algorithm=ppo",
        "model=vector_obs",
        "critic=template_state",
        "wrappers=vector_obs",
        "env.name=CartPole-v1",
        "algorithm.lr=1",
        "wrappers.ObservationNormalizationWrapper.clip_range=[-5,5]",
        "n_epochs=30",
        "seed=1",
    ]
    by_words = compose_run(**parse_words(words).arguments)
    by_arguments = compose_run(
        algorithm="ppo",
        model="vector_obs",
        critic="template_state",
        wrappers="vector_obs",
        overrides={
            "algorithm.n_epochs": 30,
            "wrappers.0.clip_range": (-5.0, 5.0),
            "algorithm.lr": 1.0,
            "env.name": "CartPole-v1",
        },
        seed=1,
    )
    assert by_words.config_sha256 == by_arguments.config_sha256
