"""What a type checker is told of a RunContext is what it gives: one object for one run, a list for a multirun."""

import pytest

USE = """
from pathlib import Path
from typing import Any, assert_type
from maze_core import Agent, EvalReport, JobFailedError, RolloutReport, RunContext, TrainReport

def one(context: RunContext) -> None:
    assert_type(context.train(n_epochs=1), TrainReport)
    assert_type(context.config, dict[str, Any])
    assert_type(RunContext(env="x").policy, Agent)
    assert_type(RunContext.load("x").rollout(2, save=True), RolloutReport)
    with RunContext(multirun=False) as same:
        assert_type(same.save("x").parent, Path)
    assert_type(context.resume("epoch:1").evaluate(), EvalReport)

def many() -> None:
    context = RunContext(algorithm=["a2c", "ppo"], multirun=True)
    assert_type(context.train(), list[TrainReport | JobFailedError])
    assert_type(context.config_sha256, list[str | JobFailedError])
    assert_type(context.evaluate(3), list[EvalReport | JobFailedError])
    assert_type(context.compute_action({}), list[Any | JobFailedError])

def acting(agent: Agent) -> None:
    assert_type(agent.compute_action({}), dict[str, Any])
    assert_type(agent.compute_action({}, state=None), tuple[dict[str, Any], str | None])

RunContext().rollout("3")
RunContext(env="x").save()
"""
WRONG = ["26", "27"]
"""Its last two lines."""


@pytest.mark.slow
def test_one_run_gives_one_object_and_a_multirun_a_list(tmp_path) -> None:
    mypy = pytest.importorskip("mypy.api")
    (tmp_path / "use.py").write_text(USE)
    out, _, _ = mypy.run([str(tmp_path / "use.py"), "--strict", "--no-error-summary"])
    assert [line.partition("use.py:")[2].partition(":")[0] for line in out.splitlines()] == WRONG, out
