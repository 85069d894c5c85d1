"""The Open Inference Protocol at the level of bytes: tensors both ways, models and versions, and what is refused.

Triton's own client is tried in ``tests/acceptance/test_triton_client.py``.
"""

import json
from typing import Any

import httpx
import numpy as np
import pytest
from gymnasium import spaces

from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint
from service.domain.policies import MoveKind
from service.serving.tensors import DATATYPES
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start
from tests.service.api.client import Client, running
from tests.service.api.submissions import errors
from tests.service.serving.checkpoints import CARTPOLE, make_checkpoint, sample_batch

ROWS = sample_batch(CARTPOLE, 5, 1)["observation"]
FP32 = np.dtype(np.float32)


def stored(stores: Stores, checkpoint: Checkpoint) -> str:
    """A run with this checkpoint as its best."""
    run, lease = start(stores)
    info = new_checkpoint(1, is_best=True, content_sha256=checkpoint.content_sha256)
    stores.checkpoints.put(lease, info, checkpoint.to_bytes())
    return run.id


@pytest.fixture
def run(stores: Stores) -> str:
    return stored(stores, make_checkpoint())


def named(stores: Stores, n_versions: int = 1) -> None:
    """The policy ``walker`` with so many versions, the first one as ``champion``."""
    stores.policies.create("walker")
    for seed in range(n_versions):
        run = stored(stores, make_checkpoint(seed=seed))
        stores.policies.add_version("walker", stores.checkpoints.resolve(run, "best").id)
    stores.policies.move("walker", "champion", 1, kind=MoveKind.SET, revision=None)


def tensor(array: np.ndarray[Any, Any], name: str = "obs", **also: Any) -> dict[str, Any]:
    datatype = next(datatype for datatype, dtype in DATATYPES.items() if dtype == array.dtype.name)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, **also}


def in_json(array: np.ndarray[Any, Any], name: str = "obs") -> dict[str, Any]:
    return tensor(array, name, data=array.ravel().tolist())


def in_bytes(
    client: Client, model: str, tensors: dict[str, np.ndarray[Any, Any]], **head: Any
) -> httpx.Response:
    """A request as the binary extension writes it, without a content type, as its clients leave it out."""
    inputs = [
        tensor(array, name, parameters={"binary_data_size": array.nbytes}) for name, array in tensors.items()
    ]
    text = json.dumps({"inputs": inputs, **head}).encode()
    body = b"".join([text, *(array.tobytes() for array in tensors.values())])
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return client.request("POST", f"/v2/models/{model}/infer", content=body, headers=headers)


def test_bytes_and_json_get_the_actions_of_compute_action(client: Client, run: str) -> None:
    expected = client.post(f"/v1/runs/{run}/compute_action", {"observations": ROWS.tolist()}).json()
    as_json = client.post(f"/v2/models/{run}/infer", {"inputs": [in_json(ROWS)], "id": "a"}).json()
    (output,) = as_json["outputs"]
    assert output == {"name": "action", "datatype": "INT64", "shape": [5], "data": expected["actions"]}
    assert (as_json["id"], as_json["model_name"]) == ("a", run)
    assert as_json["parameters"] == {"checkpoint": expected["checkpoint"]}
    answer = in_bytes(client, run, {"obs": ROWS}, parameters={"binary_data_output": True})
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 40}
    assert np.frombuffer(answer.content[length:], "<i8").tolist() == expected["actions"]


def test_an_output_may_be_bytes_beside_one_that_is_not_and_says_what_was_thought(
    client: Client, run: str
) -> None:
    outputs = [{"name": "action", "parameters": {"binary_data": True}}, {"name": "log_prob"}]
    body = {"inputs": [in_json(ROWS)], "outputs": outputs}
    body |= {"parameters": {"deterministic": False, "seed": 3}}
    answer = client.post(f"/v2/models/{run}/infer", body)
    head = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    asked = {"observations": ROWS.tolist(), "deterministic": False, "seed": 3, "explain": True}
    expected = client.post(f"/v1/runs/{run}/compute_action", asked).json()
    assert np.frombuffer(answer.content[-40:], "<i8").tolist() == expected["actions"]
    log_probs = [decision["log_prob"] for decision in expected["decisions"]]
    assert head["outputs"][1]["data"] == pytest.approx(log_probs)
    body["outputs"] = [{"name": "value"}]  # of a policy without a critic
    assert errors(client.post(f"/v2/models/{run}/infer", body)) == {"/outputs": "unknown_output"}


