"""POST train from what other runs left: recorded episodes, and the policy that it begins with."""

import hashlib
from typing import Any

import pytest

from service.domain import use_cases
from service.domain.run import Lease, Run, RunKind, RunState
from service.domain.use_cases import MIB
from service.store import Stores
from tests.contracts.builders import new_checkpoint, new_episode
from tests.service.api.client import Client
from tests.service.api.submissions import errors, trained

SMALL = {"configuration": "test", "seed": 1}


def recorded(client: Client, stores: Stores, *trajectories: bytes | None, ends: bool = True) -> Run:
    """A rollout that recorded these."""
    client.post("/v1/rollout", {"policy": "random_policy", "n_episodes": 3, "seed": 1})
    claimed = stores.runs.claim("w", kinds=[RunKind.ROLLOUT], lease_s=30)
    assert claimed is not None
    run, lease = claimed
    for index, trajectory in enumerate(trajectories):
        stores.episodes.add(lease, new_episode(index), trajectory)
    if ends:
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
    return run


def cloning(run: str, **more: Any) -> dict[str, Any]:
    return {"algorithm": "bc", "overrides": {"dataset.run": run}, **SMALL, **more}


def beginning(run: str, **more: Any) -> dict[str, Any]:
    return {"overrides": {"initial.run": run, **more}, **SMALL}


class TestDataset:
    def test_it_is_known_by_the_digests_of_what_was_recorded(self, client: Client, stores: Stores) -> None:
        source = recorded(client, stores, b"one", None, b"two")
        answer = client.post("/v1/train", cloning(source.id))
        assert answer.status_code == 202, answer.text
        stored = stores.runs.get(answer.json()["id"])
        each = "\n".join(hashlib.sha256(data).hexdigest() for data in (b"one", b"two"))
        assert stored.config["dataset"] == {
            "_target_": "maze_core.DatasetConfig",
            "run": source.id,
            "sha256": hashlib.sha256(each.encode()).hexdigest(),
        }
        assert (stored.source_run, stored.source_checkpoint) == (None, None)

    def test_a_rollout_that_goes_on_or_recorded_nothing_is_refused(
        self, client: Client, stores: Stores
    ) -> None:
        working = recorded(client, stores, b"one", ends=False)
        answer = client.post("/v1/train", cloning(working.id))
        assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
        assert "may record more" in answer.json()["detail"]
        silent = recorded(client, stores, None)
        assert errors(client.post("/v1/train", cloning(silent.id))) == {"/overrides/dataset.run": "dataset"}
        assert client.post("/v1/train", cloning("run_0")).status_code == 404

    @pytest.mark.parametrize(("n_bytes", "status"), [(2 * MIB, 202), (2 * MIB + 1, 422)])
    def test_more_than_a_worker_is_given_is_refused(
        self, client: Client, stores: Stores, monkeypatch: pytest.MonkeyPatch, n_bytes: int, status: int
    ) -> None:
        monkeypatch.setattr(use_cases, "MAX_DATASET_MIB", 2)
        source = recorded(client, stores, bytes(MIB), bytes(n_bytes - MIB))
        answer = client.post("/v1/train", cloning(source.id))
        assert answer.status_code == status
        if status == 422:
            assert errors(answer) == {"/overrides/dataset.run": "dataset"}
            assert "recorded 3 MiB, and a training over HTTP learns from 2 MiB at most: record" in answer.text

    def test_a_configuration_goes_round_and_other_episodes_are_refused(
        self, client: Client, stores: Stores
    ) -> None:
        source, other = recorded(client, stores, b"one"), recorded(client, stores, b"two")
        first = client.post("/v1/train", cloning(source.id)).json()
        config = client.get(f"/v1/runs/{first['id']}/config").json()["config"]
        again = client.post("/v1/train", {"config": config}).json()
        assert again["config_sha256"] == first["config_sha256"]
        moved = {**config, "dataset": {**config["dataset"], "run": other.id}}
        refused = client.post("/v1/train", {"config": moved})
        assert refused.status_code == 422
        assert f"What run {other.id} left is not what the configuration was made with" in refused.text
        nowhere = {**config, "dataset": {**config["dataset"], "run": None}}
        assert "does not say which run left it" in client.post("/v1/train", {"config": nowhere}).text


class TestInitial:
    @pytest.fixture
    def source(self, client: Client, stores: Stores) -> tuple[Run, Lease]:
        return trained(client, stores)

    def test_the_checkpoint_is_fixed_when_the_run_is_submitted(
        self, client: Client, stores: Stores, source: tuple[Run, Lease]
    ) -> None:
        run, lease = source
        first = stores.checkpoints.put(lease, new_checkpoint(1, is_best=True, is_last=True), b"one")
        tuned = client.post("/v1/train", beginning(run.id)).json()
        stores.checkpoints.put(lease, new_checkpoint(2, is_best=True, is_last=True), b"two")
        assert (tuned["kind"], tuned["source_run"], tuned["source_checkpoint"]) == ("train", run.id, first.id)
        assert stores.runs.get(tuned["id"]).config["initial"] == {
            "_target_": "maze_core.InitialConfig",
            "run": run.id,
            "checkpoint": first.id,
            "sha256": first.content_sha256,
        }
        assert stores.checkpoints.read(first.id) == b"one"

    def test_a_policy_that_cannot_act_on_single_observations_can_be_trained_on(
        self, client: Client, stores: Stores, source: tuple[Run, Lease]
    ) -> None:
        run, lease = source
        stores.checkpoints.put(lease, new_checkpoint(1, is_best=True, servable=False), b"one")
        assert client.post("/v1/train", beginning(run.id)).status_code == 202
        assert client.post("/v1/evaluate", {"run": run.id}).status_code == 409

    def test_a_run_without_a_checkpoint_says_so(
        self, client: Client, stores: Stores, source: tuple[Run, Lease]
    ) -> None:
        answer = client.post("/v1/train", beginning(source[0].id))
        assert (answer.status_code, answer.json()["code"]) == (409, "no_checkpoint")
