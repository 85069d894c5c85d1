#!/usr/bin/env bash
# optuna 5.0.0: a stored study that is gone on with, by a new process or a new sampler with the same seed.
# Guess: TPESampler(seed=1) and a stored study make a search reproducible, also over a restart. Seen: the second
# half asks for exactly the points of the first half again (start-up trials are drawn from the sampler's own
# generator, which begins anew), so five of ten trials are spent on values that are known.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optuna==5.0.0
cat >"$folder/finding.py" <<'PYTHON'
import tempfile

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = JournalStorage(JournalFileBackend(f"{tempfile.mkdtemp()}/journal"))


def five_trials():
    sampler = optuna.samplers.TPESampler(seed=1)
    study = optuna.create_study(study_name="s", storage=storage, sampler=sampler, load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
    return [trial.params["x"] for trial in study.trials]


five_trials()
ten = five_trials()
print(ten)
assert len(ten) == 10
assert ten[:5] == ten[5:]
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
