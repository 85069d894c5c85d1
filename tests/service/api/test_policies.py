"""Policies over HTTP: registered, named wherever a run is, moved with If-Match, rolled back, and held by their gate."""

from typing import Any

import pytest

from service.domain.run import Run, RunKind, RunState
from service.store import Stores
from tests.contracts.builders import new_checkpoint
from tests.service.api.client import Client
from tests.service.api.submissions import TRAIN, UNKNOWN, errors, trained

POLICY = "/v1/policies/walker"
ALIAS = f"{POLICY}/aliases/champion"


@pytest.fixture
def source(client: Client, stores: Stores) -> Run:
    """A run with three checkpoints, which are versions 1 to 3 of ``walker``."""
    run, lease = trained(client, stores)
    client.post("/v1/policies", {"name": "walker"})
    for epoch in (1, 2, 3):
        stores.checkpoints.put(lease, new_checkpoint(epoch, is_best=True), b"bundle %d" % epoch)
        body = {"run": run.id, "checkpoint": f"epoch:{epoch}"}
        assert client.post(f"{POLICY}/versions", body).status_code == 201
    return run


def put(client: Client, version: int, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("PUT", ALIAS, json={"version": version}, headers=named)


def promoted(client: Client, *versions: int) -> None:
    for revision, version in enumerate(versions):
        assert put(client, version, **({"if_match": f'"{revision}"'} if revision else {})).status_code == 200


class TestRegistry:
    def test_a_policy_is_made_read_listed_and_deleted(self, client: Client) -> None:
        body = {"name": "walker", "description": "Walks.", "gate": {"n_episodes": 30}}
        made = client.post("/v1/policies", body)
        assert (made.status_code, made.headers["location"]) == (201, POLICY)
        assert client.get(POLICY).json() == made.json()
        assert made.json()["gate"] == {"aliases": None, "n_episodes": 30, "seed": None}
        assert client.post("/v1/policies", body).status_code == 200
        assert client.post("/v1/policies", {"name": "walker"}).status_code == 409
        assert [one["name"] for one in client.get("/v1/policies?name=WALK").json()["data"]] == ["walker"]
        assert client.request("DELETE", POLICY).status_code == 204
        assert client.get(POLICY).status_code == 404

    def test_a_gate_is_put_up_and_taken_away_later(self, client: Client, source: Run) -> None:
        promoted(client, 1)
        up = client.request("PATCH", POLICY, json={"gate": {"aliases": ["champion"]}})
        assert up.json()["gate"] == {"aliases": ["champion"], "n_episodes": 20, "seed": None}
        assert put(client, 2, if_match='"1"').status_code == 409
        changed = client.request("PATCH", POLICY, json={"gate": None, "description": "Walks."})
        assert (changed.json()["gate"], changed.json()["description"]) == (None, "Walks.")
        assert put(client, 2, if_match='"1"').status_code == 200
        assert client.request("PATCH", POLICY, json={}).json()["description"] == "Walks."
        assert client.request("PATCH", "/v1/policies/none", json={}).status_code == 404

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({}, "/name"),
            ({"name": "a@b"}, "/name"),
            ({"name": "a:3"}, "/name"),
            ({"name": "../x"}, "/name"),
            ({"name": "a" * 65}, "/name"),
            ({"name": "a", "gate": {"n_episodes": 1}}, "/gate/n_episodes"),
            ({"name": "a", "gate": {"n_episode": 5}}, "/gate/n_episode"),
        ],
    )
    def test_a_mistake_is_told_at_its_field(self, client: Client, body: dict[str, Any], pointer: str) -> None:
        assert list(errors(client.post("/v1/policies", body))) == [pointer]

    def test_the_same_checkpoint_is_the_same_version(self, client: Client, source: Run) -> None:
        again = client.post(f"{POLICY}/versions", {"run": source.id, "checkpoint": "best"})
        assert (again.status_code, again.json()["version"]) == (200, 3)
        assert client.get(f"{POLICY}/versions/3").json() == again.json()
        versions = client.get(f"{POLICY}/versions?limit=2").json()
        assert [one["version"] for one in versions["data"]] == [3, 2]
        assert versions["has_more"]

    def test_a_run_that_a_version_holds_is_not_deleted(
        self, client: Client, stores: Stores, source: Run
    ) -> None:
        client.post(f"/v1/runs/{source.id}/cancel")
        stores.runs.finish(
            lease := _lease(stores, source), RunState.CANCELLED, reason="user_cancel", result={}
        )
        assert lease.run_id == source.id
        answer = client.request("DELETE", f"/v1/runs/{source.id}")
        assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
        assert "walker:" in answer.json()["detail"]


