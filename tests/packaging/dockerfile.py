"""Reads a Dockerfile into instructions and stages: enough of its grammar for the one of this project."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

KEYWORDS = (
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)


@dataclass(frozen=True)
class Instruction:
    """One instruction, its lines joined."""

    keyword: str
    rest: str


@dataclass
class Stage:
    """From one FROM to the next."""

    image: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        """What stands after this keyword, in order."""
        return [item.rest for item in self.instructions if item.keyword == keyword]

    def env(self) -> dict[str, str]:
        """Variables that ENV sets."""
        pairs = [pair for rest in self.all("ENV") for pair in rest.split()]
        return dict(pair.split("=", 1) for pair in pairs)


def parse(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first FROM, and the stages.

    Raises:
        ValueError: a line is no instruction.
    """
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for item in _instructions(text.splitlines()):
        if item.keyword == "FROM":
            match = re.fullmatch(r"(\S+) AS (\w+)", item.rest)
            if match is None:
                raise ValueError(f"FROM {item.rest}: every stage has a name")
            stages.append(Stage(_expanded(match[1], arguments), match[2]))
        elif stages:
            stages[-1].instructions.append(item)
        else:
            name, _, default = item.rest.partition("=")
            arguments[name] = default
    return arguments, stages


def read(path: Path) -> list[Stage]:
    """The stages of a Dockerfile."""
    return parse(path.read_text())[1]


def _instructions(lines: Iterable[str]) -> Iterable[Instruction]:
    joined = ""
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        joined += line.strip().removesuffix("\\")
        if line.endswith("\\"):
            continue
        keyword, _, rest = joined.partition(" ")
        if keyword not in KEYWORDS or not rest.strip():
            raise ValueError(f"{joined[:60]!r} is no instruction")
        yield Instruction(keyword, rest.strip())
        joined = ""
    if joined:
        raise ValueError(f"{joined[:60]!r} is continued by nothing")


def _expanded(text: str, arguments: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], text)
