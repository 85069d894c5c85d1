"""Policies through both clients against a real service: promoted from a run, gated, rolled back, acting by name."""

import httpx
import pytest

from maze_client import AsyncClient, Client, ConflictError, NotFoundError, ProblemError
from tests.maze_client.answering import Answers, problem
from tests.maze_client.test_client import OBSERVATION, SPEC, now, run_with


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_policy_is_promoted_gated_rolled_back_and_deleted(server, kind):
    run_with(kind, server, life)


async def life(client):
    name = type(client).__name__
    run = await now(client.train(**SPEC, n_epochs=4))
    await now(run.wait(progress=False))
    first = await now(run.promote(name, checkpoint="epoch:2", note="young", reason="the first"))
    assert (first.alias, first.version, first.revision) == ("champion", 1, 1)
    second = await now(run.promote(name, checkpoint="epoch:4"))
    assert (second.version, second.revision) == (2, 2)
    found = await now(client.policies.get(name))
    assert (found.n_versions, found.aliases, found.gate) == (2, {"champion": 2}, None)
    assert (await now(client.policies.edit(name, gate={"n_episodes": 9}))).gate.n_episodes == 9
    assert (await now(client.policies.edit(name, gate=None))).gate is None
    assert [one.name for one in await now(client.policies.list(name.lower()))] == [name]
    assert [one.note for one in await now(client.policies.versions(name))] == [None, "young"]
    assert (await now(client.policies.version(name, 1))).run == run.id

    acted = await now(client.policies.act(f"{name}@champion", OBSERVATION))
    assert acted == await now(run.act(OBSERVATION, checkpoint="epoch:4"))
    assert await now(client.policies.compute_actions(f"{name}:2", [OBSERVATION] * 2)) == [acted] * 2
    assert await now(client.policies.act(f"{name}:2", OBSERVATION, state=None)) == (acted, None)
    assert (await now(client.policies.explain_action(f"{name}:2", OBSERVATION)))["action"] == acted
    told = await now(client.policies.explain_actions(f"{name}:2", [OBSERVATION, None], return_=["value"]))
    assert [each.keys() for each in told] == [{"action", "value"}, {"problem"}]
    evaluation = await now(client.evaluate(policy=f"{name}@champion", n_episodes=2, seed=1))
    assert evaluation.source_run == run.id
    await now(evaluation.wait(progress=False))

    fork = await now(client.fork(f"{name}:1", overrides={"algorithm.lr": 1e-4}))
    assert (fork.parent_run, fork.source_run, fork.kind) == (run.id, run.id, "train")
    await now(fork.wait(progress=False))

    back = await now(client.policies.rollback(name, "champion", reason="it falls"))
    assert (back.version, back.revision) == (1, 3)
    moves = await now(client.policies.history(name, "champion"))
    assert [(move.kind, move.to_version) for move in moves] == [("rollback", 1), ("set", 2), ("set", 1)]
    with pytest.raises(ProblemError, match="has moved since"):
        await now(client.policies.promote(name, "champion", 2, revision=2))
    split = await now(client.policies.split_traffic(name, "champion", canary=2, weight=0.5, reason="try"))
    assert (split.canary, split.shadow, split.revision) == ({"version": 2, "weight": 0.5}, None, 4)
    with pytest.raises(ProblemError, match="has moved since"):
        await now(client.policies.split_traffic(name, "champion", shadow=2, revision=3))
    await now(client.policies.act(f"{name}@champion", OBSERVATION, traffic_key="a"))
    told = await now(client.policies.traffic(name, "champion"))
    assert [(one.role, one.version) for one in told.versions] == [("holder", 1), ("canary", 2)]
    await now(client.policies.end_traffic(name, "champion"))
    assert (await now(client.policies.traffic(name, "champion"))).versions == []
    await now(client.policies.delete_alias(name, "champion"))
    for number in (1, 2):
        await now(client.policies.delete_version(name, number))
    await now(client.policies.delete(name))
    with pytest.raises(NotFoundError):
        await now(client.policies.get(name))


def test_a_gate_is_opened_by_what_it_asks_for(server):
    with Client(f"127.0.0.1:{server.port}") as client:
        run = client.train(**SPEC, n_epochs=2).wait(progress=False)
        client.policies.create("gated", gate={"n_episodes": 2, "seed": 3})
        # the same weights twice: not worse, whatever they score
        run.promote("gated", checkpoint="last")
        again = client.train(**SPEC, n_epochs=2).wait(progress=False)
        with pytest.raises(ConflictError, match="asks for a comparison") as closed:
            again.promote("gated", checkpoint="last")
        comparison = client.compare(**closed.value.body["compare"]).wait(progress=False)
        (pair,) = comparison.result["pairs"]
        assert (pair["mean_difference"], pair["ties"]) == (0.0, 2)
        moved = again.promote("gated", checkpoint="last", comparison=comparison)
        assert (moved.version, moved.revision) == (2, 2)
        (last, _) = client.policies.history("gated", "champion")
        assert last.evidence["comparison"] == comparison.id


def test_a_promote_whose_answer_was_lost_asks_for_the_same_move_again(clock):
    lost = httpx.ReadError("connection reset")
    alias = {"policy": "p", "alias": "a", "version": 1, "revision": 4, "moved_at": "2026-11-22T11:02:03.913Z"}
    answers = Answers(alias, lost, alias | {"version": 2, "revision": 5})
    with Client("http://test", transport=answers) as client:
        assert client.policies.promote("p", "a", 2).revision == 5
    looked, *sent = answers.requests
    assert looked.method == "GET"
    assert [request.headers["if-match"] for request in sent] == ['"4"', '"4"']


def test_a_first_promote_says_that_there_is_none_yet(clock):
    alias = {"policy": "p", "alias": "a", "version": 1, "revision": 1, "moved_at": "2026-11-22T11:02:03.913Z"}
    answers = Answers(problem(404, "not_found"), alias)
    with Client("http://test", transport=answers) as client:
        client.policies.promote("p", "a", 1)
    assert answers.requests[1].headers["if-none-match"] == "*"