def _lease(stores: Stores, run: Run) -> Any:
    from service.domain.run import Lease

    return Lease(run_id=run.id, worker="w", epoch_token=stores.runs.get(run.id).epoch_token)


class TestAliases:
    def test_a_first_move_needs_nothing_and_a_later_one_the_etag(self, client: Client, source: Run) -> None:
        first = put(client, 1, if_none_match="*")
        assert (first.status_code, first.headers["etag"]) == (200, '"1"')
        required = put(client, 2)
        assert (required.status_code, required.json()["code"]) == (428, "precondition_required")
        assert put(client, 2, if_match='"7"').status_code == 412
        assert put(client, 2, if_none_match="*").status_code == 412
        assert put(client, 2, if_match=client.get(ALIAS).headers["etag"]).json()["version"] == 2
        assert put(client, 3, if_match="*").json()["revision"] == 3
        assert client.request("HEAD", ALIAS).headers["etag"] == '"3"'
        for known, status in (('"3"', 304), ('"2"', 200)):
            assert client.get(ALIAS, headers={"If-None-Match": known}).status_code == status
        assert client.get(POLICY).json()["aliases"] == {"champion": 3}

    def test_a_move_whose_answer_was_lost_may_be_sent_again(self, client: Client, source: Run) -> None:
        for _ in range(2):
            assert put(client, 1, if_none_match="*").json()["revision"] == 1
        for _ in range(2):
            assert put(client, 2, if_match='"1"').json()["revision"] == 2
        for _ in range(2):
            back = client.post(f"{ALIAS}/rollback", {}, headers={"If-Match": '"2"'})
            assert (back.json()["revision"], back.json()["version"]) == (3, 1)
        assert put(client, 3, if_match='"1"').status_code == 412
        assert len(client.get(f"{ALIAS}/history").json()["data"]) == 3

    def test_a_new_alias_may_be_sent_again_without_a_header_and_where_it_was_deleted_once(
        self, client: Client, source: Run
    ) -> None:
        for _ in range(2):
            first = put(client, 1)
            assert (first.status_code, first.json()["revision"]) == (200, 1)
        assert put(client, 2).status_code == 428
        client.request("DELETE", ALIAS)
        for _ in range(2):
            again = put(client, 2, if_none_match="*")
            assert (again.status_code, again.json()["revision"]) == (200, 3)
        assert put(client, 1, if_none_match="*").status_code == 412
        promoted_again = put(client, 1, if_match='"3"')
        assert promoted_again.json()["revision"] == 4
        assert put(client, 1, if_none_match="*").status_code == 412

    def test_any_revision_is_none_where_there_is_no_alias(self, client: Client, source: Run) -> None:
        missing = put(client, 1, if_match="*")
        assert (missing.status_code, missing.json()["code"]) == (412, "revision_conflict")
        assert client.get(ALIAS).status_code == 404

    @pytest.mark.parametrize(
        ("method", "path", "body", "headers"),
        [
            ("PUT", ALIAS, {"version": 3}, {"If-Match": "*"}),
            ("POST", f"{ALIAS}/rollback", {"to": 3}, {}),
            ("POST", f"{ALIAS}/rollback", {"to": 3}, {"If-Match": "*"}),
            ("DELETE", ALIAS, None, {}),
        ],
    )
    def test_who_demands_no_revision_moves_though_others_move_too(
        self,
        client: Client,
        stores: Stores,
        source: Run,
        monkeypatch: pytest.MonkeyPatch,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str],
    ) -> None:
        promoted(client, 3, 1)
        move, others = stores.policies.move, [2, 1, 2]

        def overtaken(name: str, alias: str, version: int | None, **facts: Any) -> Any:
            if others:
                move(name, alias, others.pop(), **facts)
            return move(name, alias, version, **facts)

        monkeypatch.setattr(stores.policies, "move", overtaken)
        answer = client.request(method, path, json=body, headers=headers)
        assert (answer.status_code in (200, 204), others) == (True, []), answer.text

    def test_a_rollback_to_the_present_version_writes_nothing(self, client: Client, source: Run) -> None:
        promoted(client, 1, 2)
        same = client.post(f"{ALIAS}/rollback", {"to": 2})
        assert (same.status_code, same.json()["revision"]) == (200, 2)
        seen_else = client.post(f"{ALIAS}/rollback", {"to": 2}, headers={"If-Match": '"1"'})
        assert seen_else.status_code == 412
        assert len(client.get(f"{ALIAS}/history").json()["data"]) == 2

    def test_a_rollback_leads_past_a_version_that_was_deleted(self, client: Client, source: Run) -> None:
        promoted(client, 1, 2, 1, 3)
        assert client.request("DELETE", f"{POLICY}/versions/2").status_code == 204
        assert client.post(f"{ALIAS}/rollback").json()["version"] == 1
        end = client.post(f"{ALIAS}/rollback")
        assert (end.status_code, "still there" in end.json()["detail"]) == (409, True)
        assert client.post(f"{ALIAS}/rollback", {"to": 2}).status_code == 404

    def test_rolling_back_again_and_again_leads_further_back(self, client: Client, source: Run) -> None:
        promoted(client, 1, 2, 3)
        for version in (2, 1):
            assert client.post(f"{ALIAS}/rollback").json()["version"] == version
        end = client.post(f"{ALIAS}/rollback")
        assert (end.status_code, "no version before" in end.json()["detail"]) == (409, True)
        assert put(client, 3, if_match='"5"').status_code == 200
        assert client.post(f"{ALIAS}/rollback", {"reason": "it falls"}).json()["version"] == 1
        last = client.get(f"{ALIAS}/history?limit=1").json()["data"][0]
        assert (last["kind"], last["from_version"], last["to_version"], last["reason"]) == (
            "rollback", 3, 1, "it falls",
        )  # fmt: skip

    def test_a_rollback_leads_only_where_the_alias_was(self, client: Client, source: Run) -> None:
        promoted(client, 1, 2)
        never = client.post(f"{ALIAS}/rollback", {"to": 3})
        assert (never.status_code, "never named version 3" in never.json()["detail"]) == (409, True)
        assert client.post(f"{ALIAS}/rollback", {"to": 1}).json()["version"] == 1

    def test_an_alias_is_deleted_and_its_history_stays(self, client: Client, source: Run) -> None:
        promoted(client, 1)
        assert client.request("DELETE", ALIAS, headers={"If-Match": '"9"'}).status_code == 412
        assert client.request("DELETE", ALIAS).status_code == 204
        assert client.get(ALIAS).status_code == 404
        kinds = [one["kind"] for one in client.get(f"{ALIAS}/history").json()["data"]]
        assert kinds == ["delete", "set"]

    @pytest.mark.parametrize("header", ['"x"', 'W/"3"', "1, 2"])
    def test_an_if_match_that_is_no_revision_is_refused(
        self, client: Client, source: Run, header: str
    ) -> None:
        assert put(client, 1, if_match=header).status_code == 400


