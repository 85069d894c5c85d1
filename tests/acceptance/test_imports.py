"""A policy is taken away and brought elsewhere, with real processes: it acts as it did, and nothing untrue gets in."""

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest

from maze_core import RunContext, import_sb3
from maze_core.agent import load_agent
from maze_core.checkpoint import Checkpoint

OVERRIDES = {
    "env.name": "CartPole-v1",
    "algorithm.n_epochs": 4,
    "algorithm.epoch_length": 2,
    "algorithm.checkpoint_every": 2,
}
SPEC = {"overrides": OVERRIDES, "seed": 3}
OBSERVATION = [0.1, 0.2, -0.1, 0.3]


@pytest.fixture(scope="module")
def trained(server):
    return server.wait(server.submit("train", SPEC))


@pytest.fixture(scope="module")
def bundle(server, trained):
    return download(server, trained, is_last=True)


def download(server, run, **marks):
    listed = server.get(f"/v1/runs/{run['id']}/checkpoints")["data"]
    (found, *_) = [each for each in listed if marks.items() <= each.items()]
    return server.client.get(f"/v1/checkpoints/{found['id']}").content


def digest(data):
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def send_at_once(server, data, **params):
    headers = {"Content-Type": "application/octet-stream", "Repr-Digest": digest(data)}
    return server.client.post("/v1/checkpoints/import", content=data, headers=headers, params=params)


def imported(server, data):
    answer = send_at_once(server, data)
    assert answer.status_code == 202, answer.text
    return server.wait(answer.json()["id"])


def begin(server, data):
    body = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return server.post("/v1/checkpoints", body).json()


def send(server, upload, data, number):
    part = data[number * upload["part_bytes"] :][: upload["part_bytes"]]
    headers = {"Content-Type": "application/octet-stream", "Content-Digest": digest(part)}
    path = f"/v1/checkpoints/uploads/{upload['id']}/parts/{number}"
    answer = server.client.put(path, content=part, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def gone(server, upload):
    return server.client.get(f"/v1/checkpoints/uploads/{upload['id']}").status_code == 404


def act(server, run):
    return server.post(f"/v1/runs/{run}/compute_action", {"observation": OBSERVATION}).json()["action"]


def test_a_downloaded_checkpoint_acts_in_python_as_the_service_does(server, trained, bundle, tmp_path):
    path = tmp_path / "policy.ckpt"
    path.write_bytes(bundle)
    agent = load_agent(path)
    assert agent.checkpoint_sha256 == trained["result"]["content_sha256"]
    observations = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 4)).tolist()
    acted = server.post(
        f"/v1/runs/{trained['id']}/compute_action", {"observations": observations, "checkpoint": "last"}
    ).json()["actions"]
    assert [agent.compute_action(each)["action"] for each in observations] == acted
    with RunContext.load(path) as context:
        assert [context.compute_action(each)["action"] for each in observations] == acted


def test_an_imported_policy_is_named_as_every_other_one(server, trained, bundle):
    run = imported(server, bundle)
    assert (run["kind"], run["state"], run["reason"]) == ("import", "succeeded", "completed")
    assert run["result"]["content_sha256"] == trained["result"]["content_sha256"]
    assert run["config_sha256"] == trained["config_sha256"]
    assert run["seed"] == trained["seed"]
    (checkpoint,) = server.get(f"/v1/runs/{run['id']}/checkpoints")["data"]
    assert (checkpoint["is_best"], checkpoint["is_last"], checkpoint["kind"]) == (True, True, "imported")
    assert download(server, run) == bundle
    assert act(server, run["id"]) == act(server, trained["id"])
    judged = [
        server.wait(
            server.submit("evaluate", {"run": each, "checkpoint": "last", "n_episodes": 3, "seed": 1})
        )
        for each in (run["id"], trained["id"])
    ]
    assert judged[0]["result"]["returns"] == judged[1]["result"]["returns"]
    played = server.wait(server.submit("rollout", {"run": run["id"], "n_episodes": 1, "seed": 1}))
    assert played["state"] == "succeeded"


