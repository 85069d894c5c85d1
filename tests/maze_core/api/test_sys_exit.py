"""``sys.exit()`` in code of a user is that code's failure, with its text; it never ends the program that runs it."""

import sys

import gymnasium
import pytest

from maze_core import GymMazeEnv, InvalidSpecificationError, RunContext
from maze_core.errors import EnvError, JobFailedError
from maze_core.notices import MazeWarning
from tests.maze_core.api.leaving_env import LeavingEnv
from tests.maze_core.api.own_parts import PolicyNet
from tests.maze_core.api.test_forms import QUICK


class LeavingNet(PolicyNet):
    """A network that cannot be made."""

    def __init__(self, obs_shapes, action_logits_shapes):
        sys.exit("no display")


class Leaves:
    """A component that cannot be made."""

    def __init__(self):
        sys.exit("no display")


@pytest.fixture(scope="module", autouse=True)
def leaving_envs():
    name = f"{LeavingEnv.__module__}:LeavingEnv"
    for where in ("constructor", "reset", "step", "close"):
        gymnasium.register(f"Leaving-{where}-v0", entry_point=name, kwargs={"where": where})
    yield
    for where in ("constructor", "reset", "step", "close"):
        del gymnasium.registry[f"Leaving-{where}-v0"]


@pytest.mark.parametrize("where", ["constructor", "reset", "step"])
def test_a_factory_or_environment_that_exits_is_an_error_of_the_environment(tmp_path, where):
    def make():
        return LeavingEnv(where)

    with (
        RunContext(run_dir=tmp_path, env=make, overrides=QUICK) as context,
        pytest.raises(EnvError, match="SystemExit: no display"),
    ):
        context.train()


def test_a_close_that_exits_takes_no_result_away(tmp_path):
    with (
        pytest.warns(MazeWarning, match=r"close\(\) of an environment failed: SystemExit: no display"),
        RunContext(run_dir=tmp_path, env=lambda: LeavingEnv("close"), overrides=QUICK) as context,
    ):
        assert context.train().counters.epoch > 0


@pytest.mark.parametrize("where", ["constructor", "step"])
def test_the_process_of_an_environment_tells_that_it_exited(tmp_path, where):
    overrides = {**QUICK, "env.name": f"Leaving-{where}-v0", "runner.n_envs": 2}
    with (
        RunContext(run_dir=tmp_path, runner="isolated", overrides=overrides) as context,
        pytest.raises(EnvError, match="SystemExit: no display"),
    ):
        context.train()


def test_a_module_of_an_environment_that_exits_while_it_is_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "leaving_module.py").write_text("import sys\nsys.exit('no display')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        RunContext(overrides={"env.name": "leaving_module:Any-v0"}) as context,
        pytest.raises(EnvError, match="SystemExit: no display"),
    ):
        context.rollout()


def test_constructors_of_networks_and_policies_that_exit_are_named():
    with pytest.raises(
        InvalidSpecificationError, match=r"^model\.policy\.networks\.0: .*SystemExit: no display"
    ):
        RunContext(policy={"networks": [LeavingNet]}, overrides=QUICK).train()
    with pytest.raises(InvalidSpecificationError, match=r"^wrappers\.0: .*SystemExit: no display"):
        RunContext(wrappers=[{"_target_": f"{__name__}.Leaves"}])


@pytest.mark.parametrize("where", ["here", "in processes"])
def test_a_job_that_exits_fails_alone(tmp_path, where):
    env = [lambda: LeavingEnv("step"), lambda: GymMazeEnv("CartPole-v1")]
    names = ["Leaving-step-v0", "CartPole-v1"]
    given = {"env": env} if where == "here" else {}
    overrides = QUICK if where == "here" else {**QUICK, "env.name": names}
    with RunContext(run_dir=tmp_path, multirun=True, overrides=overrides, **given) as context:
        failed, trained = context.train()
    assert isinstance(failed, JobFailedError)
    assert "SystemExit: no display" in failed.message
    assert trained.stop_reason == "completed"
