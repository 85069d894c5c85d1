"""What is sent as an observation gets an action or a 422, and the shortcut never disagrees with the agent."""

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from maze_core.agent import Agent, load_agent
from maze_core.data.flat_space import observation_layout
from maze_core.errors import SpaceMismatchError
from maze_core.types import ActorID
from service.problems import Problem
from service.serving import forms
from service.serving.hot_route import ActionRoute
from service.serving.observations import ObservationReader
from tests.service.serving.asgi_client import Client
from tests.service.serving.checkpoints import action_json, make_checkpoint, sample_batch
from tests.service.serving.memory_stores import MemoryStores

pytestmark = pytest.mark.filterwarnings("ignore::maze_core.notices.MazeWarning")

LOW = np.float32([-1.5, -np.inf, 0.1, -0.3])
HIGH = np.float32([0.7, np.inf, 0.1, np.inf])
LEAVES = {
    "box": spaces.Box(LOW, HIGH),
    "box_float64": spaces.Box(-1.0, 1e30, (2,), np.float64),
    "box_int": spaces.Box(-3, 9, (3,), np.int32),
    "box_bytes": spaces.Box(0, 255, (2, 3), np.uint8),
    "box_0d": spaces.Box(-1.0, 1.0, (), np.float32),
    "box_long": spaces.Box(-1.0, 1.0, (100,), np.float32),
    "discrete": spaces.Discrete(4, start=-1),
    "multi_discrete": spaces.MultiDiscrete([2, 5]),
    "multi_binary": spaces.MultiBinary(3),
}
OBSERVATION_SPACES = {
    **{name: spaces.Dict(observation=leaf) for name, leaf in LEAVES.items()},
    "everything": spaces.Dict(LEAVES),
    "text": observation_layout(spaces.Text(3, charset="ab"), reads_texts=True),
    "masked": spaces.Dict(observation=LEAVES["box"], action_mask=spaces.Box(0, 1, (2,), np.int8)),
}
MANY = 900 if settings.get_current_profile_name() == "faults" else 0
"""Examples of every space in `make faults`."""
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e39, -1e39, 3.5e38, 1e308, 2**63, 2**64, -(2**63) - 1, 1.0, 0.5, [], {}, [[]], "NaN"]),
)
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner)
)


def mutated(value: Any) -> st.SearchStrategy[Any]:
    """The value with one leaf, list or name changed, or something else altogether."""
    options: list[st.SearchStrategy[Any]] = [ODD, JSON, st.just([value])]
    if isinstance(value, list) and value:

        def at(index: int) -> st.SearchStrategy[Any]:
            return mutated(value[index]).map(lambda new: [*value[:index], new, *value[index + 1 :]])

        options += [
            st.integers(0, len(value) - 1).flatmap(at),
            st.just(value[1:]),
            st.just([*value, value[0]]),
        ]
    elif isinstance(value, dict) and value:

        def under(name: str) -> st.SearchStrategy[Any]:
            return mutated(value[name]).map(lambda new: {**value, name: new})

        names = st.sampled_from(sorted(value))
        options += [
            names.flatmap(under),
            names.map(lambda name: {k: v for k, v in value.items() if k != name}),
        ]
        options += [st.just({**value, "other": 0})]
    return st.one_of(options)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Client, dict[str, Agent]]]:
    """Every observation space behind one route, and the same agents directly."""
    stores = MemoryStores()
    agents = {}
    for name, space in OBSERVATION_SPACES.items():
        checkpoint = make_checkpoint(space)
        stores.add(name, f"c_{name}", checkpoint.to_bytes())
        agents[name] = load_agent(checkpoint)
    settings = SimpleNamespace(
        agents_cached=len(agents),
        max_action_body_bytes=100_000,
        action_queue_rows=4096,
        action_queue_age_s=10.0,
        extra_targets=[],
        config_dirs=[],
    )
    with asyncio.Runner() as runner:
        route = ActionRoute(stores, settings)
        yield Client(route, runner), agents
        runner.run(route.close())


def sample_json(name: str, seed: int) -> Any:
    batch = sample_batch(OBSERVATION_SPACES[name], 1, seed)
    return {key: values[0].tolist() for key, values in batch.items()}


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
@settings(max_examples=25)  # of every space
@given(data=st.data(), seed=st.integers(0, 1000))
def test_an_observation_of_the_space_gets_its_action(
    served: tuple[Client, dict[str, Agent]], name: str, data: st.DataObject, seed: int
) -> None:
    client, agents = served
    value = sample_json(name, seed)
    expected = action_json(agents[name].compute_action(value))
    ways = [value] if len(value) > 1 else [value, value["observation"]]
    for form in ways:
        answer = client.post(name, {"observation": form})
        assert (answer.status, answer.json["action"]) == (200, expected)


