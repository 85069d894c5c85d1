"""Watch and Play in a real browser: films play, steps and pictures go together, sliders move the bars."""

import pytest

pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")


@pytest.fixture(scope="module")
def filmed(server):
    body = {
        "n_epochs": 4,
        "seed": 1,
        "name": "<b>filmed</b>",
        "videos": 1,
        "overrides": {
            "env.name": "CartPole-v1",
            "algorithm.checkpoint_every": 1,
            "algorithm.rollout_evaluator.max_episode_steps": 120,
        },
    }
    return server.wait(server.submit("train", body))


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_an_agent_is_watched_step_by_step_and_played_with(walk, server, filmed, trained, theme, width):
    name = f"{theme}-{width}"
    found = walk(
        "watch.mjs", server, run=filmed["id"], plain=trained["id"], theme=theme, width=width, name=name
    )
    assert found["moments"][0].startswith("epoch 0")
    assert len(found["moments"]) == 5
    assert found["first"]["seen"] != found["fifth"]["seen"]
    assert found["fifth"]["names"] == [
        "cart position",
        "cart velocity",
        "pole angle",
        "pole angular velocity",
    ]
    assert "epoch 0, before it learnt" in found["picked"]
    assert found["prefilled"] == "epoch:0"
    assert found["before"] != found["after"]
    assert found["rate"] <= 25
    assert "compute_action" in found["command"]
    assert '"explain":true' in found["command"]
    assert found["findings"] == {"watch": [], "play": []}
    assert max(found["wide"]) <= 0
