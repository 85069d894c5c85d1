"""Commands that speak to a service: where it is, and how what it answers is printed.

``--json`` prints JSON Lines, a line for each thing: what ``jq`` reads. Without it there are aligned columns, which
nothing cuts, whatever the output is.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from service.cli.parsers import Mistake, shared
from service.cli.printing import complain, plain

if TYPE_CHECKING:
    from maze_client import Client

T = TypeVar("T")
Columns = Mapping[str, Callable[[Any], object]]
"""Title → what is shown of an item."""
NOTHING = "–"


def remote() -> argparse.ArgumentParser:
    """The options of a command that speaks to a service."""
    return shared(
        url={"metavar": "URL", "help": "of the service (MAZE_URL, else http://127.0.0.1:8000)"},
        token={"metavar": "TOKEN", "help": "of `maze token create` (MAZE_TOKEN)"},
        json={"action": "store_true", "help": "print JSON, a line for each thing"},
    )


def client_of(options: argparse.Namespace) -> "Client":
    """The client that was asked for; to be closed."""
    from maze_client import Client

    return Client(options.url, options.token, max_retries=2)  # somebody sits there and waits


def print_json(value: Any) -> None:
    """Print one thing as a line of JSON; a number that JSON cannot say is null."""
    import msgspec

    print(plain(msgspec.json.encode(value).decode()), flush=True)


def print_items(items: Iterable[T], columns: Columns, *, as_json: bool) -> None:
    """Print things, in columns or as JSON."""
    if as_json:
        for item in items:
            print_json(item)
        return
    rows = [[shown(of(item)) for of in columns.values()] for item in items]
    print_columns([list(columns), *rows])


def print_facts(item: Any, facts: Columns, *, as_json: bool) -> None:
    """Print one thing, a line for each of its facts that it has, or as JSON."""
    if as_json:
        print_json(item)
        return
    known = [
        [title, shown(value)] for title, of in facts.items() if (value := of(item)) not in (None, {}, "")
    ]
    print_columns(known)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equal length, aligned; each is one line."""
    rows = [[plain(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


def shown(value: object) -> str:
    """A value as it stands in a column."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={shown(one)}" for key, one in value.items()) or NOTHING
    if isinstance(value, list | tuple):
        return " ".join(map(shown, value))
    strftime = getattr(value, "strftime", None)
    return str(strftime("%Y-%m-%d %H:%M:%S")) if strftime else str(value)


def labels_of(words: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` words of an option.

    Raises:
        Mistake: one has no ``=``.
    """
    if wrong := [word for word in words if "=" not in word]:
        raise Mistake(f"--label {wrong[0]}: write KEY=VALUE")
    return dict(word.split("=", 1) for word in words)


def steer_each(
    ids: Sequence[str], find: Callable[[str], T], act: Callable[[T], Any], tell: Callable[[Any], object]
) -> int:
    """Do something to each run or sweep; what one refuses does not keep it from the others.

    Args:
        ids: of them.
        find: looks one up.
        act: does it; what it gives is told of, else the thing itself.
        tell: prints.

    Returns:
        The exit code.
    """
    from maze_client import ProblemError

    failed = 0
    for each in ids:
        try:
            found = find(each)
            tell(act(found) or found)
        except ProblemError as error:
            complain(f"{each}: {error.detail}")
            failed += 1
    return 1 if failed else 0


@contextmanager
def waiting(way_on: str) -> Iterator[None]:
    """Wait; who does so no longer is told how to wait on."""
    from maze_client import WaitTimeout

    try:
        yield
    except KeyboardInterrupt:
        print(f"\nmaze: it goes on: {way_on}", file=sys.stderr)
        raise
    except WaitTimeout as error:
        raise WaitTimeout(f"{str(error).removesuffix('.')}: {way_on}") from error
