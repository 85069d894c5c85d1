"""What a request may ask for beside an action: candidates, what the policy thought, masks, errors per item, forms."""

import itertools
import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium import spaces

from maze_core.agent import Agent, load_agent
from service.problems import Problem
from service.serving.forms import MSGPACK
from service.serving.served import ServedAgent
from tests.service.serving.asgi_client import Client
from tests.service.serving.checkpoints import CARTPOLE, make_checkpoint, sample_batch
from tests.service.serving.memory_stores import MemoryStores

OBSERVATION = [0.01, -0.02, 0.03, -0.04]
MSGPACK_ACCEPT = [(b"accept", b"application/msgpack")]
OCTETS_ACCEPT = [(b"accept", b"application/octet-stream, */*")]
MASKED = spaces.Dict(observation=spaces.Box(-1, 1, (4,)), action_mask=spaces.Box(0, 1, (5,), np.int8))
CHOICES = {
    "discrete": spaces.Dict(action=spaces.Discrete(5, start=-2)),
    "multi_discrete": spaces.Dict(action=spaces.MultiDiscrete([3, 4])),
    "multi_binary": spaces.Dict(action=spaces.MultiBinary(3)),
    "both": spaces.Dict(go=spaces.Discrete(3), wait=spaces.MultiDiscrete([2, 2])),
}


def add(stores: MemoryStores, run: str, *of: spaces.Dict) -> Agent:
    checkpoint = make_checkpoint(*of)
    stores.add(run, f"c_{run}", checkpoint.to_bytes())
    return load_agent(checkpoint)


def code_at(answer: Any, pointer: str) -> str:
    """The code of the mistake at a pointer of a 422."""
    assert answer.status == 422
    (mistake,) = answer.json["errors"]
    assert mistake["pointer"] == pointer
    return str(mistake["code"])


def probability_of(action: Any, distribution: Any, space: spaces.Dict) -> float:
    """The product of what the heads say of a whole action."""
    parts = action if len(space.spaces) > 1 else {"action": action}
    found = 1.0
    for head, done in parts.items():
        told = distribution[head]["probabilities"]
        start = distribution[head].get("start", 0)
        match space[head]:
            case spaces.Discrete():
                found *= told[done - start]
            case spaces.MultiDiscrete():
                found *= math.prod(choice[i] for choice, i in zip(told, done, strict=True))
            case _:
                found *= math.prod(p if bit else 1 - p for p, bit in zip(told, done, strict=True))
    return found


@pytest.mark.parametrize("name", CHOICES)
def test_candidates_are_the_likeliest_of_all_actions_in_order(
    client: Client, stores: MemoryStores, name: str
) -> None:
    agent, space = add(stores, name, CARTPOLE, CHOICES[name]), CHOICES[name]
    every = {
        "discrete": list(range(-2, 3)),
        "multi_discrete": [list(each) for each in itertools.product(range(3), range(4))],
        "multi_binary": [list(each) for each in itertools.product(range(2), repeat=3)],
        "both": [{"go": a, "wait": [b, c]} for a, b, c in itertools.product(range(3), range(2), range(2))],
    }[name]
    for row in sample_batch(CARTPOLE, 10, 1)["observation"].tolist():
        answer = client.post(name, {"observation": row, "top_k": 6, "return": ["distribution"]}).json
        assert set(answer["decision"]) == {"distribution", "candidates"}
        likely = {json.dumps(a): probability_of(a, answer["decision"]["distribution"], space) for a in every}
        candidates = answer["decision"]["candidates"]
        assert [each["score"] for each in candidates] == pytest.approx(
            sorted(likely.values(), reverse=True)[:6]
        )
        assert [likely[json.dumps(each["action"])] for each in candidates] == pytest.approx(
            [each["score"] for each in candidates]
        )
        assert candidates[0]["action"] == answer["action"]
    assert agent.servable


def test_a_head_of_numbers_has_no_candidates(client: Client, stores: MemoryStores) -> None:
    add(stores, "n", CARTPOLE, spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-1, 1, (2,))))
    answer = client.post("n", {"observation": OBSERVATION, "top_k": 2})
    assert code_at(answer, "/top_k") == "no_candidates"
    assert "'b'" in answer.json["detail"]
    many = client.post("n", {"observations": [OBSERVATION], "top_k": 2, "errors": "per_item"})
    assert code_at(many, "/top_k") == "no_candidates"


