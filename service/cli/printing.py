"""How text of others is printed: nothing in it steers the terminal, or makes a line that looks like one of ours."""

import sys

from service.domain.text import plain as plain


def complain(text: str) -> None:
    """Say on standard error what went wrong."""
    for line in text.splitlines():
        print(f"maze: {plain(line)}", file=sys.stderr)
