"""Ten thousand bodies: none makes the service fail, takes long to refuse or is told anything of the machine."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.settings import Settings
from service.store import Stores
from tests.faults.tools import some
from tests.service.api.client import running
from tests.service.api.test_hostile_bodies import JSON
from tests.service.test_serve import Served

CANARY = "canary-5b2e"
N_BODIES = some(10_000)
KEYS = (
    "env.name",
    "env.kwargs",
    "algorithm.lr",
    "algorithm.n_epochs",
    "model.policy",
    "wrappers",
    "runner.n_envs",
)
WORDS = (
    "${oc.env:CANARY}", "${env.name}", "${${a}.${b}:HOME}", "???", "!!python/object", "~", "@package", "../../etc",
    "[" * 40, "{a:" * 20, "1e999", "-0", "0x10", "_target_", "hydra.run.dir", "\x00", "\u202e", "builtins.open",
)  # fmt: skip
VALUES = JSON | st.sampled_from(WORDS) | st.text(alphabet="${}[]:,.'\"\\@~!? aenv", max_size=60)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.figure("S02")
def test_no_override_makes_the_service_fail_or_tell_of_the_machine(
    sqlite_stores: Stores, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    offered = [{"id": f"CartPole-v{version}", "is_available": True} for version in (0, 1)]  # 0 is the default
    sqlite_stores.registry.publish_environments("w", offered)
    statuses: dict[int, int] = {}

    @settings(max_examples=N_BODIES)
    @given(
        st.dictionaries(
            st.sampled_from(KEYS) | st.sampled_from(WORDS) | st.text(max_size=30), VALUES, max_size=4
        )
    )
    def answers(overrides: dict[str, Any]) -> None:
        answer = client.post_text("/v1/config/compose", json.dumps({"overrides": overrides}))
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 400, 422), answer.text
        assert CANARY not in answer.text
        assert "Traceback" not in answer.text
        assert 'File "' not in answer.text

    with running(Settings(database_url=sqlite_url, auth=False), sqlite_stores) as client:
        answers()
    assert statuses.get(200), "whatever was asked for was refused"
    told = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    record_property("reached", f"{sum(statuses.values()):,} bodies: {told}")


@pytest.mark.faults
@pytest.mark.figure("S12")
def test_a_token_is_shown_once_and_is_nowhere_else(tmp_path, record_property):
    served = Served(tmp_path)
    try:
        body = {"overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 1}, "seed": 1}
        assert served.request("/v1/train", body, served.token)[0] in (200, 202)
        pages = [
            str(served.request(path, None, served.token))
            for path in ("/openapi.json", "/health/ready", "/v1/runs")
        ]
        family = [served.child("maze: api"), served.child("maze: worker")]
        family += [child for process in family for child in process.children(recursive=True)]
        of_processes = [str((process.cmdline(), process.environ())) for process in family]
    finally:
        served.close()
    output = served.text()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("maze.db*"))
    assert output.count(served.token) == 2, "the welcome names it, and the first command has it"
    assert not any(served.token in text for text in (*pages, *of_processes))
    assert served.token.encode() not in stored
    record_property("reached", f"in no answer, no row, no log, and in none of {len(family)} processes")
