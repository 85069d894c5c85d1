"""Whatever form an action has, each head finds its own part of it, and how likely that was."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

GO = {"kind": "categorical", "start": -1, "probabilities": [0.5, 0.25, 0.25]}
UP = {"kind": "categorical", "start": 0, "probabilities": [0.2, 0.8]}
BITS = {"kind": "bernoulli", "probabilities": [0.5, 0.9]}
CHOICES = {"kind": "multi_categorical", "start": [0, 5], "probabilities": [[0.1, 0.9], [0.5, 0.5]]}
NESTED = {"arm.go": GO, "arm.up": UP}
TUPLE = {"action_0": GO, "action_1": UP}

CASES = [
    ({"action": UP}, 1, 1, [1], 0.8),
    ({"action": UP}, {"action": 0}, 1, [0], 0.2),
    ({"action": CHOICES}, [1, 6], [1, 5], [[1, 6]], 0.45),
    (NESTED, {"arm": {"go": -1, "up": 1}}, {"arm.go": -1, "arm.up": 1}, [-1, 1], 0.4),
    (NESTED, {"arm.go": 0, "arm.up": 0}, {"arm": {"go": -1, "up": 0}}, [0, 0], 0.05),
    (TUPLE, [1, 1], {"action_0": 1, "action_1": 1}, [1, 1], 0.2),
    ({"arm_1.bits": BITS}, {"arm": [7, {"bits": [1, 0]}]}, {"arm_1.bits": [1, 1]}, [[1, 0]], 0.05),
    ({"action": BITS}, {"action": [0, 1]}, None, [[0, 1]], 0.45),
]


def test_heads_find_their_part_of_dicts_in_dicts_and_of_tuples_and_its_probability():
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    asked = [{"heads": heads, "action": action, "answered": other} for heads, action, other, *_ in CASES]
    command = ["node", str(Path(__file__).parent / "taken.mjs"), json.dumps({"asked": asked})]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert [each["taken"] for each in found] == [taken for *_, taken, _ in CASES]
    assert [each["share"] for each in found] == pytest.approx([share for *_, share in CASES])
    assert [each["same"] for each in found] == [True, False, False, True, False, True, False, True]
