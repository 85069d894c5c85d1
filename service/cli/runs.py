"""``maze runs``: list, look at and steer runs."""

import argparse
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from service.cli.parsers import Mistake, add, add_group, count, id_of, seconds
from service.cli.remote import (
    Columns,
    client_of,
    labels_of,
    print_facts,
    print_items,
    print_json,
    remote,
    steer_each,
)
from service.cli.submit import arguments_of, ended

if TYPE_CHECKING:
    from maze_client import Client, Run

COLUMNS: Columns = {
    "id": lambda run: run.id,
    "kind": lambda run: run.kind,
    "state": lambda run: run.state,
    "epoch": lambda run: _epoch(run),
    "best": lambda run: run.best and run.best.value,
    "created": lambda run: run.created_at,
    "name": lambda run: run.name,
}
FACTS: Columns = {
    **COLUMNS,
    "best": lambda run: run.best and f"{run.best.metric} {run.best.value:.6g} ({run.best.checkpoint})",
    "reason": lambda run: run.reason,
    "error": lambda run: run.error and f"{run.error.code}: {run.error.message}",
    "queue": lambda run: run.queue and f"{run.queue.ahead} ahead, waits for {run.queue.waits_for}",
    "progress": lambda run: run.progress.fraction is not None and f"{run.progress.fraction:.0%}",
    "env steps": lambda run: run.progress.env_steps,
    "labels": lambda run: run.labels,
    "notes": lambda run: run.notes,
    "priority": lambda run: run.priority,
    "seed": lambda run: run.seed,
    "config sha256": lambda run: run.config_sha256,
    "source run": lambda run: run.source_run,
    "parent run": lambda run: run.parent_run,
    "attempt": lambda run: run.attempt,
    "started": lambda run: run.started_at,
    "finished": lambda run: run.finished_at,
    "result": lambda run: _short(run.result or {}),
}
STEERED: Mapping[str, tuple[str, Callable[["Run"], object]]] = {
    "cancel": ("cancel runs; a working one ends when its checkpoint is stored", lambda run: run.cancel()),
    "pause": ("pause runs; a working one rests when its checkpoint is stored", lambda run: run.pause()),
    "resume": ("give paused runs back to the queue", lambda run: run.resume()),
    "retry": ("try failed or cancelled runs again, each in a new run", lambda run: run.retry()),
    "delete": ("delete ended runs with all they left", lambda run: run.delete()),
}
"""Verb → what it does, and the doing."""


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    runs = add_group(commands, "runs", "list, look at and steer runs")
    _add_list(runs)
    show = add(runs, "show", _show, "show what is known of a run", remote())
    show.add_argument("id", metavar="ID", type=id_of("run"), help="of the run")
    for verb, (text, _) in STEERED.items():
        command = add(runs, verb, _steer, text, remote())
        command.set_defaults(verb=verb)
        command.add_argument("ids", metavar="ID", nargs="+", type=id_of("run"), help="of a run")
    wait = add(runs, "wait", _wait, "wait for the end of a run; exit code 1 unless it succeeds", remote())
    wait.add_argument("id", metavar="ID", type=id_of("run"), help="of the run")
    wait.add_argument("--timeout", metavar="S", type=seconds, help="seconds to wait at most")
    _add_edit(runs)
    going_on = add(runs, "continue", _continue, "train on from a checkpoint of a run, in a new run", remote())
    going_on.add_argument("id", metavar="ID", type=id_of("run"), help="of the run, which has ended")
    going_on.add_argument("--n-epochs", metavar="N", type=int, help="further epochs")
    going_on.add_argument("--checkpoint", metavar="NAME", help="best, last (the default), epoch:N or an id")
    fork = add(runs, "fork", _fork, "train anew with a run's configuration and changes to it", remote())
    fork.add_argument("id", metavar="ID", help="of the run, or a policy as name@alias or name:3")
    fork.add_argument("words", metavar="KEY=VALUE", nargs="*", help="as of maze train")
    fork.add_argument("--checkpoint", metavar="NAME", help="begin with this checkpoint's policy")
    config = add(runs, "config", _config, "print a run's resolved configuration as YAML", remote())
    config.add_argument("id", metavar="ID", type=id_of("run"), help="of the run")
    config.add_argument("--provenance", action="store_true", help="print where each value comes from")
    diff = add(runs, "diff", _diff, "print what the configurations of two runs differ in", remote())
    diff.add_argument("left", metavar="ID", type=id_of("run"), help="of a run")
    diff.add_argument("right", metavar="ID", type=id_of("run"), help="of the other one")


