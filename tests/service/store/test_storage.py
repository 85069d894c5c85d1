"""Measurements of what is stored: made seldom, since they pass over all of it. What they find is in the contracts."""

from service.domain.fleet import Storage
from service.store.storage import KEEP_S, Measurements


def test_what_is_stored_is_measured_again_after_a_while_and_not_before() -> None:
    times = iter((0.0, KEEP_S - 1, KEEP_S, KEEP_S, 2 * KEEP_S))
    sizes = iter((1, 2))

    def measure() -> Storage:
        return Storage(kind="sqlite", size_bytes=next(sizes), n_blobs=0, blob_bytes=0, free_bytes=None)

    measurements = Measurements(measure, clock=lambda: next(times))
    assert [measurements().size_bytes for _ in range(3)] == [1, 1, 2]