@pytest.mark.parametrize("top_k", [0, 33, "2", 1.5])
def test_there_are_1_to_32_candidates(client: Client, top_k: Any) -> None:
    assert (
        code_at(client.post("r", {"observation": OBSERVATION, "top_k": top_k}), "/top_k") == "invalid_value"
    )


def test_what_is_returned_is_what_was_asked_for(client: Client) -> None:
    whole = client.post("r", {"observation": OBSERVATION, "explain": True}).json["decision"]
    assert list(whole) == ["distribution", "log_prob", "value", "mask"]
    some = client.post("r", {"observation": OBSERVATION, "return": ["value", "log_prob"]}).json["decision"]
    assert some == {"log_prob": whole["log_prob"], "value": None}
    many = client.post("r", {"observations": [OBSERVATION] * 2, "return": ["log_prob"], "top_k": 1}).json
    assert [list(each) for each in many["decisions"]] == [["log_prob", "candidates"]] * 2
    answer = client.post("r", {"observation": OBSERVATION, "return": ["q"]})
    assert code_at(answer, "/return/0") == "invalid_value"


class TestMasks:
    @pytest.fixture
    def agent(self, stores: MemoryStores) -> Agent:
        return add(stores, "m", MASKED, spaces.Dict(action=spaces.Discrete(5)))

    @staticmethod
    def ask(client: Client, mask: Any, own: Any = None, **more: Any) -> Any:
        observation = {"observation": OBSERVATION} | ({} if own is None else {"action_mask": own})
        return client.post("m", {"observation": observation, "action_mask": mask, **more})

    def test_what_a_mask_forbids_is_never_done(self, client: Client, agent: Agent) -> None:
        for allowed in range(5):
            mask = [action == allowed for action in range(5)]
            for form in (mask, [int(each) for each in mask], {"action": mask}):
                answer = self.ask(client, form).json
                assert (answer["action"], answer["mask_applied"]) == (allowed, True)
        told = self.ask(client, [1, 0, 1, 0, 0], top_k=5, explain=True).json["decision"]
        assert {each["action"] for each in told["candidates"]} == {0, 2}
        assert told["mask"]["action"] == [True, False, True, False, False]

    def test_a_mask_stands_beside_that_of_the_observation(self, client: Client, agent: Agent) -> None:
        answer = self.ask(client, [1, 1, 0, 0, 0], own=[0, 1, 1, 1, 1]).json
        assert (answer["action"], answer["mask_applied"]) == (1, True)
        nothing = self.ask(client, [1, 0, 0, 0, 0], own=[0, 1, 1, 1, 1])
        assert code_at(nothing, "/action_mask") == "mask_empty"
        alone = client.post(
            "m", {"observation": {"observation": OBSERVATION, "action_mask": [0, 0, 0, 1, 0]}}
        )
        assert alone.json["action"] == 3
        assert "mask_applied" not in alone.json

    @pytest.mark.parametrize(
        ("mask", "pointer", "code"),
        [
            ([0] * 5, "", "mask_empty"),
            ([1] * 4, "", "space_mismatch"),
            ([1, 1, 1, 1, 2], "", "space_mismatch"),
            ([1, 1, 1, 1, "1"], "/4", "space_mismatch"),
            ({"move": [1] * 5}, "/move", "mask_unsupported"),
            ({}, "", "space_mismatch"),
            (1, "", "space_mismatch"),
        ],
    )
    def test_a_mask_that_cannot_be_applied_is_refused(
        self, client: Client, agent: Agent, mask: Any, pointer: str, code: str
    ) -> None:
        answer = self.ask(client, mask, own=[1] * 5)
        assert answer.status == 422
        assert answer.json["errors"][0]["code"] == code
        assert answer.json["errors"][0]["pointer"].startswith("/")
        many = client.post(
            "m",
            {
                "observations": [{"observation": OBSERVATION}] * 3,
                "action_masks": [[1] * 5, mask, [0, 0, 1, 0, 0]],
                "errors": "per_item",
            },
        ).json["results"]
        assert [set(each) >= {"action", "mask_applied"} for each in many] == [True, False, True]
        (mistake,) = many[1]["problem"]["errors"]
        assert (mistake["pointer"], mistake["code"]) == (f"/action_masks/1{pointer}", code)
        assert many[2]["action"] == 2

    def test_an_environment_without_masks_takes_none(self, client: Client) -> None:
        for mask in ([1, 1], [0, 0], {"action": [1, 1]}):
            answer = client.post("r", {"observation": OBSERVATION, "action_mask": mask})
            assert code_at(answer, "/action_mask") == "mask_unsupported"
        assert client.post("r", {"observation": OBSERVATION, "action_mask": None}).status == 200
        for masks in ([None], None, {"b64": "AQ==", "dtype": "bool", "shape": []}):
            for more in ({}, {"errors": "per_item"}):
                many = {"observations": [OBSERVATION] * 2, "action_masks": masks, **more}
                assert code_at(client.post("r", many), "/action_masks") == "invalid_value"
        wrong = client.post("r", {"observations": [OBSERVATION], "action_mask": [1, 1]})
        assert code_at(wrong, "/action_mask") == "invalid_value"