def _add_list(runs: Any) -> None:
    listing = add(runs, "list", _list, "list runs, newest first", remote())
    listing.add_argument("--state", metavar="STATE", help="queued, running, paused, succeeded, failed, …")
    listing.add_argument("--kind", metavar="KIND", help="train, rollout, evaluate, …")
    listing.add_argument("--name", metavar="TEXT", help="a part of the name")
    listing.add_argument("--label", metavar="KEY=VALUE", action="append", default=[], help="may be repeated")
    listing.add_argument("--sort", metavar="ORDER", help="best, name, …; from high to low as --sort=-best")
    listing.add_argument("--limit", metavar="N", type=count, default=50, help="runs to list at most (50)")


def _add_edit(runs: Any) -> None:
    edit = add(runs, "edit", _edit, "change name, labels, notes or priority of a run", remote())
    edit.add_argument("id", metavar="ID", type=id_of("run"), help="of the run")
    edit.add_argument("--name", metavar="TEXT", help="'' takes it away")
    edit.add_argument("--notes", metavar="TEXT", help="'' takes them away")
    edit.add_argument("--priority", metavar="N", type=int, help="the higher one starts first")
    edit.add_argument(
        "--label",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="may be repeated; KEY= takes it away",
    )


def _epoch(run: "Run") -> str | None:
    if run.progress.epoch is None:
        return None
    return f"{run.progress.epoch}/{run.progress.n_epochs or '…'}"


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if not isinstance(value, dict | list)}


def _list(options: argparse.Namespace) -> int:
    names = ("state", "kind", "name", "sort")
    filters: Any = {name: value for name in names if (value := getattr(options, name)) is not None}
    with client_of(options) as client:
        found = client.runs(labels=labels_of(options.label), **filters)
        print_items(islice(found, options.limit), COLUMNS, as_json=options.json)
    return 0


def _show(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_facts(client.run(options.id), FACTS, as_json=options.json)
    return 0


def _steer(options: argparse.Namespace) -> int:
    _, act = STEERED[options.verb]

    def tell(run: "Run") -> None:
        if options.json:
            print_json(run)
        else:
            print(_after(options.verb, run))

    with client_of(options) as client:
        return steer_each(options.ids, client.run, act, tell)


def _after(verb: str, run: Any) -> str:
    if verb == "delete":
        return f"{run.id} deleted"
    return f"{run.id} {run.state}" + (f", tries {run.parent_run} again" if verb == "retry" else "")


def _wait(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        return ended(client.run(options.id), options)


def _edit(options: argparse.Namespace) -> int:
    changes: Any = {name: getattr(options, name) or None for name in ("name", "notes")}
    changes = {name: value for name, value in changes.items() if getattr(options, name) is not None}
    if options.priority is not None:
        changes["priority"] = options.priority
    if options.label:
        changes["labels"] = {key: value or None for key, value in labels_of(options.label).items()}
    if not changes:
        raise Mistake("say what to change: --name, --notes, --priority or --label")
    with client_of(options) as client:
        print_facts(client.run(options.id).edit(**changes), FACTS, as_json=options.json)
    return 0


def _continue(options: argparse.Namespace) -> int:
    names = ("n_epochs", "checkpoint")
    given: Any = {name: value for name in names if (value := getattr(options, name)) is not None}
    return _follow_up(options, lambda client: client.run(options.id).continue_(**given))


def _fork(options: argparse.Namespace) -> int:
    given: Any = arguments_of(options.words)
    if options.checkpoint is not None:
        given["checkpoint"] = options.checkpoint
    named = any(mark in options.id for mark in "@:")
    return _follow_up(
        options,
        lambda client: client.fork(options.id, **given) if named else client.run(options.id).fork(**given),
    )


def _follow_up(options: argparse.Namespace, submit: "Callable[[Client], Run]") -> int:
    with client_of(options) as client:
        run = submit(client)
        if options.json:
            print_json(run)
        else:
            print(f"{run.id} {run.state}, follows {run.parent_run}")
    return 0


def _config(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        run = client.run(options.id)
        if options.provenance:
            origins = run.provenance()
            rows = [{"key": key, "source": of.source, "name": of.name} for key, of in origins.items()]
            columns: Columns = {name: _member(name) for name in ("key", "source", "name")}
            print_items(rows, columns, as_json=options.json)
        elif options.json:
            print_json(run.config())
        else:
            import yaml

            print(yaml.safe_dump(run.config(), sort_keys=False, allow_unicode=True), end="")
    return 0


def _member(name: str) -> Callable[[Any], object]:
    return lambda row: row[name]


def _diff(options: argparse.Namespace) -> int:
    columns: Columns = {
        "key": lambda one: one.key,
        "kind": lambda one: one.kind,
        "left": lambda one: one.left,
        "right": lambda one: one.right,
    }
    with client_of(options) as client:
        found = client.diff(options.left, options.right)
        if found.data or options.json:
            print_items(found.data, columns, as_json=options.json)
        else:
            print(f"no difference: both have the configuration {found.left_sha256}")
    return 0
