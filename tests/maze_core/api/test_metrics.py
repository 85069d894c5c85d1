"""What a run has measured, as rows and as tables of the libraries that there are."""

import math
import sys

import pytest

from maze_core import RunContext
from maze_core.metrics import MetricTable
from maze_core.rundir import RunDir
from tests.maze_core.api.test_forms import QUICK

ROWS = [
    {"epoch": 1, "step": 8, "loss": math.nan},
    {"epoch": 2, "step": 16, "loss": 0.5, "eval/mean_return": 9.0},
]


def test_each_epoch_so_far_is_a_row_also_of_a_run_that_is_loaded(tmp_path):
    with RunContext(run_dir=tmp_path, overrides=QUICK, seed=1) as rc:
        assert rc.metrics == []
        report = rc.train(2)
        rows = rc.metrics
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows == RunDir(tmp_path).read_metrics()
    assert rows[-1]["eval/mean_return"] == report.metrics["eval/mean_return"]
    with RunContext.load(tmp_path) as loaded:
        assert loaded.metrics == rows


def test_numbers_that_json_cannot_say_are_numbers(tmp_path):
    RunDir(tmp_path).append_metrics(1, 8, {"loss": math.nan, "most": math.inf})
    with RunContext(overrides=QUICK, run_dir=tmp_path) as rc:
        (row,) = rc.metrics
    assert math.isnan(row["loss"])
    assert row["most"] == math.inf


def test_a_table_of_pandas_has_a_column_per_metric():
    pytest.importorskip("pandas", reason="the library works without pandas")
    table = MetricTable(ROWS).to_pandas()
    assert list(table.columns) == ["epoch", "step", "loss", "eval/mean_return"]
    assert table["epoch"].tolist() == [1, 2]
    assert table["eval/mean_return"].isna().tolist() == [True, False]


def test_a_table_of_polars_has_a_column_per_metric():
    pytest.importorskip("polars", reason="the library works without polars")
    table = MetricTable(ROWS).to_polars()
    assert table["eval/mean_return"].to_list() == [None, 9.0]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_without_its_library_says_what_to_install(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {library}"):
        getattr(MetricTable(ROWS), f"to_{library}")()
