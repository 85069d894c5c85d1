#!/usr/bin/env bash
# optuna 5.0.0: two searches in one process, with the same seeded sampler, objective and HyperbandPruner.
# Guess: nothing is random but the sampler, so both prune the same trials at the same steps. Seen: the values asked
# for are equal, the pruning is not: a trial's bracket is drawn from the study's name, and a study that was given
# none gets another name each time. With `study_name` both searches are equal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optuna==5.0.0
cat >"$folder/finding.py" <<'PYTHON'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 28):
        trial.report(x * step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x


def search(name):
    sampler = optuna.samplers.RandomSampler(seed=1)
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=27, reduction_factor=3)
    study = optuna.create_study(study_name=name, direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=30)
    asked = [trial.params["x"] for trial in study.trials]
    return asked, [len(trial.intermediate_values) for trial in study.trials]


first, second = search(None), search(None)
print(first[1], second[1], sep="\n")
assert first[0] == second[0]
assert first[1] != second[1]
assert search("s") == search("s")
PYTHON
"$folder/venv/bin/python" "$folder/finding.py"
