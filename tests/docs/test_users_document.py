"""Every snippet of the user's document runs, taken from the document itself, word for word.

The document shows no imports and no set-up; each snippet gets what its text takes for granted, and no more
(:data:`GIVEN`). In the quick suite the class that stands for ``RunContext`` has smaller budgets as its defaults, and
the command line gets them as further words: no snippet is changed. The slow suite runs everything as printed.
"""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import maze_core
import maze_core.cli
from maze_core import InvalidSpecificationError, RunContext
from tests.docs.user_document import Snippet, document, snippets

Names = dict[str, Any]

SHORT = {
    "algorithm.n_epochs": 1,
    "algorithm.epoch_length": 1,
    "algorithm.n_rollout_steps": 32,
    "algorithm.rollout_evaluator.n_episodes": 2,
    "runner.normalization_samples": 32,
}
PUBLIC = (
    "A2CAlgorithmConfig",
    "DistributionMapper",
    "GymMazeEnv",
    "LogStatsWrapper",
    "ProbabilisticPolicyComposer",
    "RolloutEvaluator",
)


class ShortRunContext(RunContext):
    """A RunContext whose defaults are small; a whole algorithm that was given keeps its own budget."""

    def __init__(self, **arguments: Any) -> None:
        short = {} if hasattr(arguments.get("algorithm"), "build") else SHORT
        given = arguments.pop("overrides", {})
        # what belongs on the group's argument is not completed: it has to be refused as it stands
        super().__init__(overrides=given if "algorithm" in given else {**short, **given}, **arguments)


class BalancingRunContext(RunContext):
    """Trained long enough, from one seed, that the pole stands for the ten steps that a snippet takes."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(overrides={"algorithm.n_epochs": 4}, seed=1, **arguments)


def cartpole() -> maze_core.GymMazeEnv:
    """The environment of the whole document."""
    return maze_core.GymMazeEnv("CartPole-v0")


def alg_config() -> maze_core.A2CAlgorithmConfig:
    """A small algorithm."""
    return maze_core.A2CAlgorithmConfig(n_epochs=1, lr=0.0005)


# snippet → what it takes for granted beside the public names, from the class that stands for RunContext
GIVEN: dict[str, Callable[[type[RunContext]], Names]] = {
    "Initialization 2": lambda kind: {},
    "Initialization 3": lambda kind: {},
    "Initialization 4": lambda kind: {},
    "Initialization 5": lambda kind: {},
    "Initialization 6": lambda kind: {"env": cartpole()},
    "Initialization 7": lambda kind: {},
    "Initialization 8": lambda kind: {"alg_config": alg_config()},
    "Initialization 9": lambda kind: {"alg_config": alg_config()},
    "Training 1": lambda kind: {"rc": kind(env=cartpole)},
    "Rollout 1": lambda kind: {
        "run_context": SimpleNamespace(RunContext=BalancingRunContext if kind is ShortRunContext else kind)
    },
    "Evaluation 1": lambda kind: {"cartpole_env_factory": cartpole},
}
COMMAND = "Initialization 1"
REFUSED = "Initialization 9"


def hidden_units(names: Names) -> list[int]:
    """Of the policy's network."""
    units: list[int] = names["rc"].config["model"]["policy"]["networks"][0]["hidden_units"]
    return units


def is_a2c(names: Names) -> bool:
    """The algorithm is A2C, with the model and the environment asked for."""
    config = names["rc"].config
    return bool(
        config["algorithm"]["_target_"].endswith("A2CAlgorithmConfig")
        and config["env"]["name"] == "CartPole-v0"
        and config["model"]["_target_"].endswith("TemplateModelConfig")
        and config["model"]["critic"]["_target_"].endswith("StepStateCriticConfig")
    )


