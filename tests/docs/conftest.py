"""One service for the pages that need no fresh one."""

from collections.abc import Iterator

import pytest

from tests.docs.service_process import service


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port``; what other pages left is there."""
    with service(tmp_path_factory.mktemp("shared")) as address:
        yield address
