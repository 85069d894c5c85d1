"""The page's comparison of runs in a real browser: curves, configurations and policies of a few trainings."""

import csv
import io

import pytest

HOSTILE = '<img src=x onerror="document.title=1">'


def _submitted(server, name, seed, lr, n_epochs=4):
    body = {
        "algorithm": "ppo",
        "configuration": "test",
        "n_epochs": n_epochs,
        "seed": seed,
        "name": name,
        "labels": {"half": "first" if seed == 1 else "second"},
        "overrides": {"env.name": "CartPole-v1", "algorithm.lr": lr},
    }
    return server.submit("train", body)


@pytest.fixture(scope="module")
def compared(server):
    """Two runs that differ in the seed alone, one with another step size, and one with a hostile name."""
    given = [("pair one", 1, 0.01), ("pair one", 2, 0.01), ("pair two", 1, 0.001), (HOSTILE, 1, 0.002)]
    runs = [_submitted(server, *each) for each in given]
    for run in runs:
        assert server.wait(run)["state"] == "succeeded"
    return runs


def test_runs_are_compared_by_curves_configurations_and_policies(walk, server, compared):
    *runs, hostile = compared
    twin = _submitted(server, "twin", 1, 0.01)
    assert server.wait(twin)["state"] == "succeeded"
    live = _submitted(server, "live", 1, 0.01, n_epochs=100_000)
    found = walk("compare.mjs", server, runs=runs, hostile=hostile, live=live, twin=twin)
    server.post(f"/v1/runs/{live}/cancel", {})
    assert found["findings"] == []
    assert found["chosen"].count("run_") == 2
    assert found["legend"] == ["pair one, 2 seeds", "pair two"]
    assert found["isHidden"]
    assert found["differing"] == ["algorithm.lr"]
    assert set(found["origins"]) == {"override algorithm.lr"}
    assert [key for key in found["withSeeds"] if key.startswith("seeding.")]
    rows = list(csv.DictReader(io.StringIO(found["csv"])))
    assert {row["line"] for row in rows} == set(found["legend"])
    assert all(row["low"] for row in rows if row["line"] == "pair one, 2 seeds")
    assert found["png"] == "compare-eval-mean_return.png"
    assert found["kept"] == "time"
    assert found["halves"] == ["half first, 2 runs", "half second, 1 run"]
    assert (len(found["verdicts"]), found["scores"]) == (3, 3)
    assert all(
        "better than" in one or "cannot be told apart" in one or "equally" in one for one in found["verdicts"]
    )
    own = found["ownPage"]
    assert own["scores"] == [f"#/runs/{run}" for run in runs]
    row = dict(zip(own["columns"], own["all"], strict=True))
    assert row["policy"].startswith("pair one (…")
    assert [len(row[name].split(", ")) for name in ("returns", "lengths", "seeds")] == [5, 5, 5]
    assert " to " not in row["returns"]
    assert "[object" not in own["said"]
    assert "There is no run run_0sgdpt27fj407jyj64ccs5950m" in found["gone"]
    assert found["names"][2] == HOSTILE
    assert found["elements"] == 0
    assert found["withTwin"] == "pair one, 3 runs, 2 seeds"
    assert f"There is no run {twin} any more" in found["deleted"]
    assert found["unasked"] == []
    assert found["grown"] > 0, "the curve of a run at work stood still"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theme", "width"),
    [
        ("dark", 1280),
        ("light", 390),
        ("dark", 390),
    ],
)
def test_a_comparison_fits_a_phone_and_the_dark(walk, server, compared, theme, width):
    address = f"#/compare?runs={','.join(compared)}&smooth=0.5"
    given = {"theme": theme, "width": width, "address": address, "wait": ".differences"}
    found = walk("look.mjs", server, name=f"compare-{theme}-{width}", **given)
    assert found == {"wide": 0, "findings": []}


def test_what_is_not_there_is_said(walk, server, compared):
    found = walk("absent.mjs", server, runs=compared)
    assert "No sweep is failed" in found["none"]
    assert "sweep_0sgrhnecvkdjt8y6sngcjhzr4b" in found["gone"]
    assert "The service does not answer" in found["away"]
    assert found["findings"] == []
