"""Environments on the page: searched, filtered, with the way to what is missing, and one with its spaces."""


def test_environments_are_found_and_one_is_told_with_its_spaces(walk, server):
    server.wait_for(
        lambda: server.get("/v1/environments")["data"], "the worker to say which environments it has"
    )
    found = walk("environments.mjs", server)
    assert "trainable" in found["first"]
    assert "Train on it" in found["first"]
    assert found["found"] in (["CartPole-v1"], ["CartPole-v1", "phys2d/CartPole-v1"])
    assert found["address"] == "#/environments?q=cartpole+v1"
    assert found["install"].startswith("pip install 'maze-service[")
    assert not found["trainable"]
    assert found["none"] == "None is like this"
    for told in (
        "500 steps",
        "475",
        "4 numbers",
        "-4.8 to 4.8",
        "any number",
        "One of 2",
        "sutton_barto_reward",
    ):
        assert told in found["details"]
    assert found["train"] == "#/new?env=CartPole-v1"
    assert "Did you mean" in found["unknown"]
    assert "CartPole-v1" in found["unknown"]
    assert found["findings"] == found["detailFindings"] == []
