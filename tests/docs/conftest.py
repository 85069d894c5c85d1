"""One service for the pages that need no fresh one, and one of an operator's with the examples."""

import os
from collections.abc import Iterator

import pytest

from examples.train_corridor import CONF
from tests.docs.service_process import service


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port``; what other pages left is there."""
    with service(tmp_path_factory.mktemp("shared")) as address:
        yield address


@pytest.fixture(scope="package")
def offering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of a service that offers the environments and modules of ``examples``."""
    given = {**os.environ, "MAZE_ENV_MODULES": "examples.corridor", "MAZE_CONFIG_DIRS": "examples/conf"}
    with service(tmp_path_factory.mktemp("offering"), environment=given, cwd=CONF.parents[1]) as address:
        yield address
