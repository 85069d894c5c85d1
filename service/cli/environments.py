"""``maze env``: the environments of a service, and whether one of your own can be trusted."""

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any

from service.cli.parsers import Mistake, add, add_group
from service.cli.remote import Columns, client_of, print_facts, print_items, print_json, remote

COLUMNS: Columns = {
    "id": lambda env: env.id,
    "available": lambda env: env.is_available,
    "trainable": lambda env: env.is_trainable,
    "source": lambda env: env.source,
    "reason": lambda env: env.reason or env.install,
}
FACTS: Columns = {
    **COLUMNS,
    "observations": lambda env: env.observation_space,
    "actions": lambda env: env.action_space,
    "most steps": lambda env: env.max_episode_steps,
    "solved at": lambda env: env.reward_threshold,
    "env.kwargs": lambda env: env.open_kwargs,
}


def add_commands(commands: Any) -> None:
    """Add these commands to the parser's."""
    env = add_group(commands, "env", "list environments, or check one of your own")
    listing = add(env, "list", _list, "list the environments that workers have", remote())
    listing.add_argument("--available", action="store_true", help="only those that can be made")
    show = add(env, "show", _show, "show spaces, arguments and limits of an environment", remote())
    show.add_argument("id", metavar="ID", help="such as CartPole-v1")
    check = add(env, "check", _check, "say what is wrong with an environment, what it means, and what to do")
    check.add_argument(
        "env", metavar="MODULE:ENV", help="a class or a registered id; or the id of an installed one"
    )
    check.add_argument("--steps", metavar="N", type=int, default=2_000, help="steps to play (2000)")
    check.add_argument("--json", action="store_true", help="print JSON, a line for each finding")


def _list(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_items(client.environments(options.available or None), COLUMNS, as_json=options.json)
    return 0


def _show(options: argparse.Namespace) -> int:
    with client_of(options) as client:
        print_facts(client.environment(options.id), FACTS, as_json=options.json)
    return 0


def _check(options: argparse.Namespace) -> int:
    from maze_core.envs.checks import check_environment

    if options.steps < 1:
        raise Mistake(f"--steps {options.steps}: play at least one")
    if "" not in sys.path:  # as maze-run, and python -m, find modules
        sys.path.insert(0, "")
    findings = check_environment(_maker(options.env), ticks=options.steps)
    for finding in findings:
        if options.json:
            print_json(finding)
        else:
            print(f"{finding.level}: {finding.what}\n  means: {finding.meaning}\n  do:    {finding.way_out}")
    if not findings and not options.json:
        print(f"{options.env}: nothing is wrong with it")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def _maker(name: str) -> Callable[[], Any]:
    """What makes an environment: a class of a module, or what is registered under an id."""
    from maze_core.envs.gym_env import make_gym

    module, _, made = name.rpartition(":")
    if module and made.isidentifier():
        try:
            found: Callable[[], Any] | None = getattr(importlib.import_module(module), made, None)
        except ImportError as error:
            raise Mistake(f"{module} cannot be imported: {error}") from error
        if callable(found):
            return found
    return lambda: make_gym(name)
