"""Parsers of commands, and options that several of them share."""

import argparse
from collections.abc import Callable
from typing import Any

Command = Callable[[argparse.Namespace], int]


class Mistake(ValueError):
    """What was said wrongly, in words that no parser could check."""


def add(
    commands: Any, name: str, command: Command, text: str, *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """A command that there is from now on; arguments are added to what is returned."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, parents=parents, allow_abbrev=False
    )
    parser.set_defaults(command=command)
    return parser


def add_group(commands: Any, name: str, text: str) -> Any:
    """A word that has commands below it."""
    return commands.add_parser(name, help=text, description=text).add_subparsers(
        metavar="ACTION", required=True
    )


def shared(**options: dict[str, Any]) -> argparse.ArgumentParser:
    """Options that several commands take."""
    parser = argparse.ArgumentParser(add_help=False)
    for name, option in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **option)
    return parser