@pytest.mark.parametrize("name", [name for name in OBSERVATION_SPACES if name != "text"])
def test_arrays_of_bytes_get_the_action_of_their_numbers(
    served: tuple[Client, dict[str, Agent]], name: str
) -> None:
    client, agents = served
    for seed in range(20):
        batch = sample_batch(OBSERVATION_SPACES[name], 3, seed)
        rows = [{key: values[i] for key, values in batch.items()} for i in range(3)]
        expected = [action_json(agents[name].compute_action(row)) for row in rows]
        for form in (forms.JSON, forms.MSGPACK):
            type_is = [(b"content-type", form.media_type.encode())]
            answer = client.post(name, form.encode({"observation": rows[0]}), headers=type_is)
            assert (answer.status, answer.json["action"]) == (200, expected[0])
            many = [rows, batch["observation"]] if len(batch) == 1 else [rows]
            for observations in many:
                answer = client.post(name, form.encode({"observations": observations}), headers=type_is)
                assert (answer.status, answer.json["actions"]) == (200, expected)
        if len(batch) == 1:
            answer = client.post(
                name, batch["observation"][0].tobytes(), headers=as_bytes(batch["observation"][0])
            )
            assert (answer.status, answer.json["action"]) == (200, expected[0])


def as_bytes(values: Any) -> list[tuple[bytes, bytes]]:
    """Headers that say of bytes which array they are."""
    shape = ",".join(map(str, values.shape)).encode()
    kind = (b"x-array-dtype", values.dtype.name.encode()), (b"x-array-shape", shape)
    return [(b"content-type", b"application/octet-stream"), *kind]


@pytest.mark.parametrize(
    ("name", "values", "pointer"),
    [
        ("box_bytes", np.zeros((3, 2), np.uint8), ""),
        ("box_bytes", np.full((2, 3), 256), "/0/0"),
        ("box_bytes", np.full((2, 3), 0.5), "/0/0"),
        ("box_bytes", np.zeros((2, 3), bool), ""),
        ("box", np.float32([0, np.nan, 0, 0]), "/1"),
        ("box", np.float64([0, 0, 0, 1e39]), "/3"),
        ("box_long", np.full(100, np.inf, np.float32), "/0"),
        ("discrete", np.array(3), ""),
        ("discrete", np.array(2**60), ""),
        ("multi_discrete", np.array([0, 5]), "/1"),
    ],
)
def test_arrays_of_bytes_are_refused_where_their_numbers_are(
    served: tuple[Client, dict[str, Agent]], name: str, values: Any, pointer: str
) -> None:
    client, _ = served
    for form in (forms.JSON, forms.MSGPACK):
        headers = [(b"content-type", form.media_type.encode())]
        good = sample_batch(OBSERVATION_SPACES[name], 1, 0)["observation"][0]
        for body, root in (
            ({"observation": values}, "/observation"),
            ({"observations": [good, values]}, "/observations/1"),
        ):
            answer = client.post(name, form.encode(body), headers=headers)
            assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, root + pointer)
    answer = client.post(name, values.tobytes(), headers=as_bytes(values))
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/observation" + pointer)


def test_bytes_over_declared_bounds_are_taken_as_their_numbers_are(
    served: tuple[Client, dict[str, Agent]],
) -> None:
    client, agents = served
    values = np.array([5, 20, -7], np.int32)
    answer = client.post("box_int", values.tobytes(), headers=as_bytes(values))
    assert answer.json["action"] == action_json(agents["box_int"].compute_action(values))


