"""The documentation's site: gathers the pages, writes those that are made from the code, and has Zensical build them.

    python -m tools.site            what `make docs` calls: build/docs, then site/

Pages lie in ``docs/`` and are written for GitHub, too. Two things differ here: what lies beside ``docs/`` is a page of
the site under a name of its own (:data:`BESIDE`), and a link to a file that is no page becomes its name.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GATHERED = ROOT / "build" / "docs"
SITE = ROOT / "site"
BESIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
"""Pages that lie elsewhere in the repository, and where the site has them."""
MADE = {
    "reference/http.md": "http_page",
    "reference/library.md": "library_page",
    "reference/client.md": "client_page",
}
"""Pages that are made from the code at every build, by functions of :mod:`tools.reference`."""
_ELSEWHERE = {
    "README.md": "index.md",
    "examples": "examples.md",
    "docs/decisions": "architecture.md#decisions",
}
"""What a link may mean without being a page: where it leads here."""
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_ABSOLUTE = re.compile(r"[a-z]+:")
_COMMENT = re.compile(r"^<!--.*?-->$\n?", re.MULTILINE)
_LIST = re.compile(r"(?:[-*]|\d+\.) ")


def pages() -> dict[str, Path]:
    """Place in the site → file, of the pages that are written by hand."""
    written = {str(page.relative_to(DOCS)): page for page in sorted(DOCS.rglob("*.md"))}
    return written | {place: ROOT / name for name, place in BESIDE.items()}


def gathered(place: str, source: Path) -> str:
    """A page as the site has it."""
    return "\n".join(_prose(part, place, source) if is_prose else part for is_prose, part in _parts(source))


def relinked(target: str, place: str, source: Path) -> str | None:
    """Where a link of a page leads in the site; None where no page is."""
    path, _, anchor = target.partition("#")
    anchor = re.sub("-+", "-", anchor).strip(
        "-"
    )  # as Zensical makes them of headings; GitHub keeps every hyphen
    if not path:
        return f"#{anchor}"
    named = os.path.relpath((source.parent / path).resolve(), ROOT)
    found = {str(page.relative_to(ROOT)): here for here, page in pages().items()} | _ELSEWHERE
    here = found.get(named)
    if here is None and named.startswith("docs/") and (ROOT / named).is_file():
        here = named.removeprefix("docs/")
    if here is None:
        return None
    leads = os.path.relpath(here.partition("#")[0], Path(place).parent)
    return leads + (f"#{anchor}" if anchor else "".join(here.partition("#")[1:]))


def gather() -> None:
    """Write every page, and copy every picture, below :data:`GATHERED`."""
    shutil.rmtree(GATHERED, ignore_errors=True)
    for file in DOCS.rglob("*"):
        if file.is_file() and file.suffix != ".md":
            _parent(file.relative_to(DOCS)).write_bytes(file.read_bytes())
    for place, source in pages().items():
        _parent(Path(place)).write_text(gathered(place, source), encoding="utf-8")
    from tools import reference  # the whole service, which nobody else here needs

    for place, make in MADE.items():
        _parent(Path(place)).write_text(getattr(reference, make)(), encoding="utf-8")


def main() -> None:
    """Gather, and build; a link that leads nowhere is an error."""
    gather()
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, check=False
    )
    if built.returncode:
        sys.exit(built.returncode)
    print(f"{SITE.relative_to(ROOT)}/index.html is its first page; it needs neither a server nor a network")


def _parent(place: Path) -> Path:
    """The file in :data:`GATHERED`, whose folder is there."""
    file = GATHERED / place
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _parts(source: Path) -> Iterator[tuple[bool, str]]:
    """The page's prose and its fenced blocks, in order."""
    prose: list[str] = []
    fenced: list[str] = []
    for line in source.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            if not fenced:
                yield True, "\n".join(prose)
                prose, fenced = [], [line]
            else:
                yield False, "\n".join([*fenced, line])
                fenced = []
        else:
            (fenced or prose).append(line)
    yield True, "\n".join([*prose, ""])


def _prose(text: str, place: str, source: Path) -> str:
    """Links as the site has them, no comments, and an empty line before a list, which GitHub does not need."""

    def linked(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        words = _LINK.sub(linked, words)
        if _ABSOLUTE.match(target):
            return f"{mark}[{words}]({target})"
        leads = relinked(target, place, source)
        return words if leads is None else f"{mark}[{words}]({leads})"

    lines: list[str] = []
    for line in _LINK.sub(linked, _COMMENT.sub("\n", text)).split("\n"):
        before = lines[-1] if lines else ""
        if _LIST.match(line) and before.strip() and not before.startswith(" ") and not _LIST.match(before):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
