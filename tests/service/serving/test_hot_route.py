"""What ``POST /v1/runs/{id}/compute_action`` answers: actions, and problems of one shape."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from maze_core import RunContext
from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint
from maze_core.data.flat_space import action_layout, observation_layout
from maze_core.notices import Notices
from service.metrics import ActionMetrics
from service.serving import served
from service.serving.hot_route import ActionRoute
from service.serving.request import decode_request
from tests.service.serving.asgi_client import Answer, Client
from tests.service.serving.checkpoints import CARTPOLE, action_json, make_checkpoint, sample_batch
from tests.service.serving.hostile import NO_JSON, WRONG
from tests.service.serving.memory_stores import MemoryStores

VERSION = {"run": "r", "checkpoint": "c", "checkpoint_sha256": ""}
OBSERVATION = [0.01, -0.02, 0.03, -0.04]


def assert_problem(answer: Answer, status: int, code: str, pointer: str | None = None) -> dict[str, Any]:
    """The answer is a problem of the one shape that the whole service uses."""
    problem = answer.json
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "detail", "instance", "request_id", "errors"} <= set(problem)
    if pointer is not None:
        assert pointer in [mistake["pointer"] for mistake in problem["errors"]]
        assert all({"pointer", "code", "message"} <= set(mistake) for mistake in problem["errors"])
    return dict(problem)


def test_one_observation_gets_the_agents_action(client: Client) -> None:
    agent = load_agent(make_checkpoint())
    for observation in sample_batch(CARTPOLE, 20, 3)["observation"].tolist():
        expected = agent.compute_action(observation)["action"]
        for body in ({"observation": observation}, {"observation": {"observation": observation}}):
            answer = client.post("r", body)
            assert answer.json == {"action": expected, **VERSION}
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(("query", "code"), [(b"a=1&b=1", "unknown_field"), (b"a=1&a=2", "doubled")])
def test_there_are_no_query_parameters(client: Client, query: bytes, code: str) -> None:
    answer = client.post("r", {"observation": OBSERVATION}, query_string=query)
    assert_problem(answer, 422, "invalid_request")
    assert answer.json["errors"][0]["code"] == code


def test_what_the_policy_thought_is_told_where_it_is_asked_for(client: Client) -> None:
    agent = load_agent(make_checkpoint())
    rows = sample_batch(CARTPOLE, 20, 4)["observation"].tolist()
    told = [agent.explain(row) for row in rows]
    answer = client.post("r", {"observations": rows, "explain": True})
    assert answer.json["actions"] == [each.pop("action")["action"] for each in told]
    for found, expected in zip(answer.json["decisions"], told, strict=True):
        head, there = found["distribution"]["action"], expected["distribution"]["action"]
        assert head.pop("probabilities") == pytest.approx(there.pop("probabilities"), rel=1e-5)
        assert head == there
    one = client.post("r", {"observation": rows[3], "explain": True})
    assert (one.status, one.json["checkpoint"]) == (200, "c")
    assert one.json["decision"]["log_prob"] == pytest.approx(told[3]["log_prob"])
    assert one.json["decision"]["value"] is None  # it has no critic
    assert sum(one.json["decision"]["distribution"]["action"]["probabilities"]) == pytest.approx(1.0)
    assert_problem(
        client.post("r", {"observation": [1], "explain": True}), 422, "invalid_request", "/observation"
    )
    assert_problem(client.post("none", {"observation": [1], "explain": True}), 404, "not_found")


def test_a_drawn_action_is_explained_by_the_draw_of_its_seed(client: Client) -> None:
    body = {"observations": [OBSERVATION] * 30, "deterministic": False, "seed": 5}
    explained = client.post("r", body | {"explain": True}).json
    assert explained["actions"] == client.post("r", body).json["actions"]
    assert len(set(explained["actions"])) == 2
    log_probs = {a: d["log_prob"] for a, d in zip(explained["actions"], explained["decisions"], strict=True)}
    assert sum(np.exp(each) for each in log_probs.values()) == pytest.approx(1.0)


def test_many_observations_get_the_actions_that_each_would_get_alone(client: Client) -> None:
    rows = sample_batch(CARTPOLE, 100, 4)["observation"].tolist()
    answer = client.post("r", {"observations": rows, "checkpoint": "c"})
    alone = [client.post("r", {"observation": row}).json["action"] for row in rows]
    assert answer.json == {"actions": alone, **VERSION}


@pytest.mark.parametrize(
    "space",
    ["discrete", "multi_discrete", "multi_binary", "box"],
)
def test_every_action_space_answers_as_the_agent_says(
    client: Client, stores: MemoryStores, space: str
) -> None:
    from gymnasium import spaces

    head = {
        "discrete": spaces.Discrete(3, start=5),
        "multi_discrete": spaces.MultiDiscrete([2, 3]),
        "multi_binary": spaces.MultiBinary(3),
        "box": spaces.Box(-1, 1, (2,), np.float32),
    }[space]
    heads = spaces.Dict(action=head)
    both = spaces.Dict(first=head, second=spaces.Discrete(2))
    for run, action_space in (("one", heads), ("two", both)):
        checkpoint = make_checkpoint(CARTPOLE, action_space)
        stores.add(run, f"c_{run}", checkpoint.to_bytes())
        agent = load_agent(checkpoint)
        expected = action_json(agent.compute_action(OBSERVATION))
        assert client.post(run, {"observation": OBSERVATION}).json["action"] == expected


def test_nested_observations_and_actions_have_the_environments_own_form(
    client: Client, stores: MemoryStores
) -> None:
    from gymnasium import spaces

    seen = spaces.Dict(
        {"arm": spaces.Dict({7: spaces.Box(-1, 1, (2,))}), "legs": spaces.Tuple([spaces.Discrete(2)])}
    )
    done = spaces.Dict(
        {"go": spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (1,))]), 0: spaces.Discrete(2)}
    )
    checkpoint = make_checkpoint(observation_layout(seen), action_layout(done))
    stores.add("n", "cn", checkpoint.to_bytes())
    forms = [{"arm": {"7": [0.5, 0]}, "legs": [1]}, {"arm.7": [0.5, 0], "legs_0": 1}]
    answers = [client.post("n", {"observation": form}).json for form in forms]
    assert answers[0] == answers[1]
    assert answers[0]["action"] == action_json(load_agent(checkpoint).compute_action(forms[0]))
    assert [type(part) for part in answers[0]["action"]["go"]] == [int, list]
    assert answers[0]["action"]["0"] in (0, 1)
    many = client.post("n", {"observations": forms}).json["actions"]
    assert many == [answers[0]["action"]] * 2
    assert_problem(
        client.post("n", {"observation": {"arm": {"7": [0.5, "x"]}, "legs": [1]}}),
        422,
        "invalid_request",
        "/observation/arm/7/1",
    )
    assert_problem(
        client.post("n", {"observation": {"arm": {}, "legs": [1]}}),
        422,
        "invalid_request",
        "/observation/arm",
    )


def test_equal_seeds_give_equal_noise_and_other_seeds_do_not(client: Client, stores: MemoryStores) -> None:
    from gymnasium import spaces

    stores.add(
        "g", "cg", make_checkpoint(CARTPOLE, spaces.Dict(action=spaces.Box(-np.inf, np.inf, (3,)))).to_bytes()
    )
    body = {"observation": OBSERVATION, "deterministic": False}

    def action(**fields: Any) -> Any:
        return client.post("g", body | fields).json["action"]

    assert action(seed=1) == action(seed=1)
    assert action(seed=1) != action(seed=2)
    assert action() != action()
    together = client.post_together("g", [body | {"seed": 1}, body, body | {"seed": 1}])
    assert together[0].json["action"] == together[2].json["action"] == action(seed=1)


def test_state_dependent_noise_of_a_trained_run_acts_over_http_as_in_python(
    client: Client, stores: MemoryStores, tmp_path: Path
) -> None:
    settings = {"env.name": "Pendulum-v1", "model.gaussian.state_dependent_noise": True}
    for algorithm in ("ppo", "sac"):
        arguments: Any = {"algorithm": algorithm, "configuration": "test", "seed": 1, "silent": True}
        with RunContext(run_dir=tmp_path / algorithm, overrides=settings, **arguments) as context:
            context.train(1)
            checkpoint = Checkpoint.read(context.save(tmp_path / f"{algorithm}.ckpt"))
        stores.add(algorithm, f"c_{algorithm}", checkpoint.to_bytes())
        agent, seen = load_agent(checkpoint), [1.0, 0.0, 0.5]
        for body in ({}, {"deterministic": False, "seed": 3}):
            rng = np.random.default_rng(3)
            expected = agent.compute_action(seen, deterministic=body.get("deterministic", True), rng=rng)
            answer = client.post(algorithm, {"observation": seen, **body})
            assert answer.json["action"] == action_json(expected)


def test_actors_are_checked_and_act_by_their_own_policy(client: Client, stores: MemoryStores) -> None:
    checkpoint = make_checkpoint(keys=(0, "second"), agents=2)
    stores.add("m", "cm", checkpoint.to_bytes())
    agent = load_agent(checkpoint)
    rows = sample_batch(CARTPOLE, 20, 5)["observation"].tolist()
    for actor in ([0, 0], [0, 1], ["second", 1]):
        expected = [
            agent.compute_action(row, actor_id=(actor[0], actor[1]))["action"]
            for row in rows  # type: ignore[arg-type]
        ]
        answer = client.post("m", {"observations": rows, "actor_id": actor})
        assert answer.json["actions"] == expected
    for actor, pointer in (([7, 0], "/actor_id/0"), ([0, 2], "/actor_id/1"), ([0, -1], "/actor_id/1")):
        answer = client.post("m", {"observation": OBSERVATION, "actor_id": actor})
        assert_problem(answer, 422, "invalid_request", pointer)


def test_actors_beyond_those_that_are_remembered_act_too_and_take_no_memory(
    monkeypatch: pytest.MonkeyPatch, client: Client, stores: MemoryStores
) -> None:
    monkeypatch.setattr(served, "MAX_READERS", 1)
    checkpoint = make_checkpoint(keys=(0, "second"), agents=2)
    stores.add("m", "cm", checkpoint.to_bytes())
    expected = load_agent(checkpoint).compute_action(OBSERVATION, actor_id=("second", 1))
    answer = client.post("m", {"observation": OBSERVATION, "actor_id": ["second", 1]})
    assert answer.json["action"] == expected["action"]
    agent = served.ServedAgent("cm", load_agent(checkpoint), ActionMetrics())
    agent.job(decode_request(b'{"observation": [0, 0, 0, 0], "actor_id": [0, 1]}'), None)  # type: ignore[arg-type]
    assert len(agent._readers) == 1


def test_a_body_in_many_chunks_is_one_body(client: Client) -> None:
    assert client.post("r", {"observation": OBSERVATION}, chunks=7).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_told_to_post(client: Client, method: str) -> None:
    answer = client.post("r", {}, method=method)
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("chunks", [1, 5])
def test_a_body_over_the_limit_is_refused(client: Client, chunks: int) -> None:
    assert_problem(client.post("r", b"[" * 100_001, chunks=chunks), 413, "payload_too_large")


@pytest.mark.parametrize("run_id", ["nothing", "..", "r%00", "r;x", "ü", "x" * 10_000, "", "r\n"])
def test_a_run_that_does_not_exist_is_not_found(client: Client, run_id: str) -> None:
    assert_problem(client.post(run_id, {"observation": OBSERVATION}), 404, "not_found")


def test_a_run_without_checkpoint_is_a_conflict_that_passes(client: Client, stores: MemoryStores) -> None:
    stores.add_run("young")
    answer = client.post("young", {"observation": OBSERVATION})
    problem = assert_problem(answer, 409, "no_checkpoint")
    assert problem["state"] == "running"
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("1", "true")


def test_a_checkpoint_that_cannot_act_is_a_conflict_that_stays(client: Client, stores: MemoryStores) -> None:
    stores.add("r", "c2", b"", servable=False)
    answer = client.post("r", {"observation": OBSERVATION})
    assert_problem(answer, 409, "not_servable")
    assert answer.headers["x-should-retry"] == "false"


def test_a_damaged_checkpoint_is_a_conflict(client: Client, stores: MemoryStores) -> None:
    stores.bundles["c"] = b"damaged"
    assert_problem(client.post("r", {"observation": OBSERVATION}), 409, "checkpoint_damaged")


@pytest.mark.parametrize(("body", "pointer"), WRONG)
def test_a_wrong_request_is_told_where_it_is_wrong(client: Client, body: bytes, pointer: str) -> None:
    assert_problem(client.post("r", body), 422, "invalid_request", pointer)


@pytest.mark.parametrize("body", NO_JSON)
def test_what_is_no_json_or_says_two_things_is_a_400_as_on_every_other_route(
    client: Client, body: bytes
) -> None:
    assert_problem(client.post("r", body), 400, "malformed_json")


def test_equal_keys_of_two_observations_are_no_doubled_keys(client: Client) -> None:
    rows = [{"observation": [0, 0, 0, 0]}, {"observation": [0, 0, 0, 0]}]
    assert client.post("r", {"observations": rows}).status == 200


def test_a_misspelled_field_gets_a_suggestion(client: Client) -> None:
    problem = client.post("r", {"observation": OBSERVATION, "determinstic": True}).json
    assert problem["errors"][0]["did_you_mean"] == "deterministic"


def test_numbers_over_declared_bounds_and_undeclared_parts_are_taken_and_logged_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with Notices(lambda text: None).active():
        agent = load_agent(make_checkpoint())
    for _ in range(3):
        for observation in ([4.81, 0, 0.5, 0], {"observation": [-5, 0, 0, 0], "clock": 3}):
            answer = client.post("r", {"observation": observation})
            assert (answer.status, answer.json["action"]) == (
                200,
                agent.compute_action(observation)["action"],
            )
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("service.serving")]
    assert ["oversteps its declared bounds" in text for text in logged] == [True, False]
    assert "'clock', which its space does not declare" in logged[1]


def test_all_wrong_observations_of_a_batch_are_named(client: Client) -> None:
    good, bad = [0.0] * 4, [None, 0.0, 0.0, 0.0]
    problem = client.post("r", {"observations": [good, bad, good, bad]}).json
    assert [mistake["pointer"] for mistake in problem["errors"]] == ["/observations/1/0", "/observations/3/0"]


def test_too_many_observations_are_refused(client: Client) -> None:
    answer = client.post("r", {"observations": [[0, 0, 0, 0]] * 1025})
    assert_problem(answer, 422, "invalid_request", "/observations")


def test_only_its_own_path_is_handled() -> None:
    def handles(path: str, kind: str = "http") -> bool:
        return ActionRoute.handles({"type": kind, "path": path})

    assert handles("/v1/runs/run_1/compute_action")
    assert not handles("/v1/runs/run_1/compute_action", "websocket")
    for path in ("/v1/runs/a/b/compute_action", "/v1/runs/compute_action", "/v1/runs/a/compute_action/"):
        assert not handles(path)


def test_requests_are_counted_by_outcome(client: Client) -> None:
    client.post("r", {"observation": OBSERVATION})
    client.post("r", {"observation": []})
    client.post("nothing", {"observation": OBSERVATION})
    counted = client.route.metrics
    assert counted.outcomes == {
        "ok": 1,
        "invalid": 1,
        "not_found": 1,
        "conflict": 0,
        "unavailable": 0,
    }
    assert sum(counted.forward_seconds.counts) == counted.batch_rows.total == 1
    registry = CollectorRegistry()
    registry.register(counted)
    exposed = generate_latest(registry).decode()
    assert 'maze_act_requests_total{outcome="ok"} 1.0' in exposed
    assert "maze_act_batch_rows_bucket" in exposed


def test_a_policy_that_carries_nothing_takes_null_and_gives_it_back(client: Client) -> None:
    action = client.post("r", {"observation": OBSERVATION}).json["action"]
    answer = client.post("r", {"observation": OBSERVATION, "state": None})
    assert answer.json == {"action": action, "state": None, **VERSION}
    answer = client.post("r", {"observations": [OBSERVATION] * 2, "states": [None, None]})
    assert answer.json == {"actions": [action] * 2, "states": [None, None], **VERSION}
    problem = client.post("r", {"observation": OBSERVATION, "state": "AAAA"})
    assert "carries no state" in assert_problem(problem, 422, "invalid_request", "/state")["detail"]
