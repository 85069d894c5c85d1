"""Every test process uses one thread: small networks are slower with two, and equal bits need equal threads."""

import gc
import os

gc.disable()  # what collecting the tests makes is no garbage; to look through it again and again takes seconds

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from hypothesis import HealthCheck, settings  # noqa: E402

# no deadline: the machine's load is not what a property is about
settings.register_profile(
    "maze",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("maze")


def pytest_collection_finish() -> None:
    """From here on garbage is what the tests leave."""
    gc.collect()
    gc.freeze()
    gc.enable()