@pytest.mark.parametrize("name", DATATYPES.values())
@pytest.mark.parametrize("given", ["json", "nested", "bytes"])
def test_every_datatype_comes_in_and_goes_out(client: Client, stores: Stores, name: str, given: str) -> None:
    dtype, is_bool = np.dtype(name), name == "bool"
    space: Any = spaces.MultiBinary(3) if is_bool else spaces.Box(0, 3, (3,), dtype.type)
    checkpoint = make_checkpoint(
        spaces.Dict(observation=space), spaces.Dict(action=spaces.Box(-9, 9, (2,), np.float32))
    )
    run = stored(stores, checkpoint)
    rows = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    if given == "bytes":
        answer = in_bytes(client, run, {"obs": rows}).json()
    else:
        data = rows.ravel().tolist() if given == "json" else rows.tolist()
        answer = client.post(f"/v2/models/{run}/infer", {"inputs": [tensor(rows, data=data)]}).json()
    agent = load_agent(checkpoint)
    expected = [agent.compute_action(row.tolist())["action"].tolist() for row in rows]
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [2, 2])
    assert output["data"] == np.ravel(expected).tolist()
    (described,) = client.get(f"/v2/models/{run}").json()["inputs"]
    assert described["datatype"] == ("INT8" if is_bool else tensor(rows)["datatype"])


def test_several_leaves_heads_and_masks_have_names_of_their_own(client: Client, stores: Stores) -> None:
    seen = spaces.Dict(
        pos=spaces.Box(-1, 1, (2,)), kind=spaces.Discrete(3), go_mask=spaces.Box(0, 1, (4,), np.int8)
    )
    done = spaces.Dict(go=spaces.Discrete(4), push=spaces.Box(-1, 1, (1,)))
    run = stored(stores, make_checkpoint(seen, done))
    described = client.get(f"/v2/models/{run}").json()
    assert {one["name"]: (one["datatype"], one["shape"]) for one in described["inputs"]} == {
        "obs.pos": ("FP32", [-1, 2]),
        "obs.kind": ("INT64", [-1]),
        "action_mask.go": ("BOOL", [-1, 4]),
    }
    optional = [
        one["name"] for one in client.get(f"/v2/models/{run}/config").json()["input"] if one["optional"]
    ]
    assert optional == ["action_mask.go"]
    leaves = {"obs.pos": np.zeros((6, 2), FP32), "obs.kind": np.arange(6)[:, None] % 3}
    free = in_bytes(client, run, leaves).json()["outputs"]
    assert [one["name"] for one in free] == ["action.go", "action.push"]
    for allowed in range(4):
        mask = np.arange(4) == allowed
        masked = in_bytes(client, run, leaves | {"action_mask.go": np.tile(mask, (6, 1))}).json()["outputs"]
        assert masked[0]["data"] == [allowed] * 6


def test_a_model_is_a_run_or_a_policy_and_its_version_a_number_or_a_checkpoint(
    client: Client, stores: Stores
) -> None:
    named(stores, 2)
    body = {"inputs": [in_json(ROWS)]}
    acted = {}
    for path in ("walker%40champion", "walker%3A2", "walker/versions/2", "walker%40champion/versions/2"):
        answer = client.post(f"/v2/models/{path}/infer", body).json()
        acted[path] = answer["parameters"]["checkpoint"]
        assert client.get(f"/v2/models/{path}/ready").json()["ready"]
    one, two = (stores.policies.resolve("walker", number=n).checkpoint for n in (1, 2))
    assert list(acted.values()) == [one, two, two, two]
    run = stores.policies.resolve("walker", number=1).run_id
    answer = client.post(f"/v2/models/{run}/versions/last/infer", body)
    assert answer.json()["parameters"] == {"checkpoint": one}
    for path in ("walker", "walker/versions/9", "nobody", "nobody%40champion", f"{run}/versions/epoch:7"):
        for answer in (client.post(f"/v2/models/{path}/infer", body), client.get(f"/v2/models/{path}/ready")):
            problem = answer.json()
            assert (answer.status_code, problem["error"]) == (404, problem["detail"])


def test_the_index_names_aliases_and_what_is_in_memory(client: Client, stores: Stores) -> None:
    named(stores)
    entry = {"name": "walker@champion", "version": "1"}
    index = "/v2/repository/index"
    assert [one | entry == one for one in client.request("POST", index).json()] == [True]
    assert client.post(index, {"ready": True}).json() == []
    model = "/v2/repository/models/walker%40champion"
    assert client.request("POST", f"{model}/load", content=b"{}").status_code == 200
    assert [one["state"] for one in client.post(index, {"ready": True}).json()] == ["READY"]
    body = {"parameters": {"unload_dependents": False}}
    assert client.post(f"{model}/unload", body).status_code == 200
    assert client.post(index, {"ready": True}).json() == []
    assert errors(client.post(f"{model}/load", {"parameters": {"config": "{}"}})) == {
        "/parameters": "invalid_value"
    }


