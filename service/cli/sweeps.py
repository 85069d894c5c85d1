"""``maze sweep``: many runs of one specification, made by the service."""

import argparse
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from service.cli.parsers import add, add_group, count, id_of, seconds
from service.cli.remote import (
    Columns,
    client_of,
    print_facts,
    print_items,
    print_json,
    remote,
    steer_each,
    waiting,
)
from service.cli.submit import add_submission, arguments_of, labelled

if TYPE_CHECKING:
    from maze_client.sweep import Sweep

SWEEPS: Columns = {
    "id": lambda sweep: sweep.id,
    "state": lambda sweep: sweep.state,
    "runs": lambda sweep: sweep.n_jobs,
    "created": lambda sweep: sweep.created_at,
    "name": lambda sweep: sweep.name,
}
UNLISTED = ("n_jobs", "counts", "best")
"""What a list does not load."""
LISTED: Columns = {title: of for title, of in SWEEPS.items() if title != "runs"}
FACTS: Columns = {
    **SWEEPS,
    "reason": lambda sweep: sweep.reason,
    "error": lambda sweep: sweep.error,
    "counts": lambda sweep: sweep.counts,
    "best": lambda sweep: sweep.best and sweep.best.value,
    "best choices": lambda sweep: sweep.best and sweep.best.choices,
    "parallel": lambda sweep: sweep.parallel,
    "labels": lambda sweep: sweep.labels,
    "finished": lambda sweep: sweep.finished_at,
}
RUNS: Columns = {
    "job": lambda run: run.job,
    "state": lambda run: run.state,
    "value": lambda run: run.value,
    "run": lambda run: run.run,
    "choices": lambda run: run.choices,
    "reason": lambda run: run.reason,
}
PLANNED: Columns = {
    "job": lambda run: run.job,
    "choices": lambda run: run.choices,
    "config sha256": lambda run: run.config_sha256,
    "error": lambda run: run.error,
}
SHARES: Columns = {"key": lambda share: share[0], "importance": lambda share: share[1]}
STEERED: Mapping[str, tuple[str, Callable[["Sweep"], object]]] = {
    "pause": ("make no more runs, and pause those there are", lambda sweep: sweep.pause()),
    "resume": ("let paused sweeps go on", lambda sweep: sweep.resume()),
    "stop": ("make no more runs, and let those there are end", lambda sweep: sweep.stop()),
    "cancel": ("make no more runs, and cancel those there are", lambda sweep: sweep.cancel()),
    "delete": ("forget ended sweeps; their runs stay", lambda sweep: sweep.delete()),
}
"""Verb → what it does, and the doing."""


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    sweeps = add_group(commands, "sweep", "run many values of one specification, look at it and steer it")
    run = add(
        sweeps, "run", _run, "submit every combination of values, in the words of maze-run -m", remote()
    )
    run.add_argument(
        "words", metavar="KEY=VALUE", nargs="*", help="algorithm=ppo,a2c algorithm.lr=0.001,0.01 …"
    )
    run.add_argument("--parallel", metavar="N", type=int, help="runs that wait or are at work at once")
    run.add_argument("--metric", metavar="NAME", help="how good a run is (its best evaluation)")
    run.add_argument("--direction", choices=["maximize", "minimize"], help="of the metric")
    run.add_argument("--preview", action="store_true", help="only list the runs that it would make")
    add_submission(run)
    listing = add(sweeps, "list", _list, "list sweeps, newest first", remote())
    listing.add_argument("--state", metavar="STATE", help="running, paused, succeeded, …")
    listing.add_argument("--limit", metavar="N", type=count, default=50, help="sweeps to list at most (50)")
    for name, command, text in (
        ("show", _show, "show what is known of a sweep, and the best values so far"),
        ("runs", _runs, "list the runs of a sweep, with what each chose and how good it was"),
        ("importance", _importance, "list how much each parameter decides"),
        ("wait", _wait, "wait for the end of a sweep; exit code 1 unless it succeeds"),
    ):
        one = add(sweeps, name, command, text, remote())
        one.add_argument("id", metavar="ID", type=id_of("sweep"), help="of the sweep")
        if name == "wait":
            one.add_argument("--timeout", metavar="S", type=seconds, help="seconds to wait at most")
    for verb, (text, _) in STEERED.items():
        many = add(sweeps, verb, _steer, text, remote())
        many.set_defaults(verb=verb)
        many.add_argument("ids", metavar="ID", nargs="+", type=id_of("sweep"), help="of a sweep")


def _run(options: argparse.Namespace) -> int:
    given = {**arguments_of(options.words, multirun=True), **labelled(options)}
    names = ("parallel", "metric", "direction")
    given |= {name: value for name in names if (value := getattr(options, name)) is not None}
    with client_of(options) as client:
        if options.preview:
            print_items(client.preview_sweep(**given).jobs, PLANNED, as_json=options.json)
            return 0
        sweep = client.sweep(**given)
        if options.wait:
            return _ended(sweep, options, tells_id=True)
        if options.json:
            print_json(sweep)
        else:
            print(f"{sweep.id} {sweep.state}, {sweep.n_jobs} runs")
    return 0


def _list(options: argparse.Namespace) -> int:
    import msgspec

    with client_of(options) as client:
        found = islice(client.sweeps(options.state), options.limit)
        if options.json:
            for sweep in map(msgspec.to_builtins, found):
                print_json({name: value for name, value in sweep.items() if name not in UNLISTED})
        else:
            print_items(found, LISTED, as_json=False)
    return 0


def _show(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_facts(client.get_sweep(options.id), FACTS, as_json=options.json)
    return 0


def _runs(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_items(client.get_sweep(options.id).runs(), RUNS, as_json=options.json)
    return 0


def _importance(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        found = client.get_sweep(options.id).importance()
    if options.json:
        print_json(found)
    else:
        print_items(found.importance.items(), SHARES, as_json=False)
    return 0


def _wait(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        return _ended(client.get_sweep(options.id), options)


def _ended(sweep: "Sweep", options: argparse.Namespace, *, tells_id: bool = False) -> int:
    with waiting(f"maze sweep wait {sweep.id}"):
        if tells_id and not options.json:
            print(sweep.id, flush=True)
        sweep.wait(options.timeout)
    print_facts(sweep, FACTS, as_json=options.json)
    return 0 if sweep.state == "succeeded" else 1


def _steer(options: argparse.Namespace) -> int:
    _, act = STEERED[options.verb]

    def tell(sweep: "Sweep") -> None:
        if options.json:
            print_json(sweep)
        else:
            print(f"{sweep.id} {'deleted' if options.verb == 'delete' else sweep.state}")

    with client_of(options) as client:
        return steer_each(options.ids, client.get_sweep, act, tell)
