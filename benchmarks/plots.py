"""Draws how cost grows, from what the other benchmarks wrote, into ``docs/performance.svg``.

    python -m benchmarks.plots

Reads ``train_growth``, ``side_by_side``, ``serve_growth`` and ``database`` of ``benchmarks/results``; ``make bench``
writes them all.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, NullFormatter, NullLocator

from benchmarks.report import RESULTS

PICTURE = Path(__file__).parents[1] / "docs" / "performance.svg"
Points = list[tuple[float, float]]


def main() -> None:
    """Draw all panels."""
    mpl.rcParams.update({"svg.hashsalt": "maze", "svg.fonttype": "none", "font.size": 8, "axes.grid": True})
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.3})
    figure, panels = plt.subplots(2, 3, figsize=(11, 5.2), layout="constrained")
    growth, side, serve = (_rows(name) for name in ("train_growth", "side_by_side", "serve_growth"))
    width = growth[0]["width"]
    n_envs = next(row["n_envs"] for row in growth if row["width"] != width)
    training = {
        "PPO, CartPole-v1": [(row["n_envs"], row["per_cpu_s"]) for row in growth if row["width"] == width]
    }
    _panel(panels[0, 0], training, "environments", "steps per CPU-second")
    training = {"": [(row["width"], row["per_cpu_s"]) for row in growth if row["n_envs"] == n_envs]}
    _panel(panels[0, 1], training, "width of two hidden layers", "steps per CPU-second")
    together = {"": [(row["runs"], row["steps_per_s"]) for row in side]}
    _panel(
        panels[0, 2],
        together,
        f"trainings side by side, {_read('side_by_side')['machine']['cores']} cores",
        "steps per second, together",
        y_log=False,
    )
    servers = dict.fromkeys(row["server"] for row in serve)
    rates = {
        s: [(row["connections"], row["requests_per_s"]) for row in serve if row["server"] == s]
        for s in servers
    }
    _panel(panels[1, 0], rates, "connections", "actions per second")
    times = {s: [(row["connections"], row["p99_us"]) for row in serve if row["server"] == s] for s in servers}
    _panel(panels[1, 1], times, "connections", "p99, µs")
    asked = {
        row["what"]: [(float(size), us) for size, us in row.items() if size.isdigit()]
        for row in _rows("database")
    }
    _panel(panels[1, 2], asked, "runs (points of a chart) in the database", "µs")
    figure.savefig(PICTURE, metadata={"Date": None})
    print(f"written to {PICTURE}")


def _rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _read(name)["rows"]
    return found


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _panel(axes: Axes, lines: dict[str, Points], x: str, y: str, *, y_log: bool = True) -> None:
    for name, points in lines.items():
        axes.plot(
            *zip(*sorted(points), strict=True), marker="o", markersize=3, linewidth=1, label=name or None
        )
    axes.set_xscale("log")
    axes.set_yscale("log" if y_log else "linear")
    axes.set(xlabel=x, ylabel=y)
    seen = sorted({point[0] for points in lines.values() for point in points})
    axes.set_xticks(seen if len(seen) < 8 else seen[::2], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if not y_log:
        axes.set_ylim(bottom=0)
    if len(lines) > 4:
        axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    elif any(lines):
        axes.legend(fontsize=6, frameon=False)


if __name__ == "__main__":
    main()