def test_an_imported_policy_gets_a_name_as_every_other_one(server, trained, bundle):
    run = imported(server, bundle)
    server.post("/v1/policies", {"name": "brought"})
    version = server.post("/v1/policies/brought/versions", {"run": run["id"]})
    assert version.status_code == 201, version.text
    judged = [
        server.wait(server.submit("evaluate", body | {"n_episodes": 2, "seed": 1}))["result"]["returns"]
        for body in ({"policy": "brought:1"}, {"run": trained["id"], "checkpoint": "last"})
    ]
    assert judged[0] == judged[1]


def test_an_imported_run_is_continued_and_forked_with_the_content_of_its_source(
    server, trained, bundle, tmp_path
):
    run = imported(server, bundle)
    ends = []
    for each in (run["id"], trained["id"]):
        answer = server.post(f"/v1/runs/{each}/continue", {"n_epochs": 2})
        assert answer.status_code == 202, answer.text
        ends.append(server.wait(answer.json()["id"]))
    assert [end["state"] for end in ends] == ["succeeded", "succeeded"]
    (tmp_path / "policy.ckpt").write_bytes(bundle)
    with RunContext.load(tmp_path / "policy.ckpt", "last") as context:
        in_python = context.train(2).content_sha256
    assert [end["result"]["content_sha256"] for end in ends] == [in_python, in_python]
    fork = server.post(f"/v1/runs/{run['id']}/fork", {"checkpoint": "best"})
    assert fork.status_code == 202, fork.text
    assert server.wait(fork.json()["id"])["state"] == "succeeded"


def altered(bundle, identity=None, tensors=None):
    """The same bundle, saying something else, with a digest that is right."""
    checkpoint = Checkpoint.from_bytes(bundle)
    changed = json.loads(json.dumps(checkpoint.identity))
    if identity is not None:
        identity(changed)
    arrays = {name: array.copy() for name, array in checkpoint.tensors.items()}
    if tensors is not None:
        tensors(arrays)
    return Checkpoint(identity=changed, tensors=arrays, provenance=checkpoint.provenance).to_bytes()


def other_member(bundle):
    buffer = io.BytesIO(bundle)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("payload.pkl", b"cos\nsystem\n(S'id'\ntR.")
    return buffer.getvalue()


def weaken(arrays):
    for name in arrays:
        if name.startswith("policy/"):
            arrays[name] *= -1


