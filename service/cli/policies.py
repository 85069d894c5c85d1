"""``maze policies``: names for trained policies, their versions, and the aliases that move from one to the next."""

import argparse
import re
from typing import Any

from service.cli.parsers import Mistake, add, add_group, id_of
from service.cli.remote import Columns, client_of, print_facts, print_items, remote
from service.cli.submit import add_submission, labelled, named_policy, submitted

POLICIES: Columns = {
    "name": lambda policy: policy.name,
    "versions": lambda policy: policy.n_versions,
    "aliases": lambda policy: policy.aliases,
    "gate": lambda policy: policy.gate and f"{policy.gate.n_episodes} episodes",
    "created": lambda policy: policy.created_at,
    "description": lambda policy: policy.description,
}
VERSIONS: Columns = {
    "version": lambda version: version.version,
    "run": lambda version: version.run,
    "checkpoint": lambda version: version.checkpoint,
    "created": lambda version: version.created_at,
    "note": lambda version: version.note,
}
MOVES: Columns = {
    "at": lambda move: move.at,
    "kind": lambda move: move.kind,
    "from": lambda move: move.from_version,
    "to": lambda move: move.to_version,
    "by": lambda move: move.by,
    "reason": lambda move: move.reason,
}
TRAFFIC: Columns = {
    "role": lambda one: one.role,
    "version": lambda one: one.version,
    "requests": lambda one: one.requests,
    "errors": lambda one: one.errors,
    "ms": lambda one: one.mean_latency_ms,
    "reward": lambda one: one.mean_reward,
    "compared": lambda one: one.compared,
    "agreement": lambda one: one.agreement,
    "dropped": lambda one: one.dropped,
}
ALIAS: Columns = {
    "policy": lambda alias: alias.policy,
    "alias": lambda alias: alias.alias,
    "version": lambda alias: alias.version,
    "moved": lambda alias: alias.moved_at,
}


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    policies = add_group(
        commands, "policies", "name trained policies, and move aliases between their versions"
    )
    listing = add(policies, "list", _list, "list policies by name", remote())
    listing.add_argument("--name", metavar="TEXT", help="a part of the name")
    _named(add(policies, "show", _show, "show a policy with its aliases", remote()))
    create = _named(add(policies, "create", _create, "make a policy", remote()))
    create.add_argument("--description", metavar="TEXT", help="for people")
    create.add_argument(
        "--gate", metavar="N", type=int, help="an alias moves after a comparison of N episodes"
    )
    _named(add(policies, "versions", _versions, "list the versions of a policy, newest first", remote()))
    promote = add(
        policies, "promote", _promote, "let an alias name a version, or a run's checkpoint", remote()
    )
    promote.add_argument("alias", metavar="NAME@ALIAS", help="the alias; a policy that is not there is made")
    promote.add_argument(
        "version", metavar="VERSION", type=_version, help="a version's number, or a run's id"
    )
    promote.add_argument("--checkpoint", metavar="NAME", default="best", help="of the run (best)")
    promote.add_argument(
        "--comparison", metavar="RUN", type=id_of("run"), help="the comparison that opens the gate"
    )
    promote.add_argument("--reason", metavar="TEXT", help="for the history")
    rollback = add(policies, "rollback", _rollback, "let an alias name its version before again", remote())
    rollback.add_argument("alias", metavar="NAME@ALIAS", help="the alias")
    rollback.add_argument("--to", metavar="N", type=int, help="this version instead")
    rollback.add_argument("--reason", metavar="TEXT", help="for the history")
    history = add(policies, "history", _history, "list the moves of an alias, newest first", remote())
    history.add_argument("alias", metavar="NAME@ALIAS", help="the alias")
    traffic = add(policies, "traffic", _traffic, "show or split the traffic of an alias", remote())
    traffic.add_argument("alias", metavar="NAME@ALIAS", help="the alias")
    traffic.add_argument(
        "--canary", metavar="N=WEIGHT", type=_canary, help="a version and its part of the requests, as 7=0.1"
    )
    traffic.add_argument("--shadow", metavar="N", type=int, help="a version that acts on copies of them")
    traffic.add_argument("--end", action="store_true", help="the alias answers everything again")
    traffic.add_argument("--reason", metavar="TEXT", help="for the history")
    compare = add(policies, "compare", _compare, "let policies play the same episodes", remote())
    compare.add_argument("policies", metavar="POLICY", nargs="+", help="name@alias, name:3 or a run's id")
    compare.add_argument("--n-episodes", metavar="N", type=int, help="episodes to play")
    compare.add_argument("--seed", metavar="N", type=int, help="drawn when left out")
    add_submission(compare)
    _named(add(policies, "delete", _delete, "delete a policy that has no versions", remote()))


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("name", metavar="NAME", type=_name, help="of the policy")
    return parser