class TestNames:
    @pytest.mark.parametrize("verb", ["evaluate", "rollout"])
    def test_a_name_gives_the_very_run_that_run_and_checkpoint_give(
        self, client: Client, stores: Stores, source: Run, verb: str
    ) -> None:
        promoted(client, 2)
        found = {}
        for named in (
            {"policy": "walker@champion"},
            {"policy": "walker:2"},
            {"run": source.id, "checkpoint": "epoch:2"},
        ):
            run = client.post(f"/v1/{verb}", {**named, "seed": 1, "n_episodes": 3}).json()
            found[str(named)] = (
                run["config_sha256"], run["source_run"], run["source_checkpoint"], stores.runs.get(run["id"]).config,
            )  # fmt: skip
        first, *others = found.values()
        assert others == [first, first]
        assert first[1] == source.id

    @pytest.mark.parametrize("verb", ["train", "fork"])
    def test_a_training_begins_with_a_named_policy(
        self, client: Client, stores: Stores, source: Run, verb: str
    ) -> None:
        promoted(client, 2)
        path = "/v1/train" if verb == "train" else f"/v1/runs/{source.id}/fork"
        found = []
        for initial in (
            {"initial.run": "walker@champion"},
            {"initial.run": source.id, "initial.checkpoint": "epoch:2"},
        ):
            body = {"overrides": {**TRAIN["overrides"], **initial}, "seed": 1}
            run = client.post(path, body).json()
            found.append((run["config_sha256"], run["source_checkpoint"], stores.runs.get(run["id"]).config))
        assert found[0] == found[1]

    @pytest.mark.parametrize("name", ["walker@champion", "walker:2"])
    def test_a_fork_of_a_named_policy_is_that_of_its_run_and_checkpoint(
        self, client: Client, stores: Stores, source: Run, name: str
    ) -> None:
        promoted(client, 2)
        changes = {"overrides": {"algorithm.lr": 0.5}, "seed": 1}
        named = client.post(f"/v1/policies/{name}/fork", changes)
        spelled = client.post(f"/v1/runs/{source.id}/fork", {**changes, "checkpoint": "epoch:2"})
        assert (named.status_code, spelled.status_code) == (202, 202), named.text
        runs = [stores.runs.get(one.json()["id"]) for one in (named, spelled)]
        for fact in ("kind", "config", "config_sha256", "source_run", "source_checkpoint", "parent_run"):
            assert getattr(runs[0], fact) == getattr(runs[1], fact), fact
        told = client.get(f"/v1/runs/{runs[0].id}/config?provenance=true").json()["provenance"]
        assert "changed" not in {origin["source"] for origin in told.values()}

    def test_a_fork_is_made_once_though_its_alias_moves_in_between(self, client: Client, source: Run) -> None:
        promoted(client, 1)
        path, key = "/v1/policies/walker@champion/fork", {"Idempotency-Key": "once"}
        first = client.post(path, {}, headers=key)
        put(client, 2, if_match='"1"')
        again = client.post(path, {}, headers=key)
        assert (again.json()["id"], again.status_code) == (first.json()["id"], 202)

    @pytest.mark.parametrize("name", ["walker", "walker@none", "walker:9", "none:1"])
    def test_a_fork_of_what_there_is_not_is_not_found(self, client: Client, source: Run, name: str) -> None:
        assert client.post(f"/v1/policies/{name}/fork", {}).status_code == 404

    def test_a_fork_of_a_named_policy_takes_no_checkpoint(self, client: Client, source: Run) -> None:
        answer = client.post("/v1/policies/walker:1/fork", {"checkpoint": "best"})
        assert errors(answer) == {"/checkpoint": "unknown_field"}

    def test_where_an_alias_points_is_fixed_when_the_run_is_submitted(
        self, client: Client, source: Run
    ) -> None:
        promoted(client, 1)
        run = client.post("/v1/evaluate", {"policy": "walker@champion"}).json()
        put(client, 2, if_match='"1"')
        held = client.get(f"{POLICY}/versions/1").json()["checkpoint"]
        assert client.get(f"/v1/runs/{run['id']}").json()["source_checkpoint"] == held

    @pytest.mark.parametrize("verb", ["evaluate", "rollout"])
    def test_a_name_without_a_version_is_answered_with_what_there_is(
        self, client: Client, source: Run, verb: str
    ) -> None:
        promoted(client, 1)
        answer = client.post(f"/v1/{verb}", {"policy": "walker"})
        assert answer.status_code == 404
        assert "walker@champion, walker:1 to :3" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("walker@none", "aliases champion (version 1)"),
            ("walker:9", "versions 3, 2, 1"),
            ("runner@champion", "no policy runner"),
        ],
    )
    def test_a_name_that_there_is_not_is_answered_with_what_there_is(
        self, client: Client, source: Run, name: str, says: str
    ) -> None:
        promoted(client, 1)
        answer = client.post("/v1/evaluate", {"policy": name})
        assert (answer.status_code, says in answer.json()["detail"]) == (404, True)

    @pytest.mark.parametrize("verb", ["evaluate", "rollout"])
    @pytest.mark.parametrize("beside", [{"run": "run_x"}, {"checkpoint": "best"}])
    def test_a_name_and_a_run_are_a_contradiction(
        self, client: Client, verb: str, beside: dict[str, str]
    ) -> None:
        answer = client.post(f"/v1/{verb}", {"policy": "walker@champion", **beside})
        assert errors(answer) == {"/policy": "contradiction"}

    def test_an_evaluation_of_nothing_says_how_to_name_a_policy(self, client: Client) -> None:
        answer = client.post("/v1/evaluate", {})
        assert errors(answer) == {"": "missing_field"}
        assert "name@alias" in answer.json()["detail"]


