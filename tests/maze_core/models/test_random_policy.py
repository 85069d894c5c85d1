"""The random policy: in every space, under masks, a function of its noise alone."""

import numpy as np
import pytest
from gymnasium import spaces

from maze_core.models.config import RandomPolicyConfig
from maze_core.models.random_policy import RandomPolicy

SPACE = spaces.Dict(
    {
        "door": spaces.Discrete(3, start=-1),
        "gears": spaces.MultiDiscrete([[2, 3], [4, 5]]),
        "lamps": spaces.MultiBinary(4),
        "arm": spaces.Box(np.float32([-1, 0]), np.float32([1, 5])),
        "level": spaces.Box(3, 6, (2,), np.uint8),
        "free": spaces.Box(-np.inf, np.inf, (2,)),
        "above": spaces.Box(2.0, np.inf, (1,)),
        "below": spaces.Box(-np.inf, -2.0, (1,)),
        "vast": spaces.Box(-3.4e38, 3.4e38, (1,)),
    }
)


def drawn(n: int, observations: dict | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    policy = RandomPolicy({0: SPACE})
    noise = policy.noise(0, np.random.default_rng(seed), n)
    return policy.act(0, observations or {}, deterministic=False, noise=noise)


def test_every_action_lies_in_its_space() -> None:
    actions = drawn(500)
    for row in range(500):
        assert SPACE.contains({head: values[row] for head, values in actions.items()})


def test_actions_are_uniform() -> None:
    actions = drawn(30_000)
    np.testing.assert_allclose(np.bincount(actions["door"] + 1) / 30_000, 1 / 3, atol=0.015)
    np.testing.assert_allclose(np.bincount(actions["level"][:, 0])[3:] / 30_000, 1 / 4, atol=0.015)
    np.testing.assert_allclose(actions["arm"].mean(axis=0), [0.0, 2.5], atol=0.05)
    np.testing.assert_allclose([actions["free"].mean(), actions["free"].std()], [0, 1], atol=0.03)
    np.testing.assert_allclose([actions["above"].mean(), actions["below"].mean()], [3, -3], atol=0.05)


def test_masks_are_honoured() -> None:
    mask = np.eye(3, dtype=np.int8)[np.arange(300) % 3]
    lamps = np.tile(np.array([1, 0, 1, 0], np.int8), (300, 1))
    actions = drawn(300, {"door_mask": mask, "lamps_mask": lamps})
    assert np.array_equal(actions["door"], np.arange(300) % 3 - 1)
    assert actions["lamps"][:, [1, 3]].max() == 0
    assert set(actions["lamps"][:, 0].tolist()) == {0, 1}


def test_a_row_depends_on_its_own_noise_alone() -> None:
    policy = RandomPolicy({0: SPACE})
    noise = policy.noise(0, np.random.default_rng(0), 20)
    together = policy.act(0, {}, deterministic=False, noise=noise)
    alone = policy.act(0, {}, deterministic=True, noise=noise[7:8])
    assert all(np.array_equal(alone[head][0], together[head][7]) for head in together)


def test_it_asks_for_noise_even_when_deterministic() -> None:
    policy = RandomPolicyConfig().build({}, {0: SPACE})
    assert policy.needs_noise
    with pytest.raises(ValueError, match="needs noise"):
        policy.act(0, {}, deterministic=True, noise=None)