@pytest.mark.parametrize(
    ("query", "status", "parameter"),
    [
        (b"", 200, None),
        (b"deterministic=false&seed=7&checkpoint=best&actor_id=[0,0]", 200, None),
        (b"deterministic=perhaps", 422, "deterministic"),
        (b"seed=-1", 422, "seed"),
        (b"seed=1&seed=2", 422, "seed"),
        (b"actor_id=[0", 422, "actor_id"),
        (b"observation=1", 422, "observation"),
        (b"sed=1", 422, "sed"),
    ],
)
def test_bytes_say_in_the_query_what_is_to_be_done(
    served: tuple[Client, dict[str, Agent]], query: bytes, status: int, parameter: str | None
) -> None:
    client, _ = served
    values = np.zeros(4, np.float32)
    answer = client.post("box", values.tobytes(), headers=as_bytes(values), query_string=query)
    assert answer.status == status
    assert parameter is None or answer.json["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        (b"x-array-dtype", b"", 400),
        (b"x-array-dtype", b"float64", 422),
        (b"x-array-shape", b"2x2", 400),
        (b"x-array-shape", b"-4", 400),
        (b"x-array-shape", b"5", 422),
        (b"x-array-shape", b"9999999999,9999999999", 422),
    ],
)
def test_bytes_that_are_not_what_the_headers_say_are_refused(
    served: tuple[Client, dict[str, Agent]], header: bytes, value: bytes, status: int
) -> None:
    client, _ = served
    values = np.zeros(4, np.float32)
    headers = [*(dict(as_bytes(values)) | {header: value}).items()]
    assert client.post("box", values.tobytes(), headers=headers).status == status


def test_a_text_goes_in_as_it_is(served: tuple[Client, dict[str, Agent]]) -> None:
    client, agents = served
    for text, codes in (("ab", [1, 2, 0]), ("", [0, 0, 0]), ("bbb", [2, 2, 2])):
        expected = action_json(agents["text"].compute_action(codes))
        for form in (text, {"observation": text}, codes):
            answer = client.post("text", {"observation": form})
            assert (answer.status, answer.json["action"]) == (200, expected)
    for wrong, said in (("abc", "'c' is none of"), ("aaaa", "at most 3")):
        answer = client.post("text", {"observation": wrong})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/observation")
        assert said in json.dumps(answer.json)


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
@settings(max_examples=max(40, MANY))
@given(data=st.data())
def test_anything_else_is_refused_where_the_agent_refuses_it(
    served: tuple[Client, dict[str, Agent]], name: str, data: st.DataObject
) -> None:
    client, agents = served
    sample = sample_json(name, 0)
    value = data.draw(mutated(sample) | mutated(next(iter(sample.values()))))
    many = data.draw(st.booleans())
    body = {"observations": [sample, value]} if many else {"observation": value}
    answer = client.post(name, body)
    try:
        agents[name].check_observation(json.loads(json.dumps(value)), ActorID(0, 0))
        fits = True
    except SpaceMismatchError:
        fits = False
    assert answer.status == (200 if fits else 422)
    if not fits:
        prefix = "/observations/1" if many else "/observation"
        pointer = answer.json["errors"][0]["pointer"]
        assert pointer.startswith(prefix)
        resolve(body, pointer)


def resolve(document: Any, pointer: str) -> None:
    """Follow a JSON pointer; its last step may name what is missing."""
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        document = document[int(step)] if isinstance(document, list) else document[step]


@pytest.mark.parametrize("name", ["box", "box_int"])
@given(values=st.lists(st.integers(-10, 10) | st.floats(-10, 10, width=32), min_size=2, max_size=5))
def test_the_shortcut_gives_the_rows_that_the_agent_would(name: str, values: list[float]) -> None:
    agent = AGENTS[name]
    reader = READERS[name]
    try:
        expected = agent.check_observation(values, ActorID(0, 0))["observation"]
    except SpaceMismatchError:
        with pytest.raises(Problem):
            reader.one(msgspec.Raw(json.dumps(values).encode()))
        return
    batch = reader.stack(reader.one(msgspec.Raw(json.dumps(values).encode())))["observation"]
    assert batch.dtype == expected.dtype
    assert batch[0].tobytes() == expected.tobytes()


AGENTS = {name: load_agent(make_checkpoint(OBSERVATION_SPACES[name])) for name in ("box", "box_int")}
READERS = {name: ObservationReader(agent, ActorID(0, 0)) for name, agent in AGENTS.items()}


@pytest.mark.parametrize(
    "values",
    [LOW, HIGH, np.nextafter(HIGH, -np.inf, dtype=np.float32), np.float32([0.7, 3.4028235e38, 0.1, 1e-45])],
)
def test_float32_bounds_themselves_are_inside(values: Any) -> None:
    """An observation at its bound is still inside after it was written as decimal text and read again."""
    row = np.where(np.isfinite(values), values, np.float32(0.2))
    row = np.clip(row, LOW, HIGH)
    for text in (json.dumps(row.tolist()), "[" + ",".join(str(number) for number in row) + "]"):
        [checked] = READERS["box"].one(msgspec.Raw(text.encode()))
        assert READERS["box"].stack([checked])["observation"][0].tobytes() == row.tobytes()