class TestErrorsPerItem:
    BAD = ("x", None, [1e300] * 4, [0, 0, 0], {"other": 1})

    def test_a_bad_item_harms_no_other_one(self, client: Client) -> None:
        good = sample_batch(CARTPOLE, 6, 2)["observation"].tolist()
        alone = [client.post("r", {"observation": row}).json["action"] for row in good]
        mixed = [item for pair in itertools.zip_longest(good, self.BAD, fillvalue="y") for item in pair]
        answer = client.post("r", {"observations": mixed, "errors": "per_item"})
        assert (answer.status, answer.json["checkpoint"]) == (200, "c")
        results = answer.json["results"]
        assert [each["index"] for each in results] == list(range(12))
        assert [each["action"] for each in results[::2]] == alone
        for each in results[1::2]:
            assert (each["problem"]["status"], each["problem"]["code"]) == (422, "invalid_request")
            assert each["problem"]["errors"][0]["pointer"].startswith(f"/observations/{each['index']}")
        assert client.post("r", {"observations": mixed}).status == 422

    def test_an_item_is_answered_as_if_it_had_come_alone(self, client: Client) -> None:
        how = {"deterministic": False, "seed": 3, "explain": True}
        rows = sample_batch(CARTPOLE, 5, 3)["observation"].tolist()
        results = client.post("r", {"observations": rows, "errors": "per_item", **how}).json["results"]
        for row, result in zip(rows, results, strict=True):
            alone = client.post("r", {"observation": row, **how}).json
            assert (result["action"], result["decision"]["log_prob"]) == (
                alone["action"],
                pytest.approx(alone["decision"]["log_prob"]),
            )

    def test_one_that_breaks_the_forward_fails_alone(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        act = ServedAgent._act

        def fails(served: Any, call: Any) -> Any:
            if (call.observations["observation"][:, 0] == 4.0).any():
                raise ArithmeticError("four")
            return act(served, call)

        monkeypatch.setattr(ServedAgent, "_act", fails)
        rows = [OBSERVATION, [4, 0, 0, 0], OBSERVATION]
        results = client.post("r", {"observations": rows, "errors": "per_item"}).json["results"]
        assert ["action" in each for each in results] == [True, False, True]
        assert (results[1]["problem"]["status"], results[1]["problem"]["code"]) == (500, "internal")
        assert "four" not in json.dumps(results)

    def test_what_is_wrong_with_all_is_a_problem_of_all(self, client: Client) -> None:
        wrong = {"observations": [OBSERVATION], "errors": "per_item", "actor_id": [7, 0]}
        assert code_at(client.post("r", wrong), "/actor_id/0") == "unknown_actor"
        one = client.post("r", {"observation": OBSERVATION, "errors": "per_item"})
        assert code_at(one, "/errors") == "invalid_value"
        states = {"observations": [OBSERVATION] * 2, "errors": "per_item", "states": ["AAAA", None]}
        first, second = client.post("r", states).json["results"]
        assert first["problem"]["errors"][0]["pointer"] == "/states/0"
        assert second["state"] is None


def test_timing_is_told_where_it_is_asked_for(client: Client) -> None:
    answer = client.post("r", {"observations": [OBSERVATION] * 3, "timing": True}).json
    assert answer["batch_size"] == 3
    spent = answer["timing_us"]
    assert set(spent) == {"queue", "forward", "total"}
    assert 0 <= spent["queue"] + spent["forward"] <= spent["total"] + 2


class TestForms:
    SPACE = spaces.Dict(action=spaces.Box(-1, 1, (2, 3)))

    def test_actions_come_as_arrays_of_msgpack(self, client: Client, stores: MemoryStores) -> None:
        agent = add(stores, "box", CARTPOLE, self.SPACE)
        answer = client.post("box", {"observation": OBSERVATION, "explain": True}, headers=MSGPACK_ACCEPT)
        assert answer.headers["content-type"] == "application/msgpack"
        told = MSGPACK.value(answer.body)
        assert np.array_equal(told["action"], agent.compute_action(OBSERVATION)["action"])
        assert (told["action"].dtype, told["checkpoint"]) == (np.float32, "c_box")
        assert set(told["decision"]) == {"distribution", "log_prob", "value", "mask"}
        assert msgspec.msgpack.decode(
            client.post("r", {"observation": OBSERVATION}, headers=MSGPACK_ACCEPT).body
        )["action"] in (0, 1)

    def test_an_action_that_is_one_array_comes_as_bytes(self, client: Client, stores: MemoryStores) -> None:
        agent = add(stores, "box", CARTPOLE, self.SPACE)
        rows = sample_batch(CARTPOLE, 3, 5)["observation"].tolist()
        expected = np.stack([agent.compute_action(row)["action"] for row in rows])
        answer = client.post("box", {"observations": rows}, headers=OCTETS_ACCEPT)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert (answer.headers["x-array-dtype"], answer.headers["x-array-shape"]) == ("float32", "3,2,3")
        assert (answer.headers["x-run"], answer.headers["x-checkpoint"]) == ("box", "c_box")
        assert answer.body == expected.tobytes()
        one = client.post("r", {"observation": OBSERVATION}, headers=OCTETS_ACCEPT)
        assert (one.headers["x-array-dtype"], one.headers["x-array-shape"]) == ("int64", "")
        assert one.body in (bytes(8), b"\x01" + bytes(7))

    def test_more_than_one_array_does_not_come_as_bytes(self, client: Client, stores: MemoryStores) -> None:
        add(stores, "both", CARTPOLE, CHOICES["both"])
        for run, more in (("both", {}), ("r", {"explain": True}), ("r", {"timing": True})):
            answer = client.post(run, {"observation": OBSERVATION, **more}, headers=OCTETS_ACCEPT)
            assert (answer.status, answer.json["code"]) == (406, "not_acceptable")
        items = {"observations": [OBSERVATION], "errors": "per_item"}
        assert client.post("r", items, headers=OCTETS_ACCEPT).json["code"] == "not_acceptable"

    @pytest.mark.parametrize(
        ("accept", "form"),
        [
            (b"*/*", "json"),
            (b"text/html", "json"),
            (b"application/json, application/msgpack", "json"),
            (b"text/html, Application/MsgPack;q=0.9, */*", "msgpack"),
        ],
    )
    def test_the_first_form_that_is_accepted_is_given(self, client: Client, accept: bytes, form: str) -> None:
        answer = client.post("r", {"observation": OBSERVATION}, headers=[(b"accept", accept)])
        assert answer.headers["content-type"] == f"application/{form}"

    def test_a_problem_is_always_json(self, client: Client) -> None:
        answer = client.post("r", {"observation": 1}, headers=MSGPACK_ACCEPT)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_state_that_cannot_go_on_is_that_of_its_item() -> None:
    from service.serving.hot_route import _item_problem

    problem = _item_problem(Problem.at("/state", "state_mismatch", "It is not finite."), 4, {"path": "/p"})
    assert problem["errors"][0]["pointer"] == "/states/4"