# snippet → what must be true after it
THEN: dict[str, Callable[[Names], bool]] = {
    "Initialization 2": is_a2c,
    "Initialization 3": lambda names: is_a2c(names) and names["rc"].config["algorithm"]["gamma"] == 0.98,
    "Initialization 4": lambda names: "<lambda>" in names["rc"].undescribed["env.factory"],
    "Initialization 5": lambda names: hidden_units(names) == [256, 256],
    "Initialization 6": lambda names: hidden_units(names) == [222, 222],
    "Initialization 7": lambda names: names["alg_config"].max_grad_norm is None,
    "Initialization 8": lambda names: names["rc"].config["algorithm"]["lr"] == 0.0005,
    "Training 1": lambda names: names["rc"].train(1).counters.epoch > 10,
    "Rollout 1": lambda names: names["action"]["action"] in (0, 1) and isinstance(names["dones"], bool),
    "Evaluation 1": lambda names: statistics_of(names["evaluator"])["eval/episode_return/count"] == 1,
}


def statistics_of(evaluator: maze_core.RolloutEvaluator) -> dict[str, float]:
    """What the wrapper of its environment gathered."""
    (wrapper,) = evaluator.eval_env.vector_env.wrappers  # type: ignore[union-attr]
    return dict(wrapper.metrics())


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Snippet]:
    """The snippets; the working directory is empty."""
    found = snippets(document())
    monkeypatch.chdir(tmp_path)
    return found


def run(snippet: Snippet, kind: type[RunContext]) -> Iterator[Names]:
    """The names after the snippet ran; its contexts are closed afterwards."""
    names: Names = {name: getattr(maze_core, name) for name in PUBLIC}
    names |= {"RunContext": kind, **GIVEN[snippet.name](kind)}
    try:
        exec(compile("\n" * snippet.line + snippet.code, "run_context.rst", "exec"), names)
        yield names
    finally:
        if "rc" in names:
            names["rc"].close()


def test_every_snippet_of_the_document_is_run(page: dict[str, Snippet]) -> None:
    assert set(page) == {COMMAND, *GIVEN}
    assert set(GIVEN) - {REFUSED} == set(THEN)
    assert {snippet.language for snippet in page.values()} == {"python", "console"}


@pytest.mark.parametrize("name", THEN)
def test_a_snippet_runs_in_short(name: str, page: dict[str, Snippet]) -> None:
    for names in run(page[name], ShortRunContext):
        assert THEN[name](names)


@pytest.mark.slow
@pytest.mark.parametrize("name", THEN)
def test_a_snippet_runs_as_printed(name: str, page: dict[str, Snippet]) -> None:
    for names in run(page[name], RunContext):
        assert THEN[name](names)


@pytest.mark.parametrize(
    "name", [name for name in THEN if name.startswith("Init") and name != "Initialization 7"]
)
def test_what_a_snippet_initialises_trains(name: str, page: dict[str, Snippet]) -> None:
    for names in run(page[name], ShortRunContext):
        assert names["rc"].train(1).stop_reason == "completed"
        assert len(names["rc"].evaluate(1).returns) == 1


def test_what_the_document_warns_of_is_refused_with_the_argument_to_use(page: dict[str, Snippet]) -> None:
    with pytest.raises(InvalidSpecificationError, match="argument: algorithm="):
        next(run(page[REFUSED], RunContext))


def words_of(page: dict[str, Snippet]) -> list[str]:
    """The words of the document's command line."""
    program, *words = shlex.split(page[COMMAND].code)
    assert program == "maze-run"
    return words


def test_the_command_line_runs_in_short(page: dict[str, Snippet], capsys: pytest.CaptureFixture[str]) -> None:
    short = [f"{key}={value}" for key, value in SHORT.items()]
    assert maze_core.cli.main([*words_of(page), *short]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_command_line_runs_as_printed(
    page: dict[str, Snippet], capsys: pytest.CaptureFixture[str]
) -> None:
    assert maze_core.cli.main(words_of(page)) == 0, capsys.readouterr().err


def test_the_command_line_and_its_python_form_are_the_same_run(page: dict[str, Snippet], capsys) -> None:
    assert maze_core.cli.main([*words_of(page), "seed=1", "--cfg", "job"]) == 0
    first_line = capsys.readouterr().out.splitlines()[0]
    names: Names = {"RunContext": lambda **arguments: RunContext(seed=1, **arguments)}
    exec(page["Initialization 2"].code, names)
    assert first_line == f"# config_sha256: {names['rc'].config_sha256}"
