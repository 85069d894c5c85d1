"""``maze``: serve, look after the database and its tokens, and speak to a service: submit, watch, steer and act.

What a command needs is imported when it runs, so ``maze --help`` answers at once, and Ctrl-C ends it at any moment.
"""

import argparse
import os
import sys
from collections.abc import Sequence

EXIT_DONE, EXIT_FAILED, EXIT_MISTAKEN, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for what went wrong, 2 for what was said wrongly."""
    _open_closed_streams()
    options = argparse.Namespace()
    try:
        parser_of_all().parse_args(arguments, options)
        code = int(options.command(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        from maze_core.cli import had_enough

        had_enough()
        return EXIT_DONE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        from service.cli.printing import complain

        said = _said(error)
        if said is None and not hasattr(
            options, "json"
        ):  # of the service itself: who mends it needs to know where
            raise
        code, lines = said or (EXIT_FAILED, [_unexpected(error)])
        for line in lines:
            complain(line)
        return code


def _open_closed_streams() -> None:
    """Open what was closed (``>&-``), or the next file that is opened would take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def parser_of_all() -> argparse.ArgumentParser:
    """The parser of all commands; the files are in the order in which ``--help`` lists them."""
    from service.cli import (
        act,
        completion,
        data,
        doctor,
        environments,
        export,
        operate,
        policies,
        runs,
        submit,
        sweeps,
        watch,
    )
    from service.cli.parsers import Parser

    parser = Parser(
        prog="maze",
        description="Reinforcement learning as a service.",
        epilog="Every setting is an environment variable as well: MAZE_PORT, MAZE_DATABASE_URL, … "
        "Commands that speak to a service find it by MAZE_URL and MAZE_TOKEN, or --url and --token. "
        "Exit codes: 0 done, 1 it went wrong or the run failed, 2 it was said wrongly, 130 stopped by Ctrl-C.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for file in (
        operate,
        submit,
        runs,
        sweeps,
        watch,
        act,
        export,
        data,
        policies,
        environments,
        doctor,
        completion,
    ):
        file.add_commands(commands)
    return parser


def _said(error: Exception) -> tuple[int, list[str]] | None:
    """Exit code and lines of what went wrong; None of what nobody expected."""
    from pydantic import ValidationError

    from maze_client.errors import InvalidRequestError, MazeClientError
    from maze_core.errors import InvalidSpecificationError, MazeError
    from service.cli.operate import setting_problem
    from service.cli.parsers import Mistake
    from service.domain.errors import ServiceError

    match error:
        case ValidationError():
            problems = error.errors(include_url=False)
            return EXIT_MISTAKEN, [setting_problem(dict(problem)) for problem in problems]
        case InvalidSpecificationError():
            return EXIT_MISTAKEN, [str(problem) for problem in error.problems]
        case MazeClientError():
            code = EXIT_MISTAKEN if isinstance(error, InvalidRequestError) else EXIT_FAILED
            return code, str(error).splitlines()
        case Mistake():
            return EXIT_MISTAKEN, [str(error)]
        case MazeError() | ServiceError() | ValueError():
            return EXIT_FAILED, [str(error)]
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            return EXIT_FAILED, [f"{place}{error.strerror or error}"]
    return None


def _unexpected(error: Exception) -> str:
    """One line of an error that nobody foresaw."""
    from maze_core.errors import reason_of

    return f"this was not foreseen: {' '.join(reason_of(error).split())}"
