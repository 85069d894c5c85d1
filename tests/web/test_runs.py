"""The list of runs in a real browser, over a real service."""

import pytest

from tests.acceptance.server import serving

HOSTILE = (
    "<img src=x onerror=\"document.title='taken'\">",
    "'quotes\" & </span><script>alert(1)</script>",
    "long " * 39,
    "تشغيل التجربة الأولى",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)}",
)


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    """A service whose API may be killed."""
    with serving(tmp_path_factory.mktemp("killed"), workers=2) as running:
        yield running


def test_runs_are_followed_through_a_restart_and_changed_together(walk, own_server):
    body = {"n_epochs": 1, "labels": {"walk": "hostile"}, "overrides": {"env.name": "CartPole-v1"}}
    names = {own_server.submit("train", {**body, "name": name}): name for name in HOSTILE}
    for run in names:
        own_server.wait(run)
    (api,) = own_server.processes("maze: api")
    found = walk("runs.mjs", own_server, api=api.pid, names=names, label="walk=hostile")
    assert {run: text.strip() for run, text in found["shown"].items()} == {
        run: name.strip() for run, name in names.items()
    }
    assert found["elements"] == 0, "a name became an element"
    assert found["wide"] == {"desktop": 0, "phone": 0}
    assert min(found["seen"]) <= 1000, "nothing was seen within a second"
    assert found["kept"] == 1, "what was there is gone while the service is away"
    assert found["selected"] == "4 selected"
    assert found["findings"] == []
    assert found["outcome"] == "4 cancelled or stopping"
    assert len(found["told"]) == 4
    assert "there is no run" in found["told"][0]
    assert found["opened"].removeprefix("#/runs/") in names
