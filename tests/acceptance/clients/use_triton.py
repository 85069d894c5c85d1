"""Uses tritonclient as it comes: health, metadata, inference with every datatype, errors; then asyncio.

``python use_triton.py HOST:PORT RUN POLICY``; prints the actions of the rows that all requests were about.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

ADDRESS, RUN, POLICY = sys.argv[1:]
ROWS = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1]])
INTEGERS = [np.dtype(f"{sign}int{8 * n}") for sign in ("", "u") for n in (1, 2, 4, 8)]


def given(dtype=np.float32, binary=True, rows=ROWS):
    rows = rows.astype(dtype)
    tensor = triton.InferInput("obs", rows.shape, np_to_triton_dtype(rows.dtype))
    return [tensor.set_data_from_numpy(rows, binary_data=binary)]


def refused(call, status, *words):
    error = None
    try:
        call()
    except InferenceServerException as raised:
        error = raised
    assert error is not None, f"{words} was not refused"
    assert error.status() == status, error
    assert all(word in error.message() for word in words), error


client = triton.InferenceServerClient(ADDRESS)
assert client.is_server_live()
assert client.is_server_ready()
assert client.get_server_metadata()["name"] == "maze"
for model, version in (
    (RUN, ""),
    (POLICY, ""),
    (POLICY, "1"),
    (POLICY.partition("@")[0], "1"),
    (RUN, "best"),
):
    assert client.is_model_ready(model, version), model
    (described,) = client.get_model_metadata(model, version)["inputs"]
    assert described == {"name": "obs", "datatype": "FP32", "shape": [-1, 4]}
    assert client.get_model_config(model, version)["max_batch_size"] >= 1
    actions = client.infer(model, given(), model_version=version).as_numpy("action").tolist()
assert not client.is_model_ready("nobody")
assert client.get_model_metadata(POLICY)["versions"] == ["1"]

for dtype in (*INTEGERS, np.float32, np.float64):
    for binary in (True, False):
        answer = client.infer(POLICY, given(dtype, binary), request_id="a")
        assert answer.as_numpy("action").tolist() == actions, dtype
        assert answer.get_response()["id"] == "a"
        for wanted in (True, False):
            outputs = [
                triton.InferRequestedOutput(name, binary_data=wanted) for name in ("action", "log_prob")
            ]
            answer = client.infer(POLICY, given(dtype, binary), outputs=outputs)
            assert answer.as_numpy("action").tolist() == actions, dtype
            assert answer.as_numpy("log_prob").shape == (3,)
drawn = [
    client.infer(POLICY, given(rows=np.zeros((99, 4))), parameters={"deterministic": False, "seed": seed})
    for seed in (1, 1, 2)
]
drawn = [answer.as_numpy("action").tolist() for answer in drawn]
assert drawn[0] == drawn[1] != drawn[2]

step = {"inputs": given(rows=ROWS[:1]), "sequence_id": 7}
refused(lambda: client.infer(POLICY, **step), "409", "sequence_start")
for at in ({"sequence_start": True}, {}, {"sequence_end": True}):
    answer = client.infer(POLICY, **step, **at)
    assert answer.as_numpy("action").tolist() == actions[:1]
    assert answer.get_response()["model_version"] == "1"
refused(lambda: client.infer(POLICY, **step), "409", "sequence_start")

(counted,) = client.get_inference_statistics(POLICY)["model_stats"]
(named,) = client.get_inference_statistics(POLICY.partition("@")[0], "1")["model_stats"]
(listed,) = client.get_inference_statistics()["model_stats"]
assert listed == counted == named | {"name": POLICY}
assert counted["inference_stats"]["success"]["count"] >= counted["execution_count"] > 0
refused(lambda: client.get_inference_statistics(POLICY, "9"), "404", "versions 1")

refused(lambda: client.infer("nobody", given()), "404", "nobody")
refused(lambda: client.infer(POLICY, given(np.float16)), "422", "FP16", "FP32")
refused(lambda: client.infer(POLICY, given(rows=ROWS[:, :2])), "422", "shape")
refused(lambda: client.infer(POLICY, given(bool)), "422", "truth")
refused(lambda: client.infer(POLICY, given(), parameters={"sed": 1}), "422", "field")
refused(lambda: client.get_model_metadata("nobody@champion"), "404", "nobody")
refused(lambda: client.load_model("nobody"), "404", "nobody")
client.load_model(POLICY)
assert [one["name"] for one in client.get_model_repository_index()] == [POLICY]
client.unload_model(POLICY)
requests = [client.async_infer(POLICY, given()) for _ in range(20)]
assert all(request.get_result().as_numpy("action").tolist() == actions for request in requests)


async def by_asyncio():
    async with triton_aio.InferenceServerClient(ADDRESS) as client:
        assert await client.is_server_live()
        assert (await client.get_model_metadata(RUN))["name"] == RUN
        calls = [client.infer(POLICY, given(binary=i % 2 == 0)) for i in range(40)]
        for answer in await asyncio.gather(*calls):
            assert answer.as_numpy("action").tolist() == actions
        refusal = await asyncio.gather(client.infer("nobody", given()), return_exceptions=True)
        assert isinstance(refusal[0], InferenceServerException)


asyncio.run(by_asyncio())
print(json.dumps(actions))
