"""Each guard is noticed when it is taken out: a test of reliability that cannot fail proves nothing."""

import pytest

from tests.faults.guards import GUARDS, fails_without


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.figure("guards")
@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_that_is_taken_out_is_noticed(name, tmp_path, record_property):
    assert all(fails_without(name, tmp_path).values())
    record_property("reached", f"{name}: noticed")
