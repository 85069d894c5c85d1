"""Policies with a state over HTTP: the state goes out with every action and comes back with the next observation."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from maze_core import Agent, RunContext
from maze_core.agent import load_agent
from service.serving.hot_route import ActionRoute
from tests.service.serving.asgi_client import Client
from tests.service.serving.memory_stores import MemoryStores
from tests.service.serving.test_hot_route import OBSERVATION, assert_problem

OWN = "tests.service.serving.own_network.RecurrentNet"
MODELS: dict[str, dict[str, Any]] = {
    "stacked": {"wrappers": {"maze_core.ObservationStackWrapper": {"n_stack": 3}}},
    "recurrent": {"model": "flatten_concat"},
    "lstm": {"model": "vector_obs_rnn", "critic": "template_state"},
}


@pytest.fixture(scope="module", params=MODELS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent that acts in the API process, and one that has a child."""
    folder = tmp_path_factory.mktemp(request.param)
    overrides: dict[str, Any] = {"env.name": "CartPole-v1"}
    if request.param == "recurrent":
        overrides["model.policy.networks"] = [{"_target_": OWN}]
    with RunContext(
        run_dir=folder / "run", configuration="test", overrides=overrides, seed=1, **MODELS[request.param]
    ) as context:
        context.train(n_epochs=1)
        return context.save(folder / "bundle", "last")


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def client(bundle: Path, runner: asyncio.Runner) -> Iterator[Client]:
    stores = MemoryStores()
    stores.add("r", "c", bundle.read_bytes())
    settings = SimpleNamespace(
        agents_cached=2,
        max_action_body_bytes=100_000,
        action_queue_rows=4096,
        action_queue_age_s=10.0,
        extra_targets=[OWN],
        config_dirs=[],
    )
    route = ActionRoute(stores, settings)
    yield Client(route, runner)
    runner.run(route.close())


@pytest.fixture(scope="module")
def agent(bundle: Path) -> Agent:
    return load_agent(bundle)


def episode(agent: Agent, seed: int, n: int = 6) -> list[tuple[list[float], Any, str | None]]:
    """Observations, and the actions and next states of the agent in this process."""
    rng, state, found = np.random.default_rng(seed), None, []
    for _ in range(n):
        observation = (rng.standard_normal(4) / 10).astype(np.float32).tolist()
        action, state = agent.compute_action(observation, state=state)
        found.append((observation, action["action"], state))
    return found


def test_an_episode_has_the_actions_and_states_that_it_has_here(client: Client, agent: Agent) -> None:
    state = explained = None
    for observation, action, after in episode(agent, 1):
        told = client.post("r", {"observation": observation, "state": explained, "explain": True}).json
        answer = client.post("r", {"observation": observation, "state": state})
        assert answer.json.items() >= {"action": action, "state": after, "checkpoint": "c"}.items()
        here = agent.explain(observation, state=explained)
        assert (told["action"], told["state"]) == (action, here["state"])
        assert told["decision"]["value"] == pytest.approx(here["value"], rel=1e-5)
        state, explained = answer.json["state"], told["state"]


def test_several_episodes_go_on_side_by_side_in_one_request_or_at_once(client: Client, agent: Agent) -> None:
    episodes = [episode(agent, seed) for seed in range(5)]
    states: list[str | None] | None = None
    for step in zip(*episodes, strict=True):
        rows = [observation for observation, *_ in step]
        answer = client.post("r", {"observations": rows, "states": states})
        assert answer.json["actions"] == [action for _, action, _ in step]
        assert answer.json["states"] == [after for *_, after in step]
        before = states or [None] * len(rows)
        alone = client.post_together(
            "r", [{"observation": row, "state": state} for row, state in zip(rows, before, strict=True)]
        )
        assert [each.json["state"] for each in alone] == answer.json["states"]
        states = answer.json["states"]


