"""Names that others chose break no view: long, turning, of every object, leading elsewhere, of what is gone."""

LONG = "W" * 150
TURNING = "\u202ereversed" + "m" * 100


def _trained(server, name):
    body = {
        "algorithm": "ppo",
        "configuration": "test",
        "n_epochs": 1,
        "name": name,
        "labels": {"team": TURNING},
    }
    return server.submit("train", body | {"overrides": {"env.name": "CartPole-v1"}})


def test_no_name_breaks_a_view(walk, server):
    runs = [_trained(server, name) for name in (LONG, TURNING)]
    assert [server.wait(run)["state"] for run in runs] == ["succeeded"] * 2
    server.post("/v1/policies", {"name": "p" * 64, "description": TURNING})
    server.post("/v1/policies", {"name": "leaves"})
    note = "a very long note " * 500
    server.post("/v1/policies/leaves/versions", {"run": runs[0], "note": note})
    views = {
        "runs": f'.table-row [title*="{TURNING}"]',
        f"runs/{runs[1]}": ".about .label",
        f"compare?runs={','.join(runs)}": ".legend button",
        "policies": "th a",
        f"policies/{'p' * 64}": "h1",
    }
    missing = ["constructor", "__proto__", "environments/../runs", "environments/x/%2e%2e/%2e%2e/runs"]
    given = {
        "views": views,
        "missing": missing,
        "policy": "leaves",
        "names": [LONG, TURNING, f"team={TURNING}"],
    }
    found = walk("names.mjs", server, width=390, **given)
    assert found["sideways"] == dict.fromkeys(views, 0)
    assert found["turning"] == {view: [] for view in views}
    said = ["no view 'constructor'", "no view '__proto__'", "the name ‘../runs’", "the name ‘x/../../runs’"]
    assert [text for text, told in zip(said, found["missing"], strict=True) if text not in told] == []
    assert found["note"] < 100, "a note fills the table"
    assert "policy leaves could not be loaded" in found["gone"]
    assert found["offered"]
    assert "Promote" not in found["gone"], "what is gone is still offered"
