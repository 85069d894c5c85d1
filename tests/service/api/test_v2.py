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
from service.domain.sharing import Scope
from service.serving.tensors import DATATYPES
from service.settings import Settings
from service.store import Stores
from tests.contracts.builders import new_checkpoint, start
from tests.service.api.client import Client, running
from tests.service.api.submissions import errors
from tests.service.api.test_scopes import token
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
    assert client.get("/v2/models/walker%40champion").json()["versions"] == ["1", "2"]
    ways = {
        "walker": "walker:1 to :2",
        "walker/versions/9": "versions 2, 1; aliases champion",
        "walker%3A2/versions/1": "version 2",
    }
    ways |= {"nobody": "nobody", "nobody%40champion": "nobody", f"{run}/versions/epoch:7": "epoch:7"}
    for path, way_out in ways.items():
        for answer in (client.post(f"/v2/models/{path}/infer", body), client.get(f"/v2/models/{path}/ready")):
            problem = answer.json()
            assert (answer.status_code, problem["error"]) == (404, problem["detail"])
            assert way_out in problem["error"], path


def test_the_index_names_aliases_and_what_is_in_memory(client: Client, stores: Stores) -> None:
    named(stores)
    entry = {"name": "walker@champion", "version": "1"}
    index = "/v2/repository/index"
    assert [one | entry == one for one in client.request("POST", index).json()] == [True]
    assert client.post(index, {"ready": True}).json() == []
    assert errors(client.post(index, {"ready": 1})) == {"/ready": "invalid_value"}
    model = "/v2/repository/models/walker%40champion"
    assert client.request("POST", f"{model}/load", content=b"{}").status_code == 200
    assert [one["state"] for one in client.post(index, {"ready": True}).json()] == ["READY"]
    body = {"parameters": {"unload_dependents": False}}
    assert client.post(f"{model}/unload", body).status_code == 200
    assert client.post(index, {"ready": True}).json() == []
    assert errors(client.post(f"{model}/load", {"parameters": {"config": "{}"}})) == {
        "/parameters": "invalid_value"
    }


def stepped(client: Client, model: str, row: Any, **parameters: Any) -> httpx.Response:
    """A request of a sequence; ``sequence_id`` is 7 unless it is given."""
    body = {"inputs": [in_json(np.array([row], FP32))], "parameters": {"sequence_id": 7} | parameters}
    return client.post(f"/v2/models/{model}/infer", body)


BEGIN, END = {"sequence_start": True}, {"sequence_end": True}


def test_requests_of_a_sequence_carry_what_the_policy_carries_and_none_that_of_another(
    client: Client, stores: Stores, stacked: bytes
) -> None:
    agent, model = load_agent(stacked), stored(stores, Checkpoint.from_bytes(stacked))
    assert client.get(f"/v2/models/{model}/config").json()["sequence_batching"]
    for _ in range(2):
        states: dict[Any, str | None] = {7: None, "7": None}
        for n, row in enumerate(np.random.default_rng(1).standard_normal((12, 4)).astype(np.float32) / 10):
            which: Any = (7, "7")[n % 2]
            action, states[which] = agent.compute_action(row.tolist(), state=states[which])
            told = stepped(client, model, row, sequence_id=which, **(BEGIN if n < 2 else {}))
            assert told.json()["outputs"][0]["data"] == [action["action"]]
    assert errors(client.post(f"/v2/models/{model}/infer", {"inputs": [GOOD]})) == {
        "/parameters/sequence_id": "missing_field"
    }


def test_a_sequence_ends_with_its_last_request_and_is_refused_unless_it_was_begun(
    client: Client, run: str
) -> None:
    conflict = (409, "sequence_conflict")
    for parameters in ({}, END):
        answer = stepped(client, run, ROWS[0], **parameters)
        assert (answer.status_code, answer.json()["code"]) == conflict
        assert answer.json()["error"] == answer.json()["detail"]
    assert stepped(client, run, [0.1], **BEGIN).status_code == 422
    assert client.get("/v1/sessions").json()["data"] == []
    for parameters in (BEGIN, {}, BEGIN, END):
        assert stepped(client, run, ROWS[0], **parameters).status_code == 200
    assert client.get("/v1/sessions").json()["data"] == []
    assert stepped(client, run, ROWS[0]).status_code == 409
    assert stepped(client, run, ROWS[0], **BEGIN, **END).status_code == 200
    assert stepped(client, run, ROWS[0]).status_code == 409


@pytest.mark.parametrize("idle_s", [299.9, 300.0])
def test_a_sequence_that_is_idle_for_too_long_has_to_begin_anew(
    client: Client, run: str, idle_s: float
) -> None:
    sessions: Any = client.app._app.sessions  # type: ignore[attr-defined]
    now = 0.0
    sessions._clock = lambda: now
    assert stepped(client, run, ROWS[0], **BEGIN).status_code == 200
    now += idle_s
    assert stepped(client, run, ROWS[0]).status_code == (200 if idle_s < 300 else 409)
    assert stepped(client, run, ROWS[0], **BEGIN).status_code == 200