def test_without_a_state_the_first_step_is_told(client: Client) -> None:
    for body in ({"observation": OBSERVATION}, {"observation": OBSERVATION, "explain": True}):
        problem = assert_problem(client.post("r", body), 422, "invalid_request", "/state")
        assert "give state null (None) with the first observation" in problem["detail"]
    assert_problem(client.post("r", {"observations": [OBSERVATION]}), 422, "invalid_request", "/states")


@pytest.mark.parametrize(
    "state", ["", "AAAA", "ä", "%", "/etc/passwd", "../../x", 5, [1], {"_target_": "os.system"}]
)
def test_what_is_no_state_of_this_policy_is_refused_where_it_stands(client: Client, state: Any) -> None:
    body = {"observation": OBSERVATION, "state": state}
    assert_problem(client.post("r", body), 422, "invalid_request", "/state")
    body = {"observations": [OBSERVATION] * 2, "states": [None, state]}
    assert_problem(client.post("r", body), 422, "invalid_request", "/states/1")


def test_a_state_of_another_checkpoint_is_refused_with_the_way_out(client: Client, agent: Agent) -> None:
    state = agent.initial_state()
    assert state is not None
    other = state[:9] + ("B" if state[9] == "A" else "A") + state[10:]  # within the digest
    problem = assert_problem(
        client.post("r", {"observation": OBSERVATION, "state": other}), 422, "invalid_request"
    )
    assert "Begin a new episode with null" in problem["detail"]


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"observation": OBSERVATION, "states": [None]}, "/states"),
        ({"observations": [OBSERVATION], "state": None}, "/state"),
        ({"observations": [OBSERVATION], "states": [None, None]}, "/states"),
    ],
)
def test_there_is_one_state_for_each_observation(client: Client, more: dict[str, Any], pointer: str) -> None:
    assert_problem(client.post("r", more), 422, "invalid_request", pointer)


def forged(state: str, number: float) -> str:
    """A state whose numbers, of policy and wrappers, are all another one."""

    def other(value: Any) -> Any:
        if isinstance(value, msgspec.msgpack.Ext):
            dtype, shape, _ = msgspec.msgpack.decode(value.data)
            array = np.full(shape, number, dtype).tobytes()
            return msgspec.msgpack.Ext(value.code, msgspec.msgpack.encode([dtype, shape, array]))
        if isinstance(value, dict):
            return {key: other(part) for key, part in value.items()}
        return value

    parts = msgspec.msgpack.decode(base64.urlsafe_b64decode(state))
    parts[2] = [
        [key, agent, np.full(len(data) // 4, number, np.float32).tobytes()] for key, agent, data in parts[2]
    ]
    parts[3] = [other(value) for value in parts[3]]
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(parts)).decode()


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_a_state_that_is_not_finite_is_refused_where_it_stands(
    client: Client, agent: Agent, number: float
) -> None:
    state = forged(agent.compute_action(OBSERVATION, state=None)[1] or "", number)
    for more in ({}, {"explain": True}):
        body = {"observation": OBSERVATION, "state": state} | more
        assert_problem(client.post("r", body), 422, "invalid_request", "/state")
        body = {"observations": [OBSERVATION] * 2, "states": [None, state]} | more
        assert_problem(client.post("r", body), 422, "invalid_request", "/states/1")


def test_where_nothing_finite_comes_of_a_state_the_state_is_named(client: Client, agent: Agent) -> None:
    if not agent.policy.state_widths:
        pytest.skip("a stack of observations alone: no network that could make a finite state infinite")
    _, state = agent.compute_action(OBSERVATION, state=None)
    worst = forged(state or "", 3e38)
    for more in ({}, {"explain": True}):
        body = {"observation": OBSERVATION, "state": worst} | more
        problem = assert_problem(client.post("r", body), 422, "invalid_request", "/state")
        assert "Give null to begin an episode" in problem["detail"]
        body = {"observations": [OBSERVATION] * 3, "states": [None, state, worst]} | more
        assert_problem(client.post("r", body), 422, "invalid_request", "/states/2")
    bodies = [{"observation": OBSERVATION, "state": each} for each in (state, worst, None)]
    assert [answer.status for answer in client.post_together("r", bodies)] == [200, 422, 200]
