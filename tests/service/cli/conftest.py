"""A service of these tests' own: they look at all that it has."""

from collections.abc import Iterator

import pytest

from tests.acceptance.server import Server, serving


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running
