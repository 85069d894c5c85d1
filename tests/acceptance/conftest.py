"""A service for the tests that kill parts of it; that for all others is ``tests/conftest.py``'s."""

import pytest

from tests.acceptance.server import IMPATIENT, serving

BLIND = """
import gymnasium

class Blind(gymnasium.Env):
    metadata = {"render_modes": []}
    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, 1.0, True, False, {}

gymnasium.register("Blind-v0", entry_point=Blind)
"""
MORTAL = {
    "lease_s": 3,
    "heartbeat_s": 0.5,
    "max_body_bytes": 20_000,
    "webhook_private_hosts": "127.0.0.1",
    "env_modules": "blind",
}
"""What it is set to: to miss a killed worker soon, small bodies, receivers on this machine, an environment of ours."""


@pytest.fixture(scope="package")
def mortal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mortal")
    (folder / "blind.py").write_text(BLIND)
    with serving(folder, command=("-c", IMPATIENT), **MORTAL) as running:
        yield running
