"""``maze logs`` and ``maze metrics``: what a run says, and what was measured."""

import argparse
import shutil
from typing import TYPE_CHECKING, Any

from service.cli.chart import chart
from service.cli.parsers import Mistake, add, id_of
from service.cli.printing import plain
from service.cli.remote import Columns, client_of, print_items, print_json, remote

if TYPE_CHECKING:
    from maze_client.answers import Metric, Metrics

POINTS: Columns = {
    "name": lambda point: point.name,
    "epoch": lambda point: point.epoch,
    "step": lambda point: point.step,
    "value": lambda point: point.value,
}
_MOST_COLUMNS, _ROWS = 100, 12


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    logs = add(commands, "logs", _logs, "print a run's log", remote())
    logs.add_argument("id", metavar="ID", type=id_of("run"), help="of the run")
    logs.add_argument("-f", "--follow", action="store_true", help="go on to the end of the run")
    metrics = add(
        commands, "metrics", _metrics, "print the latest metrics of a run, or all of some", remote()
    )
    metrics.add_argument("id", metavar="ID", type=id_of("run"), help="of the run")
    metrics.add_argument("names", metavar="NAME", nargs="*", help="eval/mean_return, …: all epochs of these")
    metrics.add_argument("--plot", action="store_true", help="draw them by epoch (eval/mean_return)")
    metrics.add_argument("--points", metavar="N", type=int, help="thin each metric to so many points")


def _logs(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        for line in client.run(options.id).logs(follow=options.follow):
            if options.json:
                print_json(line)
            else:
                message = "\n    ".join(map(plain, line.message.splitlines()))
                print(f"{line.at:%Y-%m-%d %H:%M:%S} {plain(line.level):<7} {message}", flush=True)
    return 0


def _metrics(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        run = client.run(options.id)
        names = options.names or (["eval/mean_return"] if options.plot else [])
        max_points = options.points
        if max_points is None and options.plot:
            max_points = 2 * _MOST_COLUMNS
        found = run.metrics(names, max_points=max_points)
    missing = sorted({*names} - {point.name for point in found})
    if missing:
        known = ", ".join(sorted(run.latest_metrics)) or "none yet"
        raise Mistake(f"{run.id} has no metric {missing[0]}; it has: {known}")
    if options.plot and not options.json:
        print("\n\n".join(_plot(name, found) for name in names))
    else:
        print_items(found if names else _latest(found), POINTS, as_json=options.json)
    return 0


def _latest(points: "Metrics") -> "list[Metric]":
    return sorted({point.name: point for point in points}.values(), key=lambda point: point.name)


def _plot(name: str, points: "Metrics") -> str:
    columns = min(shutil.get_terminal_size((80, 24)).columns, _MOST_COLUMNS)
    values = [(float(point.epoch), point.value) for point in points if point.name == name]
    return chart(values, title=f"{plain(name)} by epoch", columns=columns, rows=_ROWS)
