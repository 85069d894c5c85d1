"""Watch and Play in a real browser: films play, steps and pictures go together, sliders move the bars."""

import pytest

pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")


@pytest.fixture(scope="module")
def filmed(server):
    body = {
        "n_epochs": 4,
        "seed": 1,
        "name": "<b>filmed</b>",
        "videos": 2,
        "overrides": {
            "env.name": "CartPole-v1",
            "algorithm.checkpoint_every": 1,
            "algorithm.rollout_evaluator.max_episode_steps": 120,
        },
    }
    run = server.wait(server.submit("train", body))
    server.post("/v1/policies", {"name": "balancer"})
    server.post("/v1/policies/balancer/versions", {"run": run["id"]})
    return run


@pytest.mark.parametrize(
    ("theme", "width"), [pytest.param("light", 1280, marks=pytest.mark.slow), ("dark", 390)]
)
def test_an_agent_is_watched_step_by_step_and_played_with(walk, server, filmed, trained, theme, width):
    name = f"{theme}-{width}"
    found = walk(
        "watch.mjs", server, run=filmed["id"], plain=trained["id"], theme=theme, width=width, name=name
    )
    assert found["moments"][0].startswith("epoch 0")
    assert len(found["moments"]) == 10
    assert "film 2 of 2" in found["moments"][1]
    assert found["takes"] == [0, 0, 0]
    only_filmed = [each for each in found["choices"] if "filmed" in each]
    assert only_filmed[-1] == "epoch 0, filmed"
    assert len({*found["choices"]}) == len(found["choices"])
    step = server.get(f"/v1/runs/{filmed['id']}/episodes/0")["trajectory"]["steps"][3]
    assert float(found["recorded"]) == pytest.approx(step["observation"]["observation"][0], rel=1e-4)
    assert found["old"] == 0
    assert "version 1" in found["named"][0]
    assert "has no alias nope" in found["named"][1]
    assert found["first"]["seen"] != found["fifth"]["seen"]
    assert found["fifth"]["names"] == [
        "cart position",
        "cart velocity",
        "pole angle",
        "pole angular velocity",
    ]
    assert "epoch 0, before it learnt, film 1 of 2" in found["picked"]
    assert found["prefilled"] == "epoch:0"
    assert found["before"] != found["after"]
    assert found["rate"] <= 25
    assert "compute_action" in found["command"]
    assert '"explain":true' in found["command"]
    assert found["findings"] == {"watch": [], "play": []}
    assert max(found["wide"]) <= 0
