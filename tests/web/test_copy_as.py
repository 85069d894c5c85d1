"""A request that is copied as curl, Python and maze-run is the same run, whatever its values hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maze_core.config.command_line import parse_words
from service.web import FOLDER
from tools.page import environment

NASTY = "it's $HOME `id` \"quoted\" \\ \\' {a: 1}, [b] = é ✓ #!%\t\nend\\"
"""Everything that a shell, Python, JSON or Hydra's grammar would read."""
SPEC = {
    "algorithm": "ppo",
    "wrappers": [
        {"_target_": "maze_core.ObservationClippingWrapper", "exclude": [NASTY, "null", "1e5", "-x", ""]},
        {"_target_": "maze_core.RewardScalingWrapper", "scale": 0.5},
    ],
    "overrides": {
        "env.name": "FrozenLake-v1",
        "env.kwargs.is_slippery": False,
        "env.kwargs.desc": ["SF", "HG"],
        "algorithm.lr": 3e-7,
        "algorithm.max_grad_norm": None,
        "algorithm.rollout_evaluator": {"n_episodes": 2, "deterministic": False},
        "model.policy.networks.0.hidden_units": [8, 8],
    },
    "n_epochs": 3,
    "target_return": 0.1,
    "seed": 7,
    "name": NASTY.replace("\n", " ").replace("\t", " "),
    "labels": {"team": "it's"},
}


@pytest.fixture(scope="module")
def texts():
    if not (FOLDER / "node_modules" / "preact").is_dir():
        pytest.skip("the page's packages are not installed: python -m tools.page --dev")
    found = environment()

    def ask(body, path="/v1/train", origin="http://localhost:8000", **more):
        given = json.dumps({"body": body, "path": path, "origin": origin, **more})
        script = str(Path(__file__).parent / "copy_as.mjs")
        done = subprocess.run(["node", script, given], env=found, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def run(command, folder, **more):
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, **more
    )
    assert done.returncode == 0, (command, done.stderr[-2000:])
    return done.stdout


def maze_run(text, folder):
    """What a copied command says that it would run."""
    scripts = str(Path(sys.executable).parent)
    first, *rest = text.split("\n", 1)
    command = (
        "\n".join([first + " --cfg job", *rest]) if first.endswith("'MAZE_CONFIG'") else text + " --cfg job"
    )
    command = command.replace(" <<'MAZE_CONFIG' --cfg job", " --cfg job <<'MAZE_CONFIG'")
    return run(["bash", "-c", command], folder, env={"PATH": f"{scripts}:/usr/bin:/bin"})


@pytest.mark.slow
def test_all_four_texts_of_a_tricky_request_give_the_digest_that_compose_gives(texts, server, tmp_path):
    composed = server.post("/v1/config/compose", SPEC)
    assert composed.status_code == 200, composed.text
    digest = composed.json()["config_sha256"]
    said = texts(SPEC, origin=str(server.client.base_url).rstrip("/"))

    made = json.loads(run(["bash", "-c", said["curl"]], tmp_path))
    assert made["config_sha256"] == digest
    assert made["name"] == SPEC["name"]
    assert made["labels"] == SPEC["labels"]
    script = said["python"].removesuffix("rc.train()\n")
    assert script != said["python"]
    assert run([sys.executable, "-c", script], tmp_path).strip() == digest
    run_id = run([sys.executable, "-c", said["client"]], tmp_path).strip()
    assert server.get(f"/v1/runs/{run_id}")["config_sha256"] == digest
    assert digest in maze_run(said["maze-run"], tmp_path)
    for made_run in (made["id"], run_id):
        server.post(f"/v1/runs/{made_run}/cancel", {})


@pytest.mark.slow
def test_a_copied_sweep_has_the_jobs_that_the_service_would_make(texts, server, tmp_path):
    body = {
        "wrappers": [[{"_target_": "maze_core.ObservationClippingWrapper", "exclude": ["a,b"]}]],
        "overrides": {
            "env.name": "CartPole-v1",
            "algorithm.lr": [0.1, 0.01],
            "model.policy.networks.0.hidden_units": [[8, 8]],
        },
        "seed": [1, 2],
    }
    preview = server.post("/v1/sweeps/preview", body).json()
    digests = sorted(job["config_sha256"] for job in preview["jobs"])
    assert len(set(digests)) == 4
    said = texts(body, path="/v1/sweeps", isSweep=True)
    script = said["python"].removesuffix("rc.train()\n")
    assert sorted(eval(run([sys.executable, "-c", script], tmp_path))) == digests
    printed = maze_run(said["maze-run"], tmp_path)
    assert all(digest in printed for digest in digests)


@pytest.mark.slow
def test_a_whole_configuration_is_copied_with_what_changes_it(texts, server, tmp_path):
    config = server.post("/v1/config/compose", SPEC).json()["config"]
    body = {"config": config, "overrides": {"algorithm.gamma": 0.5}}
    digest = server.post("/v1/config/compose", body).json()["config_sha256"]
    said = texts(body)
    script = said["python"].removesuffix("rc.train()\n")
    assert run([sys.executable, "-c", script], tmp_path).strip() == digest
    assert digest in maze_run(said["maze-run"], tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        NASTY,
        "\\",
        "\\\\'",
        "''",
        "1e5",
        "true",
        "NULL",
        "nan",
        "-inf",
        "",
        " x ",
        "a.b-c",
        "x,y",
        "[1]",
        1e-9,
        1e21,
        -0.5,
        True,
        None,
        [],
        {},
        [[1], "a b"],
        {"a b": 1, "c:d": ["x"]},
    ],
)
def test_the_real_parser_reads_a_word_as_the_value_it_was_made_of(texts, value):
    said = texts({"overrides": {"env.kwargs.x": value}})["maze-run"]
    words = run(["bash", "-c", 'maze-run() { printf "%s\\0" "$@"; }; ' + said], None).split("\0")
    read = parse_words(words[2:-1]).arguments["overrides"]["env.kwargs.x"]
    assert read == value
    assert type(read) is type(value)


def test_a_key_that_is_no_word_stands_in_a_mapping(texts):
    said = texts({"overrides": {"env.kwargs.two words": 1}})["maze-run"]
    assert said == "maze-run -cn conf_train 'env.kwargs={two\\ words:1}'"


def test_what_the_grammar_cannot_say_has_its_reason(texts):
    said = texts({"overrides": {"env.kwargs.é": 1}})["maze-run"]
    assert "no way to write the key" in said["reason"]
    assert "interpolation" in texts({"overrides": {"env.kwargs.x": "${y}"}})["maze-run"]["reason"]


def test_only_the_service_can_fork(texts):
    said = texts({"overrides": {"algorithm.lr": 0.1}}, path="/v1/runs/run_x/fork")
    assert "reason" in said["python"]
    assert "reason" in said["maze-run"]
    assert "/v1/runs/run_x/fork" in said["curl"]
