"""What the README recommends, ``wrappers=vector_obs``, never learns worse than no wrapper; the table is printed."""

import importlib.util

import pytest

from benchmarks.learning import TASKS, measure
from benchmarks.report import table

ALLOWED = {"Acrobot-v1": 10.0, "MountainCar-v0": 5.0, "Pendulum-v1": 60.0, "LunarLander-v3": 60.0}
"""How far below the mean without a wrapper the mean of three seeds may lie: the spread of the seeds."""


@pytest.mark.slow
@pytest.mark.parametrize("task", list(TASKS))
def test_normalised_observations_are_never_learnt_worse_from_than_raw_ones(task, capsys):
    if task.startswith("LunarLander") and importlib.util.find_spec("Box2D") is None:
        pytest.skip("LunarLander needs the extra box2d")
    columns = ["none", "vector_obs"]
    if importlib.util.find_spec("stable_baselines3"):
        columns.append("SB3")
    (row,) = measure([task], [1, 2, 3], columns)
    with capsys.disabled():
        print("\n" + table([row], list(row)))
    assert row["vector_obs"] >= row["none"] - ALLOWED[task]
