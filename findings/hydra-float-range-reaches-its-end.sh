#!/usr/bin/env bash
# hydra-core 1.3.8: a sweep over range(start, stop, step) of floats.
# Guess: as with whole numbers, and as its documentation says, stop is left out. Seen: range(0.1,0.4,0.1) has four
# values, 0.30000000000000004 and 0.4 among them, while range(0,0.3,0.1) leaves its end out: it depends on rounding,
# so a sweep gets one run more or less, under names that nobody would type.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check hydra-core==1.3.8
cat >"$folder/finding.py" <<'PYTHON'
from hydra.core.override_parser.overrides_parser import OverridesParser


def values(text):
    (override,) = OverridesParser.create().parse_overrides([text])
    return list(override.sweep_iterator())


reached, left_out = values("x=range(0.1,0.4,0.1)"), values("x=range(0,0.3,0.1)")
print(reached, left_out)
assert reached == [0.1, 0.2, 0.30000000000000004, 0.4]
assert len(left_out) == 3
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
