#!/usr/bin/env bash
# minari 0.5.4: a relative MINARI_DATASETS_PATH is looked for within itself.
# Guess: the folder of the data sets may be given relative to the working directory, as any path. Seen: the set is
# written to sets/pole/first-v0/data, and its size is then asked of sets/pole/first-v0/data/sets/pole/first-v0/data:
# FileNotFoundError, and a folder without metadata stays. With the absolute path of the same folder it works.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'minari[hdf5]==0.5.4' gymnasium==1.4.0 numpy==2.4.6
cat >"$folder/finding.py" <<'PYTHON'
import os
import warnings

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

warnings.simplefilter("ignore")


def made(place):
    os.environ["MINARI_DATASETS_PATH"] = place
    episode = EpisodeBuffer(
        id=0,
        observations=np.zeros((2, 1), np.float32),
        actions=np.zeros(1, np.int64),
        rewards=np.ones(1),
        terminations=np.ones(1, bool),
        truncations=np.zeros(1, bool),
        infos={},
    )
    spaces = {
        "observation_space": gymnasium.spaces.Box(0, 1, (1,)),
        "action_space": gymnasium.spaces.Discrete(2),
    }
    try:
        return minari.create_dataset_from_buffers("pole/first-v0", [episode], **spaces).total_episodes
    except FileNotFoundError as error:
        return f"FileNotFoundError: {error.filename}"


relative, absolute = made("sets"), made(os.path.abspath("others"))
print(f"relative: {relative}; absolute: {absolute} episode")
assert str(relative).startswith("FileNotFoundError")
assert absolute == 1
PYTHON
cd "$folder" && "$folder/venv/bin/python" finding.py