def _name(text: str) -> str:
    name = re.split("[@:]", text)[0]
    if name != text:
        raise argparse.ArgumentTypeError(f"{text}: write the name of the policy alone, {name}")
    return text


def _version(text: str) -> int | str:
    if text.isdecimal():
        return int(text)
    if text.startswith("run_"):
        return text
    raise argparse.ArgumentTypeError(f"{text}: write a version's number, such as 3, or a run's id, run_…")


def _alias(text: str) -> tuple[str, str]:
    name, at, alias = text.partition("@")
    if not (name and at and alias):
        raise Mistake(f"{text}: write NAME@ALIAS, such as walker@champion")
    return name, alias


def _list(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_items(client.policies.list(options.name), POLICIES, as_json=options.json)
    return 0


def _show(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_facts(client.policies.get(options.name), POLICIES, as_json=options.json)
    return 0


def _create(options: argparse.Namespace) -> int:
    gate = None if options.gate is None else {"n_episodes": options.gate}
    with client_of(options) as client:
        made = client.policies.create(options.name, description=options.description, gate=gate)
        print_facts(made, POLICIES, as_json=options.json)
    return 0


def _versions(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_items(client.policies.versions(options.name), VERSIONS, as_json=options.json)
    return 0


def _promote(options: argparse.Namespace) -> int:
    name, alias = _alias(options.alias)
    why = {"reason": options.reason, "comparison": options.comparison}
    with client_of(options) as client:
        if isinstance(options.version, int):
            moved = client.policies.promote(name, alias, options.version, **why)
        else:
            run = client.run(options.version)
            moved = run.promote(name, alias=alias, checkpoint=options.checkpoint, **why)
        print_facts(moved, ALIAS, as_json=options.json)
    return 0


def _rollback(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        moved = client.policies.rollback(*_alias(options.alias), to=options.to, reason=options.reason)
        print_facts(moved, ALIAS, as_json=options.json)
    return 0


def _history(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_items(client.policies.history(*_alias(options.alias)), MOVES, as_json=options.json)
    return 0


def _canary(text: str) -> tuple[int, float]:
    version, _, weight = text.partition("=")
    try:
        return int(version), float(weight)
    except ValueError:
        message = f"{text}: write a version and its part of the requests, such as 7=0.1"
        raise argparse.ArgumentTypeError(message) from None


def _traffic(options: argparse.Namespace) -> int:
    alias = _alias(options.alias)
    canary, weight = options.canary or (None, 0.1)
    is_split = canary is not None or options.shadow is not None
    if options.end and is_split:
        raise Mistake("--end goes with neither --canary nor --shadow")
    with client_of(options) as client:
        if options.end:
            client.policies.end_traffic(*alias)
        if is_split:
            split: Any = {"canary": canary, "weight": weight, "shadow": options.shadow}
            client.policies.split_traffic(*alias, **split, reason=options.reason)
        print_items(client.policies.traffic(*alias).versions, TRAFFIC, as_json=options.json)
    return 0


def _compare(options: argparse.Namespace) -> int:
    compared: Any = [named_policy(name) for name in options.policies]
    given: Any = {name: getattr(options, name) for name in ("n_episodes", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    with client_of(options) as client:
        return submitted(client.compare(policies=compared, **given, **labelled(options)), options)


def _delete(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        client.policies.delete(options.name)
    if not options.json:
        print(f"{options.name} deleted")
    return 0