DISCRETE = {"type": "Discrete", "dtype": "int64", "n": 2, "start": 0}


def box(size: int, high: float = 1.0) -> dict[str, Any]:
    """A described space."""
    return {"type": "Box", "dtype": "float32", "shape": [size], "low": [-high], "high": [high]}


def compared(client: Client, stores: Stores, *versions: int, **body: Any) -> Any:
    """A comparison, submitted."""
    policies = [{"policy": f"walker:{version}"} for version in versions]
    return client.post("/v1/compare", {"policies": policies, "n_episodes": 20, "seed": 3, **body})


def finished(client: Client, stores: Stores, first: int, second: int, ci95: Any, **body: Any) -> str:
    """The id of a comparison of two versions that has succeeded with this interval."""
    answer = compared(client, stores, first, second, **body)
    assert answer.status_code == 202, answer.text
    claimed = stores.runs.claim("w", kinds=[RunKind.COMPARE], lease_s=30)
    assert claimed is not None
    run, lease = claimed
    pair = {
        "first": 0,
        "second": 1,
        "mean_difference": 0.0 if ci95 is None else sum(ci95) / 2,
        "ci95": ci95,
    }
    stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed", result={"pairs": [pair]})
    return run.id


class TestComparison:
    def test_names_and_runs_give_the_same_comparison(
        self, client: Client, stores: Stores, source: Run
    ) -> None:
        named = compared(client, stores, 1, 2).json()
        policies = [{"run": source.id, "checkpoint": f"epoch:{epoch}"} for epoch in (1, 2)]
        spelled = client.post("/v1/compare", {"policies": policies, "n_episodes": 20, "seed": 3}).json()
        assert (named["kind"], named["state"]) == ("compare", "queued")
        assert named["config_sha256"] == spelled["config_sha256"]
        assert stores.runs.get(named["id"]).config == stores.runs.get(spelled["id"]).config
        other = compared(client, stores, 2, 1).json()
        assert other["config_sha256"] != named["config_sha256"]

    @pytest.mark.parametrize(
        ("policies", "pointers"),
        [
            ([], ["/policies"]),
            ([{"policy": "walker:1"}], ["/policies"]),
            ([{"policy": "walker:1"}] * 9, ["/policies"]),
            ([{"policy": "walker:1"}, {}], ["/policies/1"]),
            ([{"policy": "walker:1"}, {"policy": "walker:1", "run": "r"}], ["/policies/1/policy"]),
        ],
    )
    def test_a_mistake_is_told_at_its_field(
        self, client: Client, source: Run, policies: list[Any], pointers: list[str]
    ) -> None:
        assert list(errors(client.post("/v1/compare", {"policies": policies}))) == pointers

    def test_an_unknown_field_of_a_policy_is_answered_with_those_that_it_has(self, client: Client) -> None:
        body = {"policies": [{"policy": "walker:1"}, {"polcy": "walker:2"}]}
        (error,) = client.post("/v1/compare", body).json()["errors"]
        assert (error["pointer"], error["did_you_mean"]) == ("/policies/1/polcy", "policy")
        assert error["allowed"] == ["checkpoint", "policy", "run"]

    def test_a_comparison_is_submitted_once_under_an_id_of_the_client_s(
        self, client: Client, stores: Stores, source: Run
    ) -> None:
        body = {"kind": "compare", "policies": [{"policy": "walker:1"}, {"policy": "walker:2"}], "seed": 1}
        made = [client.request("PUT", "/v1/runs/run_mine", json=body) for _ in range(2)]
        assert [(one.status_code, one.json()["kind"]) for one in made] == [(202, "compare")] * 2
        assert "idempotent-replayed" in made[1].headers

    def test_a_comparison_that_was_cancelled_is_tried_again(
        self, client: Client, stores: Stores, source: Run
    ) -> None:
        run = compared(client, stores, 1, 2).json()
        assert client.post(f"/v1/runs/{run['id']}/cancel").json()["state"] == "cancelled"
        again = client.post(f"/v1/runs/{run['id']}/retry").json()
        assert (again["kind"], again["config_sha256"]) == ("compare", run["config_sha256"])

    def test_one_that_has_succeeded_is_submitted_anew_and_not_continued(
        self, client: Client, stores: Stores, source: Run
    ) -> None:
        run = finished(client, stores, 1, 2, [0.0, 1.0])
        answer = client.post(f"/v1/runs/{run}/retry")
        assert (answer.status_code, "submit it anew" in answer.json()["detail"]) == (409, True)

    @pytest.mark.parametrize("verb", ["evaluate", "compare"])
    def test_one_whose_policy_was_deleted_says_which_run_that_was(
        self, client: Client, stores: Stores, verb: str
    ) -> None:
        source, lease = trained(client, stores)
        stores.checkpoints.put(lease, new_checkpoint(1, is_best=True), b"bundle")
        bodies = {"evaluate": {"run": source.id}, "compare": {"policies": [{"run": source.id}] * 2}}
        run = client.post(f"/v1/{verb}", bodies[verb]).json()["id"]
        assert client.post(f"/v1/runs/{run}/cancel").json()["state"] == "cancelled"
        stores.runs.finish(lease, RunState.SUCCEEDED, reason="completed")
        assert client.request("DELETE", f"/v1/runs/{source.id}").status_code == 204
        answer = client.post(f"/v1/runs/{run}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
        assert f"Run {source.id} was deleted" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("spaces", "says"),
        [
            ((box(4), DISCRETE, box(3), DISCRETE), "observation spaces differ"),
            ((box(4), DISCRETE, box(4), box(1)), "action spaces differ"),
            ((box(4), DISCRETE, box(4, 9.0), DISCRETE), None),
            ((None, DISCRETE, box(3), DISCRETE), None),
        ],
    )
    @pytest.mark.parametrize("wrapped", [{}, {"wrappers": "vector_obs"}])
    def test_policies_of_other_spaces_are_refused_where_it_is_known(
        self, client: Client, stores: Stores, spaces: Any, says: str | None, wrapped: dict[str, str]
    ) -> None:
        row = {"source": "gymnasium", "is_available": True, **UNKNOWN, "is_trainable": True}
        rows = [
            {**row, "id": f"Env-v{place}", "observation_space": seen, "action_space": acted}
            for place, (seen, acted) in enumerate([spaces[:2], spaces[2:]])
        ]
        stores.registry.publish_environments("w1", rows)
        runs = []
        for place in (0, 1):
            body = {
                "algorithm": "ppo",
                "overrides": {"env.name": f"Env-v{place}"},
                **(wrapped if place else {}),
            }
            assert client.post("/v1/train", body).status_code == 202
            claimed = stores.runs.claim("w", kinds=[RunKind.TRAIN], lease_s=30)
            assert claimed is not None
            stores.checkpoints.put(claimed[1], new_checkpoint(1, is_best=True), b"bundle %d" % place)
            runs.append(claimed[0].id)
        answer = client.post("/v1/compare", {"policies": [{"run": run} for run in runs]})
        if says is None or wrapped:
            assert answer.status_code == 202, answer.text
            return
        assert (answer.status_code, errors(answer)) == (422, {"/policies/1": "other_spaces"})
        assert all(name in answer.text for name in (says, *runs, "Env-v0", "Env-v1"))