def test_requests_of_one_sequence_that_come_together_are_all_answered(client: Client, run: str) -> None:
    assert stepped(client, run, ROWS[0], **BEGIN).status_code == 200
    body = {"inputs": [in_json(ROWS[:1])], "parameters": {"sequence_id": 7}}
    answers = client.together([{"method": "POST", "url": f"/v2/models/{run}/infer", "json": body}] * 8)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert client.get("/v1/sessions").json()["data"][0]["next_seq"] == 9


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"sequence_id": 0, **BEGIN}, "/parameters/sequence_id"),
        ({"sequence_id": "", **END}, "/parameters/sequence_id"),
        ({"sequence_id": -1}, "/parameters/sequence_id"),
        ({"sequence_id": "7" * 129}, "/parameters/sequence_id"),
        ({"sequence_id": 7, "sequence_start": 1}, "/parameters/sequence_start"),
        ({"sequence_id": 7, **BEGIN}, "/inputs/0/shape"),
    ],
)
def test_what_is_no_sequence_is_refused_with_its_place(
    client: Client, run: str, parameters: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"/v2/models/{run}/infer", {"inputs": [GOOD], "parameters": parameters})
    assert list(errors(answer)) == [pointer]


def test_a_sequence_keeps_its_version_when_the_alias_moves(client: Client, stores: Stores) -> None:
    named(stores, 2)
    model = "walker%40champion"
    assert stepped(client, model, ROWS[0], **BEGIN).json()["model_version"] == "1"
    stores.policies.move("walker", "champion", 2, kind=MoveKind.SET, revision=1)
    assert stepped(client, model, ROWS[0]).json()["model_version"] == "1"
    assert stepped(client, model, ROWS[0], **BEGIN).json()["model_version"] == "2"


def test_statistics_count_what_a_version_did_by_whatever_name(client: Client, stores: Stores) -> None:
    named(stores, 2)
    nothing = client.get("/v2/models/walker%40champion/stats").json()["model_stats"][0]
    assert (nothing["name"], nothing["version"], nothing["last_inference"]) == ("walker@champion", "1", 0)
    assert client.get("/v2/models/stats").json() == {"model_stats": []}
    body = {"inputs": [in_json(ROWS)]}
    for path in ("walker%40champion", "walker/versions/1"):
        assert client.post(f"/v2/models/{path}/infer", body).json()["model_version"] == "1"
    client.post("/v1/policies/walker:1/compute_action", {"observation": ROWS[0].tolist()})
    (found,) = client.get("/v2/models/stats").json()["model_stats"]
    for path in ("walker%40champion/stats", "walker/versions/1/stats"):
        (also,) = client.get(f"/v2/models/{path}").json()["model_stats"]
        assert also | {"name": found["name"]} == found
    assert (found["inference_count"], found["execution_count"]) == (11, 3)
    batches = [(each["batch_size"], each["compute_infer"]["count"]) for each in found["batch_stats"]]
    assert batches == [(1, 1), (5, 2)]
    spent = {name: each["count"] for name, each in found["inference_stats"].items()}
    assert (spent["success"], spent["fail"], spent["queue"], spent["compute_infer"]) == (3, 0, 3, 3)
    success, queue = (found["inference_stats"][name]["ns"] for name in ("success", "queue"))
    assert success > queue >= 0
    assert client.get("/v2/models/nobody%40champion/stats").status_code == 404


def test_loading_asks_for_the_right_to_promote_and_reaches_no_other_project(
    stores: Stores, settings: Settings
) -> None:
    named(stores)
    with running(settings.model_copy(update={"auth": True}), stores) as client:
        ours, acts = token(stores, Scope.POLICIES_PROMOTE), token(stores, Scope.ACT)
        theirs = token(stores, Scope.POLICIES_PROMOTE, Scope.ACT, project="other")

        def loaded() -> list[str]:
            models = client.request("POST", "/v2/repository/index", json={"ready": True}, headers=acts).json()
            return [one["name"] for one in models]

        for verb, listed in (("load", ["walker@champion"]), ("unload", [])):
            path = f"/v2/repository/models/walker%40champion/{verb}"
            before = loaded()
            assert client.post(path, headers=acts).json()["scope"] == "policies:promote"
            assert client.post(path, headers=theirs).status_code == 404
            assert loaded() == before
            assert client.post(path, headers=ours).status_code == 200
            assert loaded() == listed
        assert client.post("/v2/repository/index", headers=theirs).json() == []
        assert client.get("/v2/models/stats", headers=theirs).json() == {"model_stats": []}
        assert client.get("/v2/models/walker%40champion/stats", headers=theirs).status_code == 404


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
