"""Parsers of commands, and options that several of them share."""

import argparse
import math
from collections.abc import Callable
from typing import Any

Command = Callable[[argparse.Namespace], int]


class Mistake(ValueError):
    """What was said wrongly, in words that no parser could check."""


class Parser(argparse.ArgumentParser):
    """A parser whose positionals may stand before, between and behind the options, where there are several, too."""

    _mixes = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; a word that has commands below it leaves the rest to them."""
        if self._mixes or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._mixes = True  # what is called here calls this
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixes = False


def id_of(kind: str) -> Callable[[str], str]:
    """What takes the id of a run, or of another thing whose ids begin with its kind."""

    def take(text: str) -> str:
        if not text.startswith(f"{kind}_"):
            raise argparse.ArgumentTypeError(f"{text}: write the id of a {kind}, {kind}_…")
        return text

    return take


def count(text: str) -> int:
    """A number of things, as an option takes it."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: write a whole number, 0 or more")
    return int(text)


def seconds(text: str) -> float:
    """A time, as an option takes it."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: write a number of seconds, 0 or more")
    return value


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
