"""The commands that speak to a service, run as a person runs them, against a real one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from maze_client import Client
from maze_core.config import compose_run
from service.cli import main
from tests.acceptance.server import Server, await_answer, free_port

SPEC = ["algorithm=ppo", "env.name=CartPole-v1", "algorithm.epoch_length=2", "seed=3"]
OBSERVATION = "[0.1, 0.2, -0.1, 0.3]"
LONG = ["env.name=CartPole-v1", "n_epochs=100000"]


class Maze:
    """Runs ``maze`` against a service."""

    def __init__(self, port: int) -> None:
        self.environment = {**os.environ, "MAZE_URL": f"http://127.0.0.1:{port}", "COLUMNS": "80"}

    def start(self, *words: str, **options: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "service.cli", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, text=True, env=self.environment, **pipes)

    def __call__(self, *words: str, code: int = 0, said: str = "") -> tuple[str, str]:
        process = self.start(*words, stdin=subprocess.PIPE)
        out, err = process.communicate(said, timeout=120)
        assert process.returncode == code, (words, out, err)
        assert "Traceback" not in err
        return out, err

    def json(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in self(*words, "--json")[0].splitlines()]


@pytest.fixture(scope="module")
def maze(server: Server) -> Maze:
    return Maze(server.port)


@pytest.fixture(scope="module")
def trained(maze: Maze) -> str:
    out, _ = maze("train", *SPEC, "--wait", "n_epochs=4", "--name", "first", "--label", "team=a")
    run_id, end, *result = out.splitlines()
    assert end == f"{run_id} succeeded (completed)"
    assert ["epoch", "4"] in [line.split() for line in result]
    return run_id


def test_the_words_of_maze_run_are_the_same_run(maze: Maze) -> None:
    given = ["algorithm=a2c", "env.name=CartPole-v1", "+configuration=test", "algorithm.lr=1e-2", "seed=3"]
    (run,) = maze.json("train", *given)
    twin = compose_run(
        algorithm="a2c",
        configuration="test",
        overrides={"env.name": "CartPole-v1", "algorithm.lr": 0.01},
        seed=3,
    )
    command = [sys.executable, "-m", "maze_core.cli", *given, "--cfg", "job"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"# config_sha256: {run['config_sha256']}\n" in printed
    assert run["config_sha256"] == twin.config_sha256


def test_a_file_of_a_configuration_is_submitted_again(maze: Maze, trained: str, tmp_path: Path) -> None:
    out, _ = maze("runs", "config", trained)
    (tmp_path / "config.yaml").write_text(out)
    (again,) = maze.json("train", "--config", str(tmp_path / "config.yaml"))
    assert again["config_sha256"] == maze.json("runs", "show", trained)[0]["config_sha256"]


def test_a_run_is_listed_shown_and_renamed(maze: Maze, trained: str) -> None:
    listed, _ = maze("runs", "list", "--label", "team=a", "--kind", "train")
    header, row = listed.splitlines()
    assert header.split() == ["id", "kind", "state", "epoch", "best", "created", "name"]
    assert row.split()[:4] == [trained, "train", "succeeded", "4/4"]
    maze("runs", "edit", trained, "--notes", "a note", "--label", "team=", "--label", "kept=yes")
    (facts,) = maze.json("runs", "show", trained)
    assert (facts["notes"], facts["labels"]) == ("a note", {"kept": "yes"})
    assert "labels         kept=yes" in maze("runs", "show", trained)[0].splitlines()
    maze("runs", "edit", trained, "--label", "kept=", "--label", "team=a")


def test_what_a_run_left_is_printed(maze: Maze, trained: str) -> None:
    points = maze.json("metrics", trained, "eval/mean_return")
    assert [point["epoch"] for point in points] == [1, 2, 3, 4]
    latest = {point["name"]: point["epoch"] for point in maze.json("metrics", trained)}
    assert set(latest.values()) == {4}
    assert "eval/mean_return" in latest
    picture, _ = maze("metrics", trained, "--plot")
    assert picture.startswith("eval/mean_return by epoch\n")
    assert len(picture.splitlines()) == 14
    assert isinstance(maze.json("logs", trained), list)
    assert yaml.safe_load(maze("runs", "config", trained)[0])["seeding"]["env_base_seed"] == 3
    origins = {row["key"]: row["source"] for row in maze.json("runs", "config", trained, "--provenance")}
    assert (origins["env.name"], origins["algorithm.gamma"]) == ("override", "module")


def test_a_policy_acts_alike_by_id_by_name_and_line_by_line(maze: Maze, trained: str) -> None:
    action, _ = maze("act", trained, OBSERVATION)
    maze("policies", "promote", "pole@champion", trained, "--reason", "the first")
    assert action == maze("act", "pole@champion", OBSERVATION)[0]
    assert maze("act", trained, said=f"{OBSERVATION}\n\n{OBSERVATION}\n")[0] == action * 2
    assert json.loads(action) in (0, 1)
    words = ("--return", "value", "--return", "log_prob", "--top-k", "2", "--timing")
    for name in (trained, "pole@champion"):
        told = json.loads(maze("act", name, OBSERVATION, *words)[0])
        assert told.keys() == {"action", "value", "log_prob", "candidates", "timing_us", "batch_size"}
        assert told["action"] == json.loads(action)


def test_a_policy_with_a_state_carries_it_from_line_to_line_and_from_word_to_word(maze: Maze) -> None:
    words = [*SPEC, "wrappers=vector_obs_rnn", "+configuration=test", "n_epochs=1"]
    run = maze("train", *words, "--wait")[0].split()[0]
    _, err = maze("act", run, OBSERVATION, code=2)
    assert "with the first observation" in err
    told, state = [], "null"
    for _ in range(3):
        (answer,) = map(json.loads, maze("act", run, OBSERVATION, "--state", state)[0].splitlines())
        told.append(answer["action"])
        state = answer["state"]
    lines = f"{OBSERVATION}\n" * 3
    acted = list(map(json.loads, maze("act", run, said=f"{lines}\n{lines}")[0].splitlines()))
    assert acted == told * 2
    client = Client(maze.environment["MAZE_URL"])
    known = [json.loads(maze("act", run, OBSERVATION, "--state", state, "--timing")[0]) for _ in range(2)]
    assert known[0].keys() == {"action", "state", "timing_us", "batch_size"}
    assert (known[0]["action"], known[0]["state"]) == (known[1]["action"], known[1]["state"])
    carried = client.run(run)
    action, after = carried.compute_action(json.loads(OBSERVATION), state=None)
    actions, states = carried.compute_actions([json.loads(OBSERVATION)] * 2, states=[None, after])
    assert (action, actions) == (told[0], told[:2])
    assert states[0] == after
    assert carried.explain_action(json.loads(OBSERVATION), state=after)["state"] == states[1]


def test_a_policy_is_listed_rolled_back_and_deleted(maze: Maze, trained: str) -> None:
    maze("policies", "create", "cart", "--description", "of a test")
    maze("policies", "promote", "cart@champion", trained)
    maze("policies", "promote", "cart@champion", trained, "--checkpoint", "last")
    versions = [version["version"] for version in maze.json("policies", "versions", "cart")]
    maze("policies", "rollback", "cart@champion")
    (policy,) = maze.json("policies", "show", "cart")
    assert policy["aliases"] == {"champion": versions[-1]}
    assert maze.json("policies", "history", "cart@champion")[0]["kind"] == "rollback"
    maze("policies", "traffic", "cart@champion", "--canary", f"{versions[0]}=0.25", "--reason", "try it")
    told = maze.json("policies", "traffic", "cart@champion")
    assert [(one["role"], one["version"]) for one in told] == [
        ("holder", versions[-1]),
        ("canary", versions[0]),
    ]
    assert "canary" in maze("policies", "traffic", "cart@champion")[0]
    assert maze.json("policies", "traffic", "cart@champion", "--end") == []
    maze("policies", "create", "empty")
    assert maze("policies", "delete", "empty")[0] == "empty deleted\n"
    assert "empty" not in maze("policies", "list")[0]


def test_a_run_is_followed_paused_resumed_and_cancelled(maze: Maze) -> None:
    (run,) = maze.json("train", *LONG)
    follower = maze.start("logs", run["id"], "-f")
    maze("runs", "pause", run["id"])
    while maze.json("runs", "show", run["id"])[0]["state"] != "paused":
        time.sleep(0.1)
    assert maze("runs", "resume", run["id"])[0] == f"{run['id']} queued\n"
    maze("runs", "cancel", run["id"])
    out, _ = maze("runs", "wait", run["id"], code=1)
    assert out.startswith(f"{run['id']} cancelled (user_cancel)\n")
    follower.communicate(timeout=60)
    assert follower.returncode == 0
    (again,) = maze.json("runs", "retry", run["id"])
    assert again["parent_run"] == run["id"]
    maze("runs", "cancel", again["id"])
    maze("runs", "wait", again["id"], code=1)
    assert maze("runs", "delete", again["id"])[0] == f"{again['id']} deleted\n"


def test_a_run_is_continued_forked_evaluated_and_compared(maze: Maze, trained: str) -> None:
    (further,) = maze.json("runs", "continue", trained, "--n-epochs", "2")
    (fork,) = maze.json("runs", "fork", trained, "algorithm.lr=0.1", "--checkpoint", "best")
    assert further["parent_run"] == fork["parent_run"] == trained
    assert "algorithm.lr" in [one["key"] for one in maze.json("runs", "diff", trained, fork["id"])]
    assert maze("runs", "diff", trained, trained)[0].startswith("no difference")
    words = ["evaluate", trained, "--n-episodes", "2", "--seed", "1", "--wait"]
    (evaluation,) = maze.json(*words)
    assert len(evaluation["result"]["returns"]) == 2
    maze("policies", "promote", "both@champion", trained)
    (by_name,) = maze.json("runs", "fork", "both@champion", "algorithm.lr=0.1")
    assert (by_name["parent_run"], by_name["config_sha256"]) == (trained, fork["config_sha256"])
    named = ["evaluate", "both@champion", "--n-episodes", "2", "--seed", "1", "--wait"]
    assert maze.json(*named)[0]["result"]["returns"] == evaluation["result"]["returns"]
    words = ["policies", "compare", "both@champion", trained, "--n-episodes", "2", "--seed", "1", "--wait"]
    (comparison,) = maze.json(*words)
    assert comparison["result"]["pairs"][0]["mean_difference"] == 0.0
    (smoke,) = maze.json("train", *SPEC, "--smoke", "--wait")
    assert smoke["kind"] == "smoke"


def test_episodes_are_played_in_the_words_of_maze_run(maze: Maze, trained: str) -> None:
    words = ["env.name=CartPole-v1", "runner.n_episodes=2", "seed=1"]
    ways = {
        "random": maze.json("rollout", *words, "--wait"),
        "random too": maze.json("rollout", "policy=random_policy", "--wait", *words),
        "run": maze.json("rollout", "--run", trained, "runner.n_episodes=2", "seed=1", "--wait"),
    }
    maze("policies", "promote", "played@champion", trained)
    named = ["runner.n_episodes=2", "seed=1", "--wait"]
    ways["policy"] = maze.json("rollout", "--run", "played@champion", *named)
    ways["word"] = maze.json("rollout", "policy=played@champion", *named)
    results = {way: run["result"]["returns"] for way, (run,) in ways.items()}
    assert results["random"] == results["random too"] != results["run"]
    assert results["run"] == results["policy"] == results["word"]
    assert maze("rollout", "--run", trained, "--checkpoint", "epoch:99", code=1)[1].count("\n") == 1
    _, err = maze("rollout", "run_dir=here", "videos=1", code=2)
    assert "run_dir" in err
    assert "videos" not in err


def test_an_id_of_ones_own_is_one_run(maze: Maze) -> None:
    ids = [maze.json("train", *SPEC, "n_epochs=1", "--id", "run_night1")[0]["created_at"] for _ in range(2)]
    assert ids[0] == ids[1]


def test_a_sweep_is_previewed_run_and_looked_at(maze: Maze) -> None:
    words = ["algorithm=ppo,a2c", "+configuration=test", "env.name=CartPole-v1", "seed=1,2"]
    planned = maze.json("sweep", "run", *words, "--preview")
    assert [run["choices"] for run in planned] == [
        {"algorithm": algorithm, "seed": seed} for algorithm in ("ppo", "a2c") for seed in (1, 2)
    ]
    assert (
        planned[0]["config_sha256"]
        == compose_run(
            algorithm="ppo", configuration="test", overrides={"env.name": "CartPole-v1"}, seed=1
        ).config_sha256
    )
    (sweep,) = maze.json("sweep", "run", *words, "--wait", "--name", "both", "--parallel", "2")
    assert (sweep["state"], sweep["counts"]) == ("succeeded", {"succeeded": 4})
    runs = maze.json("sweep", "runs", sweep["id"])
    best = max(runs, key=lambda run: run["value"])
    assert sweep["best"]["value"] <= best["value"]
    assert (
        f"best choices  algorithm={sweep['best']['choices']['algorithm']}"
        in maze("sweep", "show", sweep["id"])[0]
    )
    header, row = maze("sweep", "list", "--state", "succeeded")[0].splitlines()
    assert (header.split()[:3], row.split()[0]) == (["id", "state", "created"], sweep["id"])
    (listed,) = maze.json("sweep", "list", "--state", "succeeded")
    assert listed.keys() == sweep.keys() - {"n_jobs", "counts", "best"}  # what a list does not load
    assert maze("sweep", "delete", sweep["id"])[0] == f"{sweep['id']} deleted\n"


def test_a_sweep_is_paused_resumed_and_cancelled(maze: Maze) -> None:
    (sweep,) = maze.json("sweep", "run", *LONG, "seed=1,2", "--parallel", "1")
    assert maze("sweep", "pause", sweep["id"])[0] == f"{sweep['id']} paused\n"
    assert maze("sweep", "resume", sweep["id"])[0] == f"{sweep['id']} running\n"
    _, err = maze("sweep", "wait", sweep["id"], "--timeout", "0", code=1)
    assert f"maze sweep wait {sweep['id']}" in err
    maze("sweep", "cancel", sweep["id"])
    assert "state     cancelled" in maze("sweep", "wait", sweep["id"], code=1)[0]
    _, err = maze("sweep", "resume", sweep["id"], "sweep_nosuch", code=1)
    assert len(err.splitlines()) == 2


def test_environments_are_listed(maze: Maze) -> None:
    rows = {row["id"]: row for row in maze.json("env", "list", "--available")}
    assert rows["CartPole-v1"]["is_available"]
    assert "most steps    500" in maze("env", "show", "CartPole-v1")[0]


def test_what_one_run_refuses_does_not_keep_it_from_the_others(maze: Maze, trained: str) -> None:
    (run,) = maze.json("train", *LONG)
    out, err = maze("runs", "cancel", trained, run["id"], "run_nosuch", code=1)
    assert out.split()[0] == run["id"]
    assert [line.split(": ")[1] for line in err.splitlines()] == [trained, "run_nosuch"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["runs", "show", "run_nosuch"], 1, "no run run_nosuch"),
        (["train", "algorithm=pp0"], 2, "Did you mean 'ppo'?"),
        (["train", "algorithm"], 2, "maze: algorithm: cannot be read"),
        (["train", "run_dir=here"], 2, "run_dir: says where this machine writes"),
        (["train", "~env.kwargs.a"], 2, "env.kwargs.a=null"),
        (["sweep", "run", "launcher.n_jobs=2", "seed=1,2"], 2, "see maze sweep, and its --parallel"),
        (["train", "--label", "team"], 2, "--label team: write KEY=VALUE"),
        (["train", "--wiat"], 2, "unrecognized arguments: --wiat"),
        (["runs", "list", "--state", "runing"], 2, "state"),
        (["runs", "edit", "run_nosuch"], 2, "say what to change"),
        (["act", "run_nosuch", "{"], 2, "OBSERVATION is no JSON"),
        (["policies", "promote", "pole", "1"], 2, "write NAME@ALIAS"),
        (["evaluate", "run_nosuch"], 1, "run_nosuch"),
        (["runs", "continue", "RUN", "--n-epochs", "0"], 2, "n_epochs"),
        (["runs", "continue", "RUN", "--checkpoint", ""], 2, "checkpoint"),
        (["metrics", "RUN", "--points", "0"], 2, "max_points"),
    ],
)
def test_what_goes_wrong_is_one_sentence_with_its_exit_code(
    maze: Maze,
    trained: str,
    words: list[str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MAZE_URL", maze.environment["MAZE_URL"])
    with pytest.raises(
        SystemExit
    ) as ended:  # as python -m service.cli, which takes a second of Python's start
        sys.exit(main([trained if word == "RUN" else word for word in words]))
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert says in err
    assert "Traceback" not in err
    assert out == ""


def test_a_metric_that_there_is_not_is_told_with_those_that_there_are(maze: Maze, trained: str) -> None:
    _, err = maze("metrics", trained, "eval/mean", code=2)
    assert f"{trained} has no metric eval/mean; it has: eval/mean_length, eval/mean_return" in err


def test_a_service_that_is_not_there_is_told_with_the_way_out() -> None:
    port = free_port()
    _, err = Maze(port)("runs", "list", code=1)
    assert f"http://127.0.0.1:{port}/v1/runs was not reached" in err
    assert "MAZE_URL" in err


def test_who_waits_may_go_and_the_run_goes_on(maze: Maze) -> None:
    waiting = maze.start("train", *LONG, "--wait")
    assert waiting.stdout is not None
    run_id = waiting.stdout.readline().strip()
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert f"it goes on: maze runs wait {run_id}" in err
    assert maze.json("runs", "show", run_id)[0]["state"] in ("queued", "running")
    _, err = maze("runs", "wait", run_id, "--timeout", "1", code=1)
    assert f"after 1 s; it goes on: maze runs wait {run_id}" in err
    maze("runs", "cancel", run_id)


def test_a_reader_that_had_enough_is_no_error(maze: Maze) -> None:
    for words in (["runs", "list", "--json"], ["runs", "list"], ["env", "list"]):
        reader, writer = os.pipe()
        process = maze.start(*words, stdout=writer)
        os.close(writer)
        os.close(reader)  # before anything is written
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(60) == 0


def test_a_token_is_taken_from_the_environment_or_an_option(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'maze.db'}"
    command = [sys.executable, "-m", "service.cli"]
    made = subprocess.run(
        [*command, "token", "create", "me", "--database-url", url], capture_output=True, text=True, check=True
    )
    token, port = made.stdout.strip(), free_port()
    api = subprocess.Popen(
        [*command, "api", "--port", str(port), "--database-url", url], stderr=subprocess.DEVNULL
    )
    try:
        maze = Maze(port)
        await_answer(port)
        _, err = maze("runs", "list", code=1)
        assert "token" in err
        maze("runs", "list", "--token", token)
        maze.environment["MAZE_TOKEN"] = token
        (run,) = maze.json("train", *SPEC, "--name", "mine")
        assert maze("runs", "cancel", run["id"])[0] == f"{run['id']} cancelled\n"
        assert maze.json("runs", "show", run["id"])[0]["name"] == "mine"
        assert len(maze.json("sweep", "run", *SPEC, "algorithm.lr=0.1,0.2", "--preview")) == 2
        maze("policies", "create", "pole")
        assert maze("policies", "list")[0].splitlines()[1].startswith("pole ")
        _, err = maze("act", run["id"], OBSERVATION, code=1)
        assert run["id"] in err
        maze("runs", "list", "--token", "maze_no", code=1)
        assert maze("runs", "delete", run["id"])[0] == f"{run['id']} deleted\n"
    finally:
        api.terminate()
        api.wait(30)
