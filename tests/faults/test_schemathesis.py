"""A fuzzer of other people reads the document of the interface and holds every operation to it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.server import serving

PROGRAM = Path(__file__).parents[2] / ".venv-schemathesis/bin/schemathesis"
CONFIG = Path(__file__).with_name("schemathesis.toml")
PHASES = "examples,coverage,fuzzing,stateful"
EXAMPLES = os.environ.get("EXAMPLES", "50")
"""Cases of each operation in a phase that draws them; a variable, for a longer search."""


@pytest.mark.faults
@pytest.mark.timeout(7200)
@pytest.mark.figure("S13")
@pytest.mark.skipif(not PROGRAM.exists(), reason="schemathesis is not installed: make faults does it")
def test_every_operation_keeps_what_its_document_says(tmp_path, record_property):
    with serving(tmp_path, workers=1) as server:
        train = {"overrides": {"env.name": "CartPole-v1", "algorithm.n_epochs": 2}, "seed": 1}
        server.wait(server.submit("train", train))
        command = [
            str(PROGRAM),
            "--config-file",
            str(CONFIG),
            "run",
            f"{server.client.base_url}/openapi.json",
        ]
        command += ["--phases", PHASES, "--checks", "all", "--max-examples", EXAMPLES]
        command += [
            "--seed",
            "1",
            "--no-color",
            "--continue-on-failure",
            "--request-timeout",
            "60",
            "--warnings",
            "off",
        ]
        command += ["--report", "ndjson", "--report-ndjson-path", str(tmp_path / "report.ndjson")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-6000:]
    report = [json.loads(line) for line in (tmp_path / "report.ndjson").read_text().splitlines()]
    phases = [event["PhaseFinished"] for event in report if "PhaseFinished" in event]
    assert {phase["status"] for phase in phases if phase["phase"]["name"] in PHASES} == {"success"}, phases
    ended = [event["ScenarioFinished"]["recorder"] for event in report if "ScenarioFinished" in event]
    cases = sum(len(recorder.get("cases", ())) for recorder in ended)
    (total,) = (
        event["LoadingFinished"]["statistic"]["operations"] for event in report if "LoadingFinished" in event
    )
    record_property(
        "reached", f"{total['selected']} of {total['total']} operations, {cases:,} requests, no failure"
    )
