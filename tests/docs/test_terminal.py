"""The session with ``maze`` that docs/command_line.md shows runs against a service, as it stands there."""

import os
import sys
from pathlib import Path

import pytest

from tests.docs.sessions import has_tools, session
from tests.docs.tables import DOCS


@pytest.mark.skipif(not has_tools(), reason="bash and python3 run the page")
def test_the_session_of_the_page_runs(
    shared_service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    ran = session(DOCS / "command_line.md", shared_service, tmp_path, needle="maze ")
    printed = [text for _, text, _ in ran]
    assert len(printed) == 4
    assert "eval/mean_return by epoch" in printed[0]
    assert "champion" in printed[1]
