"""A submission for the tests, and what its answer says."""

from typing import Any

from service.domain.run import Lease, Run, RunKind
from service.store import Stores
from tests.service.api.client import Client

TRAIN = {
    "algorithm": "ppo",
    "model": "vector_obs",
    "critic": "template_state",
    "wrappers": "vector_obs",
    "overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 3},
    "seed": 1,
}


def trained(client: Client, stores: Stores) -> tuple[Run, Lease]:
    """A training run at work, submitted over HTTP."""
    assert client.post("/v1/train", TRAIN).status_code == 202
    claimed = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
    assert claimed is not None
    return claimed


def errors(answer: Any) -> dict[str, str]:
    """Pointer → code of every mistake."""
    return {error["pointer"]: error["code"] for error in answer.json()["errors"]}


def publish(stores: Stores, *env_ids: str) -> None:
    """A worker says that it can build these environments."""
    rows = [{"id": env_id, "source": "gymnasium", "is_available": True, **UNKNOWN} for env_id in env_ids]
    stores.registry.publish_environments("w1", rows)


UNKNOWN = {"reason": None, "install": None, "kwargs": {}, "open_kwargs": []}
