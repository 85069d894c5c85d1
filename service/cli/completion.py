"""``maze completion``: what shells need to complete commands and options."""

import argparse
from typing import Any

from service.cli.parsers import add

SHELLS = ("bash", "zsh", "fish")


def add_commands(commands: Any) -> None:
    """Add this command to the parser's."""
    completion = add(commands, "completion", _completion, "print a shell's completion script")
    completion.add_argument(
        "shell", metavar="SHELL", choices=SHELLS, help='bash: eval "$(maze completion bash)" in ~/.bashrc'
    )


def _completion(options: argparse.Namespace) -> int:
    import shtab

    from service.cli import parser_of_all

    print(shtab.complete(parser_of_all(), options.shell))
    return 0
