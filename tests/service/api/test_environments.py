"""Environments over HTTP: what workers offer, what each is, and what is missing."""

from pathlib import Path

from service.settings import Settings
from service.store import Stores
from tests.service.api.client import Client, running
from tests.service.api.submissions import UNKNOWN, publish

BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [None], "high": [1.0]}


def test_an_environment_is_told_with_its_spaces_and_the_live_workers_that_offer_it(
    client: Client, stores: Stores
) -> None:
    row = {"id": "ns/Own-v0", "source": "gymnasium", "is_available": True, **UNKNOWN}
    stores.registry.publish_environments("gone", [row])
    stores.registry.publish_environments("alive", [row | {"is_trainable": True, "observation_space": BOX}])
    stores.registry.beat_worker("alive", {"environments": "published"})
    (summary,) = client.get("/v1/environments").json()["data"]
    told = client.get(summary["links"]["self"]).json()
    assert (told["workers"], told["observation_space"], told["is_trainable"]) == (["alive"], BOX, True)


def test_one_with_several_agents_is_told_by_its_sub_steps_and_refuses_who_learns_one_agent(
    client: Client, stores: Stores
) -> None:
    sub_steps = [{"step_key": 0, "agents": 2, "observation": BOX, "action": {"type": "Discrete", "n": 9}}]
    row = {"id": "classic/tictactoe_v3", "source": "pettingzoo", "is_available": True, **UNKNOWN}
    stores.registry.publish_environments("w1", [row | {"is_trainable": True, "sub_steps": sub_steps}])
    assert client.get("/v1/environments/classic/tictactoe_v3").json()["sub_steps"] == sub_steps
    assert client.post("/v1/train", {"env": "pettingzoo", "algorithm": "a2c"}).status_code == 202
    refused = client.post("/v1/train", {"env": "pettingzoo", "algorithm": "dqn"})
    assert (refused.status_code, "take ppo, a2c or impala" in refused.json()["detail"]) == (422, True)


def test_what_a_client_may_give_includes_what_the_operators_modules_name(
    stores: Stores, sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "own.yaml").write_text("name: Own-v0\nkwargs: {size: 5, map_file: m.txt}\n")
    row = {"id": "Own-v0", "source": "gymnasium", "is_available": True, **UNKNOWN, "open_kwargs": ["walls"]}
    stores.registry.publish_environments("w1", [row])
    settings = Settings(database_url=sqlite_url, auth=False, config_dirs=[str(tmp_path)])
    with running(settings, stores) as client:
        assert client.get("/v1/environments/Own-v0").json()["open_kwargs"] == ["size", "walls"]


def test_those_that_cannot_be_made_are_listed_apart(client: Client, stores: Stores) -> None:
    publish(stores, "CartPole-v1")
    reason = {"reason": "DependencyNotInstalled: Box2D", "install": "pip install 'maze-service[box2d]'"}
    row = {"id": "LunarLander-v3", "source": "gymnasium", "is_available": False, **UNKNOWN, **reason}
    stores.registry.publish_environments("w1", [row])
    ids = [row["id"] for row in client.get("/v1/environments?available=true").json()["data"]]
    (lander,) = client.get("/v1/environments?available=false").json()["data"]
    assert (ids, lander["id"], lander["install"]) == (["CartPole-v1"], "LunarLander-v3", reason["install"])


def test_an_unknown_id_is_answered_with_the_closest_one_and_the_extra(client: Client, stores: Stores) -> None:
    publish(stores, "CartPole-v1")
    near = client.get("/v1/environments/CartPol-v1")
    assert (near.status_code, near.json()["did_you_mean"]) == (404, "CartPole-v1")
    assert "maze-service[atari]" in client.get("/v1/environments/ALE/Pong-v5").json()["detail"]


def test_a_worker_that_cannot_say_what_it_has_is_not_ready(client: Client, stores: Stores) -> None:
    stores.registry.beat_worker("w1", {"environments": "pending"})
    assert client.get("/health/ready").status_code == 200
    stores.registry.beat_worker("w1", {"environments": "environments cannot be listed: the process ended"})
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["environments"]["code"] == "environments_not_published"
    stores.registry.beat_worker("w2", {"environments": "published"})
    assert client.get("/health/ready").status_code == 200
