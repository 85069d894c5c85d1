"""Every test process uses one thread: small networks are slower with two, and equal bits need equal threads."""

import gc
import os

gc.disable()  # what collecting the tests makes is no garbage; to look through it again and again takes seconds

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# no deadline: the machine's load is not what a property is about
settings.register_profile(
    "thorough",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.register_profile("maze", settings.get_profile("thorough"), max_examples=25)
settings.register_profile("faults", settings.get_profile("maze"), max_examples=2_500)  # of several kinds each
settings.load_profile("maze")  # make test-slow takes the thorough one, with four times the examples


HOME = "canary-7c1f"
"""Name of the service's home directory: what nobody may be told."""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One service, in processes of its own, for all tests that neither kill it nor need it empty."""
    from tests.acceptance.server import serving

    folder = tmp_path_factory.mktemp("service")
    home = folder / HOME
    home.mkdir()
    with serving(folder, home=home) as running:
        yield running


def pytest_collection_finish() -> None:
    """From here on garbage is what the tests leave."""
    gc.collect()
    gc.freeze()
    gc.enable()
