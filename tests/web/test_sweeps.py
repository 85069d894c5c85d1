"""The page's sweeps in a real browser: listed, looked into, steered, and fluid with a thousand trials."""

import pytest

HOSTILE = '<img src=x onerror="document.title=1">'
BUDGET_MS = 100
"""Of what a pointer does, the quickest of eight tries."""


def _submit(server, **body):
    common = {"algorithm": "ppo", "configuration": "test", "overrides": {"env.name": "CartPole-v1"}}
    answer = server.post("/v1/sweeps", {**common, **body})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="module")
def sweep(server):
    """A search over a step size and a clip range, with two seeds, that has ended."""
    space = {
        "algorithm.lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "algorithm.clip_range": {"choices": [0.1, 0.2]},
    }
    search = {"space": space, "n_trials": 6, "sampler": "random"}
    made = _submit(server, name=HOSTILE, seed=[1, 2], n_epochs=2, search=search, parallel=4)
    server.wait_for(lambda: server.get(f"/v1/sweeps/{made}")["state"] == "succeeded", "the sweep to end")
    return made


def test_a_sweep_is_listed_looked_into_and_steered(walk, server, sweep):
    long = _submit(server, name="long", n_epochs=100_000, seed=1, parallel=1)
    found = walk("sweeps.mjs", server, sweep=sweep, live=long, name=HOSTILE)
    assert found["findings"] == []
    assert "12 of 12" in found["listed"]
    assert "random" in found["listed"]
    assert found["axes"] == ["algorithm.lr", "algorithm.clip_range", "eval/mean_return"]
    assert found["all"] == 6
    assert "★ best" in found["best"]
    assert found["byScore"] == sorted(found["byScore"], reverse=True)
    assert found["backwards"] == sorted(found["byScore"])
    assert found["drawn"]
    assert 0 < found["brushed"] < 6
    assert float(found["told"]) == pytest.approx(10 ** (-4 + 3 * 0.6), rel=0.01)
    values = [job["choices"]["algorithm.lr"] for job in server.get(f"/v1/sweeps/{sweep}/runs")["data"]]
    assert found["byKeys"] == len({value for value in values if value >= 10 ** (-4 + 3 * 0.6)})
    assert found["compared"].count("run_") == 8
    assert found["elements"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theme", "width"),
    [
        ("dark", 1280),
        ("light", 390),
        ("dark", 390),
    ],
)
def test_a_sweep_fits_a_phone_and_the_dark(walk, server, sweep, theme, width):
    given = {"theme": theme, "width": width, "address": f"#/sweeps/{sweep}", "wait": ".bars li"}
    found = walk("look.mjs", server, name=f"sweep-{theme}-{width}", **given)
    assert found == {"wide": 0, "findings": []}


@pytest.mark.slow
def test_a_thousand_trials_stay_fluid(walk, server, sweep):
    shown = server.get(f"/v1/sweeps/{sweep}")
    found = walk("crowd.mjs", server, sweep={**shown, "n_jobs": 1000}, n=1000)
    assert found["said"] == "1000"
    assert found["rows"] == 50
    assert found["brushed"].endswith(" of 1000")
    assert max(found["brush"], found["sort"]) <= BUDGET_MS, found
    assert found["rising"] == ["0.1", "0.2", "null", "null", "–"]
    assert found["falling"] == ["null", "null", "0.2", "0.1", "–"]
    assert found["nulls"] == ["null", "null"], "null has no place on its axis"
    assert found["cut"] == []
    assert found["dot"] > 0, "a trial with its score alone is not drawn"