class TestGate:
    @pytest.fixture(autouse=True)
    def gated(self, client: Client, source: Run) -> None:
        """Another policy with the same versions and a gate."""
        gate = {"aliases": ["champion"], "n_episodes": 10}
        client.post("/v1/policies", {"name": "gated", "gate": gate})
        for epoch in (1, 2, 3):
            client.post("/v1/policies/gated/versions", {"run": source.id, "checkpoint": f"epoch:{epoch}"})
        assert self.put(client, 1).status_code == 200

    def put(
        self, client: Client, version: int, comparison: str | None = None, alias: str = "champion"
    ) -> Any:
        path = f"/v1/policies/gated/aliases/{alias}"
        body = {"version": version} | ({"comparison": comparison} if comparison else {})
        known = client.get(path)
        headers = {"If-Match": known.headers["etag"]} if known.status_code == 200 else {}
        return client.request("PUT", path, json=body, headers=headers)

    def test_without_a_comparison_the_answer_is_the_request_that_makes_one(
        self, client: Client, stores: Stores
    ) -> None:
        closed = self.put(client, 2)
        assert (closed.status_code, closed.json()["code"]) == (409, "state_conflict")
        asked = client.post("/v1/compare", closed.json()["compare"])
        assert asked.status_code == 202, asked.text
        waiting = self.put(client, 2, asked.json()["id"])
        assert (waiting.status_code, "it is queued" in waiting.json()["detail"]) == (409, True)

    @pytest.mark.parametrize("ci95", [(-5.0, 1.0), (-5.0, 0.0), (1.0, 2.0)])
    def test_a_version_that_is_not_worse_passes_and_the_history_says_what_was_played(
        self, client: Client, stores: Stores, source: Run, ci95: tuple[float, float]
    ) -> None:
        comparison = finished(client, stores, 1, 2, list(ci95))
        assert self.put(client, 2, comparison).status_code == 200
        (last, _) = client.get("/v1/policies/gated/aliases/champion/history").json()["data"]
        evidence = last["evidence"]
        assert (evidence["comparison"], evidence["ci95"]) == (comparison, list(ci95))
        assert (evidence["env"], evidence["wrappers"]) == (source.config["env"], source.config["wrappers"])
        assert (evidence["n_episodes"], evidence["seed"], evidence["deterministic"]) == (20, 3, True)

    def test_a_version_that_is_worse_at_95_percent_does_not(self, client: Client, stores: Stores) -> None:
        closed = self.put(client, 2, finished(client, stores, 1, 2, [-5.0, -0.1]))
        assert (closed.status_code, "worse than version 1" in closed.json()["detail"]) == (409, True)
        assert client.get("/v1/policies/gated").json()["aliases"] == {"champion": 1}

    @pytest.mark.parametrize(
        ("versions", "body", "says"),
        [
            ((1, 3), {}, "is not of gated:1 and gated:2"),
            ((2, 2), {}, "is not of gated:1 and gated:2"),
            ((2, 1), {}, "is not of gated:1 and gated:2, in this order"),
            ((1, 2), {"max_episode_steps": 1}, "cuts episodes after 1 steps"),
            ((1, 2), {"deterministic": False}, "draws its actions"),
            ((1, 2), {"n_episodes": 9}, "has 9 episodes of 10"),
        ],
    )
    def test_a_comparison_of_something_else_opens_nothing(
        self, client: Client, stores: Stores, versions: tuple[int, int], body: dict[str, int], says: str
    ) -> None:
        comparison = finished(client, stores, *versions, [0.0, 1.0], **body)
        closed = self.put(client, 2, comparison)
        assert (closed.status_code, says in closed.json()["detail"]) == (409, True), closed.text
        assert client.post("/v1/compare", closed.json()["compare"]).status_code == 202

    def test_what_it_asks_for_opens_it(self, client: Client, stores: Stores) -> None:
        asked = self.put(client, 2).json()["compare"]
        versions = [
            int(one["checkpoint"] == client.get(f"{POLICY}/versions/2").json()["checkpoint"])
            for one in asked.pop("policies")
        ]
        assert versions == [0, 1], "the holder comes first"
        assert self.put(client, 2, finished(client, stores, 1, 2, [0.0, 0.0], **asked)).status_code == 200

    def test_a_comparison_that_no_gate_asks_for_is_refused(self, client: Client, stores: Stores) -> None:
        comparison = finished(client, stores, 1, 2, [0.0, 1.0])
        free = self.put(client, 1, comparison, alias="latest")
        assert (free.status_code, "No gate asks for a comparison" in free.json()["detail"]) == (409, True)
        assert self.put(client, 1, alias="latest").status_code == 200

    def test_a_run_of_another_kind_opens_nothing(self, client: Client, source: Run) -> None:
        closed = self.put(client, 2, source.id)
        assert (closed.status_code, "its kind is train" in closed.json()["detail"]) == (409, True)
        assert self.put(client, 2, "run_none").status_code == 404

    def test_deleting_the_alias_opens_no_gate(self, client: Client) -> None:
        client.request("DELETE", "/v1/policies/gated/aliases/champion")
        assert self.put(client, 2).status_code == 409
        assert self.put(client, 1).status_code == 200

    def test_deleting_the_alias_and_then_its_version_opens_no_gate(self, client: Client) -> None:
        client.request("DELETE", "/v1/policies/gated/aliases/champion")
        kept = client.request("DELETE", "/v1/policies/gated/versions/1")
        assert (kept.status_code, "was champion" in kept.json()["detail"]) == (409, True)
        assert self.put(client, 2).status_code == 409
        client.request("PATCH", "/v1/policies/gated", json={"gate": None})
        assert client.request("DELETE", "/v1/policies/gated/versions/1").status_code == 204

    def test_an_alias_that_is_not_guarded_moves_freely_and_a_rollback_too(
        self, client: Client, stores: Stores
    ) -> None:
        for version in (1, 2):
            assert self.put(client, version, alias="latest").status_code == 200
        assert self.put(client, 2, finished(client, stores, 1, 2, [0.0, 1.0])).status_code == 200
        back = client.post("/v1/policies/gated/aliases/champion/rollback")
        assert (back.status_code, back.json()["version"]) == (200, 1)
