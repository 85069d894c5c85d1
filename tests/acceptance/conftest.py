"""One service for the tests that do not kill it."""

import pytest

from tests.acceptance.server import serving


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running
