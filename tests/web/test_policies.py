"""Policies on the page: promoted, stopped by a gate and led through it, rolled back, each move in the history."""

import json
import subprocess

HOSTILE = "<img src=x onerror=\"document.title='broken'\">"


def test_a_policy_is_promoted_through_its_gate_and_rolled_back(walk, server, trained):
    checkpoints = server.get(f"/v1/runs/{trained['id']}/checkpoints")["data"]
    (best,) = [one["id"] for one in checkpoints if one["is_best"]]
    early = min(checkpoints, key=lambda one: one["metrics"]["eval/mean_return"])["id"]
    found = walk("policies.mjs", server, run=trained["id"], early=early, best=best, hostile=HOSTILE)
    assert found["empty"] == "No policy has a name yet"
    assert found["noWayBack"]
    assert "comparison of walker:1 and walker:2" in found["asked"]
    assert "6 episodes of each" in found["asked"]
    assert early in found["asked"]
    assert "95 % interval" in found["worse"]
    assert found["played"] == 1
    policy = server.get("/v1/policies/walker")
    back, through, first = found["history"]
    assert first.startswith("nothing → 1 set")
    assert through.startswith("1 → 2 set")
    assert "it is better" in through
    assert "Comparison of 6 episodes: +" in through
    assert back.startswith("2 → 1 rollback")
    assert "it falls over" in back
    assert HOSTILE in found["shown"]
    assert found["images"] == 0
    assert found["tried"] == "#/play?policy=walker%40champion"
    assert "champion → 1" in found["listed"]
    assert found["focused"] == "Move"
    assert "walker@champion has moved since this was opened: it names version 2 now" in found["moved"]
    assert "walker@champion has moved since this was opened: it names version 2 now" in found["stale"]
    assert policy["gate"] == {"aliases": None, "n_episodes": 7, "seed": None}
    assert policy["description"] == "other words"
    assert "changed the gate since" in found["clash"]
    assert found["outside"] == ["Choose one"]
    done = subprocess.run(["bash", "-c", found["command"]], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["action"] in (0, 1)
    assert found["dialogs"] == found["closed"] == found["findings"] == []
    assert [one["version"] for one in server.get("/v1/policies/walker/versions")["data"]] == [1]
    moved = server.get("/v1/policies/walker/aliases/champion")
    assert (moved["version"], moved["revision"]) == (1, 7)