BAD = {
    "no bundle": (lambda bundle: b"no zip at all", "checkpoint_damaged", "not a checkpoint"),
    "cut": (lambda bundle: bundle[:-100], "checkpoint_damaged", "damaged"),
    "a changed byte": (lambda bundle: bundle[:-5000] + b"!" + bundle[-4999:], "checkpoint_damaged", "damaged"),
    "a pickle beside it": (other_member, "checkpoint_damaged", "members"),
    "a class that may not be named": (
        lambda bundle: altered(bundle, lambda i: i["config"].update(wrappers=[{"_target_": "os.system"}])),
        "checkpoint_damaged",
        "os.system",
    ),
    "an environment that names a module": (
        lambda bundle: altered(bundle, lambda i: i["config"]["env"].update(name="os:CartPole-v1")),
        "invalid_specification",
        "not an environment id",
    ),
    "an environment that there is not": (
        lambda bundle: altered(bundle, lambda i: i["config"]["env"].update(name="Nowhere-v0")),
        "invalid_specification",
        "Nowhere-v0",
    ),
    "another network": (
        lambda bundle: altered(bundle, tensors=weaken), "checkpoint_damaged", "recorded observations",
    ),
    "no counters": (lambda bundle: altered(bundle, lambda i: i.pop("counters")), "checkpoint_damaged", "how far"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bundle_that_is_not_what_it_has_to_be_fails_with_the_reason_and_leaves_nothing(
    server, bundle, name
):
    change, code, says = BAD[name]
    run = imported(server, change(bundle))
    assert (run["state"], run["reason"]) == ("failed", code), run["error"]
    assert says in run["error"]["message"], run["error"]
    assert server.get(f"/v1/runs/{run['id']}/checkpoints")["data"] == []
    upload = {"id": run["id"].replace("run_", "upl_")}
    server.wait_for(lambda: gone(server, upload), "the upload to go")
    again = server.post(f"/v1/runs/{run['id']}/retry", {})
    assert again.status_code == 409
    assert "send the checkpoint again" in again.text


def complete(server, upload):
    return server.post(f"/v1/checkpoints/uploads/{upload['id']}/complete", {}).json()["id"]


def test_an_upload_goes_on_after_the_api_was_killed(mortal, trained, bundle):
    upload = begin(mortal, bundle)
    for number in range(0, upload["n_parts"], 2):
        send(mortal, upload, bundle, number)
    (process,) = mortal.processes("maze: api")
    process.kill()

    def asked():
        try:
            return begin(mortal, bundle)
        except httpx.TransportError:
            return None

    upload = mortal.wait_for(asked, "the API to be back")
    assert upload["parts"] == [*range(0, upload["n_parts"], 2)]
    for number in reversed(range(1, upload["n_parts"], 2)):
        send(mortal, upload, bundle, number)
    run = mortal.wait(complete(mortal, upload))
    mortal.wait_for(lambda: gone(mortal, upload), "the upload to go")
    assert complete(mortal, upload) == run["id"]
    assert run["result"]["content_sha256"] == trained["result"]["content_sha256"]
    assert download(mortal, run) == bundle


def test_an_import_goes_on_after_its_worker_was_killed(mortal, trained, bundle):
    for _ in range(20):
        upload = begin(mortal, bundle)
        for number in range(upload["n_parts"]):
            send(mortal, upload, bundle, number)
        run = complete(mortal, upload)
        mortal.wait_for(lambda: mortal.get(f"/v1/runs/{run}")["state"] != "queued", "a worker")  # noqa: B023
        (process,) = mortal.wait_for(lambda: mortal.processes("maze: worker"), "the worker")
        process.kill()
        ended = mortal.wait(run)
        mortal.wait_for(lambda: gone(mortal, upload), "the upload to go")  # noqa: B023
        assert ended["result"]["content_sha256"] == trained["result"]["content_sha256"]
        if ended["attempt"] == 2:
            break
    else:
        pytest.fail("every import was over before its worker was killed")
    assert len(mortal.get(f"/v1/runs/{run}/checkpoints")["data"]) == 1


def test_a_model_of_stable_baselines3_is_served_and_judged_with_its_own_actions(server):
    files = Path(__file__).parents[1] / "maze_core/sb3/files"
    stats = files / "vecnormalize.pkl"
    checkpoint = import_sb3(
        files / "ppo_normalized.zip", "Pendulum-v1", vecnormalize=stats, allow_pickle=True
    )
    run = imported(server, checkpoint.to_bytes())
    assert run["state"] == "succeeded", run
    with np.load(files / "answers.npz") as answers:
        seen, done = (answers[f"ppo_normalized/{name}"] for name in ("seen/observation", "done"))
    path = f"/v1/runs/{run['id']}/compute_action"
    acted = server.post(path, {"observations": seen.tolist()}).json()["actions"]
    np.testing.assert_allclose(acted, done, rtol=1e-5, atol=1e-5)
    judged = server.submit("evaluate", {"run": run["id"], "n_episodes": 2, "seed": 1})
    assert server.wait(judged)["state"] == "succeeded"
    assert server.post("/v1/policies", {"name": "of_others"}).status_code == 201
    assert server.post("/v1/policies/of_others/versions", {"run": run["id"]}).status_code == 201
    by_name = server.post("/v1/policies/of_others:1/compute_action", {"observation": seen[0].tolist()})
    np.testing.assert_allclose(by_name.json()["action"], done[0], rtol=1e-5, atol=1e-5)
