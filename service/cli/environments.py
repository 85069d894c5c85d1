"""``maze env``: the environments of a service, and whether one of your own can be trusted."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from service.cli.parsers import Mistake, add, add_group
from service.cli.printing import plain
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
    with _its_prints_aside():
        findings = check_environment(_maker(options.env), ticks=options.steps)
    for finding in findings:
        if options.json:
            print_json(finding)
        else:
            print(f"{finding.level}: {plain(finding.what)}")
            print(f"  means: {finding.meaning}\n  do:    {finding.way_out}")
    if not findings and not options.json:
        print(f"{options.env}: nothing is wrong with it")
    return 1 if any(finding.level == "error" for finding in findings) else 0


@contextmanager
def _its_prints_aside() -> Iterator[None]:
    """What an environment prints, also out of C, goes to standard error: standard output is for what was found."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with redirect_stdout(sys.stderr):
            os.dup2(2, 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _maker(name: str) -> Callable[[], Any]:
    """What makes an environment: a class of a module, or what is registered under an id."""
    from maze_core.envs.gym_env import make_gym
    from maze_core.errors import USER_CODE_ERRORS, reason_of

    module, _, made = name.rpartition(":")
    if module and made.isidentifier():
        try:
            found: Callable[[], Any] | None = getattr(importlib.import_module(module), made, None)
        except USER_CODE_ERRORS as error:
            raise Mistake(f"{module} cannot be imported: {reason_of(error)}") from error
        if callable(found):
            return found
    return lambda: make_gym(name)