GOOD = in_json(ROWS)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({"inputs": []}, "/inputs"),
    "an unknown input": ({"inputs": [GOOD | {"name": "observation"}]}, "/inputs/0/name"),
    "one twice": ({"inputs": [GOOD, GOOD]}, "/inputs/1/name"),
    "half floats": ({"inputs": [GOOD | {"datatype": "FP16"}]}, "/inputs/0/datatype"),
    "brain floats": ({"inputs": [GOOD | {"datatype": "BF16"}]}, "/inputs/0/datatype"),
    "texts": ({"inputs": [GOOD | {"datatype": "BYTES", "data": ["a"]}]}, "/inputs/0/datatype"),
    "no data": ({"inputs": [tensor(ROWS)]}, "/inputs/0/data"),
    "too little data": ({"inputs": [GOOD | {"data": [1.0]}]}, "/inputs/0/data"),
    "ragged data": ({"inputs": [GOOD | {"data": [[1.0], [1.0, 2.0]]}]}, "/inputs/0/data"),
    "a text among numbers": ({"inputs": [GOOD | {"data": [1.0, "x"]}]}, "/inputs/0/data/1"),
    "truth for numbers": ({"inputs": [GOOD | {"data": [True] * 20}]}, "/inputs/0/data/0"),
    "a fraction for an integer": (
        {"inputs": [{"name": "obs", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 0.5]}]},
        "/inputs/0/data/3",
    ),
    "what does not fit": (
        {"inputs": [{"name": "obs", "datatype": "UINT64", "shape": [1], "data": [2**64]}]},
        "/inputs/0/data",
    ),
    "infinity": ({"inputs": [GOOD | {"shape": [1, 4], "data": [1e300, 0, 0, 0]}]}, "/inputs/0"),
    "another shape": ({"inputs": [GOOD | {"shape": [4, 5]}]}, "/inputs/0"),
    "no batch": ({"inputs": [GOOD | {"shape": [], "data": [1.0]}]}, "/inputs/0/shape"),
    "an empty batch": ({"inputs": [GOOD | {"shape": [0, 4], "data": []}]}, "/inputs/0/shape"),
    "many axes": ({"inputs": [GOOD | {"shape": [1] * 33, "data": [1.0]}]}, "/inputs/0/shape"),
    "a negative axis": ({"inputs": [GOOD | {"shape": [-5, 4]}]}, "/inputs/0/shape/0"),
    "bytes that are not there": (
        {"inputs": [tensor(ROWS, parameters={"binary_data_size": ROWS.nbytes})]},
        "/inputs/0/parameters/binary_data_size",
    ),
    "another size": (
        {"inputs": [tensor(ROWS, parameters={"binary_data_size": 1})]},
        "/inputs/0/parameters/binary_data_size",
    ),
    "shared memory": (
        {"inputs": [tensor(ROWS, parameters={"shared_memory_region": "a"})]},
        "/inputs/0/parameters/shared_memory_region",
    ),
    "an unknown output": ({"inputs": [GOOD], "outputs": [{"name": "actions"}]}, "/outputs/0/name"),
    "an unknown field": ({"inputs": [GOOD], "input": []}, "/input"),
    "an unknown parameter": ({"inputs": [GOOD], "parameters": {"top_p": 1}}, "/parameters/top_p"),
    "a wrong parameter": ({"inputs": [GOOD], "parameters": {"seed": -1}}, "/parameters/seed"),
    "an unknown sub-step": ({"inputs": [GOOD], "parameters": {"actor_step_key": "x"}}, "/parameters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_its_place(client: Client, run: str, name: str) -> None:
    body, pointer = REFUSED[name]
    answer = client.post(f"/v2/models/{run}/infer", body)
    assert (answer.status_code, list(errors(answer))) == (422, [pointer]), answer.text
    assert answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize("length", ["x", "-1", "9999999", "1e3", "", "5, 5"])
def test_a_length_of_the_json_that_is_none_is_refused(client: Client, run: str, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    answer = client.request("POST", f"/v2/models/{run}/infer", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_bytes_that_belong_to_nothing_and_truth_beyond_one_are_refused(client: Client, run: str) -> None:
    text = json.dumps({"inputs": [GOOD]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = client.request("POST", f"/v2/models/{run}/infer", content=text + b"12", headers=headers)
    assert errors(answer) == {"/inputs": "invalid_value"}
    truth = np.full((1, 4), 2, np.uint8).view(bool)
    assert errors(in_bytes(client, run, {"obs": truth})) == {"/inputs/0": "invalid_array"}


def test_probes_need_no_token_and_models_do(stores: Stores, run: str, settings: Settings) -> None:
    with running(settings.model_copy(update={"auth": True}), stores) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        for path in ("/v2", f"/v2/models/{run}"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]) == (401, answer.json()["detail"])
        answer = client.post(f"/v2/models/{run}/infer", {"inputs": [GOOD]})
        assert answer.status_code == 401


def test_what_is_packed_is_refused_and_a_page_of_another_origin_too(client: Client, run: str) -> None:
    path = f"/v2/models/{run}/infer"
    packed = client.request("POST", path, content=b"{}", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    foreign = client.request("POST", path, content=b"{}", headers={"Origin": "http://elsewhere.example"})
    assert foreign.status_code == 403
